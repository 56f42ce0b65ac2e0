"""Derives the advice for each level and for all of them from the tests alone.

One rule decides on a level and overall, so that the same findings always give the same advice:

    H2 confirmed                                  general       the general model is enough
    else H3 confirmed                             transfer      fine-tune it for the level
    else own models beat every other way          specialised   a separate model for the level
    else the general model is beaten              adapted       a model adapted to the level; which kind is open
    else                                          open

The general model is beaten if H1 is confirmed, H2 is refuted, or the claim that nothing beats it is refuted.
A way is advised for all levels only if the tests support it on every one of them.

Each of the five claims is a family: Holm corrects it over the levels at half of 1 − confidence.  H3 and "own
models beat every other way" exclude each other, so each has its own half of 1 − confidence.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

from raysweep.evidence.evidence_schema import ClaimFinding, ScopeAdvice, WayName
from raysweep.evidence.formats import listed
from raysweep.evidence.lineup import ROLE_NAMES
from raysweep.statistics.claims import OVERALL, Finding, Verdict

Tested = Finding | ClaimFinding
Verdicts = Mapping[str, Verdict]
"""Verdict by claim: H1, H2, H3, 'own' and 'plain'."""

_TEXTS: dict[WayName, str] = {
    "general": "The general model is enough",
    "transfer": "Fine-tune the general model for the level",
    "specialised": "Train a model of the level's own",
    "adapted": "Use a model adapted to the level; whether its own or a fine-tuned one is open",
    "open": "Not decided: the tests cannot tell the ways apart",
    "not tested": "Not tested",
}
_EVERYWHERE: dict[WayName, str] = {
    "general": "One general model is enough on every level",
    "transfer": "Train one general model, then fine-tune it for each level",
    "specialised": "Train a model of its own for each level",
    "adapted": "Use a model adapted to each level; whether its own or a fine-tuned one is open",
}
_ON_SOME: dict[WayName, str] = {
    "general": "one general model is enough on {}",
    "transfer": "fine-tune the general model for {}",
    "specialised": "train the level's own model for {}",
    "adapted": "use a model adapted to the level on {} (its own or a fine-tuned one: open)",
    "open": "not decided on {}",
}
_ON_AVERAGE: dict[WayName, str] = {
    "general": "one general model is enough",
    "transfer": "a general model that is fine-tuned for each level is best",
    "specialised": "a model of its own for each level is best",
    "adapted": "models adapted to a level beat the general one; which kind is open",
}
_OVER_ALL = "On average over the levels"
_OVER_SOME = f"{_OVER_ALL} that could be tested"
_ADDS = {
    "nothing": "",
    "transfer": "; fine-tuning it per level still adds a little",
    "specialised": "; a model per level still adds a little",
}
CANNOT_ANSWER = "This run cannot answer: no hypothesis could be tested."
NOT_DECIDED = "Not decided yet: this run cannot tell the ways apart."


def advise(findings: Sequence[Tested], kinds: Sequence[Tested]) -> tuple[ScopeAdvice, ...]:
    """Return the advice overall, then on each level, in the findings' order.

    Args:
        findings: on H1, H2 and H3.
        kinds: on the claims of `statistics.claims.ADAPTATION_CLAIMS`.
    """
    by_scope: dict[str, dict[str, Tested]] = {}
    for finding in (*findings, *kinds):
        by_scope.setdefault(finding.scope, {})[finding.hypothesis] = finding
    levels = len(by_scope.keys() - {OVERALL})
    return tuple(_advise(scope, by_claim, levels) for scope, by_claim in by_scope.items())


def way_of(verdicts: Verdicts) -> WayName:
    """Return the way that the verdicts support; see the top of this file."""
    if all(verdict is Verdict.NOT_TESTED for verdict in verdicts.values()):
        return "not tested"
    if verdicts["H2"] is Verdict.CONFIRMED:
        return "general"
    if verdicts["H3"] is Verdict.CONFIRMED:
        return "transfer"
    if verdicts["own"] is Verdict.CONFIRMED:
        return "specialised"
    is_beaten = (
        verdicts["H1"] is Verdict.CONFIRMED or verdicts["H2"] is Verdict.REFUTED or verdicts["plain"] is Verdict.REFUTED
    )
    return "adapted" if is_beaten else "open"


def headline_of(advice: Sequence[ScopeAdvice]) -> str:
    """Return the advice for all levels in one sentence."""
    overall, *levels = advice
    tested = [level for level in levels if level.way != "not tested"]
    ways = list(dict.fromkeys(level.way for level in tested))
    if not tested:
        return CANNOT_ANSWER
    if ways == ["open"]:
        if overall.way not in _ON_AVERAGE:
            return NOT_DECIDED
        over = _OVER_SOME if overall.text.startswith(_OVER_SOME) else _OVER_ALL
        return f"{over}, {_ON_AVERAGE[overall.way]}; on no single level is this decided."
    if len(ways) == 1 and len(tested) == len(levels):
        return f"{_EVERYWHERE[ways[0]]}{_ADDS[overall.adds]}."
    levels_of = {way: [level.scope for level in tested if level.way == way] for way in _ON_SOME if way in ways}
    sentence = "; ".join(_ON_SOME[way].format(listed(scopes)) for way, scopes in levels_of.items())
    return f"{sentence[0].upper()}{sentence[1:]}."


def supports_own_models(advice: Sequence[ScopeAdvice]) -> bool:
    """Return whether the advice is a separate model for each level."""
    return all(level.way in ("specialised", "not tested") for level in advice[1:]) and advice[0].way == "specialised"


def _over(findings: Iterable[Tested], levels: int) -> str:
    """Say over which levels the overall findings are averages."""
    is_partial = any(0 < len(finding.levels) < levels for finding in findings)
    return _OVER_SOME if is_partial else _OVER_ALL


def _advise(scope: str, by_claim: Mapping[str, Tested], levels: int) -> ScopeAdvice:
    verdicts = {code: finding.verdict for code, finding in by_claim.items()}
    own, plain, way = by_claim["own"], by_claim["plain"], way_of(verdicts)
    on_average = f"{_over(by_claim.values(), levels)}: " if scope == OVERALL and way != "not tested" else ""
    adds = _adds(way, verdicts)
    text = f"{on_average}{_TEXTS[way]}{_ADDS[adds]}"
    decided = [finding for finding in by_claim.values() if finding.verdict is not Verdict.NOT_TESTED]
    if way not in ("open", "not tested") and min(finding.seeds for finding in decided) == 1:
        text += ", for these trained models"
    if way == "not tested":
        text += f": {by_claim['H1'].note}" if by_claim["H1"].note else ""
    elif own.verdict is not Verdict.NOT_TESTED and own.against == ("general",):
        text += " (fine-tuning was not tried)"
    h1 = by_claim["H1"]
    if way in ("specialised", "adapted") and isinstance(h1, ClaimFinding) and h1.explained_by:
        controls = ", ".join(f"the {ROLE_NAMES[kind]}" for kind in h1.explained_by)
        text += f"; but not because of the level: so much is gained by {controls}"
    return ScopeAdvice(
        scope=scope,
        way=way,
        text=f"{text}.",
        adds=adds,
        own=own.verdict,
        own_p=own.p_confirm,
        own_ratio=own.value,
        plain=plain.verdict,
        plain_p=plain.p_refute,
    )


def _adds(way: WayName, verdicts: Verdicts) -> Literal["nothing", "transfer", "specialised"]:
    """Say what still gains if the general model is enough."""
    if way == "general" and verdicts["H3"] is Verdict.CONFIRMED:
        return "transfer"
    return "specialised" if way == "general" and verdicts["own"] is Verdict.CONFIRMED else "nothing"
