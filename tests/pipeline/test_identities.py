"""What makes a training another training, and what only makes it faster."""

import pytest

from raysweep.config.loading import parse_config
from raysweep.pipeline.identities import trial_identities
from raysweep.scheduling.trials import expand_trials

TRIALS = {"A1": {"levels": ["A1"]}, "all": {"levels": ["A1", "B1"]}}


def prints_with(**training):
    config = parse_config({"data": {"levels": ["A1", "B1"]}, "training": training, "trials": TRIALS})
    return trial_identities(config, expand_trials(config), "examples")[1]


@pytest.mark.parametrize(
    "training", [{"micro_batch": 2}, {"packing": "on"}, {"packing": "off"}, {"keep": 5}, {"checkpoint_every": 7}]
)
def test_how_a_step_is_laid_out_and_what_is_kept_makes_no_other_training(training):
    """Finished models stay finished when a machine with another memory or disk goes on with the run."""
    assert prints_with(**training) == prints_with()


@pytest.mark.parametrize(
    "training", [{"batch_size": 9}, {"accumulation": 2}, {"precision": "bf16"}, {"window_batches": 3}, {"steps": 7}]
)
def test_what_a_step_learns_from_makes_another_training(training):
    """Every trial that it holds for."""
    before, after = prints_with(), prints_with(**training)
    assert all(before[trial] != after[trial] for trial in TRIALS)
