"""Losses with a known truth: every model's log perplexity over infinitely many writers."""

from collections.abc import Callable, Mapping

import numpy as np
import pytest

from raysweep.statistics.loss_table import LevelLosses

Simulated = tuple[dict[str, LevelLosses], dict[int, str]]


@pytest.fixture
def simulate() -> Callable[..., Simulated]:
    """Return `simulate_losses`."""
    return simulate_losses


def simulate_losses(
    truth: Mapping[str, Mapping[str, float]],
    *,
    seed: int,
    writers: int = 40,
    documents_per_writer: int = 3,
    shared: float = 0.5,
    own: float = 0.15,
) -> Simulated:
    """Documents of writers who are easy or hard for every model, a little more for some than for others.

    Args:
        truth: level, model: nats per token.
        shared: spread of the writers' hardness, the same for all models.
        own: spread of what a writer costs one model more than another.
    """
    rng = np.random.default_rng(seed)
    losses, clusters, first = {}, {}, 0
    for level, by_model in truth.items():
        count = writers * documents_per_writer
        writer = np.repeat(np.arange(writers), documents_per_writer)
        tokens = rng.integers(5, 60, count)
        hardness = rng.normal(0.0, shared, writers)[writer]
        particular = rng.normal(0.0, own, (writers, len(by_model)))[writer]
        noise = rng.normal(0.0, 0.2, (count, len(by_model)))
        per_token = np.array(list(by_model.values())) + hardness[:, None] + particular + noise
        documents = np.arange(first, first + count)
        losses[level] = LevelLosses(level=level, documents=documents, tokens=tokens, nats=per_token * tokens[:, None])
        clusters.update({int(document): f"{level}-{w}" for document, w in zip(documents, writer, strict=True)})
        first += count
    return losses, clusters
