"""Looks after each seed: the published boundaries, and the error rate of all looks together."""

from math import log

import numpy as np
import pytest
from scipy.special import ndtri

from raysweep.config.schema import Config
from raysweep.scheduling.sequential_seeds import OpenClaim, release_seeds
from raysweep.scheduling.trials import expand_trials
from raysweep.statistics.bootstrap import resample_levels
from raysweep.statistics.claims import OVERALL, Hypothesis, Verdict, is_settled
from raysweep.statistics.contrasts import measure
from raysweep.statistics.group_sequential import information_fraction, look_at
from raysweep.statistics.hypotheses import assess
from raysweep.statistics.loss_table import LevelLosses
from raysweep.statistics.role_models import RoleModels
from raysweep.statistics.weighted_parts import Part

MOST = 5


def losses(rng, levels, effects, spread, *, writers=30):
    """Documents of three models' seeds on each level; `effects` of the kinds, `spread` of trainings, in nats."""
    general, found, clusters, first = rng.normal(0.0, spread, MOST), {}, {}, 0
    for level in levels:
        writer = np.repeat(np.arange(writers), 3)
        tokens, hardness = rng.integers(5, 60, len(writer)), rng.normal(0.0, 0.5, writers)[writer]
        columns = []
        for kind, effect in effects.items():
            own = rng.normal(0.0, 0.15, writers)[writer]
            trained = general if kind == "general" else rng.normal(0.0, spread, MOST)
            columns += [3.0 + effect + hardness + own + one + rng.normal(0.0, 0.1, len(writer)) for one in trained]
        documents = np.arange(first, first + len(writer))
        nats = np.stack(columns, axis=1) * tokens[:, None]
        found[level] = LevelLosses(level=level, documents=documents, tokens=tokens, nats=nats)
        clusters.update({int(one): f"{level}-{w}" for one, w in zip(documents, writer.tolist(), strict=True)})
        first += len(writer)
    return found, clusters


def drawn(seed, levels, effects, spread, *, resamples=1000):
    found, clusters = losses(np.random.default_rng([seed, 29]), levels, effects, spread)
    models = [f"{kind} {number}" for kind in effects for number in range(MOST)]
    return resample_levels(found, models, resamples=resamples, seed=0, clusters=clusters)


def rounds(resamples, kinds=("general", "specialised"), level="A1"):
    """The contrast of two kinds after 2, 3, 4 and 5 seeds."""
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


@pytest.fixture
def looks():
    """Looks at a contrast with information fractions 0.2, 0.4, 0.6, 0.8 and 1: documents tell all that seeds do not."""
    from raysweep.statistics.group_sequential import Look, _nominal_levels

    times = (0.2, 0.4, 0.6, 0.8, 1.0)
    return [
        Look(seeds=number, most_seeds=5, time=times[number - 1], levels=_nominal_levels(times[:number]))
        for number in range(1, 6)
    ]


def test_boundaries_are_the_published_ones(looks):
    """Of the O'Brien–Fleming-type spending function, one-sided 0.025, five equal looks (Reboussin et al. 2000)."""
    boundaries = [-float(ndtri(look.nominal(0.025))) for look in looks]
    assert boundaries == pytest.approx([4.877, 3.357, 2.680, 2.290, 2.031], abs=0.002)
    assert looks[-1].spent(0.025) == pytest.approx(0.025)
    assert [look.spent(0.025) for look in looks] == sorted(look.spent(0.025) for look in looks)


@pytest.mark.parametrize("alpha", [0.025, 0.005])
def test_all_looks_together_err_as_often_as_one(looks, alpha):
    """100,000 paths with no difference."""
    rng = np.random.default_rng(0)
    times = np.array([look.time for look in looks])
    steps = rng.normal(0.0, np.sqrt(np.diff(times, prepend=0.0)), (100_000, 5))
    crossed = steps.cumsum(axis=1) / np.sqrt(times) >= [-ndtri(look.nominal(alpha)) for look in looks]
    assert crossed.any(axis=1).mean() == pytest.approx(alpha, rel=0.1)


def test_a_p_value_is_the_level_at_which_its_look_crosses(looks):
    """The other way round too; at or above one half nothing is adjusted."""
    for look in looks[1:]:
        for alpha in (0.001, 0.025, 0.2):
            assert look.adjust(look.nominal(alpha)) == pytest.approx(alpha, rel=1e-6)
        assert look.adjust(0.9) == 0.9
        assert look.nominal(0.7) == 0.7
    assert looks[1].adjust(0.01) > looks[3].adjust(0.01) > 0.01


def test_information_is_that_of_all_seeds_at_the_last_look_and_grows_with_each():
    """Where trainings hardly vary, the first look has most of it; where they alone vary, its share of seeds."""
    effects = {"general": 0.0, "specialised": -0.1}
    for spread, first in ((0.0001, 0.75), (1.0, 0.0)):
        resamples = drawn(0, ["A1"], effects, spread)
        times = [one.look.time for one in look_at(rounds(resamples), MOST)]
        assert times == sorted(set(times))
        assert times[-1] == 1.0
        assert times[0] >= first
    same = rounds(drawn(0, ["A1"], effects, 0.0), kinds=("general", "general"))[0]
    assert information_fraction(same, 2, MOST) == 2 / MOST


def test_limits_and_p_values_of_a_look_agree():
    """The repeated interval excludes what its p-value rejects."""
    looked = look_at(rounds(drawn(1, ["A1"], {"general": 0.0, "specialised": -0.1}, 0.02)), MOST)
    for one in looked[:-1]:
        fixed = rounds(drawn(1, ["A1"], {"general": 0.0, "specialised": -0.1}, 0.02))[one.look.seeds - 2]
        assert one.limit(0.025) <= fixed.limit(0.025)
        assert one.limit(0.975) >= fixed.limit(0.975)
        for share in (0.05, 0.2):
            assert one.p_not_above(one.limit(share)) == pytest.approx(share, abs=0.02)


def test_the_power_of_the_seeds_left_is_high_for_a_clear_difference_and_low_for_none():
    """And none is left after the last."""
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


def run_sequentially(resamples):
    """The findings when no claim is open any more, and how many trainings it took."""
    trials = expand_trials(CONFIG)
    done = set(release_seeds(CONFIG, trials))
    while True:
        findings = judge(resamples, done)
        numerator = {claim.code: claim.numerator for claim in CLAIMS}
        claims = [
            OpenClaim(roles=(numerator[one.hypothesis], *one.against), levels=one.levels)
            for one in findings
            if not is_settled(one)
        ]
        if (released := set(release_seeds(CONFIG, trials, claims, done))) == done:
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
    return [one for claim in CLAIMS for one in assess(claim, roles, resamples, LEVELS, 0.95, predict=False)]


def test_a_clear_experiment_stops_before_all_seeds_are_trained():
    """A claim that is decided stays decided, and nothing is trained for it any more."""
    effects = {"general": 0.0, "specialised": -0.7, "transfer": -0.45}
    findings, trainings = run_sequentially(drawn(3, LEVELS, effects, 0.01, resamples=2000))
    overall = {one.hypothesis: one.verdict for one in findings if one.scope == OVERALL}
    assert overall == {"H1": Verdict.CONFIRMED, "H2": Verdict.REFUTED, "H3": Verdict.REFUTED}
    assert trainings < 0.7 * len(expand_trials(CONFIG))
    for one in findings:
        assert [look.seeds for look in one.looks] == list(range(2, one.seeds + 1))
        assert [look.p_confirm for look in one.looks] == sorted((x.p_confirm for x in one.looks), reverse=True)


SCENARIOS = {
    # Effects of the kinds, spread of trainings, which claims are just false and must seldom be confirmed.
    "as in the default run": ({"general": 0.0, "specialised": -0.7, "transfer": -0.45}, 0.01, ()),
    "as in the default run, trainings vary more": ({"general": 0.0, "specialised": -0.7, "transfer": -0.45}, 0.03, ()),
    "half as large": ({"general": 0.0, "specialised": -0.35, "transfer": -0.22}, 0.01, ()),
    "H1 just false": ({"general": 0.0, "specialised": 0.0, "transfer": 0.3}, 0.01, ("H1",)),
    "H1 just false, trainings vary more": ({"general": 0.0, "specialised": 0.0, "transfer": 0.3}, 0.05, ("H1",)),
    "H2 just false": ({"general": 0.0, "specialised": -log(1.1), "transfer": -0.02}, 0.03, ("H2",)),
    "H3 just false": ({"general": 0.0, "specialised": 0.3, "transfer": 0.0}, 0.03, ("H3",)),
}


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("case", list(SCENARIOS))
def test_sequential_seeds_keep_the_error_rate_and_save_trainings(case):
    """300 experiments each, as printed for BENCHMARKS.md."""
    effects, spread, false = SCENARIOS[case]
    experiments, overall, levels, trainings = 300, 0, 0, 0
    for seed in range(experiments):
        findings, took = run_sequentially(drawn(seed, LEVELS, effects, spread, resamples=2000))
        wrong = {one.scope for one in findings if one.hypothesis in false and one.verdict is Verdict.CONFIRMED}
        overall, levels, trainings = overall + (OVERALL in wrong), levels + bool(wrong - {OVERALL}), trainings + took
    saved = 1.0 - trainings / experiments / len(expand_trials(CONFIG))
    print(f"\n{case}: {saved:.1%} fewer trainings", end="")
    if false:
        print(f"; {false[0]} falsely confirmed overall {overall / experiments:.1%}, a level {levels / experiments:.1%}")
        assert overall / experiments <= 0.05
        assert levels / experiments <= 0.05
    if case == "as in the default run":
        assert saved >= 0.3
