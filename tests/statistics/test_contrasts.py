"""Intervals and p-values of ratios of perplexities."""

import numpy as np
import pytest
from scipy import stats

from raysweep.statistics.bootstrap import resample_levels
from raysweep.statistics.contrasts import measure, quantile, sort_ends
from raysweep.statistics.weighted_parts import Part

GAIN = 0.1
TRUTH = {"B1": {"general": 3.1, "B1": 3.1 - GAIN}}
RATIO = [Part(weight=1.0, level="B1", models={0: "general"}), Part(weight=-1.0, level="B1", models={0: "B1"})]


def measured(simulated, parts=RATIO, resamples=500, seed=0):
    losses, clusters = simulated
    # The columns of the simulated nats are in the order of the truth, which `parts` names in order, too.
    names = list(dict.fromkeys(name for part in parts for name in part.models.values()))
    return measure(resample_levels(losses, names, resamples=resamples, seed=seed, clusters=clusters), parts)


def coverage(simulate, experiments, resamples, **settings):
    hits = 0
    for seed in range(experiments):
        low, high = measured(simulate(TRUTH, seed=seed, **settings), resamples=resamples).interval(0.95)
        hits += low <= GAIN <= high
    return hits / experiments


@pytest.mark.parametrize("writers", [15, 40])
def test_intervals_have_nominal_coverage(simulate, writers):
    """1,000 experiments with few or many writers: 93 to 97 %."""
    assert 0.93 <= coverage(simulate, experiments=1000, resamples=1000, writers=writers) <= 0.97


def test_a_copy_trained_with_three_seeds_is_a_tie(simulate):
    """Sums over the seeds differ in the last digit, which must not count as a difference."""
    simulated, parts = with_seeds(simulate, 3, spread=0.1)
    nats = simulated[0]["B1"].nats
    nats[:, 3:] = nats[:, :3]
    contrast = measured(simulated, parts)
    assert contrast.estimate == pytest.approx(0.0, abs=1e-12)
    assert (contrast.p_not_above(0.0), contrast.p_not_below(0.0)) == (1.0, 1.0)


def test_learners_with_many_documents_do_not_narrow_the_interval(simulate):
    """If documents were drawn instead of writers, the interval would be much too narrow."""
    losses, clusters = simulate(TRUTH, seed=5, writers=40, documents_per_writer=12, own=0.3)
    by_writer = measured((losses, clusters))
    by_document = measured((losses, {}))
    assert by_writer.document_variance > 3 * by_document.document_variance


def test_pairing_narrows_the_interval(simulate):
    """A difficult writer is difficult for both models; unpaired, that would hide the difference."""
    losses, clusters = simulate(TRUTH, seed=5)
    paired = measured((losses, clusters))
    sides = [measured((losses, clusters), [part]) for part in RATIO]
    unpaired = sum(side.document_variance for side in sides)
    assert paired.document_variance < unpaired / 4


def test_intervals_agree_with_the_delta_method_for_many_learners(simulate):
    """This is an independent check: with 2,000 writers, BCa and Student's t agree to a tenth of the width."""
    losses, clusters = simulate(TRUTH, seed=9, writers=2000, documents_per_writer=1)
    contrast = measured((losses, clusters), resamples=4000)
    table = losses["B1"]
    difference = table.nats[:, 0] - table.nats[:, 1]
    ratio = difference.sum() / table.tokens.sum()
    error = np.std(difference - ratio * table.tokens, ddof=1) * np.sqrt(2000) / table.tokens.sum()
    expected = ratio + np.array([-1, 1]) * stats.t(1999).ppf(0.975) * error
    np.testing.assert_allclose(contrast.interval(0.95), expected, atol=0.1 * 2 * 1.96 * error)


def test_p_values_and_intervals_are_consistent(simulate):
    """Both come from one inversion, so a table cannot contradict itself."""
    contrast = measured(simulate(TRUTH, seed=4), resamples=5000)
    low, high = contrast.interval(0.95)
    # Between two of 5,000 draws a percentile is known to 1/5000, times the stretching by Student's t.
    assert contrast.p_not_above(low) == pytest.approx(0.025, abs=0.002)
    assert contrast.p_not_below(high) == pytest.approx(0.025, abs=0.002)
    assert contrast.p_not_above(contrast.estimate - 1.0) < 0.001
    assert contrast.p_not_above(contrast.estimate + 1.0) > 0.999


def test_a_model_compared_with_itself_has_no_difference(simulate):
    """There is no division by a variance of zero."""
    same = [Part(weight=1.0, level="B1", models={0: "general"}), Part(weight=-1.0, level="B1", models={0: "general"})]
    contrast = measured(simulate({"B1": {"general": 3.0}}, seed=4), same)
    assert (contrast.estimate, *contrast.interval(0.95)) == (0.0, 0.0, 0.0)
    # Ties count against both claims.
    assert (contrast.p_not_above(0.0), contrast.p_not_below(0.0)) == (1.0, 1.0)


@pytest.mark.parametrize("resamples", [200, 2000, 10_000])
def test_p_values_are_bounded_below_by_the_number_of_resamples(simulate, resamples):
    """The minimum is (b + 1) / (B + 1), and larger with Student's t of few learners."""
    contrast = measured(simulate(TRUTH, seed=4, writers=10), resamples=resamples)
    least = contrast.p_not_above(-9.0), contrast.p_not_below(9.0)
    assert max(least) == contrast.least_p()
    assert min(least) >= 1 / (resamples + 1)
    assert contrast.least_p() < 10 / resamples**0.7


def test_the_most_influential_learner_is_left_out(simulate):
    """The result is compared with the ratio computed without each of the 15 learners."""
    losses, clusters = simulate(TRUTH, seed=6, writers=15)
    losses["B1"].nats[:3, 0] += 2.0 * losses["B1"].tokens[:3]
    every = measured((losses, clusters))
    learners = np.array([clusters[document] for document in losses["B1"].documents.tolist()])
    without = [
        measured(({"B1": losses["B1"].pick(learners != learner)}, clusters)).estimate for learner in set(learners)
    ]
    expected = max(without, key=lambda estimate: abs(estimate - every.estimate))
    assert every.estimate + every.sources.largest_shift == pytest.approx(expected, rel=1e-9)
    assert expected < every.estimate - 0.05


def with_seeds(simulate, seed, spread, count=3):
    """Make trainings that are better or worse by chance, independently for the general model and the level's."""
    rng = np.random.default_rng([seed, 77])
    names = {role: {s: f"{role}-{s}" for s in range(count)} for role in ("general", "B1")}
    truth = {names["general"][s]: 3.1 + rng.normal(0, spread) for s in range(count)}
    truth |= {names["B1"][s]: 3.1 - GAIN + rng.normal(0, spread) for s in range(count)}
    parts = [
        Part(weight=1.0, level="B1", models=names["general"]),
        Part(weight=-1.0, level="B1", models=names["B1"]),
    ]
    return simulate({"B1": truth}, seed=seed), parts


def test_differing_seeds_widen_the_interval(simulate):
    """The possible outcomes of a training are part of the uncertainty."""
    alike = measured(*with_seeds(simulate, 3, spread=0.0))
    apart = measured(*with_seeds(simulate, 3, spread=0.3))
    assert np.diff(apart.interval(0.95)) > 2 * np.diff(alike.interval(0.95))
    assert apart.seed_variance > 0.0


def test_three_seeds_give_nominal_coverage(simulate):
    """150 experiments in which the trainings vary more than the documents: the plain two-level bootstrap would cover
    about 75 %."""
    hits = 0
    for seed in range(150):
        low, high = measured(*with_seeds(simulate, seed, spread=0.1), resamples=400).interval(0.95)
        hits += low <= GAIN <= high
    assert 0.90 <= hits / 150 <= 1.0


def pooled_seeds(simulate, seed, gain, levels=("A1", "A2", "B1", "B2", "C1")):
    """Return one level's contrast, alone and pooled; three trainings of each role differ by chance on every level."""
    rng = np.random.default_rng([seed, 78])
    general = {seed_number: rng.normal(0, 0.02) for seed_number in range(3)}
    truth, parts = {}, {}
    for level in levels:
        truth[level] = {
            f"general-{seed_number}": 3.0 + general[seed_number] + rng.normal(0, 0.02) for seed_number in general
        }
        truth[level] |= {
            f"{other}-{seed_number}": 3.0 - gain + rng.normal(0, 0.02) for other in levels for seed_number in general
        }
        parts[level] = [
            Part(weight=1.0, level=level, models={seed_number: f"general-{seed_number}" for seed_number in general}),
            Part(weight=-1.0, level=level, models={seed_number: f"{level}-{seed_number}" for seed_number in general}),
        ]
    losses, clusters = simulate(truth, seed=seed, writers=60, own=0.02)
    names = list(truth["A1"])
    drawn = resample_levels(losses, names, resamples=1000, seed=seed, clusters=clusters)
    others = [parts[level] for level in levels[1:]]
    return measure(drawn, parts["A1"]), measure(drawn, parts["A1"], others)


def seed_rates(simulate, experiments):
    """Return shares for one level and pooled: a gain of 0.15 found, no gain claimed as one; and degrees of freedom."""
    tail = 0.025 / 5  # the first of Holm's steps for five levels
    rates = {(gain, way): 0 for gain in (0.0, 0.15) for way in ("alone", "pooled")}
    freedom = []
    for gain in (0.0, 0.15):
        for seed in range(experiments):
            for way, result in zip(("alone", "pooled"), pooled_seeds(simulate, seed, gain), strict=True):
                rates[gain, way] += result.p_not_above(0.0) <= tail
                freedom += [result.sources.seeds[0].freedom] if way == "pooled" else []
    return {key: count / experiments for key, count in rates.items()}, float(np.median(freedom))


def test_pooled_variance_of_seeds_increases_power(simulate):
    """Three seeds of one level rarely find what the pooled variance finds; false claims stay rare."""
    rates, freedom = seed_rates(simulate, 40)
    assert rates[0.15, "pooled"] >= rates[0.15, "alone"] + 0.2
    assert rates[0.0, "pooled"] <= 0.05
    assert 2.0 < freedom <= 10.0


@pytest.mark.slow
def test_pooled_variance_of_seeds_keeps_error_rates_in_many_experiments(simulate):
    """This is the same with more experiments; `-s` prints the figures."""
    rates, freedom = seed_rates(simulate, 500)
    print(f"\n{rates}, median freedom {freedom:.1f}")
    assert rates[0.15, "pooled"] >= 0.8
    assert rates[0.0, "pooled"] <= 0.02


def test_shared_general_models_are_paired_in_contrasts(simulate):
    """A fine-tune inherits the chance variation of its general model, which therefore cancels."""
    luck = {0: 0.3, 1: -0.2, 2: 0.1}
    truth = {f"{role}-{s}": 3.0 + luck[s] for role in ("general", "transfer") for s in luck}
    paired = [
        Part(weight=1.0, level="B1", models={s: f"general-{s}" for s in luck}),
        Part(weight=-1.0, level="B1", models={s: f"transfer-{s}" for s in luck}),
    ]
    apart = [paired[0], Part(weight=-1.0, level="B1", models={s + 10: f"transfer-{s}" for s in luck})]
    simulated = simulate({"B1": truth}, seed=2)
    assert measured(simulated, paired).seed_variance < measured(simulated, apart).seed_variance / 10


def test_a_mean_over_levels_weights_levels_equally(simulate):
    """The level with most documents does not dominate: the mean of logs is used."""
    truth = {"A1": {"general": 3.0, "x": 2.5}, "C1": {"general": 3.0, "x": 3.3}}
    large, clusters = simulate({"A1": truth["A1"]}, seed=1, writers=400)
    small, more = simulate({"C1": truth["C1"]}, seed=2, writers=20)
    moved = small["C1"]
    moved.documents.__iadd__(10_000)
    clusters |= {number + 10_000: writer for number, writer in more.items()}
    parts = [
        Part(weight=sign * 0.5, level=level, models={0: model})
        for level in truth
        for sign, model in ((1.0, "general"), (-1.0, "x"))
    ]
    # 0.5 × 0.5 − 0.5 × 0.3, give or take four standard errors of 20 writers.
    assert measured((large | small, clusters), parts).estimate == pytest.approx(0.1, abs=0.1)


def test_quantiles_equal_those_of_numpy_bitwise():
    """Tested with 10,000 draws at random shares and at both ends; `verify` prints the last digits."""
    rng = np.random.default_rng(0)
    values = rng.normal(0.0, 0.1, 10_000)
    for share in (0.0, 1.0, 0.025, 0.975, 0.5, *rng.uniform(0.0, 1.0, 500)):
        assert quantile(sort_ends(values), share) == np.quantile(values, share)
    assert quantile(sort_ends(values[:1]), 0.3) == values[0]
