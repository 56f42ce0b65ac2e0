"""Looks after each seed: the published boundaries, and the error rate over all looks."""

import numpy as np
import pytest
from scipy.special import ndtr, ndtri, stdtr

from raysweep.config.schema import Config
from raysweep.scheduling.sequential_seeds import OpenClaim, release_seeds
from raysweep.scheduling.trials import expand_trials
from raysweep.statistics.bootstrap import resample_levels
from raysweep.statistics.claims import OVERALL, Hypothesis, Verdict, is_settled
from raysweep.statistics.contrasts import measure
from raysweep.statistics.group_sequential import Look, _nominal_levels, look_at
from raysweep.statistics.hypotheses import assess
from raysweep.statistics.loss_table import LevelLosses
from raysweep.statistics.role_models import RoleModels
from raysweep.statistics.weighted_parts import Part

MOST = 5


def losses(rng, levels, effects, spread, *, writers=30):
    """Return documents of three models' seeds per level; `effects` of kinds and `spread` of trainings are in nats."""
    general, by_level, clusters, first = rng.normal(0.0, spread, MOST), {}, {}, 0
    for level in levels:
        writer = np.repeat(np.arange(writers), 3)
        tokens, hardness = rng.integers(5, 60, len(writer)), rng.normal(0.0, 0.5, writers)[writer]
        columns = []
        for kind, effect in effects.items():
            own = rng.normal(0.0, 0.15, writers)[writer]
            trained = general if kind == "general" else rng.normal(0.0, spread, MOST)
            columns += [3.0 + effect + hardness + own + level + rng.normal(0.0, 0.1, len(writer)) for level in trained]
        documents = np.arange(first, first + len(writer))
        nats = np.stack(columns, axis=1) * tokens[:, None]
        by_level[level] = LevelLosses(level=level, documents=documents, tokens=tokens, nats=nats)
        clusters.update({int(document): f"{level}-{w}" for document, w in zip(documents, writer.tolist(), strict=True)})
        first += len(writer)
    return by_level, clusters


def drawn(seed, levels, effects, spread, *, resamples=1000):
    losses_by_level, clusters = losses(np.random.default_rng([seed, 29]), levels, effects, spread)
    models = [f"{kind} {number}" for kind in effects for number in range(MOST)]
    return resample_levels(losses_by_level, models, resamples=resamples, seed=0, clusters=clusters)


def rounds(resamples, kinds=("general", "specialised"), level="A1"):
    """Return the contrast of two kinds after 2, 3, 4 and 5 seeds."""
    return [
        measure(
            resamples,
            [
                Part(weight=sign, level=level, models={seed: f"{kind} {seed}" for seed in range(count)})
                for sign, kind in zip((1.0, -1.0), kinds, strict=True)
            ],
        )
        for count in range(2, MOST + 1)
    ]


LOOKS = [Look(seeds=seeds, most_seeds=MOST) for seeds in range(2, MOST + 1)]


def test_boundaries_equal_published_obrien_fleming_values(monkeypatch):
    """Spending is of O'Brien–Fleming's type, one-sided 0.025, with five equal looks (Reboussin et al. 2000)."""
    module = "raysweep.statistics.group_sequential"
    monkeypatch.setattr(f"{module}.spend", lambda alphas, time: 2.0 * ndtr(ndtri(alphas / 2.0) / np.sqrt(time)))
    monkeypatch.setattr(f"{module}.LEAST_SEEDS", 1)
    monkeypatch.setattr(f"{module}._nominal_levels", _nominal_levels.__wrapped__)
    boundaries = [-float(ndtri(Look(seeds=seeds, most_seeds=5).nominal(0.025))) for seeds in range(1, 6)]
    assert boundaries == pytest.approx([4.877, 3.357, 2.680, 2.290, 2.031], abs=0.002)


def test_the_whole_alpha_is_spent_at_the_last_look():
    """Spending is in proportion to the seeds; the last look keeps half the level of a single look."""
    assert [look.spent(0.025) / 0.025 for look in LOOKS] == pytest.approx([0.4, 0.6, 0.8, 1.0])
    assert [look.nominal(0.025) for look in LOOKS] == pytest.approx([0.0100, 0.0087, 0.0100, 0.0117], abs=0.0001)


@pytest.mark.parametrize("alpha", [0.025, 0.005])
@pytest.mark.parametrize("of_documents", [0.0, 1.0, 100.0])
def test_the_error_rate_of_all_looks_is_at_most_alpha(alpha, of_documents):
    """100,000 paths without a difference; variance from documents is this many times that of one training.

    The rate is equal if only trainings vary, and lower the more documents vary.
    """
    rng = np.random.default_rng(0)
    paths, seeds = 100_000, np.arange(2, MOST + 1)
    trainings = rng.normal(0.0, 1.0, (paths, MOST)).cumsum(axis=1)[:, 1:] / seeds
    errors = np.sqrt(of_documents + 1.0 / seeds)
    z_values = (trainings + rng.normal(0.0, np.sqrt(of_documents), (paths, 1))) / errors
    erred = (z_values >= [-ndtri(look.nominal(alpha)) for look in LOOKS]).any(axis=1).mean()
    if of_documents:
        assert alpha / 3 < erred < alpha
    else:
        assert erred == pytest.approx(alpha, rel=0.1)


def test_the_error_rate_with_few_seeds_is_hardly_above_alpha():
    """200,000 paths in which only trainings vary, with estimated variance: 3.0 % at 2.5 %, and never above 4.0 %."""
    rng = np.random.default_rng(0)
    trainings = rng.normal(0.0, 1.0, (200_000, MOST))
    crossed = np.zeros(len(trainings), dtype=bool)
    for look in LOOKS:
        so_far = trainings[:, : look.seeds]
        errors = so_far.std(axis=1, ddof=1) / np.sqrt(look.seeds)
        crossed |= stdtr(look.seeds - 1, -so_far.mean(axis=1) / errors) <= look.nominal(0.025)
    assert crossed.mean() == pytest.approx(0.030, abs=0.001)
    assert sum(look.nominal(0.025) for look in LOOKS) == pytest.approx(0.0403, abs=0.0002)


def test_a_p_value_is_the_alpha_at_which_its_look_crosses_the_boundary():
    """The converse holds, too; p-values of one half or more are not adjusted."""
    for look in LOOKS:
        for alpha in (0.001, 0.025, 0.2):
            assert look.adjust(look.nominal(alpha)) == pytest.approx(alpha, rel=1e-6)
        assert look.adjust(0.9) == 0.9
        assert look.nominal(0.7) == 0.7
    assert all(look.adjust(0.01) > 0.01 for look in LOOKS)


def test_repeated_intervals_and_p_values_agree():
    """The repeated confidence interval excludes what its p-value rejects."""
    looked = look_at(rounds(drawn(1, ["A1"], {"general": 0.0, "specialised": -0.1}, 0.02)), MOST)
    for look in looked[:-1]:
        fixed = rounds(drawn(1, ["A1"], {"general": 0.0, "specialised": -0.1}, 0.02))[look.look.seeds - 2]
        assert look.limit(0.025) <= fixed.limit(0.025)
        assert look.limit(0.975) >= fixed.limit(0.975)
        for share in (0.05, 0.2):
            assert look.p_not_above(look.limit(share)) == pytest.approx(share, abs=0.02)


def test_conditional_power_is_high_for_a_clear_difference_and_low_for_none():
    """After the last seed there is none."""
    clear = look_at(rounds(drawn(2, ["A1"], {"general": 0.0, "specialised": -0.5}, 0.02)), MOST)
    none = look_at(rounds(drawn(2, ["A1"], {"general": 0.0, "specialised": 0.0}, 0.02)), MOST)
    assert clear[0].power_of_more(0.0, above=True, alpha=0.025) > 0.95
    assert clear[0].power_of_more(0.0, above=False, alpha=0.025) < 0.05
    assert none[0].power_of_more(0.0, above=True, alpha=0.025) < 0.2
    assert clear[-1].power_of_more(0.0, above=True, alpha=0.025) is None
    same = look_at(rounds(drawn(0, ["A1"], {"general": 0.0}, 0.0), kinds=("general", "general")), MOST)
    assert same[0].power_of_more(0.0, above=True, alpha=0.025) == 0.0


LEVELS = ("A1", "A2", "B1", "B2", "C1")
CLAIMS = (
    Hypothesis(code="H1", name="H1", numerator="general", against=("specialised",), above=True, margin=1.0),
    Hypothesis(code="H2", name="H2", numerator="general", against=("specialised", "transfer"), above=False, margin=1.1),
    Hypothesis(code="H3", name="H3", numerator="transfer", against=("general", "specialised"), above=False, margin=1.0),
)
_ENTRIES = {
    **{level: {"levels": (level,)} for level in LEVELS},
    "all": {"levels": LEVELS},
    **{f"all-{level}": {"levels": (level,), "from": "all"} for level in LEVELS},
}
CONFIG = Config.model_validate({"trials": _ENTRIES, "seeds": {"max": MOST, "stop": "sequential"}})
TRIALS = expand_trials(CONFIG)


def run_sequentially(resamples):
    """Return the findings when no claim is open any more, and the number of trainings."""
    done = set(release_seeds(CONFIG, TRIALS))
    while True:
        findings = judge(resamples, done)
        numerator = {claim.code: claim.numerator for claim in CLAIMS}
        claims = [
            OpenClaim(roles=(numerator[finding.hypothesis], *finding.against), levels=finding.levels)
            for finding in findings
            if not is_settled(finding)
        ]
        if (released := set(release_seeds(CONFIG, TRIALS, claims, done))) == done:
            return findings, len(done)
        done = released


def judge(resamples, done):
    entry = {"general": lambda _: "all", "specialised": lambda level: level, "transfer": lambda level: f"all-{level}"}
    by_role = {
        role: {
            level: {
                seed: f"{role} {seed}"
                for seed in range(MOST)
                if (f"{name(level)}-seed{seed}" if seed else name(level)) in done
            }
            for level in LEVELS
        }
        for role, name in entry.items()
    }
    roles = RoleModels(by_role=by_role, absent={}, most_seeds=MOST)
    return [finding for claim in CLAIMS for finding in assess(claim, roles, resamples, LEVELS, 0.95, predict=False)]


def test_a_clear_experiment_stops_before_the_last_seed():
    """Two of five seeds are enough; a decided claim stays decided."""
    effects = {"general": 0.0, "specialised": -0.7, "transfer": -0.45}
    findings, trainings = run_sequentially(drawn(3, LEVELS, effects, 0.01, resamples=10_000))
    overall = {finding.hypothesis: finding.verdict for finding in findings if finding.scope == OVERALL}
    assert overall == {"H1": Verdict.CONFIRMED, "H2": Verdict.REFUTED, "H3": Verdict.REFUTED}
    assert trainings == 0.4 * len(TRIALS)
    for finding in findings:
        assert [look.seeds for look in finding.looks] == list(range(2, finding.seeds + 1))
        assert [look.p_confirm for look in finding.looks] == sorted((x.p_confirm for x in finding.looks), reverse=True)


SAVING = {
    # Effects of the kinds, spread of trainings, and the smallest share of trainings saved.
    "as in the default run, 0.01 nats": ({"general": 0.0, "specialised": -0.7, "transfer": -0.45}, 0.01, 0.3),
    "as in the default run, 0.03 nats": ({"general": 0.0, "specialised": -0.7, "transfer": -0.45}, 0.03, 0.3),
    "as in the default run, 0.1 nats": ({"general": 0.0, "specialised": -0.7, "transfer": -0.45}, 0.1, 0.0),
    "half as large, 0.01 nats": ({"general": 0.0, "specialised": -0.35, "transfer": -0.22}, 0.01, 0.3),
    "half as large, 0.03 nats": ({"general": 0.0, "specialised": -0.35, "transfer": -0.22}, 0.03, 0.0),
    "nothing to find, 0.01 nats": ({"general": 0.0, "specialised": 0.0, "transfer": 0.0}, 0.01, 0.3),
    "nothing to find, 0.03 nats": ({"general": 0.0, "specialised": 0.0, "transfer": 0.0}, 0.03, 0.0),
    "nothing to find, 0.05 nats": ({"general": 0.0, "specialised": 0.0, "transfer": 0.0}, 0.05, 0.0),
    "transfer far worse, 0.01 nats": ({"general": 0.0, "specialised": 0.0, "transfer": 0.3}, 0.01, 0.0),
    "transfer far worse, 0.05 nats": ({"general": 0.0, "specialised": 0.0, "transfer": 0.3}, 0.05, 0.0),
}


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("case", list(SAVING))
def test_sequential_seeds_save_trainings(case):
    """40 experiments each, as printed for BENCHMARKS.md."""
    effects, spread, least = SAVING[case]
    experiments, trainings = 40, 0
    for seed in range(experiments):
        trainings += run_sequentially(drawn(seed, LEVELS, effects, spread, resamples=10_000))[1]
    saved = 1.0 - trainings / experiments / len(TRIALS)
    print(f"\n{case}: {saved:.1%} fewer trainings", end="")
    assert saved >= least
