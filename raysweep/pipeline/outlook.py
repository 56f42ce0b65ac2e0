"""Predicts what `run` would do: which trials it would train and why, and what it would refuse.

The decisions are the run's own (`pipeline.stages.decide`), but nothing is written into the run: files are compared
by size rather than read, a pretrained start is identified by its files' times, and a model that is not in the local
cache is not downloaded.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from raysweep.config.schema import Config
from raysweep.config.training_settings import SCRATCH
from raysweep.errors import DamagedError, EarlierVersionError, RaysweepError
from raysweep.model.remembered_digests import trusting_file_times
from raysweep.pipeline.corpus_survey import is_at_hand, survey_corpus
from raysweep.pipeline.inline_executor import InlineExecutor
from raysweep.pipeline.run import Run
from raysweep.pipeline.stages import STAGES, Target, asked_stages, changes_of, decide
from raysweep.pipeline.tasks import SilentListener
from raysweep.storage.run_folder import RunFolder


@dataclass(frozen=True, kw_only=True, slots=True)
class Outlook:
    """What `run` would do in the current state."""

    refusal: RaysweepError | None
    """The error with which it would refuse to start; None if it would start."""
    states: Mapping[str, str]
    """By trial, if not the state of its record: 'changed', or 'again' for a trial that would be trained again."""
    reasons: Mapping[str, str]
    """By trial: what changed and which option it needs, or why it would be trained again."""
    todo: tuple[str, ...]
    """The trials that it would train, including those that it refuses until they are forced."""


@trusting_file_times()
def foresee(
    config: Config,
    profile: str,
    folder: RunFolder,
    *,
    command: Sequence[str],
    forced: Collection[str] = (),
    extended: Collection[str] = (),
) -> Outlook:
    """Predict what `run` would do or refuse now.

    Raises:
        ConfigError: a forced name is unknown.
        DamagedError, EarlierVersionError: run.json or a trial's record cannot be read.
    """
    run = Run(
        config=config,
        profile=profile,
        folder=folder,
        executor=InlineExecutor(),
        listener=SilentListener(),
        command=command,
        forced=forced,
        extended=extended,
        looks_only=True,
    )
    refusal: RaysweepError | None = None
    is_start_here = config.model.start == SCRATCH or _is_here(config.model.start)
    try:
        run.refuse(asked_stages(config) if is_start_here else STAGES[:2])
        if is_at_hand(config) and ("prepare" not in run.record.stages or "prepare" in forced):
            survey_corpus(config)
    except RaysweepError as error:
        refusal = error
    if not is_start_here or isinstance(refusal, DamagedError | EarlierVersionError):
        # Without the start's weights, or with an unreadable record, settings cannot be compared.
        return Outlook(refusal=refusal, states={}, reasons={}, todo=tuple(run.trials_to_do()))
    refuses_extension = refusal is not None and str(refusal).startswith("--extend")
    targets = replace(run.stages["train"], extended=()).targets(run.record.stages)
    again = {"prepare", "mask", "train"}.intersection(forced)
    named = {target.name for target in targets if again or target.name in forced}
    return _outlook_of(targets, forced=named, extended=() if refuses_extension else extended, refusal=refusal)


def _is_here(start: str) -> bool:
    from raysweep.model.start_folder import cached_snapshot, local_folder  # NumPy, which a start from scratch needs not

    try:
        return (local_folder(start) or cached_snapshot(start)) is not None
    except RaysweepError:
        return False


def _outlook_of(
    targets: Sequence[Target], *, forced: Collection[str], extended: Collection[str], refusal: RaysweepError | None
) -> Outlook:
    """Describe what would happen to each trial."""
    decisions = decide(targets, forced=forced, extended=extended)
    todo = tuple(target.name for target in decisions.todo)
    states, reasons = {}, {}
    for target in targets:
        if target.name in forced and target.record is not None:
            states[target.name], reasons[target.name] = "again", "forced"
        elif target.is_changed and target.name in extended and target.name not in decisions.fresh:
            states[target.name], reasons[target.name] = "again", f"goes on with what is done ({changes_of(target)})"
        elif target.is_changed and not set(target.rests_on) & decisions.fresh:
            states[target.name] = "changed"
            extend = f"--extend {target.name} to go on with it, or " if target.is_extendable else ""
            reasons[target.name] = f"changed ({changes_of(target)}): needs {extend}{target.force}"
        elif target.is_done and target.name in todo:
            states[target.name], reasons[target.name] = "again", decisions.reasons[target.name]
    return Outlook(refusal=refusal, states=states, reasons=reasons, todo=todo)
