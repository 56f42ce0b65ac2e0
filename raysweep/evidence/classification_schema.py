"""Records of evidence.json about levels told from perplexities by classifiers."""

from typing import Annotated, Literal

from pydantic import Field

from raysweep.config.section import Count, Fraction, Section


class MetricEstimate(Section):
    """A metric with the percentile interval of a bootstrap over learners; null where it is not defined."""

    value: float | None
    low: float | None
    high: float | None


class ClassifierScore(Section):
    """One classifier on one corpus."""

    classifier: str
    is_baseline: bool
    metrics: dict[str, MetricEstimate] = Field(
        description="accuracy, adjacent_accuracy (off by one counts as right), macro_f1, qwk (Cohen's kappa with "
        "quadratic weights), rmse (in levels)"
    )
    calibration_error: Annotated[float, Field(ge=0.0)] = Field(description="expected calibration error, in ten bins")
    brier: Annotated[float, Field(ge=0.0)] = Field(description="mean squared distance from the truth, 0 to 2")
    confusion: tuple[tuple[Count, ...], ...] = Field(description="texts by true level (row) and predicted level")


class ModelAblation(Section):
    """What the logistic regression loses without a model's perplexities."""

    model: str
    accuracy: MetricEstimate = Field(description="with the model minus without it, on the same draws of learners")


class CorpusClassification(Section):
    """All classifiers on one corpus, tested in one way."""

    corpus: str = Field(description="'data' is the run's own: its test documents")
    way: Literal["zero-shot", "within"] = Field(
        description="zero-shot: fitted on the run's valid documents; within: on the other folds of the same corpus"
    )
    folds: Count = Field(description="0 for zero-shot")
    documents: Count
    learners: Count | None = Field(description="null if no text's learner is known")
    without_learner: Count = Field(description="texts of unknown learner: each is resampled by itself")
    unseen: dict[str, Count] = Field(description="texts by levels that the documents fitted on lack")
    classifiers: tuple[ClassifierScore, ...]
    without_model: tuple[ModelAblation, ...]


class Classification(Section):
    """Levels told from perplexities, beside baselines on the same texts."""

    levels: tuple[str, ...]
    models: tuple[str, ...] = Field(description="whose perplexities are the features")
    fitted_on: Count = Field(description="valid documents of the run")
    fitted_share: dict[str, Fraction] = Field(description="their shares by level")
    corpora: tuple[CorpusClassification, ...]
