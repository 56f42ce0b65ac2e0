"""Other selections and weightings of the same losses."""

from dataclasses import replace

import numpy as np
import pytest

from raysweep.statistics.bootstrap import resample_levels
from raysweep.statistics.sensitivity import weigh_documents

TRUTH = {"A1": {"general": 3.1, "A1": 3.0}, "B1": {"general": 3.2, "A1": 3.4}}


def test_equally_weighted_documents_give_the_geometric_mean_perplexity(simulate):
    """The perplexity is the geometric mean of the documents' perplexities."""
    losses, clusters = simulate(TRUTH, seed=1)
    weighed = resample_levels(weigh_documents(losses), ["general", "A1"], resamples=100, seed=0, clusters=clusters)
    per_token = losses["A1"].nats / losses["A1"].tokens[:, None]
    np.testing.assert_allclose(weighed.levels["A1"].estimates, per_token.mean(axis=0), rtol=1e-9)


def test_a_selection_keeps_only_the_picked_documents(simulate):
    """Their tokens, nats and bytes are kept."""
    losses, _ = simulate(TRUTH, seed=1)
    losses["B1"] = replace(losses["B1"], bytes=losses["B1"].tokens * 4)
    wanted = losses["B1"].documents % 2 == 0
    picked = losses["B1"].pick(wanted)
    np.testing.assert_array_equal(picked.documents, losses["B1"].documents[wanted])
    np.testing.assert_array_equal(picked.nats, losses["B1"].nats[wanted])
    assert picked.tokens.sum() == losses["B1"].tokens[wanted].sum()
    np.testing.assert_array_equal(picked.bytes, picked.tokens * 4)


def test_selections_resampled_together_equal_separate_resampling(simulate):
    """They are equal to the bit if they have the same writers: drawing together only saves time."""
    losses, clusters = simulate(TRUTH, seed=2)
    tables = [losses, weigh_documents(losses)]
    together = resample_levels(losses, ["general", "A1"], resamples=300, seed=5, clusters=clusters).again_together(
        tables
    )
    for table, selection in zip(tables, together, strict=True):
        alone = resample_levels(table, ["general", "A1"], resamples=300, seed=5, clusters=clusters)
        for level, alone_table in alone.levels.items():
            np.testing.assert_array_equal(selection.levels[level].draws, alone_table.draws)
            np.testing.assert_array_equal(selection.levels[level].estimates, alone_table.estimates)


def test_a_selection_counts_only_its_own_learners(simulate):
    """Without half of the writers there are half as many independent ones, and the interval is that of the others."""
    losses, clusters = simulate(TRUTH, seed=3, writers=60)
    half = {level: table.pick(np.arange(len(table.documents)) < 90) for level, table in losses.items()}
    both, alone = (
        resample_levels(base, ["general", "A1"], resamples=2000, seed=0, clusters=clusters).again(half).levels["A1"]
        for base in (losses, half)
    )
    assert both.clusters == alone.clusters == 30
    np.testing.assert_allclose(both.estimates, alone.estimates, rtol=1e-12)
    # Two sets of 2,000 draws give the same spread within a few per cent.
    assert np.diff(both.draws).std() == pytest.approx(np.diff(alone.draws).std(), rel=0.1)


def test_draws_without_any_selected_learner_are_replaced_by_the_estimate(simulate):
    """One draw in seven misses two of sixty writers; such draws are replaced by the estimate."""
    losses, clusters = simulate(TRUTH, seed=3, writers=60)
    few = {level: table.pick(np.arange(len(table.documents)) < 6) for level, table in losses.items()}
    resamples = resample_levels(losses, ["general", "A1"], resamples=500, seed=0, clusters=clusters).again(few)
    assert np.isfinite(resamples.levels["A1"].draws).all()
    assert resamples.levels["A1"].clusters == 2
