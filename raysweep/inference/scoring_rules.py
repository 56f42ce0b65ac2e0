"""How texts are masked and scored: what decides a score beside the model and the text; needs no torch."""

from dataclasses import dataclass

from raysweep.config.data_settings import MaskingConfig
from raysweep.config.evaluation_settings import EvaluationConfig
from raysweep.config.schema import Config
from raysweep.masking.languages import ENGLISH


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoringRules:
    """Everything that a score depends on beside the model and the text."""

    masking: MaskingConfig
    seed: int
    language: str
    examples_per_document: int
    """Masks of each text that are scored."""
    batch_tokens: int

    @classmethod
    def of_run(cls, config: Config) -> "ScoringRules":
        """Those of a run's evaluate stage."""
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
        """For a model without a run: the defaults, and windows as long as its positions."""
        evaluation = EvaluationConfig()
        return cls(
            masking=MaskingConfig(max_tokens=min(1024, max(8, positions))),
            seed=0,
            language=ENGLISH,
            examples_per_document=evaluation.examples_per_document,
            batch_tokens=evaluation.batch_tokens,
        )
