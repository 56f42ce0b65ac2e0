"""Claims about ratios of perplexities, the findings on them, and Holm's correction for testing several at once."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

OVERALL = "overall"
"""Scope of a finding over all tested levels."""


FUTILE = 0.2
"""If the probability that the remaining seeds decide a claim is below this, none of them is trained for it."""


class Verdict(StrEnum):
    """Verdict on a claim."""

    CONFIRMED = "confirmed"
    REFUTED = "refuted"
    UNDECIDED = "undecided"
    NOT_TESTED = "not tested"


@dataclass(frozen=True, kw_only=True, slots=True)
class Hypothesis:
    """A claim about the ratio of one role's perplexity to others'."""

    code: str
    name: str
    numerator: str
    """A role: 'general', 'specialised' or 'transfer'."""
    against: tuple[str, ...]
    """Roles in the denominator."""
    above: bool
    """The claim is that the ratio lies above the margin; else below."""
    margin: float


ADAPTATION_CLAIMS = (
    Hypothesis(
        code="own",
        name="own models best",
        numerator="specialised",
        against=("general", "transfer"),
        above=False,
        margin=1.0,
    ),
    Hypothesis(
        code="plain",
        name="general model best",
        numerator="general",
        against=("specialised", "transfer"),
        above=False,
        margin=1.0,
    ),
)
"""Claims that the advice needs in addition to H1–H3: whether a level's own models beat every other way, and whether
anything beats the general model (it does if the second claim is refuted)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SharedMean:
    """An overall claim about the mean weighted by the levels' shares of the corpus."""

    verdict: Verdict
    value: float
    low: float
    high: float
    rival: str


@dataclass(frozen=True, kw_only=True, slots=True)
class SeedLook:
    """A claim after one more seed, where seeds are sequential."""

    seeds: int
    time: float
    """The seeds trained, as a share of those that are trained at most."""
    spent: float
    """Share of either side's error rate spent up to this look, before Holm and Bonferroni."""
    p_confirm: float
    """p-value over all looks so far, before Holm."""
    p_refute: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """A verdict with its numbers, which are None if nothing was tested."""

    hypothesis: str
    scope: str
    """A level, or `OVERALL`."""
    verdict: Verdict
    margin: float
    value: float | None = None
    """The ratio of perplexities."""
    low: float | None = None
    high: float | None = None
    """Limits that hold simultaneously for all levels; overall, and with one level, the plain interval."""
    alone_low: float | None = None
    alone_high: float | None = None
    """Limits as if only this scope had been tested."""
    p_confirm: float | None = None
    """One-sided, after Holm; the null hypothesis is that the claim is false."""
    p_refute: float | None = None
    against: tuple[str, ...] = ()
    """Roles it was tested against."""
    rival: str = ""
    """The role in `against` that is hardest to beat; `value` compares with it."""
    levels: tuple[str, ...] = ()
    """Tested levels."""
    documents: int = 0
    clusters: int = 0
    """Distinct learners, on all tested levels together."""
    effective: float | None = None
    """Number of learners with equal amounts of text that would carry the same information."""
    prompts: int = 0
    """Number of writing prompts, if the interval generalises to new ones; else 0."""
    seeds: int = 0
    """Fewest trainings of any compared model; with one, nothing is known about another training."""
    without_one: float | None = None
    """The ratio without the learner whose removal changes it most."""
    more_documents: int | None = None
    """If undecided: additional documents with which 80 % of experiments would decide, if the ratio is as measured."""
    more_documents_low: int | None = None
    more_documents_high: int | None = None
    """The same at the ends of the ratio's 80 % interval."""
    more_seeds: int | None = None
    """If undecided: additional seeds of each training that would decide."""
    note: str = ""
    """Why it was not tested, or what would decide."""
    looks: tuple[SeedLook, ...] = ()
    """With sequential seeds, one look for each seed from the second on."""
    seed_power: float | None = None
    """If undecided with seeds left: the probability that they decide it, if the ratio is as measured."""
    by_share: SharedMean | None = None
    """Overall: the same with levels weighted by their share of the corpus; None for a level, or without shares."""


def is_settled(finding: Finding) -> bool:
    """Tell whether more seeds are pointless for the claim: it is decided, untestable, or they would hardly help."""
    if finding.verdict is Verdict.NOT_TESTED:
        return True
    if not finding.looks:
        return False
    return finding.verdict is not Verdict.UNDECIDED or finding.seed_power is None or finding.seed_power < FUTILE


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p-values by Holm's step-down method, which controls the family-wise error under any dependence."""
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    adjusted, highest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = highest
    return adjusted


def target_status(finding: Finding, target: float) -> str:
    """Compare the finding's interval with a target: 'reached', 'missed', 'open' or 'not tested'."""
    if finding.low is None or finding.high is None:
        return Verdict.NOT_TESTED.value
    return "reached" if finding.low >= target else "missed" if finding.high < target else "open"


def not_tested(hypothesis: Hypothesis, scope: str, reason: str) -> Finding:
    """Make a finding without numbers."""
    return Finding(
        hypothesis=hypothesis.code,
        scope=scope,
        verdict=Verdict.NOT_TESTED,
        margin=hypothesis.margin,
        note=reason,
    )
