"""Controls distinguish a gain from the levels from gains by documents, steps or chance."""

from collections import Counter
from dataclasses import replace
from math import log

import numpy as np
import pytest

from raysweep.statistics.bootstrap import resample_levels
from raysweep.statistics.control_verdicts import assess_control
from raysweep.statistics.placebo_draws import (
    _between_groups,
    draws_of,
    estimate_group_variance,
    gain_of_draw,
    group_name,
    placebo_losses,
)
from raysweep.statistics.role_models import RoleModels, draw_role

LEVELS = ("A1", "B1", "C1")


def roles_of(kind, *, levels=LEVELS, absent=()):
    by_role = {
        "general": {level: {0: "all"} for level in levels},
        "specialised": {level: {0: f"own-{level}"} for level in levels},
        kind: {level: {0: f"{kind}-{level}"} for level in levels if level not in absent},
    }
    return RoleModels(by_role=by_role, absent={(kind, level): "control failed" for level in absent})


def truth(kind, *, special, control):
    """Return nats per token: the gain of each level's own model over the general one, and the gain of its control."""
    return {
        level: {
            "all": 2.5,
            **{f"own-{other}": 2.5 - special if other == level else 2.9 for other in LEVELS},
            **{f"{kind}-{other}": 2.5 - control for other in LEVELS},
        }
        for level in LEVELS
    }


def assess(simulate, kind, *, special, control, confirmed=("overall", *LEVELS), seed=0, absent=(), writers=80):
    known = truth(kind, special=special, control=control)
    losses, clusters = simulate(known, seed=seed, writers=writers, own=0.05)
    models = list(known["A1"])
    options = {"resamples": 1000, "seed": 1, "clusters": clusters}
    resamples = resample_levels(losses, models, **options)
    if kind == "placebo":
        groups = resample_levels(placebo_losses(losses, 1), models, **options)
        resamples = replace(resamples, levels={**resamples.levels, **groups.levels})
    roles = roles_of(kind, absent=absent)
    findings = assess_control(
        kind, roles, resamples, LEVELS, confirmed=confirmed, smallest_effect=1.05, confidence=0.95
    )
    return {finding.scope: finding for finding in findings}


@pytest.mark.parametrize("kind", ["size_matched", "step_matched", "placebo"])
def test_a_control_with_an_equal_gain_explains_the_gain(simulate, kind):
    """Only size (steps, chance) differs: the raw gain is real, but the level is not its cause."""
    findings = assess(simulate, kind, special=0.15, control=0.15, writers=800)
    assert [finding.verdict for finding in findings.values()] == ["explained"] * 4
    overall = findings["overall"]
    assert overall.raw.low > 1.1
    assert overall.own.low > 1.1
    assert overall.remaining.low < 1.0 < overall.remaining.high
    assert overall.explained_share == pytest.approx(1.0, abs=0.15)
    assert overall.share_low < overall.explained_share < overall.share_high


def test_no_share_is_explained_without_a_gain(simulate):
    """General models copied with three seeds differ by rounding, which is no gain that a control could explain."""
    names = {role: {seed: f"{role}-{seed}" for seed in range(3)} for role in ("general", "specialised", "size_matched")}
    models = [name for of_role in names.values() for name in of_role.values()]
    losses, clusters = simulate({"A1": {model: 3.0 + number / 7 for number, model in enumerate(models)}}, seed=1)
    losses["A1"].nats[:, 3:] = np.tile(losses["A1"].nats[:, :3], 2)
    drawn = resample_levels(losses, models, resamples=200, seed=1, clusters=clusters)
    roles = RoleModels(by_role={role: {"A1": of_role} for role, of_role in names.items()}, absent={})
    findings = assess_control(
        "size_matched", roles, drawn, ["A1"], confirmed=["A1"], smallest_effect=1.05, confidence=0.95
    )
    assert [(finding.explained_share, finding.share_low) for finding in findings] == [(None, None)] * 2


@pytest.mark.parametrize("kind", ["size_matched", "step_matched", "placebo"])
def test_a_gain_that_the_control_lacks_survives(simulate, kind):
    """Language differs between levels: random documents help no model."""
    findings = assess(simulate, kind, special=0.15, control=-0.05)
    assert [finding.verdict for finding in findings.values()] == ["survives"] * 4
    assert findings["overall"].remaining.low > 1.1
    assert findings["overall"].explained_share < 0.0


def test_a_partly_explained_gain_survives_in_part(simulate):
    """Both are reported: the share explained, and that some gain remains."""
    overall = assess(simulate, "size_matched", special=0.2, control=0.05)["overall"]
    assert overall.verdict == "survives"
    assert overall.explained_share == pytest.approx(0.25, abs=0.08)
    assert overall.raw.value == pytest.approx(overall.own.value * overall.remaining.value)


def test_gains_are_explained_only_if_h1_is_confirmed(simulate):
    """The control's numbers are still shown."""
    findings = assess(simulate, "size_matched", special=0.15, control=0.15, confirmed=["overall", "B1"], writers=300)
    assert [finding.verdict for finding in findings.values()] == ["explained", "no gain", "explained", "no gain"]
    assert findings["A1"].own is not None


def test_too_little_data_gives_an_undecided_control(simulate):
    """Neither claim is made without evidence."""
    findings = assess(simulate, "size_matched", special=0.02, control=0.01, writers=12)
    assert findings["overall"].verdict == "open"
    assert findings["overall"].share_high - findings["overall"].share_low > 0.5


def test_a_gain_that_may_be_zero_has_no_explained_share(simulate):
    """A ratio whose denominator is close to zero has no interval."""
    finding = assess(simulate, "size_matched", special=0.0, control=0.0, confirmed=(), seed=2)["overall"]
    assert (finding.verdict, finding.share_low, finding.share_high) == ("no gain", None, None)


def test_a_failed_control_is_left_out_with_its_reason(simulate):
    """The overall finding uses the others."""
    findings = assess(simulate, "size_matched", special=0.15, control=0.15, absent=["B1"])
    assert (findings["B1"].verdict, findings["B1"].note) == ("not tested", "control failed")
    assert findings["overall"].levels == ("A1", "C1")
    nothing = assess(simulate, "size_matched", special=0.15, control=0.15, absent=LEVELS)
    assert nothing["overall"].verdict == "not tested"
    assert nothing["overall"].note == "A1: control failed; B1: control failed; C1: control failed"


def test_too_few_learners_give_no_control_test(simulate):
    """The same holds for hypotheses."""
    assert "3 independent learners" in assess(simulate, "placebo", special=0.1, control=0.1, writers=3)["A1"].note


def test_placebo_groups_have_the_sizes_of_levels_and_contain_every_document_once(simulate):
    """Each group has the losses of its documents."""
    losses, _ = simulate(truth("placebo", special=0.1, control=0.1), seed=0)
    losses["B1"] = replace(
        losses["B1"],
        **{name: getattr(losses["B1"], name)[:50] for name in ("documents", "tokens", "nats")},
    )
    groups = placebo_losses(losses, seed=4)
    assert {name: len(table.documents) for name, table in groups.items()} == {"~A1": 120, "~B1": 50, "~C1": 120}
    together = np.concatenate([table.documents for table in groups.values()])
    assert sorted(together.tolist()) == sorted(d for table in losses.values() for d in table.documents.tolist())
    first = groups[group_name("A1")].documents
    assert min(np.isin(first, table.documents).sum() for table in losses.values()) > 10
    before, after = (
        {
            d: row
            for table in all_of.values()
            for d, row in zip(table.documents.tolist(), table.nats.tolist(), strict=True)
        }
        for all_of in (losses, groups)
    )
    assert before == after


def verdicts(simulate, explained, experiments, writers=60, **options):
    """Count the overall verdicts where the control truly explains a share of a gain of 0.15 nats."""
    return Counter(
        assess(simulate, "size_matched", special=0.15, control=0.15 * explained, seed=seed, writers=writers, **options)[
            "overall"
        ].verdict.value
        for seed in range(experiments)
    )


@pytest.mark.parametrize("explained", [0.5, 0.97])
def test_a_control_explains_only_what_is_shown_statistically(simulate, explained):
    """In 40 experiments each, half of the gain is not all of it, but all except a negligible rest is."""
    counts = verdicts(simulate, explained, 40)
    if explained == 0.5:
        assert counts["explained"] <= 2
    else:
        assert counts["explained"] >= 32
        assert counts["survives"] == 0


@pytest.mark.slow
def test_control_verdicts_in_many_experiments(simulate):
    """This is the same with more experiments, and with very many learners; `-s` prints the figures."""
    shares = {explained: verdicts(simulate, explained, 400) for explained in (0.5, 0.6, 0.8, 0.97)}
    many = verdicts(simulate, 0.94, 40, writers=1500)
    print(f"\n{shares}, with 1,500 learners a level 94 %: {many}")
    assert shares[0.5]["explained"] <= 20
    assert shares[0.97]["explained"] >= 320
    assert many["survives"] == 0
    assert many["explained"] >= 38


def test_false_control_verdicts_are_rare(simulate):
    """In at most 5 % of 200 simulated experiments of either kind is the verdict "survives" or "explained" false."""
    false_survivals = sum(
        assess(simulate, "size_matched", special=0.1, control=0.1, seed=seed)["overall"].verdict == "survives"
        for seed in range(200)
    )
    explained_away = sum(
        assess(simulate, "size_matched", special=0.1, control=0.0, seed=seed)["overall"].verdict == "explained"
        for seed in range(200)
    )
    assert false_survivals <= 10
    assert explained_away <= 10


def seeded(simulate, seed, *, alone):
    """Return the width of the remaining gain's interval on A1; three trainings of each model differ by 0.1 nats."""
    known = {
        level: {
            f"{role}-{which}-{number}": 2.5 - (0.15 if role == "own" else 0.0)
            for role in ("own", "control", "all")
            for which in LEVELS
            for number in range(3)
        }
        for level in LEVELS
    }
    losses, clusters = simulate(known, seed=seed, writers=80, own=0.02)
    moves = np.random.default_rng([seed, 5]).normal(0.0, 0.1, len(known["A1"]))
    losses = {level: replace(table, nats=table.nats + moves * table.tokens[:, None]) for level, table in losses.items()}
    resamples = resample_levels(losses, list(known["A1"]), resamples=500, seed=1, clusters=clusters)
    by_role = {
        role: {level: {number: f"{name}-{level}-{number}" for number in range(3)} for level in LEVELS}
        for role, name in (("general", "all"), ("specialised", "own"), ("size_matched", "control"))
    }
    roles = RoleModels(by_role=by_role, absent={})
    levels = LEVELS[:1] if alone else LEVELS
    findings = assess_control(
        "size_matched", roles, resamples, levels, confirmed=LEVELS, smallest_effect=1.01, confidence=0.95
    )
    remaining = {finding.scope: finding.remaining for finding in findings}["A1"]
    return log(remaining.high / remaining.low)


def test_seeds_of_controls_are_pooled_over_levels(simulate):
    """Three seeds of one level give 2 degrees of freedom; three levels give up to 6, and shorter intervals."""
    alone, pooled = (np.median([seeded(simulate, seed, alone=alone) for seed in range(15)]) for alone in (True, False))
    assert pooled < 0.8 * alone


def placebo_draws(simulate, seed, *, spread, draws=3, seeds=1, of_trainings=0.0, own=0.02, writers=60, resamples=500):
    """Return roles and resamples of placebos without gain; models differ by `spread` nats between groups."""
    by_group = {
        (draw, level): [f"placebo-{draw}-{level}-{n}" for n in range(seeds)]
        for draw in range(1, draws + 1)
        for level in LEVELS
    }
    general, special = [f"all-{n}" for n in range(seeds)], [f"own-{n}" for n in range(seeds)]
    placebos = [name for names in by_group.values() for name in names]
    truth_of = {**dict.fromkeys(general, 2.5), **dict.fromkeys(special, 2.3), **dict.fromkeys(placebos, 2.5)}
    losses, clusters = simulate(dict.fromkeys(LEVELS, truth_of), seed=seed, writers=writers, own=own)
    rng, moves = np.random.default_rng([seed, 9]), np.zeros(len(truth_of))
    moves[-len(placebos) :] = np.repeat(rng.normal(0.0, spread, len(by_group)), seeds)
    moves += rng.normal(0.0, of_trainings, len(moves))
    losses = {level: replace(table, nats=table.nats + moves * table.tokens[:, None]) for level, table in losses.items()}
    drawn = resample_levels(losses, list(truth_of), resamples=resamples, seed=1, clusters=clusters)
    groups = drawn.again_together([placebo_losses(losses, 1, draw) for draw in range(1, draws + 1)])
    drawn = replace(
        drawn, levels={**drawn.levels, **{name: table for group in groups for name, table in group.levels.items()}}
    )
    by_role = {
        "general": {level: dict(enumerate(general)) for level in LEVELS},
        "specialised": {level: dict(enumerate(special)) for level in LEVELS},
        **{
            draw_role("placebo", draw): {level: dict(enumerate(by_group[draw, level])) for level in LEVELS}
            for draw in range(1, draws + 1)
        },
    }
    return RoleModels(by_role=by_role, absent={}), drawn


def placebo_experiment(simulate, seed, **options):
    """Return the findings on the placebo, where specialised models gain on every level."""
    roles, drawn = placebo_draws(simulate, seed, **options)
    return assess_control(
        "placebo", roles, drawn, LEVELS, confirmed=("overall", *LEVELS), smallest_effect=1.05, confidence=0.95
    )


def placebo_coverage(simulate, experiments, **options):
    """Return how often the interval of a placebo's gain on A1 contains 0, the mean over all groups."""
    held = 0
    for seed in range(experiments):
        own = placebo_experiment(simulate, seed, **options)[1].own
        held += own.low <= 1.0 <= own.high
    return held / experiments


def test_placebo_intervals_contain_the_mean_over_all_groups(simulate):
    """Three groups differ by 0.1 nats: documents alone would give intervals that are much too short."""
    assert placebo_coverage(simulate, 60, spread=0.1) >= 0.88
    findings = placebo_experiment(simulate, 0, spread=0.1)
    assert [len(finding.draws) for finding in findings] == [3, 3, 3, 3]
    assert findings[0].own.value == pytest.approx(
        np.exp(np.mean([np.log(finding.value) for finding in findings[0].draws]))
    )


@pytest.mark.parametrize(("seeds", "of_trainings", "own"), [(1, 0.0, 0.3), (3, 0.1, 0.3)])
def test_variance_between_placebo_groups_is_estimated_without_bias(simulate, seeds, of_trainings, own):
    """The estimate is 0.05 nats in the mean of 40 experiments, however much trainings and learners in them differ."""
    spreads = []
    for seed in range(40):
        options = {"seeds": seeds, "of_trainings": of_trainings, "own": own}
        roles, drawn = placebo_draws(simulate, seed, spread=0.05, resamples=2, **options)
        spreads += [
            _between_groups(drawn, [gain_of_draw(roles, [level], draw) for draw in draws_of(roles, level)])
            for level in LEVELS
        ]
    assert np.mean(spreads) == pytest.approx(0.05**2, rel=0.4)


def test_a_level_with_a_missing_placebo_draw_averages_the_others(simulate):
    """With two of three groups, half of the variance between groups counts instead of a third."""
    roles, drawn = placebo_draws(simulate, 0, spread=0.1, resamples=2)
    lost = {level: models for level, models in roles.by_role["placebo 3"].items() if level != "A1"}
    roles = replace(roles, by_role={**roles.by_role, "placebo 3": lost})
    ((two,), (three,)) = (
        estimate_group_variance(drawn, roles, [level], [other for other in LEVELS if other != level])
        for level in ("A1", "B1")
    )
    assert two.variance * 2 == pytest.approx(three.variance * 3)


@pytest.mark.slow
def test_placebo_intervals_have_nominal_coverage_in_many_experiments(simulate):
    """Groups differ much, little or not at all; one draw cannot show it."""
    shares = {spread: placebo_coverage(simulate, 400, spread=spread) for spread in (0.0, 0.03, 0.1)}
    alone = placebo_coverage(simulate, 400, spread=0.1, draws=1)
    print(f"\nthe placebo's interval holds the truth: {shares}; with one draw that differs by 0.1 nats {alone:.1%}")
    assert all(0.92 <= share <= 0.99 for share in shares.values())
    assert alone < 0.6


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_placebo_intervals_with_three_seeds_have_nominal_coverage(simulate):
    """Trainings differ by 0.03 nats, and by learner."""
    options = {"seeds": 3, "of_trainings": 0.03, "own": 0.15}
    shares = {spread: placebo_coverage(simulate, 400, spread=spread, **options) for spread in (0.0, 0.03, 0.1)}
    print(f"\nthree trainings of each model: {shares}")
    assert all(0.92 <= share <= 0.99 for share in shares.values())
