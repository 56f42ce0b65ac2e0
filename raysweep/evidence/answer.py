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

from raysweep.evidence.formats import percent

Values = dict[str, Any]
CONFIRMED, REFUTED, UNDECIDED, NOT_TESTED = "confirmed", "refuted", "undecided", "not tested"
LEARNED_LITTLE = 0.95
"""A general model above this share of its start's perplexity has hardly learned."""


def recommend(findings: Sequence[Values], strategies: Sequence[Values]) -> Values:
    """The headline, the reasons, and what must be kept in mind."""
    overall = {finding["hypothesis"]: finding for finding in findings if finding["scope"] == "overall"}
    verdicts = {code: finding["verdict"] for code, finding in overall.items()}
    return {
        "headline": headline_of(verdicts),
        "reasons": [_reason(finding) for finding in overall.values()],
        "exceptions": _exceptions(findings, verdicts),
        "warnings": _warnings(findings, strategies),
    }


def way_of(verdicts: Mapping[str, str]) -> str | None:
    """The way that the overall verdicts recommend: 'general', 'transfer', 'specialised', or none yet."""
    for code, way in (("H2", "general"), ("H3", "transfer"), ("H1", "specialised")):
        if verdicts[code] == CONFIRMED:
            return way
    return None


def headline_of(verdicts: Mapping[str, str]) -> str:
    """The advice in one sentence."""
    way = way_of(verdicts)
    if way == "general":
        little = "; fine-tuning it per level still adds a little" if verdicts["H3"] == CONFIRMED else ""
        return f"One general model is enough{little}."
    if way == "transfer":
        return "Train one general model, then fine-tune it for each level."
    if way == "specialised":
        return "Train a model of its own for each level."
    if verdicts["H2"] == REFUTED:
        return "Do not rely on one general model; which other way is best is not decided yet."
    if set(verdicts.values()) == {NOT_TESTED}:
        return "This run cannot answer: no hypothesis could be tested."
    return "Not decided yet: this run cannot tell the ways apart."


def _reason(finding: Values) -> Values:
    code, verdict = finding["hypothesis"], finding["verdict"]
    text = _CLAIMS[code][verdict]
    if verdict != NOT_TESTED:
        bounds = f"{percent(finding['low'])} to {percent(finding['high'])}"
        text += f" {_CLAIMS[code]['figure']} {percent(finding['value'])} ({bounds}) against {_RIVALS[finding['rival']]}"
        text += f"; the bound is {percent(finding['margin'])}." if code == "H2" else "."
    if finding["note"]:
        text += f" {finding['note'][0].upper()}{finding['note'][1:]}."
    return {"code": code, "verdict": verdict, "text": text}


_GENERAL = "The general model's perplexity:"
_CLAIMS = {
    "H1": {
        CONFIRMED: "Training a model on a level's texts alone beats the general model there.",
        REFUTED: "Training a model on a level's texts alone does not beat the general model.",
        UNDECIDED: "Whether a model trained on a level's texts alone beats the general model is open.",
        NOT_TESTED: "Whether a model trained on a level's texts alone beats the general model was not tested.",
        "figure": _GENERAL,
    },
    "H2": {
        CONFIRMED: "The general model comes close enough to the best of the others.",
        REFUTED: "The general model does not come close enough to the best of the others.",
        UNDECIDED: "Whether the general model comes close enough to the best of the others is open.",
        NOT_TESTED: "Whether the general model comes close enough to the best was not tested.",
        "figure": _GENERAL,
    },
    "H3": {
        CONFIRMED: "Fine-tuning the general model on a level beats every other way.",
        REFUTED: "Fine-tuning the general model on a level is not the best way.",
        UNDECIDED: "Whether fine-tuning the general model on a level is the best way is open.",
        NOT_TESTED: "Whether fine-tuning the general model on a level is the best way was not tested.",
        "figure": "The fine-tuned models' perplexity:",
    },
}
_RIVALS = {
    "general": "the general model",
    "specialised": "models trained on their level alone",
    "transfer": "fine-tuned models",
}


def _exceptions(findings: Sequence[Values], verdicts: Mapping[str, str]) -> list[str]:
    said = []
    for code, overall in verdicts.items():
        differing = []
        for verdict in (CONFIRMED, REFUTED):
            scopes = [
                finding["scope"]
                for finding in findings
                if finding["hypothesis"] == code and finding["verdict"] == verdict and finding["scope"] != "overall"
            ]
            if scopes and overall not in (verdict, NOT_TESTED):
                differing.append(f"{verdict} on {', '.join(scopes)}")
        if differing:
            said.append(f"{code} is {overall} overall, but {' and '.join(differing)}.")
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
    if untested and any(f["verdict"] != NOT_TESTED for f in findings):
        said.append(f"Not all hypotheses could be tested on {', '.join(untested)}, left out of those overall verdicts.")
    return said
