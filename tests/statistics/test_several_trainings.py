"""Several trainings of every model: how often intervals contain the value of infinite trainings and learners.

Trainings, learners and their interaction vary by chance. The truth is known: general (G) and level models (P) are
equally good, other level models (Q) worse. All claims are just false, with margins moved to 1:

    H1  G ÷ P above 1          H2  G ÷ P and G ÷ Q below 1          H3  P ÷ G and P ÷ Q below 1
"""

from dataclasses import replace

import numpy as np
import pytest

from raysweep.statistics.bootstrap import resample_levels
from raysweep.statistics.claims import Hypothesis, Verdict
from raysweep.statistics.contrasts import measure, measure_once
from raysweep.statistics.hypotheses import assess
from raysweep.statistics.loss_table import LevelLosses
from raysweep.statistics.role_models import RoleModels, mean_log_ratio
from raysweep.statistics.seed_variance import estimate_seed_variance, freedom_beside, pooled_freedom
from tests.statistics.test_group_sequential import CLAIMS as CLAIMS_OF_RUN
from tests.statistics.test_sequential_error_rate import TAIL, p_values, simulate

LEVELS = ("A1", "A2", "B1", "B2", "C1")
KINDS = {"G": 0.0, "P": 0.0, "Q": 0.1}
CLAIMS = tuple(
    Hypothesis(code=code, name=code, numerator=numerator, against=against, above=code == "H1", margin=1.0)
    for code, numerator, against in (("H1", "G", ("P",)), ("H2", "G", ("P", "Q")), ("H3", "P", ("G", "Q")))
)
SPREADS = (0.0, 0.005, 0.01, 0.03, 0.1)
LEARNERS = {
    # Nats per token by which a learner favours one kind of model, and one training of it.
    "single trainings": (0.0, 0.15),
    "kinds and trainings": (0.15, 0.15),
    "kinds": (0.15, 0.03),
}


def experiment(seed, *, seeds, spread, learners, writers=40, resamples=1000):
    """Return roles and resamples of `seeds` trainings of every model, which differ by `spread` nats."""
    rng = np.random.default_rng([seed, 131])
    by_kind, by_training = LEARNERS[learners]
    general, losses, clusters = rng.normal(0.0, spread, seeds), {}, {}
    writer = np.repeat(np.arange(writers), 3)
    for number, level in enumerate(LEVELS):
        tokens, hardness = rng.integers(5, 60, len(writer)), rng.normal(0.0, 0.5, writers)
        columns = []
        for kind, cost in KINDS.items():
            favoured = hardness + rng.normal(0.0, by_kind, writers)
            for luck in general if kind == "G" else rng.normal(0.0, spread, seeds):
                of_writer = favoured + rng.normal(0.0, by_training, writers)
                columns.append(3.0 + cost + luck + of_writer[writer] + rng.normal(0.0, 0.1, len(writer)))
        documents = np.arange(len(writer)) + number * len(writer)
        nats = np.stack(columns, axis=1) * tokens[:, None]
        losses[level] = LevelLosses(level=level, documents=documents, tokens=tokens, nats=nats)
        clusters |= {int(document): f"{level}-{w}" for document, w in zip(documents, writer.tolist(), strict=True)}
    names = {kind: {number: f"{kind}-{number}" for number in range(seeds)} for kind in KINDS}
    roles = RoleModels(by_role={kind: dict.fromkeys(LEVELS, names[kind]) for kind in KINDS}, absent={})
    models, folds = (
        [name for of_kind in names.values() for name in of_kind.values()],
        [*map(dict.values, names.values())],
    )
    drawn = resample_levels(losses, models, resamples=resamples, seed=seed, clusters=clusters, folds=folds)
    return roles, drawn


def test_a_claims_result_does_not_depend_on_claims_computed_before_it():
    """Results for one claim are reused only by claims that compare the same roles."""
    settings = {"seeds": 3, "spread": 0.03, "learners": "single trainings", "resamples": 200}
    _, shared = experiment(1, **settings)
    for claim in (*CLAIMS, replace(CLAIMS[1], margin=1.2)):
        roles, drawn = experiment(1, **settings)
        assert assess(claim, roles, shared, LEVELS, 0.95) == assess(claim, roles, drawn, LEVELS, 0.95)
    # P with G and Q, and G with P and Q: four contrasts, each of three levels and of their mean.
    assert len(shared.measured) == 4 * (len(LEVELS) + 1)


def test_contrasts_cached_by_their_parts_include_the_levels_pooled_with():
    """The same parts occur once as one mean, and once as a level beside another that shows how much seeds differ."""
    roles, drawn = experiment(1, seeds=3, spread=0.03, learners="single trainings", resamples=50)
    first, other = (mean_log_ratio("G", "P", roles, [level]) for level in LEVELS[:2])
    for parts, alike in (([*first, *other], []), (first, [other]), (first, [])):
        contrast = measure_once(drawn, parts, alike)
        assert contrast is measure_once(drawn, parts, alike)
        again = measure(drawn, parts, alike)
        assert (contrast.estimate, contrast.seed_variance) == (again.estimate, again.seed_variance)
    assert len(drawn.measured) == 3


def test_a_contrast_of_the_opposite_sign_is_what_measuring_it_gives():
    """Claims that compare two roles either way round are measured once."""
    roles, drawn = experiment(1, seeds=3, spread=0.03, learners="single trainings", resamples=200)
    contrast, opposite = (mean_log_ratio(*pair, roles, LEVELS) for pair in (("G", "P"), ("P", "G")))
    found, expected = measure_once(drawn, contrast, is_negated=True), measure(drawn, opposite)
    for name in ("estimate", "acceleration", "bias", "seed_variance"):
        assert getattr(found, name) == pytest.approx(getattr(expected, name), rel=1e-9), name
    assert found.interval(0.95) == pytest.approx(expected.interval(0.95), rel=1e-9)
    assert found.sources.largest_shift == pytest.approx(expected.sources.largest_shift, rel=1e-9)


def test_levels_without_limits_have_the_same_verdicts():
    """A variation needs the limits of its overall findings alone."""
    roles, drawn = experiment(1, seeds=3, spread=0.03, learners="single trainings", resamples=200)
    for claim in CLAIMS:
        overall, *levels = assess(claim, roles, drawn, LEVELS, 0.95)
        without = {"low": None, "high": None, "alone_low": None, "alone_high": None}
        expected = [overall, *(replace(level, **without) for level in levels)]
        assert assess(claim, roles, drawn, LEVELS, 0.95, limit_levels=False) == expected


def count(experiments, **settings):
    """Return shares in per cent: intervals that contain the truth; false claims overall, on a level after Holm."""
    held, false = np.zeros(2), {claim.code: np.zeros(2) for claim in CLAIMS}
    for seed in range(experiments):
        roles, drawn = experiment(seed, **settings)
        for claim in CLAIMS:
            overall, *on_levels = assess(claim, roles, drawn, LEVELS, 0.95, predict=False)
            is_confirmed = [finding.verdict is Verdict.CONFIRMED for finding in on_levels]
            false[claim.code] += overall.verdict is Verdict.CONFIRMED, any(is_confirmed)
            if claim.code == "H1":
                level = on_levels[2]
                held += overall.low <= 1.0 <= overall.high, level.alone_low <= 1.0 <= level.alone_high
    return 100.0 * held / experiments, {code: 100.0 * claims / experiments for code, claims in false.items()}


@pytest.mark.parametrize("learners", list(LEARNERS))
def test_the_learner_by_training_interaction_is_counted_once(learners):
    """Three trainings differ by nothing else: the mean variance of 60 experiments is that of their estimates."""
    estimates, variances = [], []
    for seed in range(60):
        roles, drawn = experiment(seed, seeds=3, spread=0.0, learners=learners, resamples=2)
        for level in LEVELS:
            alike = [mean_log_ratio("G", "P", roles, [other]) for other in LEVELS if other != level]
            contrast = measure(drawn, mean_log_ratio("G", "P", roles, [level]), alike)
            estimates.append(contrast.estimate)
            variances.append(contrast.document_variance + contrast.seed_variance)
    assert np.mean(variances) == pytest.approx(np.var(estimates), rel=0.3)


@pytest.mark.parametrize("seeds", [2, 3, 10])
def test_pooled_degrees_of_freedom_depend_on_correlation_between_levels(seeds):
    """Levels that vary together count as one; independent levels count nearly as many as there are."""
    rng = np.random.default_rng(0)
    common, apart = rng.normal(size=(seeds, 1)), rng.normal(size=(500, seeds, 5))
    assert pooled_freedom(common) == seeds - 1
    assert pooled_freedom(np.repeat(common, 5, axis=1)) == pytest.approx(seeds - 1)
    assert 0.7 < np.mean([pooled_freedom(contrast) for contrast in apart]) / (5 * (seeds - 1)) < 1.0
    assert pooled_freedom(np.ones((seeds, 5))) == pytest.approx(seeds - 1)


def test_a_level_that_lacks_a_training_is_not_pooled():
    """Otherwise its general models would count for both kinds, and halve the variance between trainings."""
    roles, drawn = experiment(0, seeds=3, spread=0.1, learners="kinds")
    parts, whole, lacking = (mean_log_ratio("G", "P", roles, [level]) for level in LEVELS[:3])
    lacking[1] = replace(lacking[1], models={seed: lacking[1].models[seed] for seed in (0, 1)})
    first, second = (measure(drawn, parts, alike).sources.seeds[0] for alike in ([whole], [whole, lacking]))
    assert (first.variance, first.freedom) == (second.variance, second.freedom)


def test_a_level_that_lacks_a_training_of_the_other_role_is_not_pooled():
    """Its level models lack seed 2, but here the general ones do: the same sets of seeds, but of other roles."""
    roles, drawn = experiment(0, seeds=3, spread=0.1, learners="kinds")
    parts, whole, lacking = (mean_log_ratio("G", "P", roles, [level]) for level in LEVELS[:3])
    for contrast, role in ((parts, 0), (whole, 0), (lacking, 1)):
        contrast[role] = replace(contrast[role], models={seed: contrast[role].models[seed] for seed in (0, 1)})
    first, second = (estimate_seed_variance(drawn, parts, alike, 1.0)[0] for alike in ([whole], [whole, lacking]))
    assert [(part.variance, part.freedom) for part in first] == [(part.variance, part.freedom) for part in second]


@pytest.mark.parametrize("freedom", [1.0, 2.0, 4.0, 20.0])
def test_the_degrees_of_freedom_lie_between_fisher_and_satterthwaite(freedom):
    """Both agree if only trainings vary; with many degrees of freedom the difference is small."""
    assert freedom_beside(freedom, 0.01, 0.0) == freedom
    assert freedom < freedom_beside(freedom, 0.01, 0.01) < freedom * 4.0
    assert freedom_beside(freedom, 0.0, 0.01) == freedom


CELLS = [(seeds, spread, learners) for seeds in (3, 2, 5) for learners in LEARNERS for spread in SPREADS]


def endless_resamples(experiments, seeds, spread, learners, *, is_general_alone=False):
    """Return the same shares from p-values of normal learners without resampling, only for H1; 30 learners a level."""
    of_kinds, of_trainings = LEARNERS[learners]
    rng, h1 = np.random.default_rng([seeds, 17]), CLAIMS_OF_RUN[0]
    simulated = simulate((0.0, 0.0, 0.3), spread, experiments, rng, of_trainings, of_kinds)
    if is_general_alone:
        simulated[1]["specialised"][:] = 0.0
    p = p_values(h1, "specialised", *simulated, seeds)[:, [0, 3]]
    return 100.0 * np.mean((p > TAIL) & (p < 1.0 - TAIL), axis=0), 100.0 * np.mean(p <= TAIL, axis=0)


@pytest.mark.parametrize("spread", [0.0, 0.03])
def test_three_trainings_give_nominal_coverage(spread):
    """1,000 experiments, 93 to 97 % within two errors of 0.7 %: it used to be 99.7 % if trainings do not differ."""
    held, false = endless_resamples(1000, 3, spread, "single trainings")
    assert held.min() >= 91.6
    assert held.max() <= 98.4
    assert false.max() <= 5.0


@pytest.mark.slow
@pytest.mark.parametrize(("seeds", "spread", "learners"), CELLS)
def test_five_thousand_experiments_of_several_trainings_have_nominal_coverage(seeds, spread, learners):
    """93 to 97 % with at least three seeds, within two errors of 0.3 %; with two, 91 to 98 %."""
    held, false = endless_resamples(5000, seeds, spread, learners)
    print(f"\n{seeds} seeds, {spread} nats, {learners}: overall {held[0]:.1f} %, a level {held[1]:.1f} %", end="")
    print(f"; above falsely {false[0]:.1f} % and {false[1]:.1f} %", flush=True)
    assert held.min() >= (92.4 if seeds > 2 else 91.0)
    assert held.max() <= (97.6 if seeds > 2 else 98.0)
    assert false.max() <= 5.0


@pytest.mark.slow
@pytest.mark.parametrize(("seeds", "least"), [(2, 90.0), (3, 93.0), (5, 93.0)])
def test_coverage_in_the_worst_case_of_pooling_is_at_least_90_percent(seeds, least):
    """All levels vary together, which two seeds rarely show: at least 90 % of a level's intervals contain the truth."""
    held, false = endless_resamples(5000, seeds, 0.1, "single trainings", is_general_alone=True)
    print(f"\n{seeds} seeds: overall {held[0]:.1f} %, a level {held[1]:.1f} %, falsely {false[1]:.1f} %", flush=True)
    assert held.min() >= least
    assert false.max() <= 5.0


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("spread", "learners"), [(spread, learners) for learners in LEARNERS for spread in SPREADS])
def test_bootstrapped_experiments_of_three_trainings_have_nominal_coverage(spread, learners):
    """500 experiments, within two errors of 1 %; at most 5 % falsely confirm a claim."""
    held, false = count(500, seeds=3, spread=spread, learners=learners)
    print(f"\n{spread} nats, {learners}: overall {held[0]:.1f} %, a level {held[1]:.1f} %; ", end="")
    print(", ".join(f"{code} {overall:.1f} and {level:.1f} %" for code, (overall, level) in false.items()), flush=True)
    assert held.min() >= 91.0
    assert held.max() <= 99.0
    assert max(share.max() for share in false.values()) <= 5.0
