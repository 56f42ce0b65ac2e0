"""Words the recommendation: the headline of the advice, the findings that it follows from, and warnings.

Levels whose verdict differs from the overall one are named.
"""

from collections.abc import Iterable, Mapping, Sequence

from raysweep.evidence.advice import headline_of
from raysweep.evidence.claim_words import claim_reason, compare, count_levels
from raysweep.evidence.evidence_schema import ClaimFinding, Recommendation, ScopeAdvice, Strategy
from raysweep.evidence.formats import change, change_range
from raysweep.statistics.claims import OVERALL, Verdict

LEARNED_LITTLE = 0.95
"""A general model whose perplexity is above this share of its start's has hardly learned."""


def recommend(
    findings: Sequence[ClaimFinding],
    advice: Sequence[ScopeAdvice],
    strategies: Sequence[Strategy],
    *,
    most_seeds: int,
    learners_known: bool = True,
    prompt_sentences: Sequence[str] = (),
    fine_tuning_steps: Sequence[int] = (),
) -> Recommendation:
    """Return the headline, the reasons, and what must be kept in mind.

    Args:
        most_seeds: number of seeds of the entry that was trained with the most.
    """
    overall = {finding.hypothesis: finding for finding in findings if finding.scope == OVERALL}
    verdicts = {code: finding.verdict for code, finding in overall.items()}
    return Recommendation(
        headline=headline_of(advice),
        cautions=(),
        reasons=tuple(
            claim_reason(finding, fine_tuning_steps, levels=count_levels(findings)) for finding in overall.values()
        ),
        exceptions=tuple(_exceptions(findings, verdicts)),
        warnings=(
            *_coverage(findings, most_seeds, learners_known=learners_known),
            *(prompt_sentences if any(finding.documents for finding in findings) else ()),
            *_other_weights(overall.values()),
            *_warnings(findings, strategies),
        ),
    )


def _coverage(findings: Sequence[ClaimFinding], most_seeds: int, *, learners_known: bool) -> list[str]:
    """Say what no interval of the report covers."""
    tested = [finding for finding in findings if finding.verdict is not Verdict.NOT_TESTED]
    sentences = []
    if tested and min(finding.seeds for finding in tested) == 1:
        sentences.append(
            "The intervals cover the choice of test documents only: each model was trained with one seed, and another "
            "training may come out differently. Set seeds: 3 to include this."
            if most_seeds == 1
            else "Some models were trained with one seed. The intervals of claims about them cover the choice of test "
            "documents only: another training may come out differently. Train these models with more seeds to include "
            "this."
        )
    if tested and not learners_known:
        sentences.append(
            "Learners are unknown, so every document counts as independent. If a learner wrote several, the intervals "
            "are too narrow: in simulations, 95 % intervals held the truth in 87, 73 and 58 % of cases with 3, 6 and "
            "12 documents a learner. Name the column in data.columns.learner."
        )
    for finding in tested:
        if finding.verdict is not Verdict.UNDECIDED and _rests_on_one(finding):
            sentences.append(
                f"{finding.hypothesis} on {finding.scope} rests on one learner. Without the learner who moves it most, "
                f"the perplexity is {change(compare(finding).without_one or 1.0)}, on the other side of the margin."
            )
    return sentences


def _other_weights(overall: Iterable[ClaimFinding]) -> list[str]:
    """List overall verdicts that depend on the weights of the levels."""
    sentences = []
    for finding in overall:
        shared = finding.by_share
        if shared is not None and shared.verdict is not finding.verdict:
            weighed = compare(finding.model_copy(update=shared.model_dump()))
            assert weighed.low is not None
            assert weighed.high is not None
            sentences.append(
                f"{finding.hypothesis} is {finding.verdict} overall if every level weighs the same, but "
                f"{shared.verdict} if each weighs as its share of the corpus: the perplexity is then "
                f"{change(weighed.value or 1.0)} ({change_range(weighed.low, weighed.high)})."
            )
    return sentences


def _rests_on_one(finding: ClaimFinding) -> bool:
    """Return whether the ratio would be on the other side of the margin without its most influential learner."""
    if finding.value is None or finding.without_one is None:
        return False
    return (finding.value > finding.margin) is not (finding.without_one > finding.margin)


def _exceptions(findings: Sequence[ClaimFinding], verdicts: Mapping[str, Verdict]) -> list[str]:
    """List, per hypothesis, the levels whose verdict contradicts the overall one."""
    sentences = []
    for code, overall in verdicts.items():
        of_claim = [finding for finding in _on_levels(findings) if finding.hypothesis == code]
        differing = []
        for verdict in (Verdict.CONFIRMED, Verdict.REFUTED):
            levels = [finding.scope for finding in of_claim if finding.verdict == verdict]
            if levels and overall not in (verdict, Verdict.NOT_TESTED):
                differing.append(f"{verdict} on {', '.join(levels)}")
        if differing:
            sentences.append(f"{code} is {overall} overall, but {' and '.join(differing)}.")
    return sentences


def _warnings(findings: Sequence[ClaimFinding], strategies: Sequence[Strategy]) -> list[str]:
    sentences = []
    by_name = {strategy.name: strategy.perplexity.value for strategy in strategies}
    if "start" in by_name and "general" in by_name and by_name["general"] > LEARNED_LITTLE * by_name["start"]:
        sentences.append(
            "The general model has hardly learned: the perplexity of its start, before any training, is only "
            f"{change(by_name['start'] / by_name['general'])}. Train for more steps before believing a verdict."
        )
    untested = sorted({finding.scope for finding in _on_levels(findings) if finding.verdict is Verdict.NOT_TESTED})
    if untested and any(finding.verdict is not Verdict.NOT_TESTED for finding in findings):
        sentences.append(
            f"Not all hypotheses could be tested on {', '.join(untested)}, left out of those overall verdicts."
        )
    return sentences


def _on_levels(findings: Sequence[ClaimFinding]) -> list[ClaimFinding]:
    return [finding for finding in findings if finding.scope != OVERALL]
