"""Plans which models are scored on which documents, and under which names.

    MODEL            every model, and the start they share, on test documents of all levels
    MODEL@valid      the compared models on valid documents, if interpolated models are requested
    CORPUS/MODEL     every model and the start on all documents of a further corpus
    MODEL@WEIGHT     the model interpolated between the general model (0) and a fine-tuned one (1), on the valid and
                     test documents of its level

A trial's name never contains an @ or a slash.  Each scoring is a target with its own record, so it is skipped, resumed
and made again like any other.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from raysweep.config.schema import Config
from raysweep.scheduling.trials import START_MODEL, Trial, find_roles


@dataclass(frozen=True, kw_only=True, slots=True)
class Scoring:
    """One model to score on some documents."""

    model: str
    """A trial, or `START_MODEL`."""
    levels: tuple[str, ...]
    splits: tuple[str, ...] = ("test",)
    weight: float | None = None
    """Weight of its own parameters against its parent's when interpolating; None for the model itself."""
    corpus: str | None = None
    """The further corpus whose documents are scored; None for the run's own."""

    @property
    def name(self) -> str:
        """Name of its files, and of the model in its table; for a further corpus, prefixed by the corpus's name."""
        if self.corpus is not None:
            return f"{self.corpus}/{self.model}"
        if self.weight is not None:
            return interpolated_name(self.model, self.weight)
        return self.model if self.splits == ("test",) else f"{self.model}@valid"

    @property
    def is_test(self) -> bool:
        """Whether it belongs to the matrix: a model on the run's test documents."""
        return self.splits == ("test",) and self.corpus is None


def plan_scorings(config: Config, trials: Mapping[str, Trial], done: Collection[str]) -> list[Scoring]:
    """List all scorings of the trained models, those on test documents first."""
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


def plan_further_scorings(config: Config, done: Collection[str]) -> list[Scoring]:
    """List the scorings of every model on every further corpus, corpus by corpus."""
    levels = config.data.levels
    models = (START_MODEL, *done)
    return [Scoring(model=model, levels=levels, corpus=corpus) for corpus in config.corpora for model in models]


def interpolated_name(model: str, weight: float) -> str:
    """Name a model between a fine-tuned one and its parent."""
    return f"{model}@{weight}"
