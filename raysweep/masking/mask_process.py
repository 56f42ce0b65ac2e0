"""Makes a shard with the user's own mask function in a separate process, because that code may end its process.

Otherwise `os._exit`, a signal or a crash in C would end the run without a message, or with exit code 0, or Ray would
take it for a lost worker and retry its task forever.
"""

import ctypes
import json
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import traceback
from pathlib import Path
from typing import Any

from raysweep.errors import InputError, RaysweepError
from raysweep.masking.mask_shard import mask_shard
from raysweep.storage.printable import shown

_CODE = """
import json, sys
sys.path[:] = json.loads(sys.argv[1])
from raysweep.masking.mask_process import serve
serve(*sys.argv[2:])
"""
_PR_SET_PDEATHSIG, _INTERRUPTED = 1, 130


def make_shard(**fields: Any) -> dict[str, Any]:
    """Call `mask_shard`; a user's mask function runs in a separate process, whose end raises InputError."""
    function = fields["policy"].function
    if function is None:
        return mask_shard(**fields)
    with tempfile.TemporaryDirectory(prefix="raysweep-mask-") as scratch:
        task, answer = Path(scratch) / "task", Path(scratch) / "answer"
        task.write_bytes(pickle.dumps(fields))
        command = [sys.executable, "-c", _CODE, json.dumps(sys.path), str(task), str(answer)]
        code = subprocess.run(command, stdin=subprocess.DEVNULL, check=False).returncode
        if not answer.exists():
            first, end = fields["rows"]
            raise InputError(
                f"masking.function {shown(function)}: ended its process ({describe_end(code)}) among documents "
                f"{first:,} to {end - 1:,}; must return a list of masks, and never end the process"
            )
        outcome = pickle.loads(answer.read_bytes())  # noqa: S301 - written by `serve`
    if isinstance(outcome, Exception):
        raise outcome
    return dict(outcome)


def serve(task: str, answer: str) -> None:
    """Make the shard that the file `task` describes, and write its record, or the error, to the file `answer`."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches this process too; the parent process ends it
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)  # end with the parent process
    fields = pickle.loads(Path(task).read_bytes())  # noqa: S301 - written by `make_shard`
    outcome: dict[str, Any] | Exception
    try:
        outcome = mask_shard(**fields)
    except (RaysweepError, OSError) as error:
        outcome = error
    except KeyboardInterrupt:
        os._exit(_INTERRUPTED)  # raised by the function itself: the signal is ignored
    except Exception as error:
        outcome = RuntimeError(f"{type(error).__name__}: {error}\n{traceback.format_exc()}")
    part = Path(f"{answer}.part")
    part.write_bytes(pickle.dumps(outcome))
    part.rename(answer)


def describe_end(code: int) -> str:
    """Describe how a process ended, from its return code."""
    return f"exit code {code}" if code >= 0 else f"signal {signal.Signals(-code).name}"
