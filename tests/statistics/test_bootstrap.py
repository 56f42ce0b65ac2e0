"""The paired cluster bootstrap."""

import itertools

import numpy as np
import pytest

from raysweep.statistics.bootstrap import resample_levels
from raysweep.statistics.contrasts import measure
from raysweep.statistics.group_influences import effective_number
from raysweep.statistics.loss_table import LevelLosses
from raysweep.statistics.weighted_parts import Part

TRUTH = {"A1": {"general": 3.0, "A1": 2.9}, "C1": {"general": 3.4, "A1": 3.9}}
MODELS = ("general", "A1")


def test_the_estimate_divides_total_nats_by_total_tokens(simulate):
    """Losses are sums: long documents weigh more than short ones, whoever wrote them."""
    losses, clusters = simulate(TRUTH, seed=1)
    drawn = resample_levels(losses, MODELS, resamples=100, seed=0, clusters=clusters).levels["A1"]
    expected = losses["A1"].nats.sum(axis=0) / losses["A1"].tokens.sum()
    # Nats are rounded to about 1e-10 here, so that sums are exact.
    np.testing.assert_allclose(drawn.estimates, expected, rtol=1e-9)


def test_a_resample_equals_drawing_learners_with_replacement():
    """It is compared with a loop over all 27 draws of 3 writers: no other value occurs."""
    tokens, nats = np.array([1, 2, 4, 8]), np.array([[3.0], [5.0], [7.0], [2.0]])
    writers = {0: "ann", 1: "bo", 2: "ann", 3: "cy"}
    table = LevelLosses(level="A1", documents=np.arange(4), tokens=tokens, nats=nats)
    drawn = resample_levels({"A1": table}, ["m"], resamples=4000, seed=0, clusters=writers).levels["A1"]
    rows = {"ann": (10.0, 5), "bo": (5.0, 2), "cy": (2.0, 8)}
    draws = itertools.product(rows.values(), repeat=3)
    expected = [sum(nats for nats, _ in draw) / sum(tokens for _, tokens in draw) for draw in draws]
    assert drawn.clusters == 3
    assert set(np.round(drawn.draws[:, 0], 9)) == set(np.round(expected, 9))
    # The mean of 4,000 draws is within 4 standard errors of the exact one.
    assert abs(drawn.draws.mean() - np.mean(expected)) < 4 * np.std(expected) / np.sqrt(4000)


def test_all_models_share_the_same_draws(simulate):
    """Two models with the same losses have the same resamples, so their ratio does not vary at all."""
    losses, clusters = simulate(TRUTH, seed=1)
    nats_of_one = losses["A1"].nats[:, :1]
    twice = LevelLosses(
        level="A1",
        documents=losses["A1"].documents,
        tokens=losses["A1"].tokens,
        nats=np.hstack([nats_of_one, nats_of_one]),
    )
    draws = resample_levels({"A1": twice}, MODELS, resamples=200, seed=0, clusters=clusters).levels["A1"].draws
    assert (draws[:, 0] == draws[:, 1]).all()


def test_draws_depend_on_the_seed_and_not_on_other_levels(simulate):
    """Removing a level that shares no learner changes the others' draws only by rounding."""
    losses, clusters = simulate(TRUTH, seed=1)
    both = resample_levels(losses, MODELS, resamples=150, seed=7, clusters=clusters)
    alone = resample_levels({"C1": losses["C1"]}, MODELS, resamples=150, seed=7, clusters=clusters)
    other = resample_levels(losses, MODELS, resamples=150, seed=8, clusters=clusters)
    again = resample_levels(losses, MODELS, resamples=150, seed=7, clusters=clusters)
    assert (both.levels["C1"].draws == again.levels["C1"].draws).all()
    np.testing.assert_allclose(both.levels["C1"].draws, alone.levels["C1"].draws, rtol=1e-9)
    assert (both.levels["C1"].draws != other.levels["C1"].draws).any()


def test_sums_do_not_depend_on_the_order_of_learners(simulate):
    """A matrix product may add in any order (threads, vector units); for whole numbers the order does not matter."""
    losses, _ = simulate(TRUTH, seed=3, writers=400, documents_per_writer=1)
    table = losses["A1"]
    drawn = resample_levels({"A1": table}, MODELS, resamples=100, seed=0).levels["A1"]
    backwards = LevelLosses(
        level="A1", documents=table.documents[::-1], tokens=table.tokens[::-1], nats=table.nats[::-1]
    )
    again = resample_levels({"A1": backwards}, MODELS, resamples=100, seed=0).levels["A1"]
    assert (drawn.estimates == again.estimates).all()


def test_without_learners_every_document_is_a_cluster(simulate):
    """The seed's corpus names no learners, so its documents are drawn individually."""
    losses, clusters = simulate(TRUTH, seed=1, writers=40, documents_per_writer=3)
    assert resample_levels(losses, MODELS, resamples=100, seed=0).levels["A1"].clusters == 120
    assert resample_levels(losses, MODELS, resamples=100, seed=0, clusters=clusters).levels["A1"].clusters == 40


def test_a_learner_is_drawn_on_all_levels_together(simulate):
    """If every learner wrote the same text on both levels, the levels' draws are the same, too."""
    losses, clusters = simulate(TRUTH, seed=1)
    table = losses["A1"]
    copy = LevelLosses(
        level="C1", documents=table.documents + len(table.documents), tokens=table.tokens, nats=table.nats
    )
    learner_of = clusters | {
        int(number) + len(table.documents): clusters[int(number)] for number in table.documents.tolist()
    }
    drawn = resample_levels({"A1": table, "C1": copy}, MODELS, resamples=200, seed=0, clusters=learner_of)
    assert (drawn.levels["A1"].draws == drawn.levels["C1"].draws).all()
    assert drawn.clusters.count == drawn.levels["A1"].clusters == 40
    assert drawn.clusters.strata == ((("A1", "C1"), 40),)


def test_levels_linked_by_shared_learners_form_one_stratum():
    """A1 and B1 share ann, B1 and C1 share bo: they are one stratum of three levels; B2 shares nobody."""
    writers = {0: "ann", 1: "ann", 2: "bo", 3: "bo", 4: "cy"}
    documents = {"A1": [0], "C1": [3], "B2": [4, 5], "B1": [1, 2]}
    losses = {
        level: LevelLosses(
            level=level, documents=np.array(names), tokens=np.ones(len(names), int), nats=np.ones((len(names), 1))
        )
        for level, names in documents.items()
    }
    drawn = resample_levels(losses, ["m"], resamples=100, seed=0, clusters=writers)
    assert {(frozenset(levels), count) for levels, count in drawn.clusters.strata} == {
        (frozenset({"A1", "B1", "C1"}), 2),
        (frozenset({"B2"}), 2),
    }


def test_documents_only_in_another_selection_are_also_drawn(simulate):
    """A document without a blank still has text, and counts for the metric of the text alone."""
    losses, clusters = simulate(TRUTH, seed=1)
    fewer = {"A1": losses["A1"].pick(np.arange(120) < 90)}
    drawn = resample_levels(fewer, MODELS, resamples=100, seed=0, clusters=clusters)
    again = drawn.again(losses)
    assert (drawn.levels["A1"].clusters, again.levels["A1"].clusters, again.levels["C1"].clusters) == (30, 40, 40)
    assert np.isfinite(again.levels["C1"].draws).all()
    assert again.levels["C1"].draws.std() > 0.0


def test_the_effective_number_of_learners_weights_them_by_tokens():
    """(Σw)² / Σw²: four equal learners count as four; if one of them wrote half, they count as three."""
    assert effective_number(np.array([2.0, 2.0, 2.0, 2.0])) == 4.0
    assert effective_number(np.array([3.0, 1.0, 1.0, 1.0])) == 3.0
    assert effective_number(np.zeros(3)) == 0.0


def test_averaging_seeds_before_drawing_gives_the_same_interval(simulate):
    """Only the mean of an entry's trainings is drawn; a contrast of a single training is refused."""
    names = {role: {seed: f"{role}-{seed}" for seed in range(3)} for role in ("general", "own")}
    truth = {name: 3.0 + 0.02 * seed for models in names.values() for seed, name in models.items()}
    losses, clusters = simulate({"B1": truth}, seed=1)
    parts = [Part(weight=w, level="B1", models=names[role]) for w, role in ((1.0, "general"), (-1.0, "own"))]
    options = {"resamples": 300, "seed": 0, "clusters": clusters}
    apart = resample_levels(losses, list(truth), **options)
    folded = resample_levels(losses, list(truth), **options, folds=[set(models.values()) for models in names.values()])
    assert folded.levels["B1"].draws.shape == (300, 2)
    first, second = measure(folded, parts), measure(apart, parts)
    assert first.seed_variance == pytest.approx(second.seed_variance)
    assert first.document_variance == pytest.approx(second.document_variance)
    np.testing.assert_allclose(first.draws, second.draws, rtol=0, atol=1e-7)
    assert folded.again(losses).folds == folded.folds
    with pytest.raises(AssertionError, match="parts the models of a fold"):
        measure(folded, [Part(weight=1.0, level="B1", models={0: "own-0"})])
