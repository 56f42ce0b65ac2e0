"""The contents of evidence.json, as records: every key, its unit, and nothing else.

`evidence.schema.json`, which is written beside each evidence.json, is made from these records.  They are strict: a key
that is missing, unknown or of another type is an error, so every new key must be declared here.  Perplexities and their
ratios have no unit; a value has no limits if there were too few writers for an interval.
"""

from collections.abc import Mapping
from functools import cache
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from raysweep.config.section import Count, Fraction, PositiveFloat, Section
from raysweep.evidence.classification_schema import Classification
from raysweep.evidence.robustness_schema import (
    Controls,
    Interpolation,
    Leaks,
    LevelScores,
    Prompts,
    Row,
    SeedLookRow,
    Sensitivity,
    UnknownLevels,
)
from raysweep.evidence.rounding import in_order, rounded
from raysweep.evidence.run_schema import Costs, Curve, Exposure, Inputs, RunFacts, Training
from raysweep.statistics.claims import Verdict
from raysweep.statistics.contrasts import Estimate

EVIDENCE_VERSION = 2
WayName = Literal["general", "transfer", "specialised", "adapted", "open", "not tested"]
"""What the tests support; 'adapted' is a level's own model or a fine-tuned one, whichever."""


class EvidenceSettings(Section):
    """How the statistics were done."""

    metric: str = Field(description="which tokens count")
    confidence: Fraction
    resamples: Count
    seed: Count
    min_clusters: Count = Field(description="learners below which a level is not tested")
    clusters: str = Field(description="what is resampled: 'learner' or 'document'")
    target: PositiveFloat
    margins: dict[str, PositiveFloat]
    most_seeds: Count | None = Field(description="if seeds are sequential")


class Reason(Section):
    """One hypothesis in a sentence."""

    code: str
    verdict: Verdict
    words: str = Field(description="the verdict, and with one seed that it holds for these trained models")
    text: str


CautionCode = Literal["low_confidence", "one_seed", "last_step", "unequal_steps", "no_controls", "learners_unknown"]


class Caution(Section):
    """Something that limits the answer; while there is one, the headline only leans to its recommendation."""

    code: CautionCode
    text: str


class Recommendation(Section):
    """The recommendation."""

    headline: str
    cautions: tuple[Caution, ...] = Field(description="what to read it with care for, in a few words each")
    reasons: tuple[Reason, ...]
    exceptions: tuple[str, ...]
    warnings: tuple[str, ...]


class ScopeAdvice(Section):
    """What the tests support on one level, or on average over the levels."""

    scope: str = Field(description="a level, or 'overall': on average over the levels")
    way: WayName
    text: str = Field(description="the advice in a sentence")
    adds: Literal["nothing", "transfer", "specialised"] = Field(
        description="what still gains where the general model is enough"
    )
    own: Verdict = Field(description="verdict on 'the level's own model beats every other way'")
    own_p: Fraction | None = Field(description="its p-value, after Holm over the levels")
    own_ratio: PositiveFloat | None = Field(description="PPL own / PPL of the other way that is hardest to beat")
    plain: Verdict = Field(description="verdict on 'nothing beats the general model'")
    plain_p: Fraction | None = Field(description="the p-value against it, after Holm over the levels")


class MeanByShare(Section):
    """An overall claim with each level weighted by its share of the corpus."""

    verdict: Verdict
    value: PositiveFloat
    low: PositiveFloat
    high: PositiveFloat
    rival: str


class ClaimFinding(Section):
    """One hypothesis on one level, or overall."""

    hypothesis: str
    name: str
    claim: Literal["above", "below"] = Field(description="the side of the margin")
    numerator: str
    scope: str = Field(description="a level, or 'overall'")
    verdict: Verdict
    margin: PositiveFloat
    value: PositiveFloat | None = Field(description="ratio of perplexities")
    low: PositiveFloat | None = Field(description="limits that hold for all levels together, and agree with Holm")
    high: PositiveFloat | None
    alone_low: PositiveFloat | None = Field(description="limits as if this scope alone had been tested")
    alone_high: PositiveFloat | None
    p_confirm: Fraction | None
    p_refute: Fraction | None
    against: tuple[str, ...]
    rival: str = Field(description="the role in `against` that is the hardest to beat; `value` compares with it")
    levels: tuple[str, ...]
    documents: Count
    clusters: Count = Field(description="distinct learners (or documents), on all its levels together")
    effective: PositiveFloat | None = Field(description="learners with equally much text that would weigh as these do")
    prompts: Count = Field(description="writing prompts, if the interval holds for new ones too; else 0")
    seeds: Count = Field(description="trainings of each compared model, the fewest; 0 if nothing was tested")
    without_one: PositiveFloat | None = Field(description="the ratio without the one learner who moves it most")
    more_documents: Count | None = Field(
        description="test documents by new learners that would decide with 80 % power, if the ratio is as measured"
    )
    more_documents_low: Count | None = Field(description="the same at the ends of the ratio's 80 % interval")
    more_documents_high: Count | None
    more_seeds: Count | None
    note: str
    looks: tuple[SeedLookRow, ...] = Field(description="with sequential seeds, from the second seed on")
    seed_power: Fraction | None = Field(
        description="if undecided with seeds left: the probability that they decide, if the ratio is as measured"
    )
    by_share: MeanByShare | None = Field(description="overall: each level weighted by its share of the corpus")
    too_few: bool = Field(description="not tested because the test documents are by too few learners")
    target: str | None
    leaky: bool
    explained_by: tuple[str, ...] = Field(description="controls that gain as much")


class Spread(Section):
    """How much a level's log ratio varies, for planning a larger experiment; in nats per token."""

    level: str
    other: str = Field(description="the role that the general model is compared with")
    learner_spread: Annotated[float, Field(ge=0.0)] = Field(description="standard deviation of one effective learner")
    training_spread: Annotated[float, Field(ge=0.0)] = Field(
        description="the same of what single trainings find easier or harder of a learner; 0 with one seed"
    )
    seed_spread: Annotated[float, Field(ge=0.0)] | None = Field(
        description="between trainings, over endless learners, the upper 80 % limit; null with one seed"
    )
    prompt_error: Annotated[float, Field(ge=0.0)] = Field(description="standard error from writing prompts, as many")
    documents_per_learner: PositiveFloat
    learners: Count = Field(description="effective ones")


class Size(Section):
    """Size of a level's test set."""

    documents: Count
    clusters: Count
    effective: PositiveFloat = Field(description="(Σ tokens)² / Σ tokens² over the learners (or documents)")
    tokens: Count


class LengthEffect(Section):
    """Does the gain of the levels' own models depend on the length of a document's answers?"""

    correlation: Annotated[float, Field(ge=-1.0, le=1.0)] = Field(
        description="Spearman's, of a document's tokens and its nats per token saved; mean over the levels"
    )
    documents: Count


class Matrix(Section):
    """Every model on every level."""

    levels: tuple[str, ...]
    leaders: dict[str, str] = Field(
        description="by level, the row whose perplexity is lower than every other's, each by its paired interval"
    )
    rows: tuple[Row, ...]
    sizes: dict[str, Size]


class Gain(Section):
    """Ratios of perplexities on one level."""

    level: str
    specialised: Estimate | None
    transfer_over_general: Estimate | None
    transfer_over_specialised: Estimate | None


class Gap(Section):
    """A specialised model on other levels, and the other levels' models on its own level."""

    level: str
    model: str
    own: Estimate
    others: Estimate
    gap: Estimate
    wrong_model: Estimate | None


class Cost(Section):
    """Cost of a way to serve all levels, for one seed."""

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
    start: PositiveFloat | None
    general: PositiveFloat | None
    specialised: PositiveFloat | None
    transfer: PositiveFloat | None


class ByKind(ByRole):
    """Answers of one kind of mask."""

    kind: str


class ByLanguage(ByRole):
    """Texts of learners with one first language."""

    l1: str
    documents: Count


class ByLength(ByRole):
    """Texts of similar length."""

    model_config = ConfigDict(populate_by_name=True)

    from_: Count = Field(alias="from", description="characters")
    below: Count | None
    documents: Count


class FurtherCorpusScores(Section):
    """The models on the documents of another corpus."""

    name: str
    rows: Count
    documents: Count = Field(description="scored, with tokens of the metric")
    set_aside: dict[str, Count] = Field(description="rows by reason")
    near_training: Count = Field(description="of these, (almost) a text of train or valid")
    clusters: str = Field(description="what is resampled: 'learner' or 'document'")
    without_learner: Count = Field(description="documents of unknown learner: each is a cluster of its own")
    missing_levels: tuple[str, ...] = Field(description="levels of the run without a scored document here")
    matrix: Matrix
    findings: tuple[ClaimFinding, ...] = Field(description="as those on the run's own test documents")


class Evidence(Section):
    """Everything that the report says; page, Markdown and tables are made from it alone."""

    model_config = ConfigDict(populate_by_name=True)

    schema_: str = Field(alias="$schema")
    version: Count
    raysweep: str
    run: RunFacts
    settings: EvidenceSettings
    levels: tuple[str, ...]
    answer: Recommendation
    advice: tuple[ScopeAdvice, ...] = Field(description="overall, then each level")
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
    length_effect: LengthEffect | None
    beyond: tuple[FurtherCorpusScores, ...] = Field(description="on each of the config's other corpora")
    interpolation: Interpolation | None = Field(description="null if it was not asked for")
    scores: tuple[LevelScores, ...]
    sensitivity: Sensitivity
    spreads: tuple[Spread, ...]
    prompts: Prompts
    cold_start: tuple[UnknownLevels, ...]
    classification: Classification | None = Field(description="null if it was not asked for")
    trainings: tuple[Training, ...]
    costs: Costs
    curves: tuple[Curve, ...]
    exposure: tuple[Exposure, ...] = Field(description="in-level examples seen; empty if they were not counted")
    scoring: dict[str, dict[str, Any]] = Field(description="evaluation/cells/*.json, by model")
    speed: dict[str, Any] | None = Field(description="evaluation/speed.json")
    corpus: dict[str, Any] | None = Field(description="corpus/splits.json")
    leakage: dict[str, Any] | None = Field(description="corpus/leakage.json")
    examples: dict[str, Any] | None = Field(description="the totals of examples/manifest.json")
    inputs: Inputs
    config: dict[str, Any] = Field(description="the resolved profile, as experiments.schema.json describes it")

    def json_values(self) -> dict[str, Any]:
        """Return the evidence as in evidence.json: dicts, lists, texts, numbers of nine digits; settings unchanged."""
        return {**rounded(self.exact_values()), "config": in_order(self.config)}

    def exact_values(self) -> dict[str, Any]:
        """Return the evidence with all bits of every computed number."""
        return self.model_dump(mode="json", by_alias=True)


@cache
def evidence_schema() -> Mapping[str, Any]:
    """Return the JSON Schema of evidence.json."""
    schema = Evidence.model_json_schema(by_alias=True)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "raysweep evidence", **schema}
