"""What Tune asks for its next trial, the state of the sweep, and how it forgets the trials that have ended.

Only a `Searcher` can hold a trial back in Ray 2.60; a `TrialScheduler` sees trials that exist already.
Returning None means "not now": Tune asks again when something ends.  FINISHED ends the sweep for
good, so it is said only when nothing runs and nothing can become ready.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ray.tune.schedulers import FIFOScheduler
from ray.tune.search import Searcher

from raysweep.cluster.ray_internals import forget_ended_trials
from raysweep.pipeline.search_rounds import SweepTraining
from raysweep.pipeline.sweep_state import SweepState
from raysweep.scheduling.outcomes import Outcome, outcome_from_json

EndTraining = Callable[[str, Outcome], None]
"""Called with a training's name and how it ended."""


class SweepSearcher(Searcher):
    """Passes on the trainings that the sweep's state releases."""

    def __init__(
        self, state: SweepState, config: Callable[[SweepTraining], dict[str, Any]], end: EndTraining | None = None
    ) -> None:
        """Args: `end` receives how a training ended, instead of the state."""
        super().__init__()
        self._state, self._end = state, end or state.end
        self._config = config
        self._names: dict[str, str] = {}

    # Ray passes these arguments by keyword, so their names are fixed.

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:  # type: ignore[override]  # FINISHED is a string
        """Return a training's config; None while none may start; FINISHED when all are over."""
        training = self._state.release()
        if training is not None:
            self._names[trial_id] = training.name
            return self._config(training)
        return str(Searcher.FINISHED) if self._state.is_over else None

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Pass on the outcome; `sweep` reports lost processes (`error`) to the state, because it knows the cause."""
        if error:
            # Nothing, if Tune calls this again after `end` itself failed.
            self._names.pop(trial_id, None)
            return
        assert result is not None, "a driver reports before it ends"
        self._end(self._names.pop(trial_id), outcome_from_json(result["outcome"]))

    def save(self, checkpoint_path: str) -> None:
        """Write the file that Tune expects; a later run relies on the records."""
        Path(checkpoint_path).touch()

    def restore(self, checkpoint_path: str) -> None:
        """Never called: a later run starts a fresh Tuner with the trainings that are left."""
        raise NotImplementedError("a sweep is resumed from the trials' records")

    def __getstate__(self) -> dict[str, Any]:
        # Tune pickles the searcher beside its own state; the sweep's state holds the terminal.
        return {}


class ForgetfulScheduler(FIFOScheduler):
    """Starts trials in the order in which they were suggested, as Tune does by default, and forgets ended ones."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._controller: Any = None
        """Tune's, from the end of a trial to the next step: a trial is still in use when its end is told."""

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:  # noqa: ARG002 - Ray's names
        """Note that the trial ended."""
        self._controller = tune_controller

    def on_trial_error(self, tune_controller: Any, trial: Any) -> None:  # noqa: ARG002 - Ray's names
        """Note that the trial's process was lost."""
        self._controller = tune_controller

    def choose_trial_to_run(self, tune_controller: Any) -> Any:
        """Return the first waiting trial, after forgetting the ended ones."""
        if self._controller is not None:
            forget_ended_trials(self._controller)
            self._controller = None
        return super().choose_trial_to_run(tune_controller)
