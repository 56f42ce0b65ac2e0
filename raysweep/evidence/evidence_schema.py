"""What evidence.json holds, as records: every key, its unit, and nothing else.

`evidence.schema.json`, which is written beside each evidence.json, is made from these records.  They
are strict: a key that is missing, unknown or of another kind is an error, so whoever adds a key to the
evidence says here what it is.  Perplexities and their ratios have no unit; a value without limits rests
on too few writers to have any.
"""

from typing import Annotated, Any

from pydantic import Field

from raysweep.config.section import Fraction, Section
from raysweep.evidence.robustness_schema import Controls, Leaks, Score, Sensitivity, UnknownLevels
from raysweep.evidence.run_schema import Costs, Curve, Inputs, RunFacts, Training
from raysweep.evidence.schema_values import Count, Estimate, Positive, Role, Verdict


class EvidenceSettings(Section):
    """How the statistics were done."""

    metric: str = Field(description="which tokens count")
    confidence: Fraction
    resamples: Count
    seed: Count
    min_clusters: Count = Field(description="writers below which a level is not tested")
    clusters: str = Field(description="what is resampled: 'learner' or 'document'")
    target: Positive
    margins: dict[str, Positive]


class Reason(Section):
    """One hypothesis in a sentence."""

    code: str
    verdict: Verdict
    text: str


class Recommendation(Section):
    """The recommendation."""

    headline: str
    reasons: tuple[Reason, ...]
    exceptions: tuple[str, ...]
    warnings: tuple[str, ...]


class ClaimFinding(Section):
    """One hypothesis on one level, or overall."""

    hypothesis: str
    name: str
    claim: str = Field(description="'above' or 'below' the margin")
    numerator: str
    scope: str = Field(description="a level, or 'overall'")
    verdict: Verdict
    margin: Positive
    value: Positive | None = Field(description="ratio of perplexities")
    low: Positive | None
    high: Positive | None
    p_confirm: Fraction | None
    p_refute: Fraction | None
    against: tuple[str, ...]
    rival: str = Field(description="of `against`, the one that the value is held against")
    levels: tuple[str, ...]
    documents: Count
    clusters: Count
    more_documents: Count | None = Field(description="that would decide, if the ratio stays")
    more_seeds: Count | None
    note: str
    target: str | None
    leaky: bool
    explained_by: tuple[str, ...] = Field(description="controls that gain as much")


class Row(Section):
    """One entry of the config on all levels."""

    name: str
    role: Role
    level: str | None
    models: tuple[str, ...]
    reason: str
    missing: dict[str, str]
    cells: dict[str, Estimate]


class Size(Section):
    """What a level's column rests on."""

    documents: Count
    clusters: Count
    tokens: Count


class Matrix(Section):
    """Every model on every level."""

    levels: tuple[str, ...]
    rows: tuple[Row, ...]
    sizes: dict[str, Size]


class Gain(Section):
    """Ratios of perplexities on one level."""

    level: str
    specialised: Estimate | None
    transfer_over_general: Estimate | None
    transfer_over_specialised: Estimate | None


class Gap(Section):
    """A specialised model away from home, and others in its home."""

    level: str
    model: str
    own: Estimate
    others: Estimate
    gap: Estimate
    wrong_model: Estimate | None


class Cost(Section):
    """What a way to serve all levels takes, for one seed."""

    models: Count
    trainings: Count
    bytes: Count | None
    parameters: Count | None
    hours: Annotated[float, Field(ge=0.0)] | None


class Way(Section):
    """A way to serve the levels, or one model for all of them; perplexity as a geometric mean over levels."""

    name: str
    entries: tuple[str, ...]
    levels: tuple[str, ...]
    perplexity: Estimate


class Strategy(Way):
    """A way with its cost."""

    cost: Cost | None


class ByRole(Section):
    """Perplexities of a group of tokens, each level by its role's model."""

    tokens: Count
    start: Positive | None
    general: Positive | None
    specialised: Positive | None
    transfer: Positive | None


class ByKind(ByRole):
    kind: str


class ByLanguage(ByRole):
    l1: str
    documents: Count


class ByLength(ByRole):
    from_: Count = Field(alias="from", description="characters")
    below: Count | None
    documents: Count


class Evidence(Section):
    """Everything that the report says; page, Markdown and tables are made from it alone."""

    schema_: str = Field(alias="$schema")
    version: Count
    raysweep: str
    run: RunFacts
    settings: EvidenceSettings
    levels: tuple[str, ...]
    answer: Recommendation
    findings: tuple[ClaimFinding, ...]
    leaks: Leaks
    controls: Controls
    matrix: Matrix
    gains: tuple[Gain, ...]
    gaps: tuple[Gap, ...]
    strategies: tuple[Strategy, ...]
    choices: tuple[str, ...] = Field(description="what each way of serving all levels costs, a sentence each")
    for_everyone: tuple[Way, ...]
    common_levels: tuple[str, ...] = Field(description="levels on which every role has a model")
    kinds: tuple[ByKind, ...]
    first_languages: tuple[ByLanguage, ...]
    lengths: tuple[ByLength, ...]
    scores: tuple[Score, ...]
    sensitivity: Sensitivity
    cold_start: tuple[UnknownLevels, ...]
    trainings: tuple[Training, ...]
    costs: Costs
    curves: tuple[Curve, ...]
    scoring: dict[str, dict[str, Any]] = Field(description="evaluation/cells/*.json, by model")
    speed: dict[str, Any] | None = Field(description="evaluation/speed.json")
    corpus: dict[str, Any] | None = Field(description="corpus/splits.json")
    leakage: dict[str, Any] | None = Field(description="corpus/leakage.json")
    examples: dict[str, Any] | None = Field(description="the totals of examples/manifest.json")
    inputs: Inputs
    config: dict[str, Any] = Field(description="the resolved profile, as experiments.schema.json describes it")

    def json_values(self) -> dict[str, Any]:
        """The evidence as evidence.json holds it: dicts, lists, texts and numbers."""
        return self.model_dump(mode="json", by_alias=True)


def evidence_schema() -> dict[str, Any]:
    """The JSON Schema of evidence.json."""
    schema = Evidence.model_json_schema(by_alias=True)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "raysweep evidence", **schema}
