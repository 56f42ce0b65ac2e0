"""Settings of scoring, of the hypotheses, and of the report."""

from typing import Annotated

from pydantic import Field

from raysweep.config.scored_metrics import Metric
from raysweep.config.section import Distinct, PositiveFloat, PositiveInt, Section


class EvaluationConfig(Section):
    """Settings for scoring the models."""

    documents_per_level: PositiveInt | None = Field(None, description="test documents per level; all if absent")
    examples_per_document: PositiveInt = Field(4, description="masks of each document that are scored")
    context_examples: Annotated[int, Field(ge=1, le=255)] = Field(
        1,
        description="for how many of these masks the context is scored too; it is nearly the same text for every mask",
    )
    batch_tokens: Annotated[int, Field(ge=1, le=100_000_000)] = Field(
        8192, description="tokens in a batch, including padding"
    )
    generation_documents: Annotated[int, Field(ge=0, le=1_000_000)] = Field(
        16, description="documents per level for generation scores"
    )
    speed_repeats: Annotated[int, Field(ge=0, le=10_000)] = Field(5, description="timed generations per model")
    interpolation: Annotated[tuple[Annotated[float, Field(gt=0.0, lt=1.0)], ...], Field(max_length=20), Distinct] = (
        Field(
            (),
            description="models between the general and each fine-tuned model: the weight of the fine-tuned model, "
            "such as [0.25, 0.5, 0.75]; valid documents are then scored too, to choose the best weight",
        )
    )


AtLeastOne = Annotated[float, Field(ge=1.0)]


class SpecialisationConfig(Section):
    """H1: PPL(general) / PPL(level) on the level's own test documents."""

    margin: AtLeastOne = Field(1.0, description="confirmed if the interval is above this")
    target: PositiveFloat = Field(1.25, description="the planned gain")
    smallest_effect: Annotated[float, Field(gt=1.0)] = Field(
        1.05, description="smallest ratio to a control that matters; below it, the control explains the gain"
    )


class SufficiencyConfig(Section):
    """H2: PPL(general) / PPL(best other)."""

    margin: AtLeastOne = Field(1.10, description="confirmed if the interval is below this")


class TransferConfig(Section):
    """H3: PPL(transfer) / PPL(best other)."""

    margin: Annotated[float, Field(gt=0.0, le=1.0)] = Field(1.0, description="confirmed if the interval is below this")


class HypothesesConfig(Section):
    """The bounds of the three hypotheses."""

    specialisation: SpecialisationConfig = SpecialisationConfig()
    sufficiency: SufficiencyConfig = SufficiencyConfig()
    transfer: TransferConfig = TransferConfig()


class ReportConfig(Section):
    """Settings of the statistics and the report."""

    resamples: Annotated[int, Field(ge=100, le=1_000_000)] = Field(10_000, description="bootstrap resamples")
    confidence: Annotated[float, Field(gt=0.5, lt=1.0)] = 0.95
    metric: Metric = Field("infill", description="the metric of the hypotheses")
    hypotheses: HypothesesConfig = HypothesesConfig()
    allow_leaks: bool = Field(
        False, description="give verdicts although test documents leaked into training, and mark them"
    )
    show_texts: bool = Field(False, description="print learner texts in the report's samples")
