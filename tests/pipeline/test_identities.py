"""What makes a training another training, and what only makes it faster."""

import json

import pytest

from raysweep.config.loading import parse_config
from raysweep.pipeline import identities
from raysweep.pipeline.identities import classify_identity, scores_identity, trial_identities
from raysweep.scheduling.scorings import plan_scorings
from raysweep.scheduling.trials import expand_trials
from tests.start_folders import make_weights, write_start

TRIALS = {"A1": {"levels": ["A1"]}, "all": {"levels": ["A1", "B1"]}}


def prints_with(**training):
    config = parse_config({"data": {"levels": ["A1", "B1"]}, "training": training, "trials": TRIALS})
    return trial_identities(config, expand_trials(config))[1]


@pytest.mark.parametrize(
    "training", [{"micro_batch": 2}, {"packing": "on"}, {"packing": "off"}, {"keep": 5}, {"checkpoint_every": 7}]
)
def test_batch_layout_and_kept_checkpoints_do_not_change_the_fingerprint(training):
    """Finished models stay valid when the run continues on a machine with another memory or disk."""
    assert prints_with(**training) == prints_with()


@pytest.mark.parametrize(
    "training", [{"batch_size": 9}, {"accumulation": 2}, {"precision": "bf16"}, {"window_batches": 3}, {"steps": 7}]
)
def test_settings_that_change_what_a_step_learns_change_the_fingerprint(training):
    """The change affects every trial that uses the setting."""
    before, after = prints_with(), prints_with(**training)
    assert all(before[trial] != after[trial] for trial in TRIALS)


def test_replaced_start_weights_change_the_fingerprints_of_trials_and_scores(tmp_path):
    """The same weights in another folder give the same identity, because paths are not part of it."""

    def identities_from(folder):
        config = parse_config({"data": {"levels": ["A1", "B1"]}, "model": {"start": str(folder)}, "trials": TRIALS})
        trials = expand_trials(config)
        made_from, prints = trial_identities(config, trials)
        assert str(tmp_path) not in json.dumps(made_from)
        return prints, scores_identity(config, trials, plan_scorings(config, trials, trials)[0])

    prints, scores = identities_from(write_start(tmp_path / "start"))
    assert identities_from(write_start(tmp_path / "copy")) == (prints, scores)
    new_prints, new_scores = identities_from(write_start(tmp_path / "start", weights=make_weights(seed=1)))
    assert all(prints[trial] != new_prints[trial] for trial in TRIALS)
    assert scores != new_scores  # a trained model is known by its own content


@pytest.mark.parametrize("version", ["EXAMPLES_VERSION", "SCORES_VERSION"])
def test_a_new_perplexity_version_makes_classifiers_stale(monkeypatch, version):
    """It records whose perplexities it reads, and is refused for others, even if the numbers happen to be equal."""
    config = parse_config({"data": {"levels": ["A1", "B1"]}, "classification": {"folds": 5}, "trials": TRIALS})
    before = classify_identity(config, ["data"], ["all"])
    monkeypatch.setattr(identities, version, 99)
    assert classify_identity(config, ["data"], ["all"]) != before
