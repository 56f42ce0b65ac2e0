"""What evidence.json says against itself: leaks, controls, variations; and of learners whose level nobody knows."""

from typing import Annotated, Any

from pydantic import Field

from raysweep.config.section import Fraction, Section
from raysweep.evidence.schema_values import Count, Estimate, Positive, Role, Share, Verdict


class LeakEffectRow(Section):
    """One row of the report on leaky and on clean test documents."""

    name: str
    role: Role
    level: str | None
    leaky: Positive
    clean: Positive
    ratio: Estimate
    against_start: Estimate | None
    documents: Count


class Leaks(Section):
    """What test documents are known to another split."""

    is_leaky: bool
    is_refused: bool
    test_documents: Count | None
    leaky_documents: Count | None
    by_kind: dict[str, Count]
    effects: tuple[LeakEffectRow, ...]


class ControlEvidence(Section):
    """One control on one level, or overall."""

    kind: str
    scope: str
    verdict: str
    raw: Estimate | None
    own: Estimate | None
    remaining: Estimate | None
    p_own: float | None
    p_remaining: float | None
    explained_share: float | None
    levels: tuple[str, ...]
    documents: Count
    note: str


class Controls(Section):
    """What the control trials explain, and their rows of the matrix."""

    findings: tuple[ControlEvidence, ...]
    rows: tuple[dict[str, Any], ...]


class Score(Section):
    """One model on one level under one metric, added up in three ways."""

    metric: str
    entry: str
    model: str
    seed: Count
    role: Role
    level: str
    documents: Count
    tokens: Count
    bytes: Count | None
    nats: float
    perplexity: Positive = Field(description="every token counts the same")
    document_perplexity: Positive = Field(description="every document counts the same")
    bits_per_byte: float | None


class VariedVerdict(Section):
    verdict: Verdict
    value: Positive | None
    low: Positive | None
    high: Positive | None


class Changed(Section):
    """A verdict that a variation changes."""

    hypothesis: str
    scope: str
    was: Verdict
    verdict: Verdict


class SensitivityVariation(Section):
    """The same losses judged otherwise."""

    group: str
    name: str
    documents: Count
    way: str | None
    headline: str
    outcome: Annotated[str, Field(pattern="^(holds|open|flips)$")]
    verdicts: dict[str, VariedVerdict]
    changed: tuple[Changed, ...]


class Margins(Section):
    """Between which margins H2 is open."""

    confirmed_above: Positive | None
    refuted_below: Positive | None


class Sensitivity(Section):
    """What would flip the recommendation."""

    way: str | None
    variations: tuple[SensitivityVariation, ...]
    margins: Margins
    sentence: str


class Ways(Section):
    """How each way to serve a new learner does on a group of documents."""

    documents: Count
    perplexity: dict[str, Estimate]
    over_oracle: dict[str, Estimate]
    over_general: dict[str, Estimate]


class GroupOfLearners(Ways):
    name: str
    accuracy: Share | None


class UnknownLevels(Section):
    """New learners of unknown level, met with one family of five models."""

    family: str
    experts: dict[str, str]
    shares: dict[str, Positive]
    levels: tuple[str, ...]
    documents: Count
    unseen: Count = Field(description="documents without a visible token")
    ways: tuple[str, ...]
    overall: Ways
    by_level: tuple[GroupOfLearners, ...]
    by_length: tuple[GroupOfLearners, ...]
    accuracy: Share | None
    mean_weight_of_truth: Fraction | None = Field(description="posterior of the true level, mean over documents")
    accuracy_long: Share | None
    long: Count = Field(description="visible tokens from which a text is long")
    long_documents: Count
    confusion: tuple[tuple[Count, ...], ...] = Field(description="true level by level found")
