"""Extends a finished training (`--extend A1`) to more steps of a constant schedule, from its last state.

The result equals that of a training of all steps in one go, to the byte on a CPU.  The finished training must therefore
be the beginning of the longer one: a constant schedule, the same data and settings except `steps`, a last evaluation
at a step where the longer training evaluates too, and the last checkpoint, which `keep: resume` leaves.

First the checkpoints are assigned to the longer training, then the record is marked as stopped.  If the process is
killed in between, the same command does the rest.
"""

from collections.abc import Mapping
from dataclasses import replace

from raysweep.config.training_settings import TrialConfig
from raysweep.pipeline.stages import Target
from raysweep.scheduling.records import State, read_record, write_record
from raysweep.storage.run_folder import TrialFolder


def why_not_extendable(target: Target, settings: TrialConfig, result: Mapping[str, object]) -> str:
    """Say why a finished training cannot be extended; '' if it can."""
    assert target.record is not None, "only what is recorded is extended"
    before, now = dict(target.record.identity), dict(target.identity)
    old, new = before.pop("steps", 0), now.pop("steps", 0)
    if before != now or target.changed_inputs:
        return "more than its steps changed, or what it was made from"
    if not target.is_done:
        return "it was not finished with its earlier steps"
    if new <= old:
        return f"found steps: {old:,} → {new:,}; steps can only be raised"
    if settings.search is not None:
        return "it is a search"
    if settings.schedule != "constant":
        return f"its schedule is {settings.schedule}, whose learning rates depend on the number of steps"
    if result.get("stopped"):
        return f"it stopped early ({result['stopped']})"
    if old % settings.evaluate_every:
        every = f"one of every {settings.evaluate_every:,} steps"
        return f"its last evaluation was at step {old:,}, which is not {every}, so a longer training would not make it"
    if not result.get("resumable"):
        return "its last state was not kept, since 'keep' was not 'resume'"
    return ""


def extend_training(folder: TrialFolder, target: Target) -> None:
    """Turn the finished training into the beginning of the longer one that the target describes."""
    from raysweep.model.checkpoints import Checkpoints  # torch, which a plan does not need

    record = read_record(folder)
    assert record is not None, "its target was made from it"
    Checkpoints(folder.checkpoints, target.fingerprint, target.name).take_over(record.fingerprint)
    write_record(
        folder,
        replace(
            record,
            state=State.STOPPED,
            fingerprint=target.fingerprint,
            identity=target.identity,
            reason=f"to be extended from {record.identity['steps']:,} steps to {target.identity['steps']:,}",
            result={},
            outputs={},
        ),
    )
