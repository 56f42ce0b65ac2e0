"""From verdicts to one recommendation."""

import pytest

from raysweep.evidence.answer import recommend
from raysweep.evidence.evidence_schema import ClaimFinding
from raysweep.statistics.hypotheses import Verdict

C, R, U, N = Verdict


def finding(code, verdict, scope="overall"):
    numbers = dict.fromkeys(("value", "low", "high")) if verdict == N else {"value": 1.05, "low": 1.01, "high": 1.09}
    return ClaimFinding(
        hypothesis=code,
        name=code,
        claim="above" if code == "H1" else "below",
        numerator="transfer" if code == "H3" else "general",
        scope=scope,
        verdict=verdict,
        margin=1.1,
        **numbers,
        alone_low=numbers.get("low"),
        alone_high=numbers.get("high"),
        effective=None,
        without_one=None,
        p_confirm=None,
        p_refute=None,
        against=(),
        rival={"H1": "specialised", "H2": "transfer", "H3": "general"}[code],
        levels=(),
        documents=0,
        clusters=0,
        more_documents=None,
        more_seeds=None,
        note="no level could be tested" if verdict == N else "",
        target=None,
        leaky=False,
        explained_by=(),
    )


def advice(h1, h2, h3, levels=()):
    overall = [finding(code, verdict) for code, verdict in (("H1", h1), ("H2", h2), ("H3", h3))]
    return recommend([*overall, *levels], [])


@pytest.mark.parametrize(
    ("h1", "h2", "h3", "headline"),
    [
        (R, C, R, "One general model is enough."),
        (C, C, R, "One general model is enough."),
        (U, C, N, "One general model is enough."),
        (R, C, C, "One general model is enough; fine-tuning it per level still adds a little."),
        (R, R, C, "Train one general model, then fine-tune it for each level."),
        (C, U, C, "Train one general model, then fine-tune it for each level."),
        (C, R, R, "Train a model of its own for each level."),
        (C, R, U, "Train a model of its own for each level."),
        (U, R, U, "Do not rely on one general model; which other way is best is not decided yet."),
        (U, U, U, "Not decided yet: this run cannot tell the ways apart."),
        (R, U, R, "Not decided yet: this run cannot tell the ways apart."),
        (N, N, N, "This run cannot answer: no hypothesis could be tested."),
    ],
)
def test_the_recommendation_follows_from_the_verdicts(h1, h2, h3, headline):
    """One rule: sufficiency first, then transfer, then specialisation."""
    assert advice(h1, h2, h3).headline == headline


def test_levels_that_differ_from_the_overall_verdict_are_named():
    """An average must not hide the level for which it is wrong."""
    levels = [finding("H1", R, "A1"), finding("H1", C, "B1"), finding("H1", R, "C1"), finding("H1", U, "B2")]
    assert advice(C, R, R, levels).exceptions == ("H1 is confirmed overall, but refuted on A1, C1.",)
    assert advice(U, R, R, levels).exceptions == (
        "H1 is undecided overall, but confirmed on B1 and refuted on A1, C1.",
    )


def test_every_hypothesis_gets_its_reason_with_numbers_or_why_there_are_none():
    """Three claims, three sentences."""
    reasons = advice(C, U, N).reasons
    assert [reason.code for reason in reasons] == ["H1", "H2", "H3"]
    assert "+5.0\N{NO-BREAK SPACE}%" in reasons[0].text
    assert "bound is +10.0\N{NO-BREAK SPACE}%" in reasons[1].text
    assert "No level could be tested" in reasons[2].text
