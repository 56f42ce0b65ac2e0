"""The private names of Ray that raysweep uses.  No other file may mention one.

Each function says which public interface was tried and why it is not enough.  `check_private_names` looks
up every name before a run starts, so that a Ray that moved one is refused at once, not hours into a sweep.
"""

import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from enum import StrEnum
from typing import Any, NamedTuple

import ray

from raysweep.cluster.functions import first_line, resolve
from raysweep.errors import ResourceError


class PrivateName(StrEnum):
    """The names, as 'module:name'."""

    ENABLE_TOKEN = "ray._private.authentication.authentication_token_setup:maybe_enable_token_auth_if_token_available"
    PROPAGATED_VARIABLES = "ray.train.v2._internal.constants:ENV_VARS_TO_PROPAGATE"
    TRAINER = "ray.train.v2.api.data_parallel_trainer:DataParallelTrainer"
    DEFAULT_CALLBACKS = f"{TRAINER}._create_default_callbacks"
    DATASETS_CALLBACK = "ray.train.v2._internal.callbacks:DatasetsCallback"
    TRAIN_CONTEXT = "ray.train.v2._internal.execution.context:get_train_context"
    PREEMPTION_INFO = "ray.train.v2._internal.execution.preemption:PreemptionContext.preemption_info"
    NODE_OF_THIS_PROCESS = "ray._private.worker:_global_node"
    HAS_OUTER_ADDRESS = "ray._private.ray_constants:ENABLE_RAY_CLUSTER"
    GCS_CLIENT = "ray._raylet:GcsClient"
    DRAIN_REASON = "ray.core.generated.autoscaler_pb2:DrainNodeReason"
    PREPARE_CLUSTER_FILE = "ray.autoscaler._private.util:prepare_config"
    VALIDATE_CLUSTER_FILE = "ray.autoscaler._private.util:validate_config"
    IS_PREEMPTED = "ray.train.v2._internal.execution.worker_group.poll:_is_preempted_actor"
    SET_PROCESS_TITLE = "ray._raylet:setproctitle"
    SET_SIGTERM_HANDLER = "ray._private.utils:set_sigterm_handler"


SERVE_GRPC_PORT = "ray.serve._private.replica:add_port_to_grpc_server"
"""No `PrivateName`: Ray Serve is an extra, which a run does without."""


def check_private_names() -> None:
    """Look up every private name; raises ResourceError if the installed Ray does not have one of them."""
    for name in PrivateName:
        _look_up(name)


def enable_token_authentication() -> None:
    """Present the token in ~/.ray/auth_token, if there is one, when joining a cluster by its address.

    Public: RAY_AUTH_MODE=token is read when Ray is imported, which has already happened; `ray.init` looks for a
    token by itself only for the address 'auto', and is refused by the cluster for any other.
    """
    _look_up(PrivateName.ENABLE_TOKEN)(warn_if_disabled=False)


def leave_sigterm_alone() -> None:
    """Keep this process's SIGTERM handler while Ray starts and works.

    Public: none; Ray sets its own handlers in every main thread.  During Ray's start they end the process with 15 or 1
    before records are written, and one of them waits for servers that may not exist yet.
    """
    _look_up(PrivateName.SET_SIGTERM_HANDLER)
    module, _, name = PrivateName.SET_SIGTERM_HANDLER.partition(":")
    setattr(sys.modules[module], name, lambda handler: None)  # noqa: ARG005 - as Ray calls it


@contextmanager
def listening_on_loopback(is_wanted: bool) -> Iterator[None]:
    """Let the Ray that is started within, and all its processes, have the address 127.0.0.1 and listen there only.

    The environment is as before afterwards: a process that starts a cluster of several nodes must not inherit it.

    Public: `ray.init(_node_ip_address="127.0.0.1")` is replaced by the machine's outer address, on which, with
    all others, Ray then listens; the environment variable is read when Ray is imported, which has happened.
    """
    before = _look_up(PrivateName.HAS_OUTER_ADDRESS)
    module, _, name = PrivateName.HAS_OUTER_ADDRESS.partition(":")
    setattr(sys.modules[module], name, not is_wanted)
    # For the processes that Ray starts.
    variable, value = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0" if is_wanted else "1"
    value_before = os.environ.get(variable)
    os.environ[variable] = value
    try:
        yield
    finally:
        setattr(sys.modules[module], name, before)
        restore_environment({variable: Change(value_before, value)})


class Change(NamedTuple):
    """The values of an environment variable before and after a change; None if it is unset."""

    before: str | None
    after: str | None


def restore_environment(changes: Mapping[str, Change]) -> None:
    """Undo changes of this process's environment variables, except of those that have been changed again since."""
    for name, change in changes.items():
        if os.environ.get(name) != change.after:
            continue
        if change.before is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = change.before


def serve_on_loopback() -> None:
    """Make this process, a future replica of Ray Serve, open its gRPC server on the loopback interface only.

    Public: none.  By default it listens on every interface, requires no token, and unpickles what it receives, so
    anybody who can reach it can run code.  Requests reach a replica by Ray's own calls instead, which require the
    token.
    """
    add_port = _look_up(SERVE_GRPC_PORT)
    module, _, name = SERVE_GRPC_PORT.partition(":")
    setattr(sys.modules[module], name, lambda server, _: add_port(server, "127.0.0.1:0"))


def find_dead_servers() -> list[str]:
    """List which of the GCS and the raylet that this process started have ended.

    Public: none; `ray.nodes()` asks the GCS, and waits for one that is gone.
    """
    return [name for name in ("gcs_server", "raylet") if any(server.poll() is not None for server in _servers(name))]


def find_raylet() -> int:
    """Return the process id of the raylet that this process started.  Public: none."""
    return int(_servers("raylet")[0].pid)


def _servers(name: str) -> list[Any]:
    node = _look_up(PrivateName.NODE_OF_THIS_PROCESS)
    if node is None:  # Ray has been shut down.
        return []
    try:
        return [server.process for server in node.all_processes[name]]
    except (AttributeError, KeyError) as error:
        raise _moved(f"{PrivateName.NODE_OF_THIS_PROCESS}.all_processes['{name}']") from error


def propagate_to_train(variable: str) -> None:
    """Pass this process's environment variable on to Ray Train's controller and the actors that it starts.

    Public: `RunConfig(worker_runtime_env=…)` reaches only the workers, and a `runtime_env` of `ray.init`
    must be given before the cluster has the address that the variable would contain.
    """
    _look_up(PrivateName.PROPAGATED_VARIABLES).add(variable)


def make_lean_trainer(train_loop: Callable[[dict[str, Any]], Any], **settings: Any) -> Any:
    """Make a Ray Train trainer that starts neither a process group nor a dataset manager.

    Public: `ray.train.torch.TorchTrainer` imports torch in the driver and the controller, some 3 s of CPU for every
    trial, and every public trainer starts a process that serves Ray Datasets even if there are none.
    """
    trainer = _look_up(PrivateName.TRAINER)(train_loop, **settings)
    default_callbacks, datasets = _look_up(PrivateName.DEFAULT_CALLBACKS), _look_up(PrivateName.DATASETS_CALLBACK)
    trainer._create_default_callbacks = lambda: [
        callback for callback in default_callbacks(trainer) if not isinstance(callback, datasets)
    ]
    return trainer


def node_is_draining() -> bool:
    """Tell whether a Train worker's group has been notified that one of its nodes will be taken away.

    Public: `ray.train.get_preemption_info` waits until every worker calls it, but only rank 0 asks here.
    """
    context = _look_up(PrivateName.TRAIN_CONTEXT)()
    try:
        return context.preemption_context.preemption_info is not None
    except AttributeError as error:
        raise _moved(f"{PrivateName.TRAIN_CONTEXT}().preemption_context") from error


def drain_node(address: str, node: str, why: str, *, within_s: float) -> None:
    """Tell the cluster that a node will be taken away: what runs there is notified, and nothing new is placed there.

    Public: none; `ray drain-node` is a hidden command that does the same.

    Args:
        address: of the cluster's GCS.
        within_s: seconds until the node is gone.

    Raises:
        ResourceError: the cluster refuses.
    """
    client, reasons = _look_up(PrivateName.GCS_CLIENT), _look_up(PrivateName.DRAIN_REASON)
    reason = reasons.Value("DRAIN_NODE_REASON_PREEMPTION")
    is_accepted, why_not = client(address=address).drain_node(node, reason, why, int((time.time() + within_s) * 1000))
    if not is_accepted:
        raise ResourceError(f"node {node[:8]}: the cluster does not drain it: {why_not}")


def validate_cluster_file(values: Mapping[str, Any]) -> None:
    """Check the fields of a cluster.yaml against Ray's schema.

    Public: only `ray up`, which then starts the head.

    Raises:
        ResourceError: a field is unknown, missing or of the wrong type.
    """
    prepare, validate = _look_up(PrivateName.PREPARE_CLUSTER_FILE), _look_up(PrivateName.VALIDATE_CLUSTER_FILE)
    try:
        validate(prepare(dict(values)))
    except Exception as error:
        # Several types, Ray's and jsonschema's; the first line of each says what is wrong.
        raise ResourceError(first_line(str(error))) from error


def is_preempted(error: BaseException) -> bool:
    """Tell whether a worker was lost because its node was taken away.

    Public: `RayActorError.preempted`, but Train wraps that error in a private class of its own.
    """
    return bool(_look_up(PrivateName.IS_PREEMPTED)(error))


def forget_ended_trials(controller: Any) -> None:
    """Remove ended trials from Tune's controller, which keeps some 25 kB of each and looks at all of them in each step.

    The newest trial stays, because Tune looks in a file for the trials of an experiment without any.

    Public: none; `get_trials` gives the list, but Tune has ended trials in sets too.
    """
    ended = {trial for trial in controller.get_trials()[:-1] if trial.is_finished()}
    for name in ("_trials", "_live_trials", "_stopped_trials", "_failed_trials", "_trials_to_cache"):
        # A Ray that keeps them elsewhere keeps them: memory grows, and the sweep goes on.
        trials = getattr(controller, name, [])
        for trial in ended.intersection(trials):
            trials.remove(trial)


def title_process(title: str) -> None:
    """Set this process's title until its task ends, for `ps`, `top`, `nvidia-smi` and the Cluster tab.

    Public: none; an actor's name is fixed when it starts, before Tune gives it a trial.  The package setproctitle
    would move the memory into which Ray's own copy of it writes the next title.
    """
    _look_up(PrivateName.SET_PROCESS_TITLE)(title)


def _look_up(name: str) -> Any:
    try:
        return resolve(name)
    except (ImportError, AttributeError) as error:
        raise _moved(name) from error


def _moved(name: str) -> ResourceError:
    return ResourceError(
        f"Ray {ray.__version__} moved {name}; raysweep's cluster/ray_internals.py needs it. "
        "Install the Ray that constraints.txt names, or adapt that file"
    )
