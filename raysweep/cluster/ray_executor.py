"""The `Executor` that spreads a run's work over a Ray cluster."""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from raysweep.cluster.scorers import Scorers
from raysweep.cluster.session import Session, open_session
from raysweep.config.resource_settings import ResourcesConfig
from raysweep.pipeline.tasks import Listener, MaskTask, ScoreTask, TextTask, TrainTask
from raysweep.planning.budget import BudgetWatch
from raysweep.readers.cpu_threads import MapBlocks, map_blocks_in_threads
from raysweep.staging.run_staging import LocalStorage, Staging
from raysweep.storage.run_folder import RunFolder


class RayExecutor:
    """Opens the session with the first piece of work, and keeps it until `close`."""

    def __init__(
        self,
        resources: ResourcesConfig,
        folder: RunFolder,
        *,
        fail_fast: bool = False,
        budget: BudgetWatch | None = None,
        staging: Staging | None = None,
        trains: bool = True,
    ) -> None:
        """Open nothing yet; `trains` is as for `open_session`, the others are as for `run_sweep`."""
        self._staging: Staging = staging or LocalStorage()
        self._trains = trains
        self._resources, self._fail_fast, self._budget = resources, fail_fast, budget
        self._folder = folder
        self._session: Session | None = None
        self._scorers: Scorers | None = None

    def check(self, listener: Listener) -> None:
        """Join the cluster, if there is one, which checks its nodes against the run's needs."""
        if self._resources.cluster_address is not None:
            self._open(listener)

    def block_mapper(self, listener: Listener) -> MapBlocks:
        """Map blocks in threads of this process; if a cluster is joined, also on its nodes if that saves time."""
        if self._session is None or self._session.local is not None:
            return map_blocks_in_threads
        # Imported here, because it loads Ray Data.
        from raysweep.cluster.block_job import spread_blocks

        return partial(spread_blocks, self._session, listener)

    def mask(self, tasks: Sequence[MaskTask], listener: Listener) -> list[dict[str, Any]]:
        """Make the shards; return their summaries in the order of the tasks."""
        if not tasks:
            return []
        # Imported here: it loads Ray Data, which commands that only score do not need.
        from raysweep.cluster.mask_job import make_shards

        session = self._open(listener)
        self._staging.push()
        summaries = make_shards(session, tasks, listener, workers=self._resources.mask_workers)
        self._staging.collect(tasks[0].folder)
        return summaries

    def train(self, tasks: Sequence[TrainTask], listener: Listener) -> None:
        """Train every task whose parent finishes, and write each task's record."""
        if tasks:
            # Imported here for the same reason: it loads Ray Tune and Ray Train.
            from raysweep.cluster.sweep import run_sweep

            session = self._open(listener)
            if self._scorers is not None:
                # One is kept after an evaluation, and may hold the only GPU.
                self._scorers.close()
            run_sweep(
                session,
                tasks,
                listener,
                storage=self._folder.ray,
                fail_fast=self._fail_fast,
                budget=self._budget,
                staging=self._staging,
            )

    def score(self, tasks: Sequence[ScoreTask], listener: Listener) -> None:
        """Score the models; each model's table is in place before its record."""
        if tasks:
            scorers = self._open_scorers(listener)
            self._staging.push()
            scorers.score(tasks, listener)
            for folder in sorted({task.record.parent for task in tasks}):
                self._staging.collect(folder)

    def warm_up(self, tasks: int, listener: Listener) -> None:
        """Start Ray, and the workers that will score at least this many parts of a corpus."""
        if tasks:
            self._open_scorers(listener).warm_up(tasks)

    def score_texts(self, tasks: Sequence[TextTask], listener: Listener) -> Iterator[tuple[TextTask, int]]:
        """Score parts of a corpus; yield each task when it is done."""
        if tasks:
            scorers = self._open_scorers(listener)
            self._staging.push()
            yield from scorers.score_texts(tasks, listener)

    def time_model(self, folder: Path, ensemble: Sequence[Path], repeats: int, listener: Listener) -> dict[str, Any]:
        """Time one model's infilling, with the resources of a trial."""
        listener.advance("evaluate", 0, 1, "models timed")
        return self._open_scorers(listener).time_model(folder, ensemble, repeats)

    def close(self) -> None:
        """Close the session, if there is one."""
        if self._session is not None:
            if self._scorers is not None:
                self._scorers.close()
            self._session.close()
            self._session = self._scorers = None

    def _open_scorers(self, listener: Listener) -> Scorers:
        session = self._open(listener)
        if self._scorers is None:
            self._scorers = Scorers(session)
        return self._scorers

    def _open(self, listener: Listener) -> Session:
        if self._session is None:
            listener.say("starting Ray" if self._resources.cluster_address is None else "joining the cluster")
            self._session = open_session(
                self._resources,
                scratch=self._folder.ray,
                staging=self._staging,
                trains=self._trains,
                with_dashboard=self._trains,
            )
            listener.say(self._session.describe())
        return self._session
