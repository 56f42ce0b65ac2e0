"""The metrics are declared once."""

from math import exp, isfinite

from raysweep.config.scored_metrics import METRIC_NAMES, METRIC_PARTS, METRICS, perplexity
from raysweep.model.token_losses import PARTS


def test_every_metric_has_its_parts_its_name_and_its_loss_in_training():
    """A metric missing in one room would fail at the end of a run."""
    assert set(METRICS) == set(METRIC_PARTS) == set(METRIC_NAMES) == set(PARTS)


def test_the_perplexity_of_a_hopeless_model_is_a_number():
    """exp overflows above 709 nats; a report must not crash on a model that bad."""
    assert perplexity(2.5) == exp(2.5)
    assert isfinite(perplexity(1e6))
