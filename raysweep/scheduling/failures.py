"""Classifies failures, and decides what follows each kind.

The failure of a machine says nothing about the training, which resumes from its checkpoint; an error in
the data or the code would only recur, hours later.  Two kinds in between may be transient: lack of
memory, if others used it too, and a loss that is not finite, which may not recur on a GPU.
Failures are counted within one run of the command; running the command again resets the counts.
"""

import errno
from dataclasses import dataclass
from enum import StrEnum

from raysweep.errors import MemoryShortageError, NonFiniteLossError, StorageError

_FIRST_WAIT_S, _LONGEST_WAIT_S = 10.0, 300.0
"""Seconds to wait before replacing a training's second preempted node, doubled each time, and the maximum wait."""
_FULL = {errno.ENOSPC, errno.EDQUOT}
_COLLECTIVE_ERRORS = {"DistBackendError", "DistNetworkError"}
_GLOO = "gloo/transport"
"""Occurs in the error raised when another worker of the training is lost; gloo's errors have no class of their own."""


class Failure(StrEnum):
    """Why an attempt at a training failed."""

    WORKER = "lost worker"
    """The process that trains is gone: it was killed or crashed, or its node is gone."""
    DRIVER = "lost driver"
    """A process that supervises the training is gone: Tune's trial, or Train's controller."""
    PROCESS = "lost process"
    """The whole command was killed, as the next run discovers."""
    PREEMPTED = "preempted"
    """Its node was taken away, with notice."""
    MEMORY = "out of memory"
    NUMBERS = "not finite"
    """A loss or a gradient is not finite."""
    DISK = "disk full"
    ERROR = "error"
    """An error in the data or the code."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FailureDecision:
    """What to do after a failure."""

    again: bool
    """Whether the training resumes from its last checkpoint."""
    alone: bool = False
    """Whether it then runs without others that share its memory."""
    wait_s: float = 0.0
    """Seconds to wait before the next attempt."""
    why: str
    """The reason, for the user."""


def decide_after_failure(failure: Failure, count: int, *, max_failures: int, shares_memory: bool) -> FailureDecision:
    """Decide what to do after the `count`-th failure of this kind in this run.

    Args:
        max_failures: `resources.max_failures`.
        shares_memory: whether other trainings run, or may run, on the same GPU (without a GPU: the same machine).
    """
    resumes = "resumes from its checkpoint"
    match failure:
        case Failure.WORKER | Failure.DRIVER:
            bound = f"resources.max_failures: {max_failures}"
            if count <= max_failures:
                return FailureDecision(again=True, why=f"{resumes} ({count} of {max_failures}; {bound})")
            return FailureDecision(again=False, why=f"{'once' if count == 1 else f'{count} times'}, {bound}")
        case Failure.PREEMPTED | Failure.PROCESS:
            # Not the training's fault, and so without a limit; if nodes are scarce, requesting one at once does not
            # help.
            wait_s = min(_FIRST_WAIT_S * 2.0 ** (count - 2), _LONGEST_WAIT_S) if count > 1 else 0.0
            after = f" in {wait_s:.0f} s at the earliest ({count} times)" if wait_s else ""
            return FailureDecision(again=True, wait_s=wait_s, why=f"{resumes} on another node{after}")
        case Failure.MEMORY if count == 1 and shares_memory:
            return FailureDecision(again=True, alone=True, why=f"{resumes}, with nothing beside it")
        case Failure.MEMORY:
            why = "with nothing beside it too" if shares_memory else "no other training shared its memory"
            return FailureDecision(again=False, why=why)
        case Failure.NUMBERS if count == 1:
            return FailureDecision(again=True, why="resumes once from its checkpoint, which is sound")
        case Failure.NUMBERS:
            return FailureDecision(again=False, why="for the second time, from a sound checkpoint")
        case Failure.DISK:
            return FailureDecision(again=False, why=f"free some space and run again; it {resumes}")
        case Failure.ERROR:
            return FailureDecision(again=False, why="")


def failure_of(error: BaseException) -> Failure:
    """Classify an error that ended a training, by the error and the errors that caused it.

    A worker that waited in a collective for a lost worker counts as lost.  Torch's and Ray's errors are recognised by
    name, so that neither library is imported here.
    """
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, NonFiniteLossError):
            return Failure.NUMBERS
        if isinstance(seen, StorageError):
            # Another node may reach the bucket.
            return Failure.WORKER
        names = {kind.__name__ for kind in type(seen).__mro__}
        if isinstance(seen, MemoryError | MemoryShortageError) or "OutOfMemoryError" in names:
            return Failure.MEMORY
        if isinstance(seen, OSError) and seen.errno in _FULL:
            return Failure.DISK
        if names & _COLLECTIVE_ERRORS or (isinstance(seen, RuntimeError) and _GLOO in str(seen)):
            return Failure.WORKER
        seen = seen.__cause__
    return Failure.ERROR
