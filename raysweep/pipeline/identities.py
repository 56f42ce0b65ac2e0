"""Defines what each target is made from: its settings, and the digests of its inputs.

A target's *identity* holds its settings as plain fields, without paths, hosts, workers or GPUs, since results
do not depend on those.  If the settings of a finished corpus, examples or trial change, the run stops and names
the fields.  *Made from* holds the digests of the files that the target was made from, which are the outputs of other
targets:

    corpus     the files (by their digest, in the identity)
    examples   documents.parquet; the tokenizer (by its digest, in the identity)
    trial      the shards of the examples and their tokenizer; the parent's model without its card
    scores     the model without its card (an interpolated one's parent too), the shards, documents.parquet
    classify   the text scores, which are made again whenever their documents are; the losses of test documents
    further    its files (by their digest, in the identity), documents.parquet, whose train and valid texts it lacks
    report     all outputs of the stages before it, the records of the trials and of the scores, all code of raysweep

If one of these digests changes, the target and everything that rests on it are made again without asking.  A target
that was made again with identical bytes changes no digest, so what rests on it is kept; the one exception is a
trial's children, which are always trained again when the trial is.  The version constants are
raised when the code that makes a target gives other results from the same settings; the report, which takes
seconds, is made again whenever any code changed.
"""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from raysweep.config.fingerprints import EXAMPLES_VERSION, SCORES_VERSION, fingerprint
from raysweep.config.schema import Config
from raysweep.config.training_settings import CORPUS_TOKENIZER, GPT2_TOKENIZER, SCRATCH, ModelConfig
from raysweep.pipeline.run_record import StageRecord
from raysweep.readers.locations import digest_files
from raysweep.scheduling.records import State, TrialRecord
from raysweep.scheduling.scorings import Scoring
from raysweep.scheduling.trials import START_MODEL, Trial, training_settings
from raysweep.storage.digests import Outputs, combine_digests, describe_outputs, digest_code
from raysweep.storage.run_files import tokenizer_digest
from raysweep.storage.run_folder import RunFolder

CORPUS_VERSION = 4
TRAINING_VERSION = 2
FURTHER_VERSION = 1
CLASSIFICATION_VERSION = 2
LOSSES = r"(corpora/[^/]+/)?evaluation/losses\.parquet$"
"""Matches, among the outputs of the evaluate stage, the losses of test documents, which the classifiers rest on."""
_TOKENS = r"examples/(.*\.examples|tokenizer/.*)$"
"""Matches what models are trained and scored on: the shards and all tokenizer files, special tokens included."""
FURTHER_CORPUS = rf"corpus/documents|{_TOKENS}"
"""Matches, among the outputs of a further corpus, what models are scored on: its documents, shards and tokenizer."""


def corpus_identity(config: Config, files: Sequence[Path], *, digest: str | None = None) -> dict[str, Any]:
    """Return the settings of the prepare stage: a corpus by its bytes, the sample by how it is generated.

    Args:
        digest: digest of the corpus's files, if it is known.
    """
    fields = config.data.model_dump(mode="json", exclude={"path", "sample", "max_bad_fraction", "export_ilm"})
    if fields["split"]["unit"] == "learner":
        del fields["split"]["unit"]  # as before this setting existed
    if not fields["leave_out"]:
        del fields["leave_out"]  # nothing left out is the same as before this setting existed
    if not files and digest is None:
        fields["sample"] = config.data.sample.model_dump(mode="json")
        for name in ("columns", "format", "encoding", "quotes", "sheet", "layout", "clean", "split_names"):
            fields.pop(name)
    else:
        fields["files"] = digest_files(files) if files else digest
    return {"data": fields, "seed": config.seed, "version": CORPUS_VERSION}


def examples_identity(config: Config) -> dict[str, Any]:
    """Return the settings of the mask stage."""
    fields = config.masking.model_dump(mode="json", exclude={"shard_documents"})
    if config.masking.function is not None:
        from raysweep.masking.mask_function import function_digest  # NumPy, which a plan does not need

        # By the digest of its code rather than its module's name, since a module can be edited or moved.
        fields["function"] = function_digest(config.masking.function)
    spoken = {} if config.data.language == "en" else {"language": config.data.language}
    if config.model.tokenizer != GPT2_TOKENIZER and (tokenizer := _tokenizer_identity(config.model)):
        spoken["tokenizer"] = tokenizer
    return {"masking": fields, **spoken, "seed": config.seed, "version": EXAMPLES_VERSION}


def examples_made_from(done: Mapping[str, StageRecord]) -> dict[str, str]:
    return {"documents": documents_digest(done)} if "prepare" in done else {}


def tokenizer_made_from(done: Mapping[str, StageRecord]) -> dict[str, str]:
    """Return the digest of the run's tokenizer, with which further corpora are masked too; {} if it is GPT-2's."""
    digest = tokenizer_digest(done["mask"].outputs) if "mask" in done else ""
    return {"tokenizer": digest} if digest else {}


def trial_made_from(
    trial: Trial, done: Mapping[str, StageRecord], records: Mapping[str, TrialRecord | None]
) -> dict[str, str]:
    """Return the digests of what a trial is made from, without the parent's if the parent is not done."""
    digests = {"examples": examples_digest(done)} if "mask" in done else {}
    parent = records[trial.parent] if trial.parent is not None else None
    if parent is not None and parent.state is State.DONE:
        digests["parent"] = parent.model_digest
    return digests


def scores_made_from(
    done: Mapping[str, StageRecord], record: TrialRecord | None, parent: TrialRecord | None = None
) -> dict[str, str]:
    """Return what a model's scores are made from; `record` is None for the start, `parent` is interpolated with."""
    digests = {"documents": documents_digest(done), "examples": examples_digest(done)}
    models = {"model": record, "parent": parent}
    return {**digests, **{name: known.model_digest for name, known in models.items() if known is not None}}


def further_identity(config: Config, corpus: str, files: str) -> dict[str, Any]:
    """Return the settings of a further corpus's documents and examples; `files` is the digest of its files."""
    fields = config.corpora[corpus].model_dump(mode="json", exclude={"path", "max_bad_fraction"})
    read_with = {"levels": list(config.data.levels), "threshold": config.data.near_duplicates.threshold}
    return {
        "corpus": {**fields, **read_with, "files": files},
        "examples": examples_identity(config),
        "version": FURTHER_VERSION,
    }


def further_scores_made_from(corpus: Outputs | None, record: TrialRecord | None) -> dict[str, str]:
    """Return what a model's scores on a corpus are made from, as far as it is made; `record` is None for the start."""
    digests = {} if corpus is None else {"corpus": combine_digests(corpus, FURTHER_CORPUS)}
    return digests if record is None else {**digests, "model": record.model_digest}


def report_made_from(
    config: Config, folder: RunFolder, done: Mapping[str, StageRecord], trials: Collection[str]
) -> dict[str, str]:
    stages = {name: combine_digests(done[name].outputs) for name in ("prepare", "mask", "evaluate") if name in done}
    if config.classification is not None and "classify" in done:
        stages["classify"] = combine_digests(done["classify"].outputs, r".*\.parquet$")
    files = {
        "trainings": [folder.trial(name).record for name in trials],
        "scores": [folder.cells_record(model) for model in (START_MODEL, *trials)],
        "plan": [folder.plan],
        "ledger": [folder.ledger],
        **({"corpora": [folder.further(name).further_record for name in config.corpora]} if config.corpora else {}),
    }
    stages["code"] = digest_code()
    return {**stages, **{name: combine_digests(describe_outputs(folder.root, paths)) for name, paths in files.items()}}


def trial_identities(config: Config, trials: Mapping[str, Trial]) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """Return every trial's settings, in which a child has its parent's fingerprint, and the settings' fingerprints."""
    identities: dict[str, dict[str, Any]] = {}
    fingerprints: dict[str, str] = {}
    for name, trial in trials.items():
        identity: dict[str, Any] = {**training_settings(trial), "version": TRAINING_VERSION}
        if trial.parent is None:
            identity["model"] = _model_identity(config)
        else:
            identity["parent"] = fingerprints[trial.parent]
        identities[name] = identity
        fingerprints[name] = fingerprint(identity)
    return identities, fingerprints


def scores_identity(config: Config, trials: Mapping[str, Trial], scoring: Scoring) -> dict[str, Any]:
    """Return the settings of a model's scores; for `START_MODEL`, also the settings of the start."""
    settings = config.evaluation.model_dump(mode="json", exclude={"batch_tokens", "interpolation"})
    identity = {"evaluation": settings, "levels": list(scoring.levels), "seed": config.seed}
    if not scoring.is_test:
        for name in ("generation_documents", "speed_repeats"):
            del settings[name]
        identity |= {"splits": list(scoring.splits), "weight": scoring.weight}
    if scoring.corpus is not None:
        identity["corpus"] = scoring.corpus
    if scoring.model == START_MODEL:
        first = next(trial for trial in trials.values() if trial.parent is None)
        identity["start"] = {"model": _model_identity(config), "seed": first.seed}
    return {**identity, "version": SCORES_VERSION}


def merged_identity(config: Config, scores: Sequence[str]) -> dict[str, Any]:
    """Return the settings of the merged scores; with sequential seeds also those of the interim looks."""
    identity: dict[str, Any] = {"models": list(scores), "metric": config.report.metric}
    if config.sequential_seeds is not None:
        looks = config.report.model_dump(mode="json", include={"resamples", "confidence", "hypotheses"})
        identity["looks"] = {**looks, "seeds": config.sequential_seeds, "seed": config.seed}
    return identity


def report_identity(config: Config, states: Mapping[str, str]) -> dict[str, Any]:
    """Return the settings of the report, and how every trial ended."""
    settings = config.classification
    return {
        "report": config.report.model_dump(mode="json"),
        **({} if settings is None else {"classification": settings.model_dump(mode="json")}),
        "states": dict(states),
        "seed": config.seed,
    }


def _model_identity(config: Config) -> dict[str, object]:
    """Describe what trials without a parent start from: the content of the start, never its path."""
    if config.model.start == SCRATCH:
        # The tokenizer is part of the examples, which a trial is made from too.
        return config.model.model_dump(mode="json", exclude={"tokenizer"})
    from raysweep.model.start_folder import model_identity  # NumPy, which a plan from scratch does not need

    return model_identity(config.model)


def text_scores_identity(config: Config, trials: Mapping[str, Trial], model: str) -> dict[str, Any]:
    """Return the settings of a model's scores of texts; for `START_MODEL`, also the settings of the start."""
    settings = config.evaluation.model_dump(mode="json", include={"examples_per_document", "documents_per_level"})
    identity = {**examples_identity(config), "evaluation": settings, "levels": list(config.data.levels)}
    if model == START_MODEL:
        first = next(trial for trial in trials.values() if trial.parent is None)
        identity["start"] = {"model": _model_identity(config), "seed": first.seed}
    return {**identity, "version": [EXAMPLES_VERSION, SCORES_VERSION]}


def classify_identity(config: Config, corpora: Sequence[str], models: Sequence[str]) -> dict[str, Any]:
    """Return the settings of the classifiers."""
    assert config.classification is not None
    settings = config.classification.model_dump(mode="json")
    fields = {"levels": list(config.data.levels), "corpora": list(corpora), "models": list(models)}
    # The saved classifier names the models whose perplexities it reads, so their versions count.
    version = [CLASSIFICATION_VERSION, EXAMPLES_VERSION, SCORES_VERSION]
    return {"classification": settings, **fields, "seed": config.seed, "version": version}


def documents_digest(done: Mapping[str, StageRecord]) -> str:
    return combine_digests(done["prepare"].outputs, r"corpus/documents\.parquet$")


def examples_digest(done: Mapping[str, StageRecord]) -> str:
    """Return the digest of the shards of the examples and their tokenizer."""
    return combine_digests(done["mask"].outputs, _TOKENS)


def _tokenizer_identity(model: ModelConfig) -> str:
    """Return the tokenizer's digest, never its path; '' if it turns out to be GPT-2's."""
    if model.tokenizer == CORPUS_TOKENIZER:
        return CORPUS_TOKENIZER  # what comes out is an output, of which a digest is kept
    from raysweep.masking.vocabulary import gpt2  # the tokenizers, which a plan need not load
    from raysweep.model.run_tokenizer import configured_vocabulary

    vocabulary = configured_vocabulary(model)
    assert vocabulary is not None
    return "" if vocabulary is gpt2() else vocabulary.digest
