"""`raysweep score`: scores every text of a corpus under every model of a run, with progress and a summary."""

import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from functools import partial
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from raysweep.cli.data_options import data_overrides
from raysweep.cli.settings import Settings
from raysweep.config.data_settings import DataConfig
from raysweep.config.error_messages import error_messages
from raysweep.config.resource_settings import ResourcesConfig
from raysweep.errors import ConfigError, InputError
from raysweep.pipeline.inline_executor import InlineExecutor
from raysweep.pipeline.lock import locked
from raysweep.pipeline.score_record import find_done, finish, is_merged, refuse_changes
from raysweep.pipeline.tasks import Executor
from raysweep.pipeline.text_scoring import TextCounts, TextScoring, score_corpus, write_scores
from raysweep.readers.locations import find_files
from raysweep.scheduling.records import read_record
from raysweep.staging.run_command import run_command
from raysweep.staging.run_staging import LocalStorage, ReadStorage, Staging
from raysweep.staging.staged_output import StagedOutput
from raysweep.storage.printable import say
from raysweep.storage.run_folder import RunFolder
from raysweep.storage.table_files import check_suffix, refuse_inputs

if TYPE_CHECKING:
    from raysweep.inference.level_predictor import LevelPredictor
    from raysweep.inference.loaded_run import LoadedRun

_PRINT_EVERY_S = 5.0


class ScoreView:
    """Prints progress on stderr, one line every few seconds."""

    def __init__(self) -> None:
        self._printed_at = time.monotonic()

    def advance(self, stage: str, done: int, total: int, unit: str) -> None:
        """Print the progress, unless a line was printed within the last few seconds."""
        if time.monotonic() - self._printed_at >= _PRINT_EVERY_S:
            self._printed_at = time.monotonic()
            self.say(f"{stage}: {done:,}/{total:,} {unit}")

    def say(self, message: str) -> None:
        """Print the message at once."""
        say(message, to_stderr=True)


def score_texts(
    settings: Settings,
    corpus: Sequence[str],
    *,
    out: str | Path,
    data: Sequence[str],
    models: Sequence[str],
    with_tokens: bool,
    inline: bool,
    force: bool,
    with_levels: bool = True,
) -> str:
    """Score a corpus, or resume scoring it, and print a summary; return the digest of its files.

    Args:
        out: a path, or an object's URI.
        data: settings of the corpus, as `data.key=value`.
        models: the models that score; all if empty.
        with_levels: whether to add the probability of each level.

    Raises:
        ConfigError: an option is wrong, or the output exists already and was made from something else.
        InputError: there is no such run or no trained model, or the corpus cannot be used.
    """
    output = StagedOutput.of(out)
    check_suffix(output.path)
    from raysweep.inference.loaded_run import open_run
    from raysweep.inference.scoring_rules import ScoringRules

    run = open_run(settings.folder.root)
    chosen = tuple(models) or tuple(run.models)
    for name in chosen:
        if name not in run.models:
            raise ConfigError(
                f"--model: found '{name[:60]}'; trained in '{run.folder.name}' are {', '.join(run.models)}"
            )
    if len(run.models) == 1:
        raise InputError(f"{run.folder.root}: no model is trained yet; do {run_command(run.folder)} first")
    first = next(name for name in run.models if name != "start")
    record = read_record(run.folder.trial(first))
    assert record is not None
    scoring = TextScoring(
        run=run.folder,
        rules=asdict(ScoringRules.of_run(run.config)) | {"masking": run.config.masking.model_dump(mode="json")},
        models=chosen,
        start={"seed": run.config.seed, "model": record.identity.get("model")},
        files=tuple(find_files(list(corpus))),
        data=data_settings(run.config.data, data, command="score"),
        out=output.path,
        with_tokens=with_tokens,
        place=output.place,
    )
    refuse_inputs([*scoring.outputs, scoring.record, scoring.quarantine], scoring.files)
    identity = scoring.identity()
    predictor = _predictor(run, chosen) if with_levels else None
    # A new report may have another temperature, which changes the levels but not the scores.
    of_output = identity | {"levels": _describe(predictor)}
    counts = _find_done(output, scoring, of_output, force=force)
    if counts is None or is_merged(scoring, of_output):
        view = ScoreView()
        with locked(RunFolder(scoring.parts)), output.working(scoring.parts, view.say) as staging:
            # Check again under the lock, since another command may have finished in between.
            counts = _find_done(output, scoring, of_output, force=force)
            if counts is not None:
                shutil.rmtree(scoring.parts)  # left by a process killed after it wrote the record
            else:
                write = partial(write_scores, scoring, of_output, predictor=predictor)
                resources = run.config.resources
                made = _score(settings, scoring, identity, staging, view, write, resources=resources, inline=inline)
                staging.push()
                tables = [*scoring.outputs, scoring.quarantine]
                finish(scoring, of_output, made, lambda: output.send(*tables, record=scoring.record))
    if counts is not None:
        models = f"{len(scoring.models):,} models"
        say(f"{scoring.shown(scoring.out)}: is up to date, {counts.texts:,} texts under {models}")
    else:
        for path in scoring.outputs:
            say(f"{scoring.shown(path)}: {made.texts:,} texts under {', '.join(chosen)}")
        if predictor is not None:
            say(_describe_levels(predictor, run.evidence.settings.confidence))
    return str(identity["texts"])


def _find_done(
    output: StagedOutput, scoring: TextScoring, identity: Mapping[str, Any], *, force: bool
) -> TextCounts | None:
    """Apply `find_done` to the current contents of object storage."""
    output.fetch(scoring.record, *scoring.outputs, scoring.merge)
    return find_done(scoring, identity, force=force)


def _score(
    settings: Settings,
    scoring: TextScoring,
    identity: Mapping[str, Any],
    staging: Staging,
    view: ScoreView,
    write: Callable[[TextCounts, Callable[[], bool]], None],
    *,
    resources: ResourcesConfig,
    inline: bool,
) -> TextCounts:
    """Score the parts that are not done, here or on the cluster, and write the output while Ray shuts down."""
    if inline:
        executor: Executor = InlineExecutor(resources.cpus_per_trial)
    else:
        from raysweep.cluster.ray_executor import RayExecutor

        storage = LocalStorage() if settings.address is None else ReadStorage.of(settings.address, settings.folder.root)
        executor = RayExecutor(resources, RunFolder(scoring.parts), staging=storage, trains=False)
    over = Event()
    with ThreadPoolExecutor(1) as thread:
        try:
            try:
                counts = score_corpus(scoring, identity, executor, view, staging.push)
                refuse_changes(scoring, identity)
                writing = thread.submit(write, counts, over.is_set)
            finally:
                executor.close()
            writing.result()
        finally:
            over.set()  # stops the writer after Ctrl-C, or if Ray does not shut down
    return counts


def _predictor(run: "LoadedRun", models: Sequence[str]) -> "LevelPredictor | None":
    """Return the run's level predictor; if it cannot be used, print why and return None."""
    try:
        predictor = run.levels
    except InputError as error:
        say(f"no levels: {error}", to_stderr=True)
        return None
    missing = [model.name for model in predictor.models.values() if model.name not in models]
    if missing:
        say(f"no levels: they need the scores of {', '.join(missing)} too", to_stderr=True)
        return None
    return predictor


def _describe_levels(predictor: "LevelPredictor", confidence: float) -> str:
    """Say which models the probabilities of levels come from, and how often these models know the right level."""
    method = (
        f"levels: by the {predictor.family} models (temperature {predictor.temperature:.4g}, from the run's report)"
    )
    if (accuracy := predictor.accuracy) is None:
        return f"{method}; how often they know the right level was not measured"
    interval = ""
    if accuracy.low is not None and accuracy.high is not None:
        interval = f" ({100 * confidence:g} % interval {100 * accuracy.low:.1f} % to {100 * accuracy.high:.1f} %)"
    return (
        f"{method}; the model with the lowest perplexity was that of the right level for {100 * accuracy.value:.1f} % "
        f"of the run's {accuracy.documents:,} test documents{interval}, read without what their masks hide; "
        "other texts may differ"
    )


def _describe(predictor: "LevelPredictor | None") -> dict[str, Any] | None:
    """Return everything besides the scores that decides the probabilities of levels."""
    if predictor is None:
        return None
    return {
        "models": {level: model.name for level, model in predictor.models.items()},
        "shares": dict(predictor.shares),
        "temperature": predictor.temperature,
    }


def data_settings(of_run: DataConfig, overrides: Sequence[str], *, command: str) -> DataConfig:
    """Take levels and language from the run, and everything else from the overrides; ConfigError if one is wrong."""
    given: dict[str, Any] = {
        "levels": list(of_run.levels),
        "level_aliases": dict(of_run.level_aliases),
        "language": of_run.language,
        **data_overrides(overrides, command=command),
    }
    try:
        return DataConfig.model_validate_json(json.dumps(given))
    except ValidationError as error:
        messages = error_messages(error.errors())
        raise ConfigError(*(f"--set data.{path}: {message}" for path, message in messages)) from error
