"""Prompts as clusters that cross learners: whole experiments with known truth, as `pytest -m slow -s` prints them."""

import numpy as np
import pytest

from raysweep.statistics.bootstrap import resample_levels
from raysweep.statistics.contrasts import measure
from raysweep.statistics.loss_table import LevelLosses
from raysweep.statistics.role_models import RoleModels, mean_log_ratio

LEVELS = ("A1", "A2", "B1", "B2", "C1")
MODELS = ("general", "special")
ROLES = RoleModels(by_role={role: {level: {0: role} for level in LEVELS} for role in MODELS}, absent={})


def experiment(seed, prompts, *, spread=0.1, nested=True, writers=40):
    """Compare two models that are equal over all learners and prompts, each of which favours one of them."""
    rng = np.random.default_rng([seed, 17])
    losses, learner_of, prompt_of = {}, {}, {}
    shared = rng.normal(0.0, spread, prompts)
    for number, level in enumerate(LEVELS):
        writer = np.repeat(np.arange(writers), 3)
        prompt = rng.integers(0, prompts, len(writer))
        by_prompt = rng.normal(0.0, spread, prompts) if nested else shared
        own = rng.normal(0.0, 0.15, writers)
        tokens = rng.integers(5, 60, len(writer))
        hardness = rng.normal(0.0, 0.5, writers)[writer]
        per_token = 3.0 + hardness[:, None] + rng.normal(0.0, 0.2, (len(writer), 2))
        per_token[:, 0] += own[writer] + by_prompt[prompt]
        documents = np.arange(len(writer)) + number * len(writer)
        losses[level] = LevelLosses(level=level, documents=documents, tokens=tokens, nats=per_token * tokens[:, None])
        learner_of |= {int(document): f"{level}-{w}" for document, w in zip(documents, writer, strict=True)}
        place = level if nested else ""
        prompt_of |= {int(document): f"{place}-{p}" for document, p in zip(documents, prompt, strict=True)}
    return losses, learner_of, prompt_of


def measured(seed, prompts, levels, *, is_crossed=True, resamples=1000, **options):
    losses, learner_of, prompt_of = experiment(seed, prompts, **options)
    drawn = resample_levels(
        losses,
        MODELS,
        resamples=resamples,
        seed=seed,
        clusters=learner_of,
        prompts=prompt_of if is_crossed else None,
    )
    return measure(drawn, mean_log_ratio("general", "special", ROLES, levels))


def rates(experiments, prompts, levels, **options):
    """Return the shares of experiments whose interval contains the truth, and of those that confirm H1."""
    contrasts = [measured(seed, prompts, levels, **options) for seed in range(experiments)]
    intervals = [contrast.interval(0.95) for contrast in contrasts]
    held = sum(low <= 0.0 <= high for low, high in intervals) / experiments
    return held, sum(contrast.p_not_above(0.0) <= 0.025 for contrast in contrasts) / experiments


def test_two_way_clustering_keeps_coverage_for_new_prompts():
    """Eight prompts per level, 80 experiments: drawing only learners gives intervals that are much too narrow."""
    crossed, _ = rates(80, 8, ["B1"], spread=0.2, resamples=300)
    alone, _ = rates(80, 8, ["B1"], spread=0.2, resamples=300, is_crossed=False)
    assert crossed >= 0.88
    assert alone <= 0.80


def test_prompts_without_an_effect_hardly_widen_the_interval():
    """Prompts add only the variance that their learners and documents do not explain."""
    widths = {
        is_crossed: np.median(
            [np.diff(measured(s, 16, ["B1"], spread=0.0, is_crossed=is_crossed).interval(0.95)) for s in range(30)]
        )
        for is_crossed in (True, False)
    }
    assert widths[False] <= widths[True] <= 1.15 * widths[False]


def test_the_two_way_variance_equals_that_of_cameron_gelbach_and_miller():
    """V(learners) + V(prompts) − V(learners × prompts), compared with sums computed document by document."""
    contrast = measured(3, 16, ["B1"])
    losses, _, prompt_of = experiment(3, 16)
    table = losses["B1"]
    means = table.nats.sum(axis=0) / table.tokens.sum()
    influence = ((table.nats - means * table.tokens[:, None]) / table.tokens.sum()) @ np.array([1.0, -1.0])
    prompts = [prompt_of[document] for document in table.documents.tolist()]
    cells = [f"{index // 3} {prompt}" for index, prompt in enumerate(prompts)]

    def variance(groups):
        shares = np.array([table.tokens[[g == group for g in groups]].sum() for group in sorted(set(groups))])
        shares = shares / shares.sum()
        sums = np.array([influence[[g == group for g in groups]].sum() for group in sorted(set(groups))])
        widening = np.sum(shares**2) / np.sum(shares**2 * (1 - 2 * shares + np.sum(shares**2)))
        return widening * np.sum(sums**2)

    assert contrast.prompt_variance == pytest.approx(variance(prompts) - variance(cells))
    assert contrast.prompts == 16


def test_a_learners_texts_to_a_prompt_form_one_cluster_on_all_levels():
    """A level with fewer prompts uses the same numbers, and no two learners or prompts share a number."""
    written = {"A1": [("ann", "trip"), ("bob", "trip"), ("eve", "trip")]}
    written["B1"] = [("bob", "home"), ("eve", "trip"), ("ann", "trip"), ("bob", "food")]
    losses, learner_of, prompt_of = {}, {}, {}
    for first, (level, texts) in enumerate(written.items()):
        numbers = 10 * first + np.arange(len(texts))
        nats = np.ones((len(texts), 1))
        losses[level] = LevelLosses(level=level, documents=numbers, tokens=np.full(len(texts), 4), nats=nats)
        learner_of |= {int(number): learner for number, (learner, _) in zip(numbers, texts, strict=True)}
        prompt_of |= {int(number): prompt for number, (_, prompt) in zip(numbers, texts, strict=True)}
    drawn = resample_levels(losses, ["m"], resamples=2, seed=0, clusters=learner_of, prompts=prompt_of)
    cells = {level: set(drawn.levels[level].cells.members.tolist()) for level in written}
    assert {level: len(numbers) for level, numbers in cells.items()} == {"A1": 3, "B1": 4}
    assert len(cells["A1"] & cells["B1"]) == 2, "ann and eve wrote about a trip on both levels"


def test_a_single_prompt_gives_an_interval_for_this_prompt_only():
    """The interval holds for this prompt; therefore the stated number of prompts is 0."""
    assert measured(0, 1, ["B1"]).prompts == 0
    assert measured(0, 1, ["B1"]).prompt_variance == 0.0
    assert measured(0, 3, LEVELS).prompts == 15


@pytest.mark.slow
@pytest.mark.parametrize(("prompts", "nested"), [(3, True), (4, True), (8, True), (16, True), (30, True), (16, False)])
def test_two_way_clustering_keeps_coverage_in_many_experiments(prompts, nested):
    """At least 93 % with 16 prompts per level (overall 92), 90 % with fewer; at most 5 % false claims."""
    (level, _), (overall, false), (alone, _) = (
        rates(1500, prompts, levels, nested=nested, resamples=500, is_crossed=is_crossed)
        for levels, is_crossed in ((["B1"], True), (LEVELS, True), (["B1"], False))
    )
    kind = "a level" if nested else "on all levels"
    print(f"\n{prompts} prompts {kind}: level {level:.1%}, overall {overall:.1%}, H1 false {false:.1%}", end="")
    print(f"; a level with learners alone {alone:.1%}")
    assert level >= (0.93 if prompts >= 16 else 0.90)
    assert overall >= (0.92 if prompts >= 16 else 0.90)
    assert false <= 0.05
