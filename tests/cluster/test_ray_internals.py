"""Ray's private names: all of them work with the Ray installed, and an error names one that is missing."""

import re
from pathlib import Path
from types import SimpleNamespace

import pytest

from raysweep.errors import ResourceError

USES = {
    "enable_token_authentication": ("ENABLE_TOKEN", lambda ours: ours.enable_token_authentication()),
    "propagate_to_train": ("PROPAGATED_VARIABLES", lambda ours: ours.propagate_to_train("RAY_ADDRESS")),
    "make_lean_trainer": ("TRAINER", lambda ours: ours.make_lean_trainer(print)),
    "make_lean_trainer, callbacks": ("DEFAULT_CALLBACKS", lambda ours: ours.make_lean_trainer(print)),
    "make_lean_trainer, datasets": ("DATASETS_CALLBACK", lambda ours: ours.make_lean_trainer(print)),
    "node_is_draining": ("TRAIN_CONTEXT", lambda ours: ours.node_is_draining()),
    "listening_on_loopback": ("HAS_OUTER_ADDRESS", lambda ours: ours.listening_on_loopback(True).__enter__()),
    "serve_on_loopback": ("SERVE_GRPC_PORT", lambda ours: ours.serve_on_loopback()),
    "find_dead_servers": ("NODE_OF_THIS_PROCESS", lambda ours: ours.find_dead_servers()),
    "find_raylet": ("NODE_OF_THIS_PROCESS", lambda ours: ours.find_raylet()),
    "drain_node": ("GCS_CLIENT", lambda ours: ours.drain_node("127.0.0.1:1", "0" * 56, "", within_s=1.0)),
    "drain_node, reason": ("DRAIN_REASON", lambda ours: ours.drain_node("127.0.0.1:1", "0" * 56, "", within_s=1.0)),
    "validate_cluster_file": ("PREPARE_CLUSTER_FILE", lambda ours: ours.validate_cluster_file({})),
    "validate_cluster_file, schema": ("VALIDATE_CLUSTER_FILE", lambda ours: ours.validate_cluster_file({})),
    "title_process": ("SET_PROCESS_TITLE", lambda ours: ours.title_process("x")),
    "leave_sigterm_alone": ("SET_SIGTERM_HANDLER", lambda ours: ours.leave_sigterm_alone()),
    "is_preempted": ("IS_PREEMPTED", lambda ours: ours.is_preempted(ValueError())),
}


@pytest.fixture
def ours():
    from raysweep.cluster import ray_internals

    return ray_internals


def remove(monkeypatch, private_name):
    """Take the name out of Ray, as a newer Ray may."""
    module, _, attribute = private_name.partition(":")
    monkeypatch.delattr(".".join(filter(None, [module, attribute])))


@pytest.mark.parametrize("use", USES)
def test_using_a_private_name_that_ray_moved_is_reported_with_the_fix(ours, monkeypatch, use):
    """Not an AttributeError from within a trial, an hour into a sweep."""
    constant, call = USES[use]
    name = ours.SERVE_GRPC_PORT if constant == "SERVE_GRPC_PORT" else ours.PrivateName[constant]
    remove(monkeypatch, name)
    with pytest.raises(ResourceError, match=rf"moved {re.escape(name)}; raysweep's cluster/ray_internals.py needs it"):
        call(ours)


def test_a_session_is_refused_before_ray_starts_if_a_private_name_moved(ours, monkeypatch, tmp_path):
    """Every name is looked up, also those that only a lost node needs."""
    from raysweep.cluster.session import open_session
    from raysweep.config.resource_settings import ResourcesConfig

    for name in ours.PrivateName:
        with monkeypatch.context() as moved, pytest.raises(ResourceError, match=rf"moved {re.escape(name)}; "):
            remove(moved, name)
            open_session(ResourcesConfig(), scratch=tmp_path)


def test_every_private_name_exists_in_the_tested_ray(ours):
    """In the Ray that the tests run with."""
    ours.check_private_names()


def test_no_other_file_uses_private_names_of_ray():
    """One file to look at when Ray is upgraded."""
    package = Path(__file__).parents[2] / "raysweep"
    private = re.compile(r"\bray\.(\w+\.)*_(?!_version__)|ray\.train\.v2")
    mentions = {path.name for path in package.rglob("*.py") if private.search(path.read_text(encoding="utf-8"))}
    assert mentions == {"ray_internals.py"}


# Ray Data warns of its own deprecated fields when it makes its context.
@pytest.mark.filterwarnings("ignore::DeprecationWarning:ray.data.context")
def test_the_lean_trainer_starts_no_dataset_manager(ours):
    """It has all callbacks of a public trainer but that one."""
    from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer

    public = {type(callback).__name__ for callback in DataParallelTrainer(print)._create_default_callbacks()}
    lean = {type(callback).__name__ for callback in ours.make_lean_trainer(print)._create_default_callbacks()}
    assert public - lean == {"DatasetsCallback"}
    assert lean < public


def test_a_propagated_variable_reaches_trains_controller(ours, monkeypatch):
    """As Train collects them for its controller."""
    from ray.train.v2._internal import constants

    monkeypatch.setattr(constants, "ENV_VARS_TO_PROPAGATE", {"RAY_TRAIN_V2_ENABLED"})
    monkeypatch.setenv("RAY_ADDRESS", "192.0.2.7:6379")
    ours.propagate_to_train("RAY_ADDRESS")
    assert constants.get_env_vars_to_propagate()["RAY_ADDRESS"] == "192.0.2.7:6379"


def test_a_worker_lost_with_a_reclaimed_node_is_preempted_and_a_crashed_one_is_not(ours):
    """As Train hands both over: wrapped in its own error."""
    from ray.exceptions import ActorDiedError, RayActorError
    from ray.train.v2._internal.exceptions import WorkerHealthCheckFailedError

    reclaimed = RayActorError("actor", "its node was drained", preempted=True)
    assert ours.is_preempted(WorkerHealthCheckFailedError("lost", reclaimed))
    assert not ours.is_preempted(WorkerHealthCheckFailedError("lost", ActorDiedError()))


@pytest.mark.parametrize("info", [None, object()], ids=["no notice", "a notice"])
def test_a_worker_reads_the_preemption_notice_without_a_collective(ours, monkeypatch, info):
    """Rank 0 alone asks between two steps."""
    from types import SimpleNamespace

    from ray.train.v2._internal.execution import context

    notice = SimpleNamespace(preemption_context=SimpleNamespace(preemption_info=info))
    monkeypatch.setattr(context, "get_train_context", lambda: notice)
    assert ours.node_is_draining() is (info is not None)


def test_a_train_context_without_a_preemption_field_is_reported(ours, monkeypatch):
    """The field exists on instances only, so the check before the run cannot see it."""
    from ray.train.v2._internal.execution import context

    monkeypatch.setattr(context, "get_train_context", object)
    with pytest.raises(ResourceError, match=r"moved .*get_train_context\(\).preemption_context; "):
        ours.node_is_draining()


def test_a_node_with_other_process_attributes_is_reported(ours, monkeypatch):
    """Its attributes exist on instances only, so the check before the run cannot see them."""
    from ray._private import worker

    monkeypatch.setattr(worker, "_global_node", object())
    with pytest.raises(ResourceError, match=r"moved .*_global_node\.all_processes\['gcs_server'\]; "):
        ours.find_dead_servers()


def test_a_refused_drain_is_reported_with_its_reason(ours, monkeypatch):
    """The watcher asks again."""
    from ray import _raylet

    class Refusing:
        def __init__(self, address):
            self.address = address

        def drain_node(self, node, reason, why, until_ms):
            return False, f"{node} is the head of {self.address}"

    monkeypatch.setattr(_raylet, "GcsClient", Refusing)
    with pytest.raises(ResourceError, match=r"^node 00000000: the cluster does not drain it: 0+ is the head of h:1$"):
        ours.drain_node("h:1", "0" * 56, "spot", within_s=1.0)


def test_ended_trials_are_dropped_except_the_newest(ours):
    """Tune keeps some 25 kB of each, and looks at all of them in every step."""
    from ray.tune.experiment import Trial

    ended, failed, running, newest = trials = [Trial("made up", stub=True) for _ in range(4)]
    for trial, status in zip(trials, (Trial.TERMINATED, Trial.ERROR, Trial.RUNNING, Trial.TERMINATED), strict=True):
        trial.set_status(status)
    controller = SimpleNamespace(
        get_trials=lambda: trials,
        _trials=trials,
        _live_trials={failed, running},
        _stopped_trials={ended, newest},
        _trials_to_cache=set(trials),
    )
    ours.forget_ended_trials(controller)  # which keeps its failed trials elsewhere, as another Ray may
    assert trials == [running, newest]
    assert controller._live_trials == {running}
    assert controller._stopped_trials == {newest}
    assert controller._trials_to_cache == {running, newest}
