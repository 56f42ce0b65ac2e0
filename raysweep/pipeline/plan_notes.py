"""Notes on a forecast of trainings: how much they send to object storage, and which steps are too long to stop."""

from collections.abc import Mapping

from raysweep.pipeline.signals import GRACE_S
from raysweep.planning.forecast import TrialForecast
from raysweep.storage.run_folder import RunFolder


def describe_transfers(trials: Mapping[str, TrialForecast], folder: RunFolder) -> str:
    """Describe what these trainings send to the object storage in which the run lies; one line.

    No rate of the storage is measured, so the line gives bytes and no time.
    """
    models, written = (
        sum(getattr(trial, name) for trial in trials.values()) / 1e6 for name in ("disk_bytes", "written_bytes")
    )
    others = "curves and records" if folder.splits.exists() else "curves, records, the corpus and its examples"
    return (
        f"object storage: the trainings send at most {written:,.0f} MB of weights and optimiser states, of which "
        f"{models:,.0f} MB are models, the rest checkpoints (fewer with a higher checkpoint_every; one that is deleted "
        f"soon may not be sent), besides tokenizers (3.6 MB a model with GPT-2's), {others}; nodes with disks of their "
        "own fetch the examples and the models to start from. The time of these transfers is unknown, and not included"
    )


def describe_long_steps(trials: Mapping[str, TrialForecast]) -> list[str]:
    """Warn of trials whose single step takes longer than a stop waits for a checkpoint."""
    seconds = {name: trial.step_s / max(1, trial.steps) for name, trial in trials.items()}
    return [
        f"plan: a step of {name} takes about {step_s:,.0f} s, and Ctrl-C waits {GRACE_S:.0f} s for a checkpoint: "
        "stopping would lose the steps since the last one. Lower training.batch_size or training.accumulation"
        for name, step_s in seconds.items()
        if step_s > GRACE_S
    ]
