"""What each target is made from, in plain fields: settings, data, parents, seeds.

Never paths, hosts, workers or GPUs: results do not depend on them.  The constants are raised when
the code that makes a stage gives other results from the same settings.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from raysweep.config.fingerprints import file_fingerprint, fingerprint
from raysweep.config.schema import Config
from raysweep.model.start_folder import model_identity
from raysweep.scheduling.trials import START_MODEL, Trial

CORPUS_VERSION = 3
EXAMPLES_VERSION = 1
TRAINING_VERSION = 1
SCORES_VERSION = 2
REPORT_VERSION = 3


def corpus_identity(config: Config, csv: Path | None) -> dict[str, Any]:
    """What the prepare stage is made from: the CSV by its bytes, the sample by how it is generated."""
    fields = config.data.model_dump(mode="json", exclude={"csv", "sample", "max_bad_fraction", "export_ilm"})
    if csv is None:
        fields["sample"] = config.data.sample.model_dump(mode="json")
        fields.pop("columns")
    else:
        fields["csv"] = file_fingerprint(csv)
    return {"data": fields, "seed": config.seed, "version": CORPUS_VERSION}


def examples_identity(config: Config, corpus: str) -> dict[str, Any]:
    """What the mask stage is made from, given the fingerprint of the corpus."""
    fields = config.masking.model_dump(mode="json", exclude={"shard_documents"})
    if config.masking.function is not None:
        from raysweep.masking.mask_function import function_digest  # NumPy, which a plan does not need

        # By its code, not by the name of its module: it can be edited in place, and moved.
        fields["function"] = function_digest(config.masking.function)
    return {"masking": fields, "corpus": corpus, "seed": config.seed, "version": EXAMPLES_VERSION}


def trial_identities(
    config: Config, trials: Mapping[str, Trial], examples: str
) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """What every trial is made from, given the fingerprint of the examples; and the trials' fingerprints.

    Parents come before children, as `expand_trials` orders them.
    """
    identities: dict[str, dict[str, Any]] = {}
    fingerprints: dict[str, str] = {}
    for name, trial in trials.items():
        # Checkpoints and GPUs change when work is saved and where it runs, not what comes out.  How a step's examples
        # are cut up and laid out changes speed, float rounding and which units dropout leaves out, as GPUs do.
        not_results = {"checkpoint_every", "keep", "gpus", "accelerator_type", "seeds", "parent"}
        not_results |= {"micro_batch", "packing"}
        settings = trial.settings.model_dump(mode="json", exclude=not_results)
        if settings["search"] is not None and settings["search"]["asha"] is None:
            # Without asha, a search is the same as one made before this setting existed.
            del settings["search"]["asha"]
        identity: dict[str, Any] = {
            **{key: value for key, value in settings.items() if value is not None},
            "seed": trial.seed,
            "examples": examples,
            "version": TRAINING_VERSION,
        }
        if trial.parent is None:
            identity["model"] = model_identity(config.model)
        else:
            identity["parent"] = fingerprints[trial.parent]
        identities[name] = identity
        fingerprints[name] = fingerprint(identity)
    return identities, fingerprints


def scores_identities(
    config: Config, trials: Mapping[str, Trial], models: Mapping[str, str], examples: str
) -> dict[str, dict[str, Any]]:
    """What each model's scores are made from; first those of the start that the models share.

    Args:
        models: fingerprints of the trained models.
        examples: the examples' fingerprint.
    """
    first = next(trial for trial in trials.values() if trial.parent is None)
    start = fingerprint({"model": model_identity(config.model), "seed": first.seed})
    settings = config.evaluation.model_dump(mode="json", exclude={"batch_tokens"})
    return {
        model: {"model": made_from, "examples": examples, "evaluation": settings, "version": SCORES_VERSION}
        for model, made_from in {START_MODEL: start, **models}.items()
    }


def report_identity(config: Config, scores: Mapping[str, str], states: Mapping[str, str]) -> dict[str, Any]:
    """What the report is made from: the fingerprints of the scores and how every trial ended."""
    return {
        "report": config.report.model_dump(mode="json"),
        "scores": dict(scores),
        "states": dict(states),
        "seed": config.seed,
        "version": REPORT_VERSION,
    }
