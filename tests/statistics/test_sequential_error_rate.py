"""How often claims that are just false are confirmed at one of the looks of sequential seeds, over 5,000 experiments.

An experiment is what the decisions rest on: for each learner and level the three kinds of model, and what each training
adds.  The p-value of a contrast is the one of `Measured` with endless resamples, since learners are normal here: a
quadrature over Student's t instead of draws.  The first test compares it with `Measured`; everything after it (looks,
Holm, thresholds) are the rules of the room, for all experiments at once.
"""

from math import log

import numpy as np
import pytest
from scipy.special import ndtr, ndtri, stdtr, stdtrit
from scipy.stats import binomtest

from raysweep.statistics.claims import ADAPTATION_CLAIMS, holm
from raysweep.statistics.contrasts import _pooled_freedom
from raysweep.statistics.group_sequential import _ALPHAS, LEAST_SEEDS, Look
from tests.statistics.test_group_sequential import CLAIMS, LEVELS, MOST, drawn, rounds

TAIL, LEARNERS = 0.025, 30
KINDS = ("general", "specialised", "transfer")
NODES = (np.arange(1000) + 0.5) / 1000
JUST_FALSE = {
    # The claim, what each kind costs in nats per token, spread of trainings.
    "H1, 0.01 nats": ("H1", (0.0, 0.0, 0.3), 0.01),
    "H1, 0.05 nats": ("H1", (0.0, 0.0, 0.3), 0.05),
    "H1, 0.2 nats": ("H1", (0.0, 0.0, 0.3), 0.2),
    "H2, 0.03 nats": ("H2", (0.0, -log(1.1), -0.02), 0.03),
    "H3, 0.03 nats": ("H3", (0.0, 0.3, 0.0), 0.03),
    "H3, 0.2 nats": ("H3", (0.0, 0.9, 0.0), 0.2),
    "own models best, 0.03 nats": ("own", (0.5, 0.0, 0.0), 0.03),
    "general model best, 0.03 nats": ("plain", (0.0, 0.0, 0.3), 0.03),
}


def p_not_above(away, document_error, freedom, seed_error, seed_freedom):
    """(E,) p-value of `Measured` for estimates that lie `away` nats above the value."""
    shares = np.empty(len(away))
    rounded = np.round(np.broadcast_to(seed_freedom, away.shape) * 4) / 4
    for one in np.unique(rounded):
        which = rounded == one
        moves = stdtrit(one, NODES) * seed_error[which, None]
        shares[which] = ndtr(-(away[which, None] + moves) / document_error[which, None]).mean(axis=1)
    return stdtr(freedom, ndtri(np.clip(shares, 1e-12, 1 - 1e-12)))


def test_the_p_values_are_those_of_the_decisions():
    """40 experiments, four looks each: apart by what the skewness of 30 learners moves, on neither side on average."""
    apart = []
    for seed in range(40):
        resamples = drawn(seed, ["A1"], {"general": 0.0, "specialised": -0.05}, (0.01, 0.05)[seed % 2])
        for one in rounds(resamples):
            (moves,) = one.sources.seeds
            errors = np.sqrt([[one.document_variance], [moves.variance]])
            found = p_not_above(np.array([one.estimate]), errors[0], one.freedom, errors[1], moves.freedom)
            apart.append(float(found[0]) - one.p_not_above(0.0))
    assert abs(np.mean(apart)) < 0.005
    assert np.abs(apart).mean() < 0.02


def simulate(effects, spread, experiments, rng):
    """By kind: (E, L, W) of learners, and (E, S, L) of trainings; the general model is the same on all levels."""
    shape = (experiments, len(LEVELS))
    learners = {kind: rng.normal(effect, 0.15, (*shape, LEARNERS)) for kind, effect in zip(KINDS, effects, strict=True)}
    trainings = {kind: rng.normal(0.0, spread, (experiments, MOST, len(LEVELS))) for kind in KINDS}
    trainings["general"] = np.repeat(trainings["general"][:, :, :1], len(LEVELS), axis=2)
    return learners, trainings


def p_values(claim, rival, learners, trainings, seeds):
    """(E, 1 + L) p-values against the claim, compared with one kind: overall, and on each level."""
    side = 1.0 if claim.above else -1.0
    learner_ELW = side * (learners[claim.numerator] - learners[rival] - log(claim.margin))
    seed_ESL = side * (trainings[claim.numerator] - trainings[rival])[:, :seeds]
    away_EL = learner_ELW.mean(axis=2) + seed_ESL.mean(axis=1)
    documents_EL = learner_ELW.var(axis=2, ddof=1) / LEARNERS
    freedom = LEARNERS - 1.0
    pooled_E = np.sqrt(seed_ESL.var(axis=1, ddof=1).mean(axis=1) / seeds)
    pooled_freedom_E = np.array([_pooled_freedom(one) for one in seed_ESL])
    on_levels = [
        p_not_above(away_EL[:, level], np.sqrt(documents_EL[:, level]), freedom, pooled_E, pooled_freedom_E)
        for level in range(len(LEVELS))
    ]
    levels = len(LEVELS)
    overall = p_not_above(
        away_EL.mean(axis=1),
        np.sqrt(documents_EL.sum(axis=1)) / levels,
        freedom * documents_EL.sum(axis=1) ** 2 / (documents_EL**2).sum(axis=1),
        np.sqrt(seed_ESL.mean(axis=2).var(axis=1, ddof=1) / seeds),
        seeds - 1.0,
    )
    return np.stack([overall, *on_levels], axis=1)


def false_claims(code, effects, spread, experiments):
    """How many experiments confirm the claim at any look: overall, and a level after Holm.

    All seeds are trained, so that no claim escapes by being given up.
    """
    (claim,) = (one for one in (*CLAIMS, *ADAPTATION_CLAIMS) if one.code == code)
    learners, trainings = simulate(effects, spread, experiments, np.random.default_rng([13, len(code), experiments]))
    smallest = np.ones((experiments, 1 + len(LEVELS)))
    for seeds in range(LEAST_SEEDS, MOST + 1):
        look = Look(seeds=seeds, most_seeds=MOST)
        against = [p_values(claim, rival, learners, trainings, seeds) for rival in claim.against]
        nominal = np.maximum.reduce(against)
        adjusted = np.exp(np.interp(np.log(nominal), np.log(look.levels), np.log(_ALPHAS)))
        smallest = np.minimum(smallest, np.where(nominal < look.levels[-1], adjusted, 1.0))
    levels = sum(min(holm(one)) <= TAIL for one in smallest[:, 1:].tolist())
    return int((smallest[:, 0] <= TAIL).sum()), levels


@pytest.mark.parametrize("case", ["H1, 0.05 nats", "H3, 0.2 nats"])
def test_a_claim_that_is_just_false_is_seldom_confirmed_at_any_look(case):
    """300 experiments: no more false ones than chance allows for at 5 %."""
    overall, levels = false_claims(*JUST_FALSE[case], experiments=300)
    assert 1 <= overall <= 22
    assert levels <= 22


@pytest.mark.slow
@pytest.mark.parametrize("case", list(JUST_FALSE))
def test_five_thousand_experiments_confirm_at_most_5_percent_of_false_claims(case):
    """With the 95 % interval of the rate (Clopper and Pearson), as printed for BENCHMARKS.md."""
    experiments = 5000
    for scope, count in zip(("overall", "a level"), false_claims(*JUST_FALSE[case], experiments), strict=True):
        ends = binomtest(count, experiments).proportion_ci(method="exact")
        print(f"\n{case}: {scope} {count / experiments:.2%} ({ends.low:.2%} to {ends.high:.2%})", end="", flush=True)
        assert ends.high <= 0.05
