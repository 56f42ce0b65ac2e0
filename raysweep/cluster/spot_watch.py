"""Tells Ray that EC2 will take this node away, since nothing in Ray reads a spot instance's notice.

Ray Train then notifies the trainings on the node, which save a checkpoint and end, and nothing new is placed there.
cluster.yaml starts `raysweep cluster watch-spot` on every worker.  Ray is imported only when there is a notice; until
then this is a small process that requests the instance's metadata (version 2, with a token) every few seconds.
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
"""EC2 recommends five seconds; it gives two minutes' notice."""
_ANSWER_S = 2.0
_TOKEN = "X-aws-ec2-metadata-token"
_NO_NOTICE = 404

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
        drain: called with the seconds that are left; if it raises, the error is reported and it is called again.
        say: writes a line to the log.
    """
    reported = ""
    while True:
        try:
            left_s = read_notice(metadata)
            if left_s is not None:
                drain(left_s)
                say(f"the node is drained: EC2 takes it in {left_s:.0f} s")
                return
            problem = ""
        except Exception as error:
            # The watcher must survive any error: the notice may come at any time.
            problem = f"{type(error).__name__}: {error}; asked again every {POLL_S:.0f} s"
        if problem and problem != reported:
            say(problem)
        reported = problem
        wait(POLL_S)


def read_notice(metadata: str) -> float | None:
    """Return the seconds until EC2 takes this instance, at least 0; None if there is no notice.

    Raises:
        OSError: the metadata service does not answer.
        ValueError: its answer is not a notice.
    """
    token = _ask("PUT", f"{metadata}/api/token", {f"{_TOKEN}-ttl-seconds": "60"})
    try:
        notice = json.loads(_ask("GET", f"{metadata}/meta-data/spot/instance-action", {_TOKEN: token}))
    except urllib.error.HTTPError as error:
        if error.code == _NO_NOTICE:
            return None
        raise
    try:
        then = datetime.datetime.fromisoformat(notice["time"])
    except (TypeError, KeyError) as error:
        raise ValueError(f"found {str(notice)[:80]} where a notice has a time") from error
    return max(0.0, (then - datetime.datetime.now(datetime.UTC)).total_seconds())


def _ask(method: str, url: str, headers: dict[str, str]) -> str:
    request = urllib.request.Request(url, method=method, headers=headers)
    # Never through a proxy: the address is local to the machine.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=_ANSWER_S) as answer:
        return str(answer.read().decode("utf-8"))


def drain_this_node(left_s: float) -> None:
    """Tell the cluster of the Ray on this machine that the node will be taken away, authenticating like Ray does.

    Raises:
        ConnectionError: there is no Ray.
        ResourceError: the cluster refuses.
    """
    import ray

    from raysweep.cluster.ray_internals import drain_node, leave_sigterm_alone

    # Otherwise Ray's handler would remain if this fails, and end the watcher like a call of sys.exit.
    leave_sigterm_alone()
    # Leave two seconds for messages after the last checkpoint.
    with ray.init(address="auto", log_to_driver=False, logging_level=logging.ERROR):
        here = ray.get_runtime_context()
        drain_node(here.gcs_address, here.get_node_id(), "spot notice", within_s=max(1.0, left_s - 2.0))
