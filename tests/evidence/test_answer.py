"""From verdicts to one recommendation."""

from raysweep.evidence.advice import advise
from raysweep.evidence.answer import recommend
from raysweep.evidence.evidence_schema import ClaimFinding, MeanByShare
from raysweep.statistics.claims import Verdict

C, R, U, N = Verdict
KINDS = ("own", "plain")


def finding(code, verdict, scope="overall", seeds=3, by_share=None):
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
        prompts=0,
        without_one=None,
        p_confirm=None,
        p_refute=None,
        against=(),
        rival={"H1": "specialised", "H2": "transfer", "H3": "general", "own": "general", "plain": "transfer"}[code],
        levels=(),
        documents=0,
        clusters=0,
        more_documents=None,
        more_documents_low=None,
        more_documents_high=None,
        more_seeds=None,
        note="no level could be tested" if verdict == N else "",
        too_few=False,
        target=None,
        leaky=False,
        explained_by=(),
        looks=(),
        seed_power=None,
        by_share=by_share,
    )


def answer_to(findings, **options):
    """Return the recommendation, with advice that follows from the findings alone."""
    kinds = [
        finding(code, U, known_finding.scope, known_finding.seeds)
        for known_finding in findings
        if known_finding.hypothesis == "H1"
        for code in KINDS
    ]
    present = {(finding.hypothesis, finding.scope) for finding in findings}
    missing = [
        finding(code, U, scope)
        for scope in dict.fromkeys(finding.scope for finding in findings)
        for code in ("H1", "H2", "H3")
        if (code, scope) not in present
    ]
    scopes = {finding.scope for finding in kinds}
    known = [finding for finding in [*findings, *missing] if finding.scope in scopes]
    most_seeds = max(finding.seeds for finding in findings)
    return recommend(findings, advise(known, kinds), [], most_seeds=most_seeds, **options)


def advice(h1, h2, h3, levels=()):
    overall = [finding(code, verdict) for code, verdict in (("H1", h1), ("H2", h2), ("H3", h3))]
    return answer_to([*overall, *levels])


def test_levels_that_differ_from_the_overall_verdict_are_named():
    """A mean must not hide the level for which it is wrong."""
    levels = [finding("H1", R, "A1"), finding("H1", C, "B1"), finding("H1", R, "C1"), finding("H1", U, "B2")]
    assert advice(C, R, R, levels).exceptions == ("H1 is confirmed overall, but refuted on A1, C1.",)
    assert advice(U, R, R, levels).exceptions == (
        "H1 is undecided overall, but confirmed on B1 and refuted on A1, C1.",
    )


def test_every_hypothesis_has_a_reason_with_numbers_or_their_absence():
    """There is a sentence for each of the three claims."""
    reasons = advice(C, U, N).reasons
    assert [reason.code for reason in reasons] == ["H1", "H2", "H3"]
    assert "is 5.0\N{NO-BREAK SPACE}% higher (interval: 1.0\N{NO-BREAK SPACE}% to 9.0" in reasons[0].text
    assert "less than 10.0\N{NO-BREAK SPACE}% higher was asked" in reasons[1].text
    assert "No level could be tested" in reasons[2].text


def test_a_single_seed_is_stated_in_the_verdict_and_the_first_warning():
    """Another training of the same model could differ by an unknown amount."""
    one_seed, three_seeds = (
        answer_to([finding(code, verdict, seeds=seeds) for code, verdict in (("H1", C), ("H2", R), ("H3", U))])
        for seeds in (1, 3)
    )
    assert [reason.words for reason in one_seed.reasons] == [
        "confirmed for these trained models",
        "refuted for these trained models",
        "undecided",
    ]
    assert one_seed.warnings[0].startswith("The intervals cover the choice of test documents only")
    assert [reason.words for reason in three_seeds.reasons] == ["confirmed", "refuted", "undecided"]
    assert three_seeds.warnings == ()


def test_unknown_learners_give_a_warning():
    """Documents of one learner are not independent."""
    answer = answer_to([finding("H1", C), finding("H2", R), finding("H3", U)], learners_known=False)
    assert answer.warnings[0].startswith("Learners are unknown, so every document counts as independent.")
    nothing = answer_to([finding("H1", N), finding("H2", N), finding("H3", N)], learners_known=False)
    assert nothing.warnings == ()


def test_a_verdict_that_depends_on_one_learner_is_marked():
    """Without that learner, the ratio is on the other side of the margin."""
    claim = finding("H1", C, "B1").model_copy(update={"margin": 1.0, "without_one": 0.99})
    answer = answer_to([finding("H1", C), finding("H2", R), finding("H3", U), claim])
    assert answer.warnings == (
        "H1 on B1 rests on one learner. Without the learner who moves it most, the perplexity is "
        "1.0\N{NO-BREAK SPACE}% lower, on the other side of the margin.",
    )


def test_a_verdict_that_depends_on_level_weights_is_marked():
    """If most learners are on one level, the mean over learners may differ from the mean over levels."""
    shared = MeanByShare(verdict=R, value=1.2, low=1.15, high=1.25, rival="transfer")
    claims = [finding("H1", C, by_share=None), finding("H2", C, by_share=shared), finding("H3", U)]
    assert answer_to(claims).warnings == (
        "H2 is confirmed overall if every level weighs the same, but refuted if each weighs as its share of the "
        "corpus: the perplexity is then 20.0\N{NO-BREAK SPACE}% higher (15.0\N{NO-BREAK SPACE}% to "
        "25.0\N{NO-BREAK SPACE}% higher).",
    )
