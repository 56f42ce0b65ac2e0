"""What would flip the recommendation: the variations of `statistics.sensitivity` as plain values, and a sentence."""

from collections.abc import Mapping, Sequence
from typing import Any

from raysweep.evidence.answer import headline_of, way_of
from raysweep.evidence.formats import percent
from raysweep.statistics.hypotheses import OVERALL, Finding
from raysweep.statistics.sensitivity import Variation

NAMED = 4
"""Variations named in the sentence; the table has all."""
_GROUPS = {
    "margin": "H2's margin from 5 to 15 %",
    "weighting": "weighting",
    "metric": "metric",
    "kind of mask": "each kind of mask alone",
    "first language": "each first language left out",
}
Values = dict[str, Any]


def describe_sensitivity(findings: Sequence[Values], variations: Sequence[Variation]) -> Values:
    """Each variation against the verdicts as they are, and all of them in one sentence."""
    base = {(one["hypothesis"], one["scope"]): one["verdict"] for one in findings}
    verdicts = {code: verdict for (code, scope), verdict in base.items() if scope == OVERALL}
    rows = [_describe(variation, base, way_of(verdicts)) for variation in variations]
    return {
        "way": way_of(verdicts),
        "variations": rows,
        "margins": _margins(findings),
        "sentence": _sentence(rows),
    }


def _describe(variation: Variation, base: Mapping[tuple[str, str], str], way: str | None) -> Values:
    overall = {one.hypothesis: one for one in variation.findings if one.scope == OVERALL}
    verdicts = {code: one.verdict.value for code, one in overall.items()}
    found = way_of(verdicts)
    return {
        "group": variation.group,
        "name": variation.name,
        "documents": variation.documents,
        "way": found,
        "headline": headline_of(verdicts),
        "outcome": "holds" if found == way else "open" if found is None else "flips",
        "verdicts": {code: _verdict(one) for code, one in overall.items()},
        "changed": [
            {
                "hypothesis": one.hypothesis,
                "scope": one.scope,
                "was": base[one.hypothesis, one.scope],
                "verdict": one.verdict.value,
            }
            for one in variation.findings
            if one.verdict.value != base[one.hypothesis, one.scope]
        ],
    }


def _verdict(finding: Finding) -> Values:
    return {"verdict": finding.verdict.value, "value": finding.ratio, "low": finding.low, "high": finding.high}


def _margins(findings: Sequence[Values]) -> Values:
    """The margins of H2 at which its overall verdict changes: the ends of its interval."""
    h2 = next(one for one in findings if (one["hypothesis"], one["scope"]) == ("H2", OVERALL))
    return {"confirmed_above": h2["high"], "refuted_below": h2["low"]}


def _sentence(rows: Sequence[Values]) -> str:
    if not rows:
        return "Nothing was varied: there is nothing to judge."
    groups = dict.fromkeys(row["group"] for row in rows)
    tried = f"{len(rows)} variations ({', '.join(_GROUPS[group] for group in groups)})"
    flips, opens = ([row for row in rows if row["outcome"] == outcome] for outcome in ("flips", "open"))
    if not flips and not opens:
        return f"Nothing tried would flip this: it holds in all {tried}."
    said = [f"holds in {len(rows) - len(flips) - len(opens)}"]
    if flips:
        named = "; ".join(f"{row['name']}: {row['headline'].rstrip('.')}" for row in flips[:NAMED])
        said.append(f"flips in {len(flips)} ({named}{_more(flips)})")
    if opens:
        said.append(f"is open in {len(opens)} ({', '.join(row['name'] for row in opens[:NAMED])}{_more(opens)})")
    return f"What would flip this: of {tried} it {', '.join(said[:-1])} and {said[-1]}."


def _more(rows: Sequence[Values]) -> str:
    return f" and {len(rows) - NAMED} more" if len(rows) > NAMED else ""


def margins_said(sensitivity: Values) -> str:
    """At which margins H2's verdict would change; '' where it was not tested."""
    above, below = sensitivity["margins"]["confirmed_above"], sensitivity["margins"]["refuted_below"]
    if above is None or below is None:
        return ""
    return (
        f"By its interval, H2 is confirmed overall at any margin above {percent(above)} and refuted at any below "
        f"{percent(below)}."
    )
