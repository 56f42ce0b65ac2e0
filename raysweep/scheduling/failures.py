"""Failures by kind, and what each calls for: pure.

The failure of a machine says nothing about the training, which resumes from its checkpoint; an error of
the data or the code would only occur again, hours later.  In between are two that may pass: lack of
memory, if others used it too, and a loss that is not finite, which on a GPU a second try may not show.
Failures are counted within one run of the command: a person who runs it again starts afresh.
"""

import errno
from dataclasses import dataclass
from enum import StrEnum

from raysweep.errors import MemoryShortageError, NonFiniteLossError, StorageError

_FIRST_WAIT_S, _LONGEST_WAIT_S = 10.0, 300.0
"""Before the second of a training's nodes that were taken away is replaced, doubled each time, and at most."""
_FULL = {errno.ENOSPC, errno.EDQUOT}
_COLLECTIVE_ERRORS = {"DistBackendError", "DistNetworkError"}
_GLOO = "gloo/transport"
"""In what a worker raises when another one of its training is gone: by NCCL, and by gloo, whose error has no class."""


class Failure(StrEnum):
    """Why an attempt at a training failed."""

    WORKER = "lost worker"
    """The process that trains is gone: killed, crashed, or its node is."""
    DRIVER = "lost driver"
    """A process that watches over it is gone: Tune's trial, or Train's controller."""
    PROCESS = "lost process"
    """The whole command was killed, as the next run finds."""
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
    """Whether it then runs with nothing beside it that shares its memory."""
    wait_s: float = 0.0
    """How long the next attempt waits."""
    why: str
    """The reason, for a person."""


def decide_after_failure(failure: Failure, count: int, *, max_failures: int, shares_memory: bool) -> FailureDecision:
    """What to do after the `count`-th failure of this kind in this run.

    Args:
        max_failures: `resources.max_failures`.
        shares_memory: whether other trainings run, or may run, on the same GPU (without one: the same machine).
    """
    resumes = "resumes from its checkpoint"
    match failure:
        case Failure.WORKER | Failure.DRIVER:
            bound = f"resources.max_failures: {max_failures}"
            if count <= max_failures:
                return FailureDecision(again=True, why=f"{resumes} ({count} of {max_failures}; {bound})")
            return FailureDecision(again=False, why=f"{'once' if count == 1 else f'{count} times'}, {bound}")
        case Failure.PREEMPTED | Failure.PROCESS:
            # No fault of the training, and so without a limit; where nodes are short, asking at once does not help.
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
    """The kind of an error that ended a training, by the error and those it was raised from.

    A worker that waited for a lost one in a collective counts as lost.  Torch's and Ray's errors are known by their
    names, so that neither is imported here.
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
