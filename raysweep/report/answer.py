"""The recommendation, in plain words, from the findings alone.

One rule decides, so two readers of the same findings get the same advice:

    H2 confirmed                     one general model is enough (fine-tuning may still add a little)
    else H3 confirmed                a general model, fine-tuned per level
    else H1 confirmed                a model per level
    else H2 refuted                  not the general model alone; which other way is open
    else                             undecided

Level by level, whatever differs from the overall verdict is said.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from raysweep.report.formats import percent, ratio

Values = dict[str, Any]
CONFIRMED, REFUTED, UNDECIDED, NOT_TESTED = "confirmed", "refuted", "undecided", "not tested"
NAMES = {
    "H1": "a model of its own beats the general model",
    "H2": "the general model is close enough to the best",
    "H3": "fine-tuning the general model beats every other way",
}
LEARNED_LITTLE = 0.95
"""A general model above this share of its start's perplexity has hardly learned."""


def recommend(findings: Sequence[Values], strategies: Sequence[Values]) -> Values:
    """The headline, the reasons, and what must be kept in mind."""
    overall = {finding["hypothesis"]: finding for finding in findings if finding["scope"] == "overall"}
    verdicts = {code: finding["verdict"] for code, finding in overall.items()}
    return {
        "headline": _headline(verdicts),
        "reasons": [_reason(finding) for finding in overall.values()],
        "exceptions": _exceptions(findings, verdicts),
        "warnings": _warnings(findings, strategies),
    }


def _headline(verdicts: Mapping[str, str]) -> str:
    if verdicts["H2"] == CONFIRMED and verdicts["H3"] == CONFIRMED:
        return "One general model is enough; fine-tuning it per level still adds a little."
    if verdicts["H2"] == CONFIRMED:
        return "One general model is enough."
    if verdicts["H3"] == CONFIRMED:
        return "Train one general model, then fine-tune it for each level."
    if verdicts["H1"] == CONFIRMED:
        return "Train a model of its own for each level."
    if verdicts["H2"] == REFUTED:
        return "Do not rely on one general model; which other way is best is not decided yet."
    if set(verdicts.values()) == {NOT_TESTED}:
        return "This run cannot answer: no hypothesis could be tested."
    return "Not decided yet: this run cannot tell the ways apart."


def _reason(finding: Values) -> str:
    code, verdict = finding["hypothesis"], finding["verdict"]
    if verdict == NOT_TESTED:
        return f"{code}, that {NAMES[code]}, was not tested: {finding['note']}."
    interval = f"{ratio(finding['value'])} [{ratio(finding['low'])}, {ratio(finding['high'])}]"
    rival = {"general": "the general model", "specialised": "training per level", "transfer": "fine-tuning"}.get(
        finding["rival"], finding["rival"]
    )
    said = {
        "H1": f"the general model's perplexity is {interval} times that of {rival}",
        "H2": f"the general model's perplexity is {interval} times that of {rival}, the best of the others; "
        f"the bound is {finding['margin']:.2f}",
        "H3": f"the fine-tuned models' perplexity is {interval} times that of {rival}, the best of the others",
    }[code]
    note = f"; {finding['note']}" if verdict == UNDECIDED and finding["note"] else ""
    return f"{code}, that {NAMES[code]}, is {verdict}: {said}{note}."


def _exceptions(findings: Sequence[Values], verdicts: Mapping[str, str]) -> list[str]:
    said = []
    for code, overall in verdicts.items():
        for opposite in (CONFIRMED, REFUTED):
            scopes = [
                finding["scope"]
                for finding in findings
                if finding["hypothesis"] == code and finding["verdict"] == opposite and finding["scope"] != "overall"
            ]
            if scopes and overall not in (opposite, NOT_TESTED):
                said.append(f"{code} is {overall} overall, but {opposite} on {', '.join(scopes)}.")
    return said


def _warnings(findings: Sequence[Values], strategies: Sequence[Values]) -> list[str]:
    said = []
    by_name = {strategy["name"]: strategy["perplexity"]["value"] for strategy in strategies}
    if "start" in by_name and "general" in by_name and by_name["general"] > LEARNED_LITTLE * by_name["start"]:
        said.append(
            f"The general model has hardly learned: its perplexity is {percent(by_name['general'] / by_name['start'])} "
            "from its start's. Train for more steps before believing a verdict."
        )
    untested = sorted({f["scope"] for f in findings if f["verdict"] == NOT_TESTED and f["scope"] != "overall"})
    if untested:
        said.append(f"Some hypotheses could not be tested on {', '.join(untested)}; the overall verdicts leave it out.")
    return said
