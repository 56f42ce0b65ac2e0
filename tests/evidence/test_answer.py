"""From verdicts to one recommendation."""

import pytest

from raysweep.evidence.answer import recommend
from raysweep.evidence.evidence_schema import ClaimFinding
from raysweep.statistics.claims import Verdict

C, R, U, N = Verdict


def finding(code, verdict, scope="overall", seeds=3):
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
        seeds=seeds,
        without_one=None,
        p_confirm=None,
        p_refute=None,
        against=(),
        rival={"H1": "specialised", "H2": "transfer", "H3": "general"}[code],
        levels=(),
        documents=0,
        clusters=0,
        more_documents=None,
        more_documents_low=None,
        more_documents_high=None,
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


def test_one_seed_is_said_in_the_verdict_and_in_the_first_warning():
    """Nothing is known about another training of the same model."""
    one, three = (
        recommend([finding(code, verdict, seeds=seeds) for code, verdict in (("H1", C), ("H2", R), ("H3", U))], [])
        for seeds in (1, 3)
    )
    assert [reason.words for reason in one.reasons] == [
        "confirmed for these trained models",
        "refuted for these trained models",
        "undecided",
    ]
    assert one.warnings[0].startswith("The intervals cover the choice of test documents only")
    assert [reason.words for reason in three.reasons] == ["confirmed", "refuted", "undecided"]
    assert three.warnings == ()


def test_unknown_learners_are_a_warning():
    """Documents of one learner are no independent ones."""
    answer = recommend([finding("H1", C), finding("H2", R), finding("H3", U)], [], learners_known=False)
    assert answer.warnings[0].startswith("Learners are unknown, so every document counts as independent.")
    nothing = recommend([finding("H1", N), finding("H2", N), finding("H3", N)], [], learners_known=False)
    assert nothing.warnings == ()


def test_a_verdict_that_rests_on_one_learner_is_named():
    """Without that learner the ratio is on the other side of the margin."""
    claim = finding("H1", C, "B1").model_copy(update={"margin": 1.0, "without_one": 0.99})
    answer = recommend([finding("H1", C), finding("H2", R), finding("H3", U), claim], [])
    assert answer.warnings == (
        "H1 on B1 rests on one learner: without the one who moves it most, the perplexity is "
        "−1.0 %, on the other side of the margin.",
    )
