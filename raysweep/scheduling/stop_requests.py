"""How a running training is asked to stop: a file `stop` in its folder, with the reason in it.

Whoever wants it to end (a budget at its cap, a signal, a person in another terminal) leaves the
request; the training looks for it between two steps, saves a checkpoint and ends.  A file reaches
a worker on any node, and whatever process drives it.  A new attempt starts without old requests.
"""

import time
from collections.abc import Callable

from raysweep.storage.atomic_files import write_text
from raysweep.storage.run_folder import TrialFolder

LOOK_EVERY_S = 0.5
"""Between two looks for a request: the folder may lie on a network."""


def request_stop(folder: TrialFolder, reason: str) -> None:
    """Ask the training in this folder to stop after its current step."""
    assert reason.strip(), "a stop without a reason looks like none"
    write_text(folder.stop, reason)


def requested_stop(folder: TrialFolder) -> str | None:
    """Why the training is to stop; None if nobody asked."""
    try:
        return folder.stop.read_text(encoding="utf-8").strip() or "asked to stop"
    except FileNotFoundError:
        return None


def forget_stop(folder: TrialFolder) -> None:
    """Remove a request, for a new attempt."""
    folder.stop.unlink(missing_ok=True)


class StopWatch:
    """Called between two steps as `should_stop`: the reason once there is one, and a look at most twice a second."""

    def __init__(self, folder: TrialFolder, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._folder, self._clock = folder, clock
        self._looked = float("-inf")
        self._reason: str | None = None

    def __call__(self) -> str | None:
        if self._reason is None and self._clock() - self._looked >= LOOK_EVERY_S:
            self._looked = self._clock()
            self._reason = requested_stop(self._folder)
        return self._reason
