"""Draws the settings of a search's samples with Optuna's TPE sampler."""

import warnings
from collections.abc import Mapping
from typing import Any

import optuna

from raysweep.config.training_settings import SearchConfig, SearchRange
from raysweep.scheduling.successive_halving import SEARCH_ROUND


class OptunaSearch:
    """Draws settings with Optuna's TPE sampler, from a seed and the reported losses."""

    def __init__(self, search: SearchConfig, *, seed: int) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        with warnings.catch_warnings():
            # The multivariate sampler is marked experimental; it models rate and steps jointly.
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=SEARCH_ROUND, multivariate=True)
        self._space = {name: _distribution(search_range) for name, search_range in sorted(search.space.items())}
        self._study = optuna.create_study(sampler=sampler, direction="minimize")
        self._trials: list[optuna.trial.Trial] = []

    def ask(self) -> Mapping[str, Any]:
        self._trials.append(self._study.ask(fixed_distributions=self._space))
        return self._trials[-1].params

    def tell(self, sample: int, loss: float | None) -> None:
        state = optuna.trial.TrialState.FAIL if loss is None else None
        self._study.tell(self._trials[sample], loss, state=state)


def _distribution(search_range: SearchRange) -> optuna.distributions.BaseDistribution:
    if search_range.choices is not None:
        return optuna.distributions.CategoricalDistribution(search_range.choices)
    low, high = search_range.low, search_range.high
    assert low is not None, "the schema refuses a range without bounds"
    assert high is not None, "the schema refuses a range without bounds"
    if isinstance(low, int) and isinstance(high, int):
        return optuna.distributions.IntDistribution(low, high, log=search_range.log)
    return optuna.distributions.FloatDistribution(float(low), float(high), log=search_range.log)
