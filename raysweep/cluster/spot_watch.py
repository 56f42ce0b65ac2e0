"""Tell Ray that this node will be taken away, when EC2 says so: nothing in Ray reads a spot instance's notice.

Ray Train then tells the trainings on the node, which save a checkpoint and end, and nothing new is placed there.
cluster.yaml starts `raysweep cluster watch-spot` on every worker.  Ray is imported when there is a notice; until
then this is a small process that asks the instance's metadata (version 2, with a token) every few seconds.
"""

import datetime
import json
import logging
import time
import urllib.error
import urllib.request
from collections.abc import Callable

METADATA = "http://169.254.169.254/latest"
POLL_S = 5.0
"""EC2 recommends five seconds; it tells two minutes before."""
_ANSWER_S = 2.0
_TOKEN = "X-aws-ec2-metadata-token"
_NOT_TOLD = 404

logger = logging.getLogger(__name__)


def watch_spot_notices(
    drain: Callable[[float], None],
    say: Callable[[str], None],
    *,
    metadata: str = METADATA,
    wait: Callable[[float], object] = time.sleep,
) -> None:
    """Wait for a notice, drain the node, and return.

    Args:
        drain: called with the seconds that are left; an error of it is told, and it is called again.
        say: a line for the log.
    """
    said = ""
    while True:
        try:
            left_s = read_notice(metadata)
            if left_s is not None:
                drain(left_s)
                say(f"the node is drained: EC2 takes it in {left_s:.0f} s")
                return
            problem = ""
        except Exception as error:
            # The watcher must outlive whatever goes wrong: the notice may come any time.
            problem = f"{type(error).__name__}: {error}; asked again every {POLL_S:.0f} s"
        if problem and problem != said:
            say(problem)
        said = problem
        wait(POLL_S)


def read_notice(metadata: str) -> float | None:
    """Seconds until EC2 takes this instance, at least 0; None if it has not said so.

    Raises:
        OSError: the metadata service does not answer.
        ValueError: what it answers is no notice.
    """
    token = _ask("PUT", f"{metadata}/api/token", {f"{_TOKEN}-ttl-seconds": "60"})
    try:
        notice = json.loads(_ask("GET", f"{metadata}/meta-data/spot/instance-action", {_TOKEN: token}))
    except urllib.error.HTTPError as error:
        if error.code == _NOT_TOLD:
            return None
        raise
    try:
        then = datetime.datetime.fromisoformat(notice["time"])
    except (TypeError, KeyError) as error:
        raise ValueError(f"found {str(notice)[:80]} where a notice has a time") from error
    return max(0.0, (then - datetime.datetime.now(datetime.UTC)).total_seconds())


def _ask(method: str, url: str, headers: dict[str, str]) -> str:
    request = urllib.request.Request(url, method=method, headers=headers)
    # Never through a proxy: the address is the machine's own.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=_ANSWER_S) as answer:
        return str(answer.read().decode("utf-8"))


def drain_this_node(left_s: float) -> None:
    """Tell the cluster of the Ray that runs on this machine; asks for its token as Ray does.

    Raises:
        ConnectionError: there is none.
        ResourceError: the cluster refuses.
    """
    import ray

    from raysweep.cluster.ray_internals import drain_node, leave_sigterm_alone

    # Ray's handler would stay when this fails, and end the watcher as code that called sys.exit.
    leave_sigterm_alone()
    # Two seconds for what is still to be told after the last checkpoint.
    with ray.init(address="auto", log_to_driver=False, logging_level=logging.ERROR):
        here = ray.get_runtime_context()
        drain_node(here.gcs_address, here.get_node_id(), "spot notice", within_s=max(1.0, left_s - 2.0))
