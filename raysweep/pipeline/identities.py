"""What each piece of work is made from, in plain fields: settings, data, parents, seeds.

Never paths, hosts, workers or GPUs: results do not depend on them.  The constants are raised when
the code that makes a stage gives other results from the same settings.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from raysweep.config.fingerprints import file_fingerprint, fingerprint
from raysweep.config.schema import Config
from raysweep.scheduling.trials import Trial

CORPUS_VERSION = 2
EXAMPLES_VERSION = 1
TRAINING_VERSION = 1
SCORES_VERSION = 2
REPORT_VERSION = 3


def corpus_identity(config: Config, csv: Path | None) -> dict[str, Any]:
    """Of the prepare stage; the CSV counts by its bytes, the sample by how it is generated."""
    fields = config.data.model_dump(mode="json", exclude={"csv", "sample", "max_bad_fraction", "export_ilm"})
    if csv is None:
        fields["sample"] = config.data.sample.model_dump(mode="json")
        fields.pop("columns")
    else:
        fields["csv"] = file_fingerprint(csv)
    return {"data": fields, "seed": config.seed, "version": CORPUS_VERSION}


def examples_identity(config: Config, corpus: str) -> dict[str, Any]:
    """Of the mask stage, given the fingerprint of the corpus."""
    fields = config.masking.model_dump(mode="json", exclude={"shard_documents"})
    return {"masking": fields, "corpus": corpus, "seed": config.seed, "version": EXAMPLES_VERSION}


def trial_identities(
    config: Config, trials: Mapping[str, Trial], examples: str
) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """Of every trial, given the fingerprint of the examples; and the trials' fingerprints.

    Parents come before children, as `expand_trials` orders them.
    """
    identities: dict[str, dict[str, Any]] = {}
    prints: dict[str, str] = {}
    for name, trial in trials.items():
        # Checkpoints and GPUs change when work is saved and where it runs, not what comes out.  How a step's examples
        # are cut up and laid out changes speed, float rounding and which units dropout leaves out, as GPUs do.
        elsewhere = {"checkpoint_every", "keep", "gpus", "accelerator_type", "seeds", "parent"}
        elsewhere |= {"micro_batch", "packing"}
        settings = trial.settings.model_dump(mode="json", exclude=elsewhere)
        if settings["search"] is not None and settings["search"]["asha"] is None:
            # A search from before there was such a setting is the same search.
            del settings["search"]["asha"]
        identity: dict[str, Any] = {
            **{key: value for key, value in settings.items() if value is not None},
            "seed": trial.seed,
            "examples": examples,
            "version": TRAINING_VERSION,
        }
        if trial.parent is None:
            identity["model"] = config.model.model_dump(mode="json")
        else:
            identity["parent"] = prints[trial.parent]
        identities[name] = identity
        prints[name] = fingerprint(identity)
    return identities, prints


def scores_identity(config: Config, model: str, examples: str) -> dict[str, Any]:
    """Of one model's cells, given the fingerprints of the model and of the examples."""
    settings = config.evaluation.model_dump(mode="json", exclude={"batch_tokens"})
    return {"model": model, "examples": examples, "evaluation": settings, "version": SCORES_VERSION}


def report_identity(config: Config, scores: Mapping[str, str], states: Mapping[str, str]) -> dict[str, Any]:
    """Of the report, given the fingerprints of the scores and how every trial ended."""
    return {
        "report": config.report.model_dump(mode="json"),
        "scores": dict(scores),
        "states": dict(states),
        "seed": config.seed,
        "version": REPORT_VERSION,
    }
