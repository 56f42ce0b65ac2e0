"""The metrics are declared once."""

from math import exp, isfinite

from raysweep.config.scored_metrics import METRIC_NAMES, METRIC_PARTS, METRICS, perplexity
from raysweep.model.token_losses import PARTS


def test_every_metric_has_parts_a_title_and_a_training_loss():
    """A metric missing in one room would fail at the end of a run."""
    assert set(METRICS) == set(METRIC_PARTS) == set(METRIC_NAMES) == set(PARTS)


def test_the_perplexity_of_a_huge_loss_does_not_overflow():
    """exp overflows above 709 nats; a report must not crash on a model that bad."""
    assert perplexity(2.5) == exp(2.5)
    assert isfinite(perplexity(1e6))
