"""What Tune asks for its next trial: the sweep's book, and Optuna where a trial has a `search`.

Only a `Searcher` can hold a trial back in Ray 2.60; a `TrialScheduler` sees trials that exist already.
Returning None means "not now": Tune asks again when something ends.  FINISHED ends the sweep for
good, so it is said only when nothing runs and nothing can become ready.
"""

import json
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import optuna
from ray.tune.search import Searcher
from ray.tune.search.optuna import OptunaSearch

from raysweep.cluster.book import Book
from raysweep.cluster.samples import ROUND, Unit
from raysweep.config.trials import SearchConfig, SearchRange


class BookSearcher(Searcher):
    """Hands out what the book releases."""

    def __init__(self, book: Book, config: Callable[[Unit], dict[str, Any]]) -> None:
        super().__init__()
        self._book = book
        self._config = config
        self._names: dict[str, str] = {}

    # Ray passes these arguments by keyword, so their names are fixed.

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:  # type: ignore[override]  # FINISHED is a string
        """A training's config; None while none may start; FINISHED when all is over."""
        unit = self._book.release()
        if unit is not None:
            self._names[trial_id] = unit.name
            return self._config(unit)
        return str(Searcher.FINISHED) if self._book.is_over else None

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """The trial is over; a lost driver (`error`) is told to the book by `sweep`, which knows why."""
        if not error:
            assert result is not None, "a driver reports before it ends"
            self._book.end(self._names[trial_id], json.loads(result["outcome"]))

    def save(self, checkpoint_path: str) -> None:
        """Tune wants a file; the records are what a later run goes by."""
        Path(checkpoint_path).touch()

    def restore(self, checkpoint_path: str) -> None:
        """Never used: a later run starts a fresh Tuner with what is left to do."""
        raise NotImplementedError("a sweep is resumed from the trials' records")

    def __getstate__(self) -> dict[str, Any]:
        # Tune pickles the searcher beside its own state; the book holds the terminal.
        return {}


class OptunaSuggestions:
    """Settings drawn by Optuna's TPE, from the seed and the results told."""

    def __init__(self, search: SearchConfig, *, seed: int) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        with warnings.catch_warnings():
            # The multivariate sampler is marked experimental; it knows that rate and steps belong together.
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=ROUND, multivariate=True)
        space = {name: _distribution(each) for name, each in sorted(search.space.items())}
        self._searcher = OptunaSearch(space=space, metric="loss", mode="min", sampler=sampler)
        self._asked = 0

    def ask(self) -> Mapping[str, Any]:
        """The settings of the next sample."""
        self._asked += 1
        settings = self._searcher.suggest(str(self._asked - 1))
        assert settings is not None, "Optuna always has another"
        return settings

    def tell(self, sample: int, loss: float | None) -> None:
        """How a sample did; None if it failed."""
        result = None if loss is None else {"loss": loss}
        self._searcher.on_trial_complete(trial_id=str(sample), result=result, error=loss is None)


def _distribution(space: SearchRange) -> optuna.distributions.BaseDistribution:
    if space.choices is not None:
        return optuna.distributions.CategoricalDistribution(space.choices)
    assert space.low is not None, "the schema refuses a range without bounds"
    assert space.high is not None, "the schema refuses a range without bounds"
    if isinstance(space.low, int) and isinstance(space.high, int):
        return optuna.distributions.IntDistribution(space.low, space.high, log=space.log)
    return optuna.distributions.FloatDistribution(float(space.low), float(space.high), log=space.log)
