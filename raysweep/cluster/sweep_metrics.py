"""Exports metrics of a sweep to Prometheus, through Ray's metrics, in addition to TensorBoard's curves.

`ray.util.metrics` exports each as `ray_raysweep_…` on the metrics port of the node that runs the sweep; the ports of
all nodes are in `prom_metrics_service_discovery.json` in Ray's temporary folder (on a cluster: /tmp/ray).  Every
series is tagged by run, those of a training also by trial.  The series of a training end some minutes after
it, or when `MOST_ENDED` others have ended since: repeating those of a thousand ended trainings would take the
sweep longer than scheduling them.
"""

import time
from collections.abc import Callable, Mapping
from pathlib import Path

from ray.util.metrics import Gauge

from raysweep.storage.run_folder import TrialFolder
from raysweep.training.job import Evaluation
from raysweep.training.metrics import read_metrics

GAUGES = {
    "raysweep_valid_loss": ("nats per token, at the last evaluation", ("trial", "kind")),
    "raysweep_step": ("steps done, at the last evaluation", ("trial",)),
    "raysweep_tokens_per_second": ("real tokens trained on", ("trial",)),
    "raysweep_mfu": ("model FLOPs utilisation, where the GPU's peak is known", ("trial",)),
    "raysweep_peak_memory_bytes": ("of the device, so far", ("trial",)),
    "raysweep_trials": ("trials by state", ("state",)),
    "raysweep_gpu_hours": ("GPU-hours of all attempts so far", ()),
    "raysweep_cost": ("what they cost at the config's prices", ()),
}
"""By name: description, and tags in addition to `run`."""
EXPORTED_AFTER_END_S = 180.0
"""Seconds for which the last values of an ended training are exported; Prometheus scrapes every 15 s to 60 s."""
MOST_ENDED = 32
"""How many ended trainings are reported at most, the latest ones; Ray's client keeps each series in memory."""
_OF_AN_EVALUATION = {
    "tokens_per_second": "raysweep_tokens_per_second",
    "mfu": "raysweep_mfu",
    "peak_memory_bytes": "raysweep_peak_memory_bytes",
}


class SweepMetrics:
    """The gauges of one run, set by the process that runs its sweep."""

    def __init__(self, run: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._run, self._clock = run, clock
        self._gauges = {
            name: Gauge(name, description=text, tag_keys=("run", *tags)) for name, (text, tags) in GAUGES.items()
        }
        self._states: set[str] = set()
        self._series: dict[str, dict[tuple[str, tuple[tuple[str, str], ...]], float]] = {}
        """By trial, '' for the whole run: the value of each series, by gauge and tags."""
        self._exported_until: dict[str, float] = {}

    def export_evaluation(self, trial: str, folder: TrialFolder, evaluation: Evaluation) -> None:
        """Export an evaluation of the trial's model; speed and memory are read from its folder."""
        for kind, loss in evaluation.losses.items():
            self._set("raysweep_valid_loss", loss, trial=trial, kind=kind)
        self._set("raysweep_step", evaluation.step, trial=trial)
        lines = read_metrics(folder.evaluations)
        for field, name in _OF_AN_EVALUATION.items():
            if lines and field in lines[-1]:
                self._set(name, lines[-1][field], trial=trial)

    def export_states(self, counts: Mapping[str, int]) -> None:
        """Export the number of trials in each state; states that no longer occur are set to 0."""
        self._states.update(counts)
        for state in self._states:
            self._set("raysweep_trials", counts.get(state, 0), state=state)

    def export_spending(self, *, gpu_hours: float, cost: float) -> None:
        """Export what all attempts have cost so far."""
        self._set("raysweep_gpu_hours", gpu_hours)
        self._set("raysweep_cost", cost)

    def end_trial(self, trial: str) -> None:
        """Record that the training has ended; another attempt may follow."""
        self._exported_until.pop(trial, None)
        if trial not in self._series:
            return
        # Last in the order, also if the training has ended before.
        self._exported_until[trial] = self._clock() + EXPORTED_AFTER_END_S
        if len(self._exported_until) > MOST_ENDED:
            self._forget(next(iter(self._exported_until)))

    def begin_trial(self, trial: str) -> None:
        """Keep the training's last values while another attempt runs, however long its next evaluation takes."""
        self._exported_until.pop(trial, None)

    def repeat(self) -> None:
        """Export everything again, since Ray drops values that are not repeated within seconds."""
        now = self._clock()
        for trial in [trial for trial, until in self._exported_until.items() if until < now]:
            self._forget(trial)
        for series in self._series.values():
            for (name, tags), value in series.items():
                self._gauges[name].set(value, tags=dict(tags))

    def _forget(self, trial: str) -> None:
        del self._exported_until[trial]
        self._series.pop(trial, None)

    def _set(self, name: str, value: float, **tags: str) -> None:
        trial = tags.get("trial", "")
        self._exported_until.pop(trial, None)
        self._series.setdefault(trial, {})[name, (("run", self._run), *tags.items())] = float(value)
        self._gauges[name].set(float(value), tags={"run": self._run, **tags})


def run_of(storage: Path) -> str:
    """Return the run's name, from the path of Ray's folder in the run folder."""
    return storage.parent.name
