"""The recommendation, in plain words: the headline of the advice, the findings it follows from, and warnings.

Levels whose verdict differs from the overall one are named.
"""

from collections.abc import Iterable, Mapping, Sequence

from raysweep.evidence.advice import headline_of
from raysweep.evidence.evidence_schema import ClaimFinding, Reason, Recommendation, ScopeAdvice, Strategy
from raysweep.evidence.formats import percent
from raysweep.statistics.claims import OVERALL, Verdict

LEARNED_LITTLE = 0.95
"""A general model above this share of its start's perplexity has hardly learned."""


def recommend(
    findings: Sequence[ClaimFinding],
    advice: Sequence[ScopeAdvice],
    strategies: Sequence[Strategy],
    *,
    learners_known: bool = True,
) -> Recommendation:
    """The headline, the reasons, and what must be kept in mind."""
    overall = {finding.hypothesis: finding for finding in findings if finding.scope == OVERALL}
    verdicts = {code: finding.verdict for code, finding in overall.items()}
    return Recommendation(
        headline=headline_of(advice),
        reasons=tuple(_reason(finding) for finding in overall.values()),
        exceptions=tuple(_exceptions(findings, verdicts)),
        warnings=(
            *_coverage(findings, learners_known=learners_known),
            *_other_weights(overall.values()),
            *_warnings(findings, strategies),
        ),
    )


def _reason(finding: ClaimFinding) -> Reason:
    code, verdict, note = finding.hypothesis, finding.verdict, finding.note
    text = _CLAIMS[code][verdict]
    if verdict is not Verdict.NOT_TESTED:
        figure = "The fine-tuned models' perplexity:" if code == "H3" else "The general model's perplexity:"
        bounds = f"{percent(finding.low)} to {percent(finding.high)}"
        text += f" {figure} {percent(finding.value)} ({bounds}) against {_COMPARED_WITH[finding.rival]}"
        text += f"; the bound is {percent(finding.margin)}." if code == "H2" else "."
    if note:
        text += f" {note[0].upper()}{note[1:]}."
    return Reason(code=code, verdict=verdict, words=verdict_words(verdict, finding.seeds), text=text)


def verdict_words(verdict: Verdict, seeds: int) -> str:
    """The verdict; with one training of each model it is one about these models, not about their kind."""
    is_decided = verdict in (Verdict.CONFIRMED, Verdict.REFUTED)
    return f"{verdict} for these trained models" if is_decided and seeds == 1 else verdict.value


def _coverage(findings: Sequence[ClaimFinding], *, learners_known: bool) -> list[str]:
    """What no interval of the report covers."""
    tested = [finding for finding in findings if finding.verdict is not Verdict.NOT_TESTED]
    sentences = []
    if tested and min(finding.seeds for finding in tested) == 1:
        sentences.append(
            "The intervals cover the choice of test documents only: each model was trained with one seed, and another "
            "training may come out differently. Set seeds: [0, 1, 2] for the trials to include this."
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
                f"{finding.hypothesis} on {finding.scope} rests on one learner: without the one who moves it most, the "
                f"perplexity is {percent(finding.without_one)}, on the other side of the margin."
            )
    return sentences


def _other_weights(overall: Iterable[ClaimFinding]) -> list[str]:
    """Overall verdicts that depend on how much each level weighs."""
    sentences = []
    for finding in overall:
        shared = finding.by_share
        if shared is not None and shared.verdict is not finding.verdict:
            bounds = f"{percent(shared.low)} to {percent(shared.high)}"
            sentences.append(
                f"{finding.hypothesis} is {finding.verdict} overall if every level weighs the same, but "
                f"{shared.verdict} if each weighs as its share of the corpus ({percent(shared.value)}, {bounds})."
            )
    return sentences


def _rests_on_one(finding: ClaimFinding) -> bool:
    """Without its most influential learner, the ratio is on the other side of the margin."""
    if finding.value is None or finding.without_one is None:
        return False
    return (finding.value > finding.margin) is not (finding.without_one > finding.margin)


_CLAIMS = {
    "H1": {
        Verdict.CONFIRMED: "Training a model on a level's texts alone beats the general model there.",
        Verdict.REFUTED: "Training a model on a level's texts alone does not beat the general model.",
        Verdict.UNDECIDED: "Whether a model trained on a level's texts alone beats the general model is open.",
        Verdict.NOT_TESTED: "Whether a model trained on a level's texts alone beats the general model was not tested.",
    },
    "H2": {
        Verdict.CONFIRMED: "The general model comes close enough to the best of the others.",
        Verdict.REFUTED: "The general model does not come close enough to the best of the others.",
        Verdict.UNDECIDED: "Whether the general model comes close enough to the best of the others is open.",
        Verdict.NOT_TESTED: "Whether the general model comes close enough to the best was not tested.",
    },
    "H3": {
        Verdict.CONFIRMED: "Fine-tuning the general model on a level beats every other way.",
        Verdict.REFUTED: "Fine-tuning the general model on a level is not the best way.",
        Verdict.UNDECIDED: "Whether fine-tuning the general model on a level is the best way is open.",
        Verdict.NOT_TESTED: "Whether fine-tuning the general model on a level is the best way was not tested.",
    },
}
_COMPARED_WITH = {
    "general": "the general model",
    "specialised": "models trained on their level alone",
    "transfer": "fine-tuned models",
}


def _exceptions(findings: Sequence[ClaimFinding], verdicts: Mapping[str, Verdict]) -> list[str]:
    """Per hypothesis, the levels whose verdict contradicts the overall one."""
    sentences = []
    for code, overall in verdicts.items():
        differing = []
        for verdict in (Verdict.CONFIRMED, Verdict.REFUTED):
            levels = [
                finding.scope
                for finding in _on_levels(findings)
                if (finding.hypothesis, finding.verdict) == (code, verdict)
            ]
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
            f"The general model has hardly learned: its perplexity is {percent(by_name['general'] / by_name['start'])} "
            "from its start's. Train for more steps before believing a verdict."
        )
    untested = sorted({finding.scope for finding in _on_levels(findings) if finding.verdict is Verdict.NOT_TESTED})
    if untested and any(finding.verdict is not Verdict.NOT_TESTED for finding in findings):
        sentences.append(
            f"Not all hypotheses could be tested on {', '.join(untested)}, left out of those overall verdicts."
        )
    return sentences


def _on_levels(findings: Sequence[ClaimFinding]) -> list[ClaimFinding]:
    return [finding for finding in findings if finding.scope != OVERALL]
