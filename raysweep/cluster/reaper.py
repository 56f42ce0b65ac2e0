"""A script that ends other processes once the one that started it is gone, however that ended.

Ray's servers share their parent's fate; its agents notice the end of the raylet, but then spend a minute on telling
the servers of it.  Usage: `python reaper.py PID …`, with a pipe on stdin that nobody writes to.
"""

import os
import signal
import sys
import time
from contextlib import suppress

_GRACE_S = 1.0


def main(pids: list[str]) -> None:
    """Wait until the pipe is closed, and a moment, and end the processes."""
    targets = []
    for pid in pids:
        with suppress(ProcessLookupError):
            # A descriptor, since the number may belong to another process by then.
            targets.append(os.pidfd_open(int(pid)))
    sys.stdin.read()
    time.sleep(_GRACE_S)
    for target in targets:
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(target, signal.SIGKILL)


if __name__ == "__main__":
    main(sys.argv[1:])
