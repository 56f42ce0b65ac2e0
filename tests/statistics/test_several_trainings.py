"""Several trainings of every model: how often intervals hold what endless trainings and learners would give.

Trainings, learners and single learners in single trainings differ by chance.  The truth is known: general (G) and
level models (P) are equally good, other level models (Q) worse.  All claims are just false, margins moved to 1:

    H1  G ÷ P above 1          H2  G ÷ P and G ÷ Q below 1          H3  P ÷ G and P ÷ Q below 1
"""

import numpy as np
import pytest

from raysweep.statistics.bootstrap import resample_levels
from raysweep.statistics.claims import Hypothesis, Verdict
from raysweep.statistics.contrasts import measure
from raysweep.statistics.hypotheses import assess
from raysweep.statistics.loss_table import LevelLosses
from raysweep.statistics.role_models import RoleModels, mean_log_ratio
from raysweep.statistics.seed_variance import freedom_beside, pooled_freedom

LEVELS = ("A1", "A2", "B1", "B2", "C1")
KINDS = {"G": 0.0, "P": 0.0, "Q": 0.1}
CLAIMS = tuple(
    Hypothesis(code=code, name=code, numerator=numerator, against=against, above=code == "H1", margin=1.0)
    for code, numerator, against in (("H1", "G", ("P",)), ("H2", "G", ("P", "Q")), ("H3", "P", ("G", "Q")))
)
LEARNERS = {
    # Nats per token by which a learner favours one kind of model, and one training of it.
    "single trainings": (0.0, 0.15),
    "kinds and trainings": (0.15, 0.15),
    "kinds": (0.15, 0.03),
}


def experiment(seed, *, seeds, spread, learners, writers=40, resamples=1000):
    """Roles and resamples of `seeds` trainings of every model, which differ by `spread` nats."""
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
        clusters |= {int(one): f"{level}-{w}" for one, w in zip(documents, writer.tolist(), strict=True)}
    names = {kind: {one: f"{kind}-{one}" for one in range(seeds)} for kind in KINDS}
    roles = RoleModels(by_role={kind: dict.fromkeys(LEVELS, names[kind]) for kind in KINDS}, absent={})
    models, folds = (
        [name for of_kind in names.values() for name in of_kind.values()],
        [*map(dict.values, names.values())],
    )
    drawn = resample_levels(losses, models, resamples=resamples, seed=seed, clusters=clusters, folds=folds)
    return roles, drawn


def count(experiments, **settings):
    """Shares of experiments in per cent: intervals that hold the truth; false claims overall, on a level after Holm."""
    held, false = np.zeros(2), {claim.code: np.zeros(2) for claim in CLAIMS}
    for seed in range(experiments):
        roles, drawn = experiment(seed, **settings)
        for claim in CLAIMS:
            overall, *on_levels = assess(claim, roles, drawn, LEVELS, 0.95, predict=False)
            is_confirmed = [one.verdict is Verdict.CONFIRMED for one in on_levels]
            false[claim.code] += overall.verdict is Verdict.CONFIRMED, any(is_confirmed)
            if claim.code == "H1":
                level = on_levels[2]
                held += overall.low <= 1.0 <= overall.high, level.alone_low <= 1.0 <= level.alone_high
    return 100.0 * held / experiments, {code: 100.0 * found / experiments for code, found in false.items()}


@pytest.mark.parametrize("learners", list(LEARNERS))
def test_what_single_trainings_find_hard_of_a_learner_is_counted_once(learners):
    """Three trainings that differ by nothing else: the mean variance of 60 experiments is that of their estimates."""
    estimates, variances = [], []
    for seed in range(60):
        roles, drawn = experiment(seed, seeds=3, spread=0.0, learners=learners, resamples=2)
        for level in LEVELS:
            alike = [mean_log_ratio("G", "P", roles, [other]) for other in LEVELS if other != level]
            one = measure(drawn, mean_log_ratio("G", "P", roles, [level]), alike)
            estimates.append(one.estimate)
            variances.append(one.document_variance + one.seed_variance)
    assert np.mean(variances) == pytest.approx(np.var(estimates), rel=0.3)


def test_two_seeds_tell_from_the_levels_how_freely_trainings_vary():
    """Levels that move as one are one; levels that move apart, nearly as many as there are."""
    rng = np.random.default_rng(0)
    common, apart = rng.normal(size=(2, 1)), rng.normal(size=(500, 2, 5))
    assert pooled_freedom(np.repeat(common, 5, axis=1)) == pytest.approx(1.0)
    assert 3.5 < np.mean([pooled_freedom(one) for one in apart]) < 5.0
    assert pooled_freedom(np.ones((2, 5))) == pytest.approx(1.0)


@pytest.mark.parametrize("freedom", [1.0, 2.0, 4.0, 20.0])
def test_the_freedom_beside_learners_lies_between_fishers_and_satterthwaites(freedom):
    """They agree where trainings alone vary; with many degrees of freedom little depends on it."""
    assert freedom_beside(freedom, 0.01, 0.0) == freedom
    assert freedom < freedom_beside(freedom, 0.01, 0.01) < freedom * 4.0
    assert freedom_beside(freedom, 0.0, 0.01) == freedom


CELLS = [
    *((3, spread, learners) for learners in LEARNERS for spread in (0.0, 0.005, 0.01, 0.03, 0.1)),
    *((seeds, spread, "single trainings") for seeds in (2, 5) for spread in (0.0, 0.005, 0.01, 0.03, 0.1)),
]


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("seeds", "spread", "learners"), CELLS)
def test_a_thousand_experiments_of_several_trainings_hold_the_truth(seeds, spread, learners):
    """93 to 97 % of intervals hold what endless trainings would give; at most 5 % confirm a claim wrongly."""
    held, false = count(1000, seeds=seeds, spread=spread, learners=learners)
    print(f"\n{seeds} seeds, {spread} nats, {learners}: overall {held[0]:.1f} %, a level {held[1]:.1f} %; ", end="")
    print(", ".join(f"{code} {overall:.1f} and {level:.1f} %" for code, (overall, level) in false.items()), flush=True)
    assert held.min() >= 93.0
    assert held.max() <= 97.0
    assert max(one.max() for one in false.values()) <= 5.0
