"""Asks a running training to stop: a file `stop` in its folder, which contains the reason.

The sweep writes it when the budget is used up or a signal is received; the training checks for it between two
steps, saves a checkpoint and ends.  A file reaches a worker on any node.  A new attempt deletes it.
"""

import time
from collections.abc import Callable

from raysweep.storage.atomic_files import write_text
from raysweep.storage.run_folder import TrialFolder

LOOK_EVERY_S = 0.5
"""Seconds between two checks for a request, because the folder may be on a network file system."""


def request_stop(folder: TrialFolder, reason: str) -> None:
    """Ask the training in this folder to stop after its current step."""
    assert reason.strip(), "an empty reason would look like no request"
    write_text(folder.stop, reason)


def requested_stop(folder: TrialFolder) -> str | None:
    """Return why the training must stop; None without a request."""
    try:
        return folder.stop.read_text(encoding="utf-8").strip() or "asked to stop"
    except FileNotFoundError:
        return None


def forget_stop(folder: TrialFolder) -> None:
    """Delete a request, before a new attempt."""
    folder.stop.unlink(missing_ok=True)


class StopWatch:
    """The training's `should_stop`: returns the reason once there is a request; checks at most twice a second."""

    def __init__(self, folder: TrialFolder, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._folder, self._clock = folder, clock
        self._looked = float("-inf")
        self._reason: str | None = None

    def __call__(self) -> str | None:
        if self._reason is None and self._clock() - self._looked >= LOOK_EVERY_S:
            self._looked = self._clock()
            self._reason = requested_stop(self._folder)
        return self._reason
