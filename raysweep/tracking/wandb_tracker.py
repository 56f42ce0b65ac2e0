"""Writes trainings for Weights & Biases, offline: one folder per training, which the user uploads with `wandb sync`.

Offline nobody can watch a training while it runs, and a folder cannot be appended to, so each folder is written in one
go from the run's records: when the training has ended, and again after it was resumed, extended or scored.  A partial
folder left by a killed process is replaced too.  The id does not change, so syncing again updates the same run.
"""

import os
import shutil
from pathlib import Path
from typing import ClassVar

from raysweep.scheduling.records import State
from raysweep.tracking.tracked_training import TrackedTraining


class WandbTracker:
    """Writes with wandb into `wandb/` beside the run folders."""

    is_live: ClassVar = False

    def __init__(self, storage: Path) -> None:
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # set before the import, which reads it
        import wandb

        self._wandb, self._storage = wandb, storage
        self._settings = wandb.Settings(
            mode="offline",
            silent=True,
            console="off",
            # Record nothing about the machine, the user, the command or the code.
            x_save_requirements=False,
            disable_code=True,
            disable_git=True,
            disable_job_creation=True,
            x_disable_meta=True,
            x_disable_stats=True,
            x_disable_machine_info=True,
        )

    @staticmethod
    def store_of(storage: Path) -> str:
        """Return the folder that holds one folder per training."""
        return str(storage / "wandb")

    @staticmethod
    def viewing_hint(storage: Path) -> str:
        """Return the command that uploads the trainings."""
        return f"`wandb sync {storage / 'wandb'}/offline-run-*` sends them"

    def send(self, training: TrackedTraining) -> None:
        """Write the training's folder, replacing an earlier one."""
        for earlier in (self._storage / "wandb").glob(f"offline-run-*-{training.id}"):
            shutil.rmtree(earlier)
        run = self._wandb.init(
            project=os.environ.get("WANDB_PROJECT", "raysweep"),
            id=training.id,
            name=training.name,
            group=training.run,
            dir=str(self._storage),
            config=dict(training.settings),
            settings=self._settings,
            reinit="create_new",
        )
        for step, curves in training.points():
            run.log(curves, step=step)
        run.summary.update(dict(training.scores))
        run.finish(exit_code=0 if training.state is State.DONE else 1)

    def close(self) -> None:
        """Stop wandb's service process."""
        self._wandb.teardown()
