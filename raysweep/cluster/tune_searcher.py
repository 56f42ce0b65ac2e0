"""What Tune asks for its next trial: the state of the sweep.

Only a `Searcher` can hold a trial back in Ray 2.60; a `TrialScheduler` sees trials that exist already.
Returning None means "not now": Tune asks again when something ends.  FINISHED ends the sweep for
good, so it is said only when nothing runs and nothing can become ready.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ray.tune.search import Searcher

from raysweep.pipeline.search_rounds import SweepTraining
from raysweep.pipeline.sweep_state import SweepState
from raysweep.scheduling.outcomes import Outcome, outcome_from_json

EndTraining = Callable[[str, Outcome], None]
"""Called with a training's name and how it ended."""


class SweepSearcher(Searcher):
    """Hands out what the sweep's state releases."""

    def __init__(
        self, state: SweepState, config: Callable[[SweepTraining], dict[str, Any]], end: EndTraining | None = None
    ) -> None:
        """Args: `end` is told how a training ended, instead of the state."""
        super().__init__()
        self._state, self._end = state, end or state.end
        self._config = config
        self._names: dict[str, str] = {}

    # Ray passes these arguments by keyword, so their names are fixed.

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:  # type: ignore[override]  # FINISHED is a string
        """A training's config; None while none may start; FINISHED when all is over."""
        training = self._state.release()
        if training is not None:
            self._names[trial_id] = training.name
            return self._config(training)
        return str(Searcher.FINISHED) if self._state.is_over else None

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """The trial is over; `sweep` tells the state of a lost process (`error`), because it knows the cause."""
        if not error:
            assert result is not None, "a driver reports before it ends"
            self._end(self._names[trial_id], outcome_from_json(result["outcome"]))

    def save(self, checkpoint_path: str) -> None:
        """Write the file that Tune wants; a later run goes by the records."""
        Path(checkpoint_path).touch()

    def restore(self, checkpoint_path: str) -> None:
        """Never used: a later run starts a fresh Tuner with what is left to do."""
        raise NotImplementedError("a sweep is resumed from the trials' records")

    def __getstate__(self) -> dict[str, Any]:
        # Tune pickles the searcher beside its own state; the sweep's state holds the terminal.
        return {}
