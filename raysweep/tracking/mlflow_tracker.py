"""Sends trainings to MLflow: one experiment per run folder, with one MLflow run per training.

The store is `mlflow.db` (SQLite) beside the run folders, or whatever MLFLOW_TRACKING_URI names.  A tag identifies each
training, and a second tag records the last step sent, so that a resumed training continues the same MLflow run.  If
the process is killed between sending points and setting the tag, those points are sent again; the store drops them as
duplicates, because every point of a training carries the same time, that of its first start.
"""

import logging
import os
import re
from pathlib import Path
from typing import Any, ClassVar

from raysweep.scheduling.records import State
from raysweep.storage.clock import unix_seconds
from raysweep.storage.printable import without_secrets
from raysweep.tracking.tracked_training import TrackedTraining

_MOST_METRICS = 1000
"""Maximum number of metrics in one request; MLflow rejects more."""
_LONGEST_VALUE = 500
_ID, _SENT = "raysweep.training", "raysweep.sent_steps"
_STATUS = {State.DONE: "FINISHED", State.FAILED: "FAILED", State.STOPPED: "KILLED", State.BLOCKED: "KILLED"}


class MlflowTracker:
    """MLflow's client for one store."""

    is_live: ClassVar = True

    def __init__(self, storage: Path) -> None:
        # Set before the import, which reads them: send no telemetry to MLflow's makers, and do not let an unreachable
        # server hold up the run for minutes.
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
        from mlflow.tracking import MlflowClient

        for name in ("mlflow", "alembic"):
            logging.getLogger(name).setLevel(logging.WARNING)
        self._client = MlflowClient(tracking_uri=self.store_of(storage))
        self._artifacts = (storage / "mlflow-artifacts").as_uri()

    @staticmethod
    def store_of(storage: Path) -> str:
        return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{storage / 'mlflow.db'}"

    @staticmethod
    def viewing_hint(storage: Path) -> str:
        """Return the command that opens MLflow's own page."""
        return f"`mlflow ui --backend-store-uri {without_secrets(MlflowTracker.store_of(storage))}`"

    def send(self, training: TrackedTraining) -> None:
        """Send the points after the last step that MLflow has, the scores and the state."""
        from mlflow.entities import Metric, Param, RunTag

        run = self._open(training)
        sent = int(run.data.tags.get(_SENT, 0))
        time_ms = int(training.started_s * 1000)
        metrics = [
            (step, Metric(_name(key), value, time_ms, step))
            for step, curves in training.points(after=sent)
            for key, value in curves.items()
        ]
        for first in range(0, len(metrics), _MOST_METRICS):
            batch = metrics[first : first + _MOST_METRICS]
            # The limit may cut a step in two: only the steps before the last one are complete.
            complete = batch[-1][0] - 1 if first + _MOST_METRICS < len(metrics) else batch[-1][0]
            tags = [RunTag(_SENT, str(max(sent, complete)))]
            self._client.log_batch(run.info.run_id, metrics=[metric for _, metric in batch], tags=tags)
        params = [
            Param(_name(key), str(value)[:_LONGEST_VALUE])
            for key, value in training.settings.items()
            if _name(key) not in run.data.params  # MLflow never changes a param; extended steps go into the tag below
        ]
        now_ms = int(unix_seconds() * 1000)  # of two values for the same step, MLflow shows the later
        scores = [
            Metric(_name(key), value, now_ms, training.steps)
            for key, value in training.scores.items()
            if run.data.metrics.get(_name(key)) != value
        ]
        steps = [RunTag("raysweep.steps", str(training.steps))]
        self._client.log_batch(run.info.run_id, metrics=scores, params=params, tags=steps)
        if status := _STATUS.get(training.state):
            self._client.set_terminated(run.info.run_id, status, int((training.ended_s or training.started_s) * 1000))
        elif run.info.status != "RUNNING":
            self._client.update_run(run.info.run_id, status="RUNNING")

    def close(self) -> None:
        """Do nothing: MLflow stores each request as it arrives."""

    def _open(self, training: TrackedTraining) -> Any:
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or training.run
        known = self._client.get_experiment_by_name(name)
        if known is not None:
            experiment = known.experiment_id
        else:
            is_local = not os.environ.get("MLFLOW_TRACKING_URI")
            experiment = self._client.create_experiment(name, self._artifacts if is_local else None)
        runs = self._client.search_runs([experiment], f"tags.`{_ID}` = '{training.id}'", max_results=1)
        if runs:
            return runs[0]
        tags = {_ID: training.id, "raysweep.run": training.run}
        return self._client.create_run(experiment, int(training.started_s * 1000), tags, training.name)


def _name(name: str) -> str:
    """Replace the characters that MLflow does not allow in a name."""
    return re.sub(r"[^\w.\-/ ]", "_", name)
