"""Leakage effects, on losses whose truth is known."""

import numpy as np
import pytest

from raysweep.statistics.bootstrap import resample_levels
from raysweep.statistics.leak_effects import LeakyDocuments

TRUTH = {"A1": {"start": 7.0, "all": 2.5, "A1": 2.4}, "B1": {"start": 7.0, "all": 2.6, "A1": 3.0}}


def leaky_losses(simulate, *, given_away, easier=0.0, share=0.3, writers=60):
    """Return losses in which a share of documents is easier for all models, and easier still for model 'all'."""
    losses, clusters = simulate(TRUTH, seed=0, writers=writers, documents_per_writer=1, shared=0.2, own=0.05)
    leaky = []
    for table in losses.values():
        known = np.arange(len(table.documents)) < share * len(table.documents)
        table.nats[known] -= easier * table.tokens[known, None]
        table.nats[known, 1] -= given_away * table.tokens[known]
        leaky += table.documents[known].tolist()
    drawn = resample_levels(losses, ["start", "all", "A1"], resamples=1000, seed=0, clusters=clusters)
    return LeakyDocuments(losses, leaky, drawn), leaky


def test_the_leakage_effect_is_the_loss_reduction_on_known_documents(simulate):
    """If 0.2 nats per token leak, perplexity is 18 % too low, and the interval contains that."""
    documents, leaky = leaky_losses(simulate, given_away=0.2, writers=400)
    effect = documents.effect({0: "all"}, ["A1", "B1"], "start", 0.95)
    assert effect.documents == len(leaky) == 240
    assert effect.against_start.value == pytest.approx(np.exp(-0.2), abs=0.03)
    assert effect.against_start.high < 1.0
    assert effect.ratio.value == pytest.approx(effect.leaky / effect.clean)
    honest = documents.effect({0: "A1"}, ["A1"], "start", 0.95)
    assert honest.against_start.low < 1.0 < honest.against_start.high


def test_intrinsically_easier_documents_show_no_leakage_effect(simulate):
    """The start model, trained on none of them, finds them easier, too."""
    documents, _ = leaky_losses(simulate, given_away=0.0, easier=0.5)
    effect = documents.effect({0: "all"}, ["A1", "B1"], "start", 0.95)
    assert effect.ratio.high < 0.8
    assert effect.against_start.low < 1.0 < effect.against_start.high


def test_too_few_leaky_learners_give_a_ratio_without_an_interval(simulate):
    """The ratio is given without limits."""
    documents, _ = leaky_losses(simulate, given_away=0.2, share=0.05)
    effect = documents.effect({0: "all"}, ["A1", "B1"], None, 0.95)
    assert effect.ratio.low is effect.ratio.high is effect.against_start is None
    assert effect.documents == 6


def test_a_level_without_leaky_or_without_clean_documents_has_no_leakage_effect(simulate):
    """There is nothing to compare."""
    assert leaky_losses(simulate, given_away=0.2, share=0.0)[0].effect({0: "all"}, ["A1"], "start", 0.95) is None
    assert leaky_losses(simulate, given_away=0.2, share=1.0)[0].effect({0: "all"}, ["A1"], "start", 0.95) is None
