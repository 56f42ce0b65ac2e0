"""Whole experiments with known truth: how often intervals contain it, and how often a claim is falsely confirmed.

Quick versions are in `test_contrasts.py` and `test_hypotheses.py`; here, all three claims are tested on five levels,
with writers of several documents, as `pytest -m slow -s` prints them for BENCHMARKS.md.
"""

from math import log

import numpy as np
import pytest

from raysweep.statistics.bootstrap import resample_levels
from raysweep.statistics.claims import OVERALL, Hypothesis, Verdict
from raysweep.statistics.contrasts import measure
from raysweep.statistics.hypotheses import assess
from raysweep.statistics.loss_table import LevelLosses
from raysweep.statistics.role_models import RoleModels, mean_log_ratio
from raysweep.statistics.weighted_parts import Part

LEVELS = ("A1", "A2", "B1", "B2", "C1")
ROLES = ("general", "specialised", "transfer")
MARGIN = 1.1
# At the margin itself a claim is just false, which is the hardest case.
CLAIMS = {
    "H1": (("specialised",), "general", True, 1.0, {"specialised": 0.0, "transfer": 0.3}),
    "H2": (("specialised", "transfer"), "general", False, MARGIN, {"specialised": -log(MARGIN), "transfer": -0.02}),
    "H3": (("general", "specialised"), "transfer", False, 1.0, {"specialised": 0.3, "transfer": 0.0}),
}


def experiment(simulate, code, seed, writers, resamples):
    """Return the claim's findings, and the resamples, where it is just false on every level."""
    against, numerator, above, margin, shifts = CLAIMS[code]
    truth = {level: {"general": 3.0, **{role: 3.0 + shift for role, shift in shifts.items()}} for level in LEVELS}
    losses, clusters = simulate(truth, seed=seed, writers=writers)
    drawn = resample_levels(losses, ROLES, resamples=resamples, seed=0, clusters=clusters)
    roles = RoleModels(by_role={role: {level: {0: role} for level in LEVELS} for role in ROLES}, absent={})
    claim = Hypothesis(code=code, name=code, numerator=numerator, against=against, above=above, margin=margin)
    return assess(claim, roles, drawn, LEVELS, 0.95, predict=False), drawn


def rates(simulate, code, *, experiments, writers, resamples):
    """Return shares of experiments: a level falsely confirmed, overall falsely confirmed, intervals with the truth."""
    _, numerator, _, _, shifts = CLAIMS[code]
    difference = shifts.get(numerator, 0.0) - shifts["specialised"]
    levels = overall = held = 0
    for seed in range(experiments):
        findings, drawn = experiment(simulate, code, seed, writers, resamples)
        confirmed = {finding.scope for finding in findings if finding.verdict is Verdict.CONFIRMED}
        overall += OVERALL in confirmed
        levels += bool(confirmed - {OVERALL})
        parts = [
            Part(weight=sign, level="B1", models={0: role}) for sign, role in ((1.0, numerator), (-1.0, "specialised"))
        ]
        low, high = measure(drawn, parts).interval(0.95)
        held += low <= difference <= high
    return levels / experiments, overall / experiments, held / experiments


@pytest.mark.parametrize("code", list(CLAIMS))
def test_claims_that_are_barely_false_are_rarely_confirmed(simulate, code):
    """60 experiments: there are no more false confirmations than chance allows at 5 %."""
    levels, overall, _ = rates(simulate, code, experiments=60, writers=25, resamples=400)
    assert levels <= 0.10
    assert overall <= 0.10


@pytest.mark.slow
@pytest.mark.parametrize("code", list(CLAIMS))
def test_a_thousand_experiments_keep_coverage_and_error_rates(simulate, code):
    """93 to 97 % of intervals contain the truth; after Holm at most 5 % falsely confirm a level, or overall."""
    levels, overall, held = rates(simulate, code, experiments=1000, writers=30, resamples=2000)
    print(
        f"\n{code}: a level falsely confirmed in {levels:.1%}, overall in {overall:.1%}; intervals hold in {held:.1%}"
    )
    assert levels <= 0.05
    assert overall <= 0.05
    assert 0.93 <= held <= 0.97


COVERED = {
    # Learners of a level: their number, the share who write on all levels, and the correlation between levels.
    "all levels, correlation 1": {"writers": 40, "shared_writers": 1.0, "correlation": 1.0},
    "all levels, correlation 0.5": {"writers": 40, "shared_writers": 1.0, "correlation": 0.5},
    "all levels, 15 learners": {"writers": 15, "shared_writers": 1.0, "correlation": 1.0},
    "30 % on all levels": {"writers": 40, "shared_writers": 0.3, "correlation": 1.0},
    "per level, 15 learners": {"writers": 15},
    "per level, 60 learners": {"writers": 60},
    "one wrote half": {"writers": 40, "half": True},
    "log-normal effects": {"writers": 40, "log_normal": True},
}


def levels_of_shared_writers(seed, *, writers, shared_writers=0.0, correlation=0.0, half=False, log_normal=False):
    """Return losses of two equally good models on five levels, and the writer of each document.

    Each writer has three documents per level, and an effect on one model only.
    """
    rng = np.random.default_rng([seed, 13])
    sharing = round(shared_writers * writers)
    common = rng.normal(0.0, 0.15, writers)
    losses, clusters = {}, {}
    for number, level in enumerate(LEVELS):
        own = rng.normal(0.0, 0.15, writers)
        if log_normal:
            own = (np.exp(own / 0.15) - np.exp(0.5)) / np.sqrt((np.e - 1.0) * np.e) * 0.15
        own[:sharing] = np.sqrt(correlation) * common[:sharing] + np.sqrt(1.0 - correlation) * own[:sharing]
        writer = np.repeat(np.arange(writers), 3)
        tokens = rng.integers(5, 60, len(writer))
        if half:
            tokens[writer == 0] = tokens[writer != 0].sum() // 3
        per_token = 3.0 + rng.normal(0.0, 0.5, writers)[writer][:, None] + rng.normal(0.0, 0.2, (len(writer), 2))
        per_token[:, 0] += own[writer]
        documents = np.arange(len(writer)) + number * len(writer)
        losses[level] = LevelLosses(level=level, documents=documents, tokens=tokens, nats=per_token * tokens[:, None])
        names = np.where(writer < sharing, "", level)
        clusters.update(
            {int(document): f"{name}-{w}" for document, name, w in zip(documents, names, writer.tolist(), strict=True)}
        )
    return losses, clusters


def coverage_and_false_claims(experiments, **writers):
    """Return shares: the overall interval contains the truth, a level's does, and H1 is confirmed overall."""
    overall = level = confirmed = 0
    for seed in range(experiments):
        losses, clusters = levels_of_shared_writers(seed, **writers)
        drawn = resample_levels(losses, ("general", "special"), resamples=1000, seed=seed, clusters=clusters)
        by_role = {role: {level: {0: role} for level in LEVELS} for role in ("general", "special")}
        roles = RoleModels(by_role=by_role, absent={})
        contrast = measure(drawn, mean_log_ratio("general", "special", roles, LEVELS))
        low, high = contrast.interval(0.95)
        overall += low <= 0.0 <= high
        confirmed += contrast.p_not_above(0.0) <= 0.025
        low, high = measure(drawn, mean_log_ratio("general", "special", roles, ["B1"])).interval(0.95)
        level += low <= 0.0 <= high
    return overall / experiments, level / experiments, confirmed / experiments


@pytest.mark.parametrize("case", ["all levels, correlation 1", "one wrote half"])
def test_intervals_have_nominal_coverage_for_any_overlap_of_learners_between_levels(case):
    """150 experiments: if levels were drawn separately, 66 % would contain it, and 18 % would falsely confirm H1."""
    overall, level, confirmed = coverage_and_false_claims(150, **COVERED[case])
    assert overall >= 0.90
    assert level >= 0.90
    assert confirmed <= 0.06


@pytest.mark.slow
@pytest.mark.parametrize("case", list(COVERED))
def test_two_thousand_experiments_have_nominal_coverage_for_any_overlap_of_learners(case):
    """93 to 97 % of intervals, at least 90 % if one writer wrote half or effects are skewed; at most 5 % false ones."""
    overall, level, confirmed = coverage_and_false_claims(2000, **COVERED[case])
    print(f"\n{case}: overall interval holds in {overall:.1%}, a level's in {level:.1%}; H1 false in {confirmed:.1%}")
    least, most = (0.90, 1.0) if case in ("one wrote half", "log-normal effects") else (0.93, 0.97)
    assert least <= overall <= most
    assert least <= level <= most
    assert confirmed <= 0.05


def test_learners_on_several_levels_are_counted_once():
    """40 learners on five levels count as 40, not 200; with 30 % of them shared, there are 12 + 5 × 28."""
    for shared, distinct in ((1.0, 40), (0.3, 152), (0.0, 200)):
        losses, clusters = levels_of_shared_writers(0, writers=40, shared_writers=shared, correlation=1.0)
        drawn = resample_levels(losses, ("general", "special"), resamples=100, seed=0, clusters=clusters)
        by_role = {role: {level: {0: role} for level in LEVELS} for role in ("general", "special")}
        roles = RoleModels(by_role=by_role, absent={})
        findings = assess(H1, roles, drawn, LEVELS, 0.95, predict=False)
        assert [finding.clusters for finding in findings] == [distinct, 40, 40, 40, 40, 40]


H1 = Hypothesis(code="H1", name="specialisation", numerator="general", against=("special",), above=True, margin=1.0)
