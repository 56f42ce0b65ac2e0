"""Records of evidence.json about robustness (leaks, controls, variations) and about learners of unknown level."""

from typing import Annotated, Literal

from pydantic import Field

from raysweep.config.section import Count, Fraction, PositiveFloat, Section
from raysweep.statistics.claims import Verdict
from raysweep.statistics.contrasts import Estimate
from raysweep.statistics.control_verdicts import ControlFinding
from raysweep.statistics.leak_effects import LeakEffect


class LeakEffectRow(LeakEffect):
    """Leakage effect on one row of the report."""

    name: str
    role: str
    level: str | None


class Leaks(Section):
    """Test documents that another split knows too."""

    is_leaky: bool
    is_refused: bool
    test_documents: Count | None
    leaky_documents: Count | None
    by_kind: dict[str, Count]
    effects: tuple[LeakEffectRow, ...] = Field(description="how much easier the models find what leaked")


class Row(Section):
    """The models of one entry of the config, on all levels."""

    name: str
    role: str
    level: str | None
    models: tuple[str, ...]
    reason: str
    missing: dict[str, str]
    cells: dict[str, Estimate]


class Controls(Section):
    """What the control trials explain, and their rows of the matrix."""

    findings: tuple[ControlFinding, ...]
    rows: tuple[Row, ...]


class LevelScores(Section):
    """Every model, by name, on one level under one metric, added up in three ways."""

    metric: str
    level: str
    documents: Count
    tokens: Count
    bytes: Count | None
    nats: dict[str, float]
    perplexity: dict[str, PositiveFloat] = Field(description="every token counts the same")
    document_perplexity: dict[str, PositiveFloat] = Field(description="every document counts the same")
    bits_per_byte: dict[str, float] = Field(description="empty if the bytes are null")


class MixedModel(Section):
    """The log ratio of the general model's perplexity to another's, document by document: a mixed model.

    Fixed: level, first language, length.  Random, crossed: learner and writing prompt.  Spreads are standard
    deviations in nats per token.
    """

    other: str = Field(description="the role that the general model is compared with")
    documents: Count = Field(description="documents that were fitted; of many, a random part")
    all_documents: Count
    learners: Count
    prompts: Count
    ratio: PositiveFloat = Field(description="PPL(general) / PPL(other), geometric mean over the documents")
    low: PositiveFloat
    high: PositiveFloat
    learner_spread: Annotated[float, Field(ge=0.0)]
    prompt_spread: Annotated[float, Field(ge=0.0)]
    residual_spread: Annotated[float, Field(ge=0.0)]
    per_doubling: PositiveFloat = Field(description="factor of the ratio if a text is twice as long")
    doubling_low: PositiveFloat
    doubling_high: PositiveFloat


class Prompts(Section):
    """Writing prompts of the test documents; empty if any is unknown."""

    by_level: dict[str, Count] = Field(description="distinct prompts")
    shared: Count = Field(description="prompts on several levels, counted once for each level but the first")
    fits: tuple[MixedModel, ...]
    sentences: tuple[str, ...] = Field(description="what cannot be told apart")


class VariedVerdict(Section):
    """An overall verdict under a variation."""

    verdict: Verdict
    value: PositiveFloat | None
    low: PositiveFloat | None
    high: PositiveFloat | None


class Changed(Section):
    """A verdict that differs under a variation."""

    hypothesis: str
    scope: str
    was: Verdict
    verdict: Verdict


class SensitivityVariation(Section):
    """The verdicts after one choice was changed."""

    group: str
    name: str
    documents: Count
    way: str | None
    headline: str
    outcome: Literal["holds", "open", "changes"]
    verdicts: dict[str, VariedVerdict]
    changed: tuple[Changed, ...]


class Margins(Section):
    """The margins between which H2 is undecided."""

    confirmed_above: PositiveFloat | None
    refuted_below: PositiveFloat | None


class Sensitivity(Section):
    """What would change the recommendation."""

    way: str | None
    variations: tuple[SensitivityVariation, ...]
    margins: Margins
    sentence: str


class Ways(Section):
    """Perplexity of each way to serve a new learner, on a group of documents."""

    documents: Count
    perplexity: dict[str, Estimate]
    over_oracle: dict[str, Estimate]
    over_general: dict[str, Estimate]


class Share(Section):
    """A share of documents, with the limits of its interval."""

    value: Fraction
    low: Fraction | None
    high: Fraction | None
    documents: Count


class GroupOfLearners(Ways):
    """The documents of one level, or of similar visible length."""

    name: str
    accuracy: Share | None


class SeedLookRow(Section):
    """A claim after one more seed, where seeds are sequential."""

    seeds: Count
    time: Fraction = Field(description="seeds trained, as a share of the most that there may be")
    spent: Fraction = Field(description="of the error rate of either side, before Holm and Bonferroni")
    p_confirm: Fraction = Field(description="for all looks up to here together, before Holm")
    p_refute: Fraction


class WeightScore(Section):
    """A model between the general and the fine-tuned one, on the level's documents."""

    level: str
    weight: Fraction = Field(description="share of the fine-tuned model: 0 is the general model")
    valid_perplexity: PositiveFloat
    perplexity: Estimate = Field(description="on test documents")
    is_chosen: bool = Field(description="the lowest on valid documents")


class BetweenScope(Section):
    """The model at the weight chosen on valid documents against both ends, on test documents."""

    scope: str = Field(description="a level, or 'overall': the mean over the levels, each with its own weight")
    weight: Fraction | None
    documents: Count
    valid_documents: Count
    general_over_best: Estimate | None = Field(description="null where the general model itself was chosen")
    transfer_over_best: Estimate | None = Field(description="null where the fine-tuned model itself was chosen")
    verdict: Verdict = Field(description="on 'it is better than both ends', after Holm over the levels")
    p_value: Fraction | None
    note: str


class Interpolation(Section):
    """The models between the general model and each level's fine-tuned one, by interpolating their weights."""

    levels: tuple[str, ...]
    seeds: Count
    scopes: tuple[BetweenScope, ...] = Field(description="overall, then each level")
    scores: tuple[WeightScore, ...] = Field(description="by level and weight; the ends are models of the matrix")


class Calibration(Section):
    """Errors of the probabilities of levels, as they are and with a temperature fitted on other documents."""

    fitted_on: Literal["valid documents", "other learners"]
    temperature: PositiveFloat = Field(description="the visible text counts one part in so many")
    documents: Count = Field(description="with visible text")
    accuracy: Fraction
    confidence: Fraction = Field(description="mean of the highest probability")
    tempered_confidence: Fraction
    error: Fraction = Field(description="expected calibration error, ten bins")
    tempered_error: Fraction
    brier: Annotated[float, Field(ge=0.0, le=2.0)]
    tempered_brier: Annotated[float, Field(ge=0.0, le=2.0)]


class UnknownLevels(Section):
    """New learners of unknown level, served by one family of models: one model per level."""

    family: str
    experts: dict[str, str]
    shares: dict[str, PositiveFloat]
    levels: tuple[str, ...]
    documents: Count
    unseen: Count = Field(description="documents without a visible token")
    ways: tuple[str, ...]
    overall: Ways
    by_level: tuple[GroupOfLearners, ...]
    by_length: tuple[GroupOfLearners, ...]
    accuracy: Share | None
    calibration: Calibration | None = Field(description="null with too few documents")
    mean_weight_of_truth: Fraction | None = Field(description="posterior of the true level, mean over documents")
    accuracy_long: Share | None
    long: Count = Field(description="visible tokens from which a text is long")
    long_documents: Count
    confusion: tuple[tuple[Count, ...], ...] = Field(description="true level by level found")
