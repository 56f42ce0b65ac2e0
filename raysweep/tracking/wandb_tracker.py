"""Writes trainings for Weights & Biases, offline: a folder per training, which `wandb sync` sends when the user wants.

Offline nobody watches a training while it runs, and a folder cannot be added to, so each is written in one go from
the run's records: when the training has ended, and anew when it was resumed, extended or scored.  A folder that a kill
left is replaced too.  The id stays, so that what is synced again is the same run.
"""

import os
import shutil
from pathlib import Path
from typing import ClassVar

from raysweep.scheduling.records import State
from raysweep.tracking.tracked_training import TrackedTraining


class WandbTracker:
    """wandb, writing into `wandb/` beside the run folders."""

    is_live: ClassVar = False

    def __init__(self, storage: Path) -> None:
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # before the import, which reads it
        import wandb

        self._wandb, self._storage = wandb, storage
        self._settings = wandb.Settings(
            mode="offline",
            silent=True,
            console="off",
            # What it would note of the machine, the user, the command and the code.
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
        """The folder with a folder per training."""
        return str(storage / "wandb")

    @staticmethod
    def how_to_look(storage: Path) -> str:
        """The command that sends them."""
        return f"`wandb sync {storage / 'wandb'}/offline-run-*` sends them"

    def send(self, training: TrackedTraining) -> None:
        """Write the training's folder."""
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
        """End wandb's own process."""
        self._wandb.teardown()
