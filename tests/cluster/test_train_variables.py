"""Environment variables that Ray Train reads reach a cluster's processes, which lack the command's environment."""

from types import SimpleNamespace

import pytest

from raysweep.cluster.session import TRAIN_VARIABLES


@pytest.mark.parametrize("name", TRAIN_VARIABLES)
def test_the_trial_process_sets_the_variables_of_ray_train(name, monkeypatch, session, run, listener):
    """Without state tracking, the dashboard's Train tab answers with an error."""
    from ray.train.v2._internal import constants

    from raysweep.cluster import trial_driver

    monkeypatch.setattr(constants, "ENV_VARS_TO_PROPAGATE", set())
    monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("RAY_ADDRESS", "none")
    monkeypatch.setattr(trial_driver, "_trainer", lambda work: None)
    monkeypatch.setattr(trial_driver, "title_process", lambda title: None)
    with pytest.raises(AttributeError, match="fit"):
        trial_driver.drive({"work": Unshared()})
    assert constants.get_env_vars_to_propagate()[name] == TRAIN_VARIABLES[name]


class Unshared:
    """A training with its own worker group."""

    is_shared = False
    job = SimpleNamespace(trial="A1")
