"""The settings for masking and scoring texts; this module needs no torch."""

from dataclasses import dataclass

from raysweep.config.data_settings import MaskingConfig
from raysweep.config.evaluation_settings import EvaluationConfig
from raysweep.config.schema import Config
from raysweep.masking.languages import ENGLISH


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoringRules:
    """Everything that a score depends on in addition to the model and the text."""

    masking: MaskingConfig
    seed: int
    language: str
    examples_per_document: int
    """Number of masks of each text that are scored."""
    batch_tokens: int

    @classmethod
    def of_run(cls, config: Config) -> "ScoringRules":
        """Return the rules of a run's evaluate stage."""
        evaluation = config.evaluation
        return cls(
            masking=config.masking,
            seed=config.seed,
            language=config.data.language,
            examples_per_document=evaluation.examples_per_document,
            batch_tokens=evaluation.batch_tokens,
        )

    @classmethod
    def of_positions(cls, positions: int) -> "ScoringRules":
        """Return the rules for a model without a run: the defaults, with windows of the model's number of positions."""
        evaluation = EvaluationConfig()
        return cls(
            masking=MaskingConfig(max_tokens=min(1024, max(8, positions))),
            seed=0,
            language=ENGLISH,
            examples_per_document=evaluation.examples_per_document,
            batch_tokens=evaluation.batch_tokens,
        )
