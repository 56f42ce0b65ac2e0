"""A spot instance's notice reaches Ray, whatever failures of the metadata service or the cluster precede it."""

import datetime
import http.server
import json
import signal
import threading

import pytest

from raysweep.cluster.spot_watch import POLL_S, drain_this_node, read_notice, watch_spot_notices
from raysweep.scheduling.failures import Failure


class Metadata(http.server.BaseHTTPRequestHandler):
    """EC2's service, as far as notices are concerned: 401 without a token, 404 while there is no notice."""

    notice = None

    def _answer(self, code, body=""):
        self.send_response(code)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    def do_PUT(self):
        is_asked_right = self.path == "/latest/api/token" and "X-aws-ec2-metadata-token-ttl-seconds" in self.headers
        self._answer(200 if is_asked_right else 400, "secret")

    def do_GET(self):
        if self.headers.get("X-aws-ec2-metadata-token") != "secret":
            self._answer(401)
        elif self.path != "/latest/meta-data/spot/instance-action" or self.notice is None:
            self._answer(404)
        else:
            self._answer(200, self.notice)

    def log_message(self, *_):
        """Print nothing."""


@pytest.fixture
def metadata():
    class OwnMetadata(Metadata):
        pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), OwnMetadata)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    server.service = OwnMetadata
    server.url = f"http://127.0.0.1:{server.server_port}/latest"
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def notice(seconds):
    then = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=seconds)
    return json.dumps({"action": "terminate", "time": then.strftime("%Y-%m-%dT%H:%M:%SZ")})


def test_the_interruption_notice_gives_the_time_left(metadata):
    """The request has a token, as version 2 of the service requires."""
    assert read_notice(metadata.url) is None
    metadata.service.notice = notice(120)
    assert 60 < read_notice(metadata.url) <= 120
    metadata.service.notice = notice(-5)
    assert read_notice(metadata.url) == 0


@pytest.mark.parametrize("text", ["[]", "{}", '{"time": "soon"}', "<html>"])
def test_an_invalid_interruption_notice_is_an_error(metadata, text):
    """Otherwise a node would be drained for nothing, or the watcher would do nothing."""
    metadata.service.notice = text
    with pytest.raises(ValueError, match=r"where a notice has a time|Invalid isoformat|Expecting value"):
        read_notice(metadata.url)


def test_the_watcher_continues_after_errors_before_the_notice(metadata):
    """Each is reported once: a service that is not up yet, an invalid answer, a cluster that refuses."""
    lines, drained, waits = [], [], []
    url = ["http://127.0.0.1:9/latest"]

    def drain(left_s):
        drained.append(left_s)
        if len(drained) == 1:
            raise ConnectionError("no Ray here")

    def wait(seconds):
        waits.append(seconds)
        if len(waits) == 2:
            metadata.service.notice = "<html>"
            watched.append(metadata.url)
        if len(waits) == 4:
            metadata.service.notice = notice(100)

    class Address(str):
        """The service's current address."""

        def __format__(self, spec):
            return watched[-1]

    watched = url
    watch_spot_notices(drain, lines.append, metadata=Address(), wait=wait)
    assert waits == [POLL_S] * 5
    assert len(drained) == 2
    kinds = [line.split(":")[0] for line in lines]
    assert kinds == ["URLError", "JSONDecodeError", "ConnectionError", "the node is drained"]
    assert lines[-1].startswith("the node is drained: EC2 takes it in ")


def test_the_watcher_keeps_its_sigterm_handler_despite_ray(monkeypatch):
    """Even if Ray cannot be joined, systemd and `kill` end the watcher like Ctrl-C, and no fault is reported."""
    # This is Ray's default; a session of this process may have changed it.
    monkeypatch.setattr(
        "ray._private.utils.set_sigterm_handler", lambda handler: signal.signal(signal.SIGTERM, handler)
    )
    monkeypatch.setenv("RAY_ADDRESS", "nowhere")
    before = signal.getsignal(signal.SIGTERM)
    try:
        with pytest.raises((ValueError, RuntimeError), match=r"Invalid address format: nowhere|ray\.init twice"):
            drain_this_node(60.0)
        assert signal.getsignal(signal.SIGTERM) is before
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_training_ended_by_a_missed_drain_deadline_counts_as_preempted():
    """Its worker does not count as failed, since reclaims have no limit."""
    from types import SimpleNamespace

    import ray.train

    from raysweep.cluster.trial_driver import _failed

    error = ray.train.PreemptionError(SimpleNamespace(preempted_ranks=[0]), drain_timed_out=True)
    outcome = _failed(error)
    assert outcome.failure is Failure.PREEMPTED
    assert outcome.message.startswith("its node was taken away: Training was interrupted by node preemption")
