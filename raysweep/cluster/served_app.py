"""Serves a web app with Ray Serve: replicas behind one HTTP proxy, for the duration of a block.

The app is made by a function that each replica calls once, so its models are loaded only there.  The app
itself answers requests when it is busy; if the queue behind the proxy is full too, the proxy answers 503.
"""

import logging
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

from ray import serve
from ray.exceptions import RayError

from raysweep.cluster.functions import last_line, resolve
from raysweep.cluster.ray_internals import serve_on_loopback
from raysweep.cluster.session import Session
from raysweep.errors import ConfigError, ResourceError, TrainingError

APP = "raysweep"
_MOST_ONGOING = 100
"""Requests that a replica accepts at a time: those in its own queue, one batch, and some for the page."""
_MOST_QUEUED = 200
"""Requests that the proxy queues while every replica is full."""
_PROXY_VARIABLE = "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH"
_FAILED = ("UNHEALTHY", "DEPLOY_FAILED")
_LOOK_S = 0.2
_HEALTH_S = 2.0
"""Seconds between Serve's checks for lost replicas; the default is 10."""
_END_WITHIN_S = 10.0
"""Seconds that a replica has to answer its current batch when it is stopped."""


class _Replica:
    """A process that answers requests; Ray Serve wraps it."""

    def __init__(
        self, make_app: str, arguments: Mapping[str, Any], require: Callable[[], None] | None, threads: int
    ) -> None:
        os.environ["OMP_NUM_THREADS"] = str(threads)  # before torch is imported
        serve_on_loopback()
        if require is not None:
            require()
        self._app = resolve(make_app)(**arguments)

    def __serve_build_asgi_app__(self) -> Any:
        return self._app


@contextmanager
def serving(
    session: Session,
    make_app: str,
    arguments: Mapping[str, Any],
    *,
    replicas: int,
    host: str,
    port: int,
    proxy: str | None = None,
) -> Iterator[Callable[[], str]]:
    """Serve the app during the block; yield a function that returns its state, RUNNING if all is well.

    Each replica gets the CPUs and GPUs of a trial.  The function raises ResourceError if something else ended the app,
    such as `serve shutdown`.

    Args:
        make_app: 'module:function', called with the arguments; returns an ASGI app.
        host, port: where the proxy listens, on the cluster's head.
        proxy: 'module:function', which returns the Starlette middlewares of the proxy.

    Raises:
        ConfigError: Ray Serve is already serving something on this cluster.
        ResourceError: the replicas do not fit, or the proxy cannot listen there.
        TrainingError: the app cannot be made.
    """
    need = session.need()
    places = int(min(session.capacity.cpus / need.cpus, session.capacity.gpus / need.gpus if need.gpus else replicas))
    if replicas > places:
        raise ResourceError(
            f"--replicas: found {replicas}; the cluster has room for {places}, each with {need.cpus:g} CPUs and "
            f"{need.gpus:g} GPUs (resources.cpus_per_trial, resources.gpus_per_trial)"
        )
    logging.getLogger("ray.serve").setLevel(logging.ERROR)
    if others := serve.status().proxies:
        names = ", ".join(serve.status().applications) or "no application"
        raise ConfigError(
            f"Ray Serve serves on this cluster already ({names[:80]}, {len(others)} proxies); end that first: "
            "`serve shutdown --yes` on the head"
        )
    deployment = serve.deployment(
        num_replicas=replicas,
        max_ongoing_requests=_MOST_ONGOING,
        max_queued_requests=_MOST_QUEUED,
        health_check_period_s=_HEALTH_S,
        graceful_shutdown_timeout_s=_END_WITHIN_S,
        graceful_shutdown_wait_loop_s=_LOOK_S,
        ray_actor_options={"num_cpus": need.cpus, "num_gpus": need.gpus},
    )(serve.ingress()(_Replica))
    app = deployment.bind(make_app, dict(arguments), session.check.require if session.check else None, int(need.cpus))
    try:
        _start(app, host, port, proxy)
        yield partial(_describe_state, replicas)
    except (Exception, KeyboardInterrupt):  # not BaseException: if Ray is lost, nothing may wait for it
        _stop(session)
        raise
    _stop(session)


def _start(app: Any, host: str, port: int, proxy: str | None = None) -> None:
    # The controller starts the proxies, which inherit its environment variables.
    variables = {} if proxy is None else {_PROXY_VARIABLE: proxy}
    try:
        serve.start(
            proxy_location="HeadOnly",
            http_options={"host": host, "port": port},
            controller_options={"runtime_env": {"env_vars": variables}},
        )
    except (RayError, TimeoutError, RuntimeError) as error:
        raise ResourceError(f"--host {host[:80]} --port {port}: {last_line(str(error))}") from error
    try:
        serve.run(app, name=APP, route_prefix="/")
    except (RayError, RuntimeError) as error:
        app_now = serve.status().applications.get(APP)
        messages = [] if app_now is None else [deployment.message for deployment in app_now.deployments.values()]
        raise TrainingError(f"the app cannot be served: {last_line((messages or [str(error)])[0])}") from error


def _describe_state(replicas: int) -> str:
    """Return the app's state in Ray Serve's words; with the reason if fewer than `replicas` replicas answer."""
    app = serve.status().applications.get(APP)
    if app is None:
        raise ResourceError(
            f"Ray Serve's app '{APP}' was ended by someone else (`serve shutdown`, or another program on this "
            "cluster); give the same command to serve again"
        )
    deployments = app.deployments.values()
    running = sum(deployment.replica_states.get("RUNNING", 0) for deployment in deployments)  # type: ignore[call-overload]
    fewer = f", {running} of {replicas} replicas answer" if running < replicas else ""
    messages = [deployment.message for deployment in deployments if deployment.message]
    reason = f": {last_line(messages[0])}" if messages and app.status.value in _FAILED else ""
    return f"{app.status.value}{fewer}{reason}"


def _stop(session: Session) -> None:
    applications = set(serve.status().applications)
    if session.local is None and applications <= {APP}:  # whoever ended our app may serve another
        serve.shutdown()  # type: ignore[no-untyped-call]
    elif APP in applications:
        # The rest of Serve ends with Ray; `shutdown` would print that its controller was killed.
        serve.delete(APP)
