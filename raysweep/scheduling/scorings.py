"""Which models are scored on which documents, and under which names.

    MODEL            every model, and the start they share, on test documents of all levels
    MODEL@valid      the compared models on valid documents, if models between them are asked for
    MODEL@WEIGHT     the model so far on the way from the general model to a fine-tuned one, on the valid and test
                     documents of its level

No trial's name has an @.  Each scoring is a target with a record of its own, so it is skipped, resumed and
made again like any other.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from raysweep.config.schema import Config
from raysweep.scheduling.trials import START_MODEL, Trial, find_roles


@dataclass(frozen=True, kw_only=True, slots=True)
class Scoring:
    """One model on some documents."""

    model: str
    """A trial, or `START_MODEL`."""
    levels: tuple[str, ...]
    splits: tuple[str, ...] = ("test",)
    weight: float | None = None
    """How far from its parent's weights to its own; None for its own."""

    @property
    def name(self) -> str:
        """The name of its files, and of the model in its table."""
        if self.weight is not None:
            return interpolated_name(self.model, self.weight)
        return self.model if self.splits == ("test",) else f"{self.model}@valid"

    @property
    def is_test(self) -> bool:
        """It is a model of the matrix, on the test documents."""
        return self.splits == ("test",)


def plan_scorings(config: Config, trials: Mapping[str, Trial], done: Collection[str]) -> list[Scoring]:
    """All scorings of the trained models, those on test documents first."""
    levels, weights = config.data.levels, config.evaluation.interpolation
    scorings = [Scoring(model=model, levels=levels) for model in (START_MODEL, *done)]
    if not weights:
        return scorings
    roles = find_roles(trials, levels)
    tuned = [
        model for models in roles.transfer.values() for model in models if {model, trials[model].parent} <= {*done}
    ]
    compared = {*roles.general, *tuned, *(model for models in roles.specialised.values() for model in models)}
    scorings += [Scoring(model=model, levels=levels, splits=("valid",)) for model in done if model in compared]
    scorings += [
        Scoring(model=model, levels=trials[model].settings.levels, splits=("valid", "test"), weight=weight)
        for model in tuned
        for weight in weights
    ]
    return scorings


def interpolated_name(model: str, weight: float) -> str:
    """The name of a model between a fine-tuned one and its parent."""
    return f"{model}@{weight}"
