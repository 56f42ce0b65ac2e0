"""Serve a web app on Ray Serve: replicas behind one HTTP proxy, for as long as a block lasts.

The app comes from a function that each replica calls once, so its models are loaded there and nowhere else.  What
it answers when it is busy is its own; should even that queue behind the proxy be full, the proxy answers 503.
"""

import logging
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from ray import serve
from ray.exceptions import RayError

from raysweep.cluster.functions import first_line, resolve
from raysweep.cluster.ray_internals import serve_on_loopback
from raysweep.cluster.session import Session
from raysweep.errors import ConfigError, ResourceError, TrainingError

APP = "raysweep"
_MOST_ONGOING = 100
"""Requests that a replica takes at a time: those that its own queue may hold, a batch, and some for the page."""
_MOST_QUEUED = 200
"""Requests that the proxy keeps while every replica has as many as it takes."""
_LOOK_S = 0.2
_END_WITHIN_S = 10.0
"""How long a replica may take to answer its current batch when it is stopped."""


class _Replica:
    """One process that answers; Ray Serve wraps it."""

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
    session: Session, make_app: str, arguments: Mapping[str, Any], *, replicas: int, host: str, port: int
) -> Iterator[Callable[[], str]]:
    """Serve the app while the block runs; yields a function that tells its state: RUNNING if all is well.

    Each replica takes the CPUs and GPUs of a trial.

    Args:
        make_app: 'module:function', called with the arguments; returns an ASGI app.
        host, port: where the proxy listens, on the cluster's head.

    Raises:
        ConfigError: Ray Serve serves something on this cluster already.
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
        graceful_shutdown_timeout_s=_END_WITHIN_S,
        graceful_shutdown_wait_loop_s=_LOOK_S,
        ray_actor_options={"num_cpus": need.cpus, "num_gpus": need.gpus},
    )(serve.ingress()(_Replica))
    app = deployment.bind(make_app, dict(arguments), session.check.require if session.check else None, int(need.cpus))
    try:
        _start(app, host, port)
        yield lambda: str(serve.status().applications[APP].status.value)
    except (Exception, KeyboardInterrupt):  # no other: when Ray is lost, nothing may wait for it
        _stop(session)
        raise
    _stop(session)


def _start(app: Any, host: str, port: int) -> None:
    try:
        serve.start(proxy_location="HeadOnly", http_options={"host": host, "port": port})
    except (RayError, TimeoutError, RuntimeError) as error:
        raise ResourceError(f"--host {host[:80]} --port {port}: {last_line(str(error))}") from error
    try:
        serve.run(app, name=APP, route_prefix="/")
    except (RayError, RuntimeError) as error:
        told = [each.message for each in serve.status().applications[APP].deployments.values()]
        raise TrainingError(f"the app cannot be served: {last_line((told or [str(error)])[0])}") from error


def _stop(session: Session) -> None:
    if session.local is None:
        serve.shutdown()  # type: ignore[no-untyped-call]
    elif APP in serve.status().applications:
        # All else of Serve ends with Ray; `shutdown` would print that its controller was killed.
        serve.delete(APP)


def last_line(text: str) -> str:
    """The last line that is not blank, which is a traceback's error."""
    return first_line("\n".join(reversed(text.splitlines())))
