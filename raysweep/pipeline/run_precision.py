"""Keeps all trainings of a run in one precision if their configs leave it to 'auto'.

On the CPU of this machine the choice is made once, before the first training, and stored in run.json.  Otherwise
(on GPUs, on a cluster, for models too narrow to test) the device of the first training decides, and later
trainings use the precision recorded in the run's results and checkpoints.  Trainings that start at the same time on
different kinds of devices may still differ; the run stops when it notices this.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, cast

from raysweep.config.schema import Config
from raysweep.errors import ConfigError, InputError
from raysweep.pipeline.run_record import RunRecord
from raysweep.planning.cpu_precision import NumberType, choose_precision, known_precision
from raysweep.scheduling.trials import Trial
from raysweep.storage.atomic_files import read_json
from raysweep.storage.digests import write_sealed
from raysweep.storage.run_folder import CHECKPOINT_RECORD, RunFolder, TrialFolder


def settle_precision(
    config: Config, folder: RunFolder, record: RunRecord, trials: Iterable[str], say: Callable[[str], None]
) -> RunRecord | None:
    """Choose and record what 'auto' means on this CPU; None if it was chosen before, or a training has begun.

    If this machine would choose differently now, print that the earlier choice is kept.

    Raises:
        ResourceError: the test of the precisions failed.
    """
    if record.precision is not None:
        say_if_unlike(config, record.precision, say)
        return None
    if any(folder.trial(name).root.exists() for name in trials):
        return None
    test = choose_precision(config)
    if test is None:
        return None
    say(test.describe())
    settled = replace(record, precision=test.precision)
    write_sealed(folder.record, asdict(settled))
    return settled


def say_if_unlike(config: Config, kept: NumberType, say: Callable[[str], None]) -> None:
    """Print that the run keeps its precision, if 'auto' is known to mean another one on this machine."""
    here = known_precision(config)
    if here not in (None, kept):
        say(
            f"precision: {kept}, as this run began; in a fresh run 'auto' would be {here} on this machine "
            "(training.precision with --force train changes it)"
        )


def trained_precision(
    folder: RunFolder, trials: Mapping[str, Trial], *, apart_from: Collection[str] = ()
) -> NumberType | None:
    """Return the precision of the 'auto' trials trained so far, None if unknown; ConfigError if there are two."""
    trained: dict[str, list[str]] = {}
    for name, trial in trials.items():
        if trial.settings.precision == "auto" and name not in apart_from:
            for precision in _recorded(folder.trial(name)):
                trained.setdefault(precision, []).append(name)
    if len(trained) > 1:
        names = " and ".join(f"{', '.join(trained[precision])} in {precision}" for precision in sorted(trained))
        again = " ".join(f"--force {name}" for name in min(trained.values(), key=len))
        raise ConfigError(
            f"training.precision: found auto, and this run trained {names}, on unlike devices, so their losses cannot "
            f"be compared; train again with {again}, in the precision of the others, or set training.precision to fp32 "
            "or bf16 and train all again with --force train"
        )
    return cast("NumberType", next(iter(trained))) if trained else None


def in_precision(trial: Trial, precision: NumberType | None) -> Trial:
    """Replace 'auto' by the run's precision; the trial's fingerprint stays that of its config."""
    if precision is None or trial.settings.precision != "auto":
        return trial
    return replace(trial, settings=trial.settings.model_copy(update={"precision": precision}))


def _recorded(trial: TrialFolder) -> set[str]:
    """Collect the precisions in the results and checkpoints of the trial and of its search's samples."""
    names = (trial.record.name, trial.result.name)
    results = [_read(path).get("result", {}) for name in names for path in trial.root.rglob(name)]
    states = [_read(path).get("state", {}) for path in trial.root.rglob(f"step-*/{CHECKPOINT_RECORD}")]
    # Earlier versions recorded the device alone, and 'auto' was fp32 on every CPU.
    recorded = [
        values.get("precision") or ("fp32" if values.get("device") == "cpu" else "") for values in (*results, *states)
    ]
    return {*map(str, recorded)} & {"fp32", "bf16"}


def _read(path: Path) -> Mapping[str, Any]:
    """Read the file's values; {} if it cannot be read, which the training that needs it reports."""
    try:
        values = read_json(path)
    except (OSError, InputError):
        return {}
    return values if isinstance(values, dict) else {}
