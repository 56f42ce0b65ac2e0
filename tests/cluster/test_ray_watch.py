"""Losing Ray ends the work with one sentence that says what was lost."""

import signal
import socket
import threading
from pathlib import Path

import pytest


@pytest.fixture
def watch(monkeypatch):
    from raysweep.cluster.ray_watch import RayWatch

    # This process must not end at once.
    monkeypatch.setattr("atexit.register", lambda function: None)

    before = signal.getsignal(signal.SIGUSR1)
    watches = []

    def make(find_lost):
        watches.append(RayWatch(Path("session/logs"), find_lost))
        watches[-1].start()
        return watches[-1]

    yield make
    assert signal.getsignal(signal.SIGUSR1) is before


def test_a_lost_server_interrupts_any_waiting_call(watch):
    """Otherwise an error of Ray's own would count as a failure of the training."""
    from raysweep.errors import LostRayError

    is_lost = threading.Event()
    seen = watch(lambda: "Ray's raylet ended" if is_lost.is_set() else "")
    with pytest.raises(
        LostRayError, match=r"Ray's raylet ended; its log is in session/logs. The same command continues"
    ):
        try:
            is_lost.set()
            threading.Event().wait(60)
        except Exception:
            pytest.fail("it can be caught by mistake")
        finally:
            seen.stop()


def test_a_watch_without_losses_ends_quietly(watch):
    """The signal's handler is left as it was."""
    watch(str).stop()


def test_a_server_that_stops_listening_is_lost_after_a_timeout():
    """A busy process still answers, since the kernel accepts connections for it."""
    from raysweep.cluster.ray_watch import SilentServers

    with socket.create_server(("127.0.0.1", 0)) as alive:
        with socket.create_server(("127.0.0.1", 0)) as ended:
            addresses = {"gcs_server": alive.getsockname(), "raylet": ended.getsockname()}
            find_lost, find_lost_at_once = SilentServers(addresses), SilentServers(addresses, silence_s=0.0)
            assert find_lost_at_once() == ""
        assert find_lost() == ""
        port = addresses["raylet"][1]
        assert find_lost_at_once() == f"Ray's raylet at 127.0.0.1:{port} has not answered for 0 s (Connection refused)"
