"""Learners of unknown level: which model should answer, and the cost of not knowing the level."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raysweep.statistics.level_posterior import log_posterior, mix, score_unknown_levels
from raysweep.statistics.loss_table import read_losses

LEVELS = ("A1", "B1", "C1")
MODELS = ("all", "A1", "B1", "C1")
EXPERTS = {level: level for level in LEVELS}
SHARES = {"A1": 60, "B1": 30, "C1": 10}


def losses_of(tmp_path, documents):
    """Write documents: (level, visible tokens, their nats per token by model, answer tokens, answer nats by model)."""
    rows = []
    for number, (level, visible, visible_nats, answers, answer_nats) in enumerate(documents):
        for model in MODELS:
            if visible:
                rows.append((model, level, number, "", "first_context", visible * visible_nats[model], visible))
            rows.append((model, level, number, "", "first_answer", answer_nats[model] - 0.5, answers - 1))
            rows.append((model, level, number, "", "first_end", 0.5, 1))
    names = ("model", "level", "document", "kind", "part", "nats", "tokens")
    pq.write_table(pa.table(dict(zip(names, map(list, zip(*rows, strict=True)), strict=True))), tmp_path / "l.parquet")
    return read_losses(tmp_path / "l.parquet", LEVELS)


def nats(**others):
    return {"all": 3.0, "A1": 4.0, "B1": 4.0, "C1": 4.0, **others}


def test_the_model_with_the_lowest_loss_on_visible_text_is_chosen(tmp_path):
    """Its level is the guess, right or wrong; the oracle knows the level."""
    table = losses_of(
        tmp_path,
        [("A1", 50, nats(A1=2.0), 5, nats(A1=10.0)), ("B1", 50, nats(C1=2.0), 5, nats(B1=11.0, C1=17.0))],
    )
    scores = score_unknown_levels(table, EXPERTS, "all", SHARES)
    assert scores.is_right.tolist() == [True, False]
    assert scores.nats["chosen"].tolist() == [10.0, 17.0]
    assert scores.nats["oracle"].tolist() == [10.0, 11.0]
    assert scores.nats["general"].tolist() == [3.0, 3.0]
    assert scores.confusion().tolist() == [[1, 0, 0], [0, 0, 1], [0, 0, 0]]


def test_without_visible_text_the_prior_decides_and_the_general_model_answers(tmp_path):
    """Without a general model, the model of the most frequent level answers."""
    table = losses_of(tmp_path, [("B1", 0, {}, 5, nats(A1=8.0)), ("C1", 9, nats(C1=1.0), 5, nats())])
    scores = score_unknown_levels(table, EXPERTS, "all", SHARES)
    np.testing.assert_allclose(scores.posterior[0], [0.6, 0.3, 0.1])
    assert scores.nats["chosen"][0] == 3.0
    assert scores.confusion().sum() == 1
    alone = score_unknown_levels(table, EXPERTS, None, SHARES)
    assert "general" not in alone.nats
    assert alone.nats["chosen"][0] == 8.0


def test_the_posterior_follows_bayes_rule():
    """Computed by hand: prior 3 to 1, likelihoods 1 to 2."""
    posterior = np.exp(log_posterior(np.log([[2.0, 1.0]]), [3, 1]))
    np.testing.assert_allclose(posterior, [[0.6, 0.4]])


def test_the_mixture_loss_equals_token_by_token_mixing():
    """This is an independent check: next-token probabilities are mixed, and weights updated after every token."""
    rng = np.random.default_rng(0)
    token_nats_TK, weights_K = rng.gamma(2.0, 1.5, (12, 5)), np.array([0.1, 0.2, 0.3, 0.15, 0.25])
    moving, total = weights_K.copy(), 0.0
    for nats_K in token_nats_TK:
        probabilities = np.exp(-nats_K)
        total -= np.log(moving @ probabilities)
        moving = moving * probabilities / (moving @ probabilities)
    np.testing.assert_allclose(mix(np.log(weights_K)[None], token_nats_TK.sum(axis=0)[None]), [total])


@pytest.mark.parametrize("seed", range(20))
def test_the_mixture_loss_is_bounded_by_each_models_loss_and_weight(seed):
    """Its loss exceeds each model's by at most minus the log of that model's weight, also where losses overflow."""
    rng = np.random.default_rng(seed)
    scale = 10.0 ** rng.uniform(-2, 4)
    nats_DK = rng.gamma(1.0, scale, (200, 5))
    log_weights_DK = log_posterior(rng.gamma(1.0, scale, (200, 5)), rng.integers(1, 100, 5))
    mixed_D = mix(log_weights_DK, nats_DK)
    assert np.isfinite(mixed_D).all()
    assert (mixed_D <= nats_DK.max(axis=1) * (1 + 1e-12)).all()
    assert (mixed_D[:, None] <= nats_DK - log_weights_DK + 1e-9 * scale).all()


def test_a_level_without_a_model_is_excluded_with_its_documents(tmp_path):
    """Its training failed, so no document can be assigned to that level."""
    documents = [(level, 20, nats(), 5, nats()) for level in LEVELS]
    scores = score_unknown_levels(losses_of(tmp_path, documents), {"A1": "A1", "C1": "C1"}, "all", SHARES)
    assert scores.levels == ("A1", "C1")
    assert scores.documents.tolist() == [0, 2]


def test_scores_of_an_older_version_without_first_masks_give_no_result(tmp_path):
    """Levels without a test document contribute nothing."""
    table = losses_of(tmp_path, [("A1", 20, nats(), 5, nats()), ("B1", 20, nats(), 5, nats())])
    assert score_unknown_levels(table, {"C1": "C1"}, "all", SHARES) is None
    parts = np.array([name.replace("first_", "earlier_") for name in table.parts])
    assert score_unknown_levels(replace(table, parts=parts), EXPERTS, "all", SHARES) is None
