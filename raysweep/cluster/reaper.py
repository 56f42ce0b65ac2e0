"""A script that kills other processes when the process that started it is gone, however that ended.

Ray's servers end with their parent; its agents notice the end of the raylet, but then spend a minute trying to report
it to the servers.  Usage: `python reaper.py PID …`, with a pipe on stdin that nobody writes to.
"""

import os
import signal
import sys
import time
from contextlib import suppress

_GRACE_S = 1.0


def main(pids: list[str]) -> None:
    """Wait until the pipe is closed, and a moment longer, then kill the processes."""
    targets = []
    for pid in pids:
        with suppress(ProcessLookupError):
            # Open descriptors, since a PID may belong to another process by then.
            targets.append(os.pidfd_open(int(pid)))
    sys.stdin.read()
    time.sleep(_GRACE_S)
    for target in targets:
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(target, signal.SIGKILL)


if __name__ == "__main__":
    main(sys.argv[1:])
