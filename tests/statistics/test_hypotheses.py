"""Verdicts on the three hypotheses."""

from dataclasses import replace

import numpy as np
import pytest

from raysweep.statistics.bootstrap import resample_levels
from raysweep.statistics.claims import OVERALL, Hypothesis, Verdict, holm, target_status
from raysweep.statistics.hypotheses import assess
from raysweep.statistics.role_models import RoleModels

LEVELS = ("A1", "B1", "C1")
H1 = Hypothesis(code="H1", name="specialisation", numerator="general", against=("specialised",), above=True, margin=1.0)
H2 = Hypothesis(
    code="H2", name="sufficiency", numerator="general", against=("specialised", "transfer"), above=False, margin=1.1
)
H3 = Hypothesis(
    code="H3", name="transfer", numerator="transfer", against=("general", "specialised"), above=False, margin=1.0
)


def roles_of(levels=LEVELS, without=(), absent=None):
    """Return one seed: a general model, and per level a specialised and a transferred one."""
    by_role = {
        "general": {level: {0: "general"} for level in levels},
        "specialised": {level: {0: f"special-{level}"} for level in levels},
        "transfer": {level: {0: f"transfer-{level}"} for level in levels},
    }
    return RoleModels(by_role={r: m for r, m in by_role.items() if r not in without}, absent=absent or {})


def judged(simulate, hypothesis, special, transfer, *, roles=None, writers=120, seed=0, levels=LEVELS, resamples=1000):
    """Return findings by scope; the level's own models are `special` and `transfer` nats from the general one."""
    roles = roles or roles_of(levels)
    names = ["general", *(f"special-{level}" for level in levels), *(f"transfer-{level}" for level in levels)]
    truth = {}
    for level in levels:
        at = {f"special-{level}": special, f"transfer-{level}": transfer}
        truth[level] = {name: 3.0 + at.get(name, 1.0 if name != "general" else 0.0) for name in names}
    losses, clusters = simulate(truth, seed=seed, writers=writers)
    drawn = resample_levels(losses, names, resamples=resamples, seed=0, clusters=clusters)
    return {finding.scope: finding for finding in assess(hypothesis, roles, drawn, levels, 0.95)}


C, R, U = Verdict.CONFIRMED, Verdict.REFUTED, Verdict.UNDECIDED


@pytest.mark.parametrize(
    ("hypothesis", "special", "transfer", "verdict"),
    [
        # Nats per token of the level's own models, minus the general one's.
        (H1, -0.20, 0.00, C),  # specialised is better by 22 %
        (H1, +0.20, 0.00, R),  # specialised is worse
        (H1, -0.005, 0.00, U),  # half a per cent: 360 documents are too few
        (H2, +0.20, +0.20, C),  # general is the best
        (H2, -0.01, -0.01, C),  # general is 1 % behind, well within 10 %
        (H2, -0.30, +0.20, R),  # 35 % behind one of them is enough to refute
        (H2, +0.20, -0.30, R),
        (H2, -0.095, +0.20, U),  # log 1.1 = 0.0953: on the margin
        (H3, +0.20, -0.20, C),  # better than both
        (H3, -0.40, -0.20, R),  # better than general, worse than specialised
        (H3, +0.20, +0.20, R),  # better than neither
        (H3, -0.20, -0.203, U),  # better than general, and as good as specialised
    ],
)
def test_overall_verdicts_follow_from_the_simulated_effects(simulate, hypothesis, special, transfer, verdict):
    """Each claim must hold against every other role, by more than chance."""
    finding = judged(simulate, hypothesis, special, transfer)[OVERALL]
    assert finding.verdict is verdict
    assert finding.low <= finding.value <= finding.high


@pytest.mark.parametrize(("hypothesis", "special", "transfer"), [(H1, -0.2, 0.0), (H2, 0.2, 0.2), (H3, 0.2, -0.2)])
def test_a_confirmed_claims_interval_is_entirely_beyond_the_margin(simulate, hypothesis, special, transfer):
    """Readers of the forest plot come to the printed verdict."""
    for finding in judged(simulate, hypothesis, special, transfer).values():
        assert finding.verdict is C
        assert finding.low > finding.margin if hypothesis.above else finding.high < finding.margin
        assert finding.low <= finding.alone_low <= finding.value <= finding.alone_high <= finding.high


def test_no_interval_contradicts_its_verdict(simulate):
    """In 60 experiments near the margin, it excludes the margin if decided and includes it if not, also after Holm."""
    alone_beyond = 0
    for seed in range(60):
        for finding in judged(simulate, H1, -0.045, 0.0, writers=30, seed=seed, resamples=500).values():
            if finding.verdict is U:
                assert finding.low <= finding.margin <= finding.high
            else:
                assert finding.low >= finding.margin or finding.high <= finding.margin
            alone_beyond += finding.verdict is U and finding.alone_low > finding.margin
    assert alone_beyond > 0


def test_intervals_of_all_levels_have_simultaneous_coverage(simulate):
    """Five in a hundred of 300 experiments may miss the truth of any level, instead of five in a hundred levels."""
    gain = {"A1": 0.02, "B1": 0.06, "C1": 0.10}
    held = 0
    for seed in range(300):
        truth = {level: {"general": 3.0, **{f"special-{own}": 3.0 - gain[level] for own in LEVELS}} for level in LEVELS}
        losses, clusters = simulate(truth, seed=seed, writers=40)
        roles = roles_of(without=("transfer",))
        drawn = resample_levels(losses, list(truth["A1"]), resamples=500, seed=0, clusters=clusters)
        findings = assess(H1, roles, drawn, LEVELS, 0.95, predict=False)[1:]
        held += all(finding.low <= np.exp(gain[finding.scope]) <= finding.high for finding in findings)
    assert held / 300 >= 0.92


def test_a_copy_of_the_general_model_is_not_better_than_it(simulate):
    """Ties count against both claims: nothing is confirmed, and nothing refuted."""
    losses, clusters = simulate({level: {"general": 3.0} for level in LEVELS}, seed=1)
    losses = {level: replace(table, nats=np.hstack([table.nats] * 3)) for level, table in losses.items()}
    names = ["general", "special", "transfer"]
    by_role = {
        role: {level: {0: name} for level in LEVELS}
        for role, name in (("general", "general"), ("specialised", "special"), ("transfer", "transfer"))
    }
    drawn = resample_levels(losses, names, resamples=1000, seed=0, clusters=clusters)
    for hypothesis in (H1, H3):
        for finding in assess(hypothesis, RoleModels(by_role=by_role, absent={}), drawn, LEVELS, 0.95):
            assert (finding.verdict, finding.low, finding.value, finding.high) == (U, 1.0, 1.0, 1.0)
            assert finding.more_documents is None


def test_ten_learners_and_a_twofold_gain_are_decided(simulate):
    """2,000 resamples cannot give a small enough p-value for five levels, and say so; 10,000 can."""
    levels = ("A1", "A2", "B1", "B2", "C1")
    few, many = (
        judged(simulate, H1, -np.log(2.0), 0.0, writers=10, levels=levels, resamples=resamples)
        for resamples in (400, 10_000)
    )
    assert few["B1"].verdict is U
    assert few["B1"].note.startswith(
        "too few resamples for a verdict: 400 resamples of 10 independent learners cannot give a p-value below"
    )
    assert few["B1"].more_documents is None
    assert {finding.verdict for finding in many.values()} == {C}


def test_a_corpus_dominated_by_one_learner_is_not_tested(simulate):
    """Twenty learners of whom one wrote nine tenths count as one: there is no test, and the reason is given."""
    names = ["general", *(f"special-{level}" for level in LEVELS), *(f"transfer-{level}" for level in LEVELS)]
    losses, clusters = simulate({level: dict.fromkeys(names, 3.0) for level in LEVELS}, seed=1, writers=20)
    tokens = losses["A1"].tokens.copy()
    tokens[:3] = 3 * tokens[3:].sum()
    losses["A1"] = replace(losses["A1"], tokens=tokens, nats=3.0 * np.repeat(tokens[:, None], len(names), axis=1))
    drawn = resample_levels(losses, names, resamples=200, seed=0, clusters=clusters)
    findings = {finding.scope: finding for finding in assess(H1, roles_of(), drawn, LEVELS, 0.95)}
    assert findings["A1"].verdict is Verdict.NOT_TESTED
    assert "weigh as 1.2 equal ones" in findings["A1"].note
    assert findings[OVERALL].levels == ("B1", "C1")
    assert findings["B1"].effective < findings["B1"].clusters == 20


def test_the_ratio_is_computed_against_the_best_other_role(simulate):
    """The shown ratio is against the best of the other roles, which is not chosen in advance."""
    assert judged(simulate, H2, -0.3, 0.2)[OVERALL].rival == "specialised"
    assert judged(simulate, H2, 0.2, -0.3)[OVERALL].rival == "transfer"


def test_roles_without_a_trial_are_not_tested(simulate):
    """A config without fine-tunes gets its other results."""
    without = roles_of(without=("transfer",))
    h3 = judged(simulate, H3, -0.2, 0.0, roles=without)
    assert {finding.verdict for finding in h3.values()} == {Verdict.NOT_TESTED}
    assert "no transfer model" in h3["A1"].note
    h2 = judged(simulate, H2, 0.2, 0.0, roles=without)[OVERALL]
    assert (h2.verdict, h2.against) == (C, ("specialised",))


def test_a_failed_trial_leaves_only_its_level_untested(simulate):
    """The best of three is unknown if one of the three is missing; other levels are not affected."""
    reason = "special-B1 failed: out of memory"
    findings = judged(simulate, H3, 0.2, -0.2, roles=roles_of(absent={("specialised", "B1"): reason}))
    assert (findings["B1"].verdict, findings["B1"].note) == (Verdict.NOT_TESTED, reason)
    assert findings["A1"].verdict is C
    assert findings[OVERALL].levels == ("A1", "C1")


def test_too_few_learners_give_no_hypothesis_test(simulate):
    """Nine writers are too few for an interval."""
    findings = judged(simulate, H1, -0.2, 0.0, writers=9)
    assert findings[OVERALL].verdict is Verdict.NOT_TESTED
    assert "9 independent learners" in findings["A1"].note
    assert "C1: its test documents are by 9" in findings[OVERALL].note


def test_an_undecided_claim_states_the_documents_needed_to_decide_it(simulate):
    """With that many documents and the same truth, most such experiments decide."""
    finding = judged(simulate, H1, -0.034, 0.0, writers=40)[OVERALL]
    assert finding.verdict is U
    assert 0 < finding.more_documents_low < finding.more_documents
    assert "test documents by new learners" in finding.note
    assert f"{finding.more_documents:,}" in finding.note
    writers = 40 * (1 + 2 * finding.more_documents // finding.documents)
    assert judged(simulate, H1, found_gain(finding), 0.0, writers=writers)[OVERALL].verdict is C


def found_gain(finding):
    """Return the truth that the estimate suggests, in nats."""
    return -float(np.log(finding.value))


def test_no_sample_size_is_given_for_a_negligible_difference(simulate):
    """No number of documents is given if it would be hundreds of times the present one."""
    chance = np.log(judged(simulate, H1, 0.0, 0.0, writers=40)[OVERALL].value)
    finding = judged(simulate, H1, chance, 0.0, writers=40)[OVERALL]
    assert (finding.verdict, finding.more_documents) == (U, None)
    assert "it is open on which side of the margin the ratio lies" in finding.note


def test_too_few_resamples_are_reported(simulate):
    """With 100 resamples and three levels, no p-value can be small enough after Holm."""
    findings = judged(simulate, H1, -0.2, 0.0, resamples=100)
    assert findings["A1"].verdict is U
    assert "resamples" in findings["A1"].note


def test_holm_correction_equals_a_hand_computed_table():
    """The smallest p-value times 4, the next times 3, …; never falling, never above 1; in the given order."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.5]) == [1.0, 1.0]
    assert holm([]) == []


def test_a_target_is_reached_missed_or_open_by_its_interval(simulate):
    """The plan aimed at 25 %: 35 % reaches it, 5 % misses it, 25 % leaves it open."""
    status = {
        gain: target_status(judged(simulate, H1, -np.log(1 + gain), 0.0)[OVERALL], 1.25) for gain in (0.35, 0.05, 0.25)
    }
    assert status == {0.35: "reached", 0.05: "missed", 0.25: "open"}


def test_false_confirmations_after_holm_are_rare(simulate):
    """No model is better than another: at most 5 % of 1,000 experiments confirm any level."""
    false = 0
    for seed in range(1000):
        findings = judged(simulate, H1, 0.0, 0.0, writers=30, seed=seed, resamples=400)
        false += any(finding.verdict is C for finding in findings.values() if finding.scope != OVERALL)
    assert false / 1000 <= 0.05
