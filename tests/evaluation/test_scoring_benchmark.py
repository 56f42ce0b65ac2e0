"""The benchmark of scoring compares equal work."""

import pytest
import torch

from raysweep.evaluation import scoring_benchmark
from raysweep.evaluation.scoring_benchmark import benchmark_scoring
from raysweep.training.synthetic import synthetic_examples


def test_no_ratio_is_given_if_the_two_loss_sums_differ(monkeypatch):
    """If the two ways do not find the same losses, no ratio is given."""
    monkeypatch.setattr(scoring_benchmark, "_plain_nats", lambda *_: (1.0, 1))
    with pytest.raises(AssertionError, match="the sum of all losses is"):
        benchmark_scoring(
            synthetic_examples(2, max_tokens=32),
            size="micro",
            max_tokens=32,
            device=torch.device("cpu"),
            like_transformers=True,
        )
