"""Sends trainings to MLflow: an experiment per run folder, and in it a run per training.

The store is `mlflow.db` (SQLite) beside the run folders, or what MLFLOW_TRACKING_URI names.  A training is found by
a tag, and a second tag says up to which step it was sent, so that a resumed training goes on in the same run.  After
a kill between the two the store drops the points that come again, because they are equal: all points of a training
carry the time at which it first started.
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
"""Most metrics of one request; MLflow takes no more."""
_LONGEST_VALUE = 500
_ID, _SENT = "raysweep.training", "raysweep.sent_steps"
_STATUS = {State.DONE: "FINISHED", State.FAILED: "FAILED", State.STOPPED: "KILLED", State.BLOCKED: "KILLED"}


class MlflowTracker:
    """MLflow's client for one store."""

    is_live: ClassVar = True

    def __init__(self, storage: Path) -> None:
        # Before the import, which reads them: nothing is sent to MLflow's makers, and a server that is gone
        # must not hold the run for minutes.
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
        from mlflow.tracking import MlflowClient

        for name in ("mlflow", "alembic"):
            logging.getLogger(name).setLevel(logging.WARNING)
        self._client = MlflowClient(tracking_uri=self.store_of(storage))
        self._artifacts = (storage / "mlflow-artifacts").as_uri()

    @staticmethod
    def store_of(storage: Path) -> str:
        """The address of the store."""
        return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{storage / 'mlflow.db'}"

    @staticmethod
    def how_to_look(storage: Path) -> str:
        """MLflow's own page."""
        return f"`mlflow ui --backend-store-uri {without_secrets(MlflowTracker.store_of(storage))}`"

    def send(self, training: TrackedTraining) -> None:
        """Send the points after the last that MLflow has, the scores and the state."""
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
            # A step may be cut in two by the limit: only those before the last one are whole.
            whole = batch[-1][0] - 1 if first + _MOST_METRICS < len(metrics) else batch[-1][0]
            tags = [RunTag(_SENT, str(max(sent, whole)))]
            self._client.log_batch(run.info.run_id, metrics=[metric for _, metric in batch], tags=tags)
        params = [
            Param(_name(key), str(value)[:_LONGEST_VALUE])
            for key, value in training.settings.items()
            if _name(key) not in run.data.params  # which MLflow never changes; the tag has the steps of an extension
        ]
        now_ms = int(unix_seconds() * 1000)  # the later of two values for the same steps is the one that holds
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
        """Everything is stored at once."""

    def _open(self, training: TrackedTraining) -> Any:
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or training.run
        known = self._client.get_experiment_by_name(name)
        if known is not None:
            experiment = known.experiment_id
        else:
            is_local = not os.environ.get("MLFLOW_TRACKING_URI")
            experiment = self._client.create_experiment(name, self._artifacts if is_local else None)
        found = self._client.search_runs([experiment], f"tags.`{_ID}` = '{training.id}'", max_results=1)
        if found:
            return found[0]
        tags = {_ID: training.id, "raysweep.run": training.run}
        return self._client.create_run(experiment, int(training.started_s * 1000), tags, training.name)


def _name(name: str) -> str:
    """A name as MLflow takes it."""
    return re.sub(r"[^\w.\-/ ]", "_", name)
