"""Failures by kind, and what each calls for: pure.

A machine's failure says nothing about the training, which goes on from its checkpoint; an error of
the data or the code would only be met again, hours later.  In between are two that may pass: memory,
where others were in the way, and numbers that stop being numbers, which on a GPU a second try may
not show.  Counts are those of one run of the command: a person who runs it again starts afresh.
"""

import errno
from dataclasses import dataclass
from enum import StrEnum

from raysweep.errors import MemoryShortageError, NonFiniteLossError

MAX_PREEMPTIONS = 100
"""A node that is taken away is no fault of the training's; only an endless loop is to be kept from."""
_FULL = {errno.ENOSPC, errno.EDQUOT}


class Failure(StrEnum):
    """Why an attempt at a training came to nothing."""

    WORKER = "lost worker"
    """The process that trains is gone: killed, crashed, or its node is."""
    DRIVER = "lost driver"
    """One of the processes that watch over it is gone: Tune's trial, or Train's controller."""
    PROCESS = "lost process"
    """The whole command was killed; found out by the next."""
    PREEMPTED = "preempted"
    """Its node was taken away, with notice."""
    MEMORY = "out of memory"
    NUMBERS = "not finite"
    """A loss or a gradient is no number."""
    DISK = "disk full"
    ERROR = "error"
    """In the data or the code."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Remedy:
    """What to do after a failure."""

    again: bool
    """Whether the training goes on from its last checkpoint."""
    alone: bool = False
    """Whether with nothing beside it that shares its memory."""
    why: str
    """For a person."""


def remedy(failure: Failure, count: int, *, max_failures: int, shares_memory: bool) -> Remedy:
    """What to do after the `count`-th failure of this kind in this run.

    Args:
        max_failures: `resources.max_failures`.
        shares_memory: whether other trainings run, or may run, on the same GPU (without one: the same machine).
    """
    match failure:
        case Failure.WORKER | Failure.DRIVER:
            bound = f"resources.max_failures: {max_failures}"
            if count <= max_failures:
                return Remedy(again=True, why=f"goes on from its checkpoint ({count} of {max_failures}; {bound})")
            return Remedy(again=False, why=f"{_times(count)}, {bound}")
        case Failure.PREEMPTED | Failure.PROCESS:
            return Remedy(again=count <= MAX_PREEMPTIONS, why="goes on from its checkpoint on another node")
        case Failure.MEMORY if count == 1 and shares_memory:
            return Remedy(again=True, alone=True, why="goes on from its checkpoint, with nothing beside it")
        case Failure.MEMORY:
            return Remedy(again=False, why="alone too" if shares_memory else "nothing else was there to make room")
        case Failure.NUMBERS if count == 1:
            return Remedy(again=True, why="once more from its last checkpoint, which is sound")
        case Failure.NUMBERS:
            return Remedy(again=False, why="the second time from a sound checkpoint")
        case Failure.DISK:
            return Remedy(again=False, why="make room and run again; it goes on from its last checkpoint")
        case Failure.ERROR:
            return Remedy(again=False, why="")


def failure_of(error: BaseException) -> Failure:
    """The kind of an error that ended a training; what it was raised from counts too.

    Torch's and Ray's errors of memory are known by their names, so that neither is imported here.
    """
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, NonFiniteLossError):
            return Failure.NUMBERS
        names = {kind.__name__ for kind in type(seen).__mro__}
        if isinstance(seen, MemoryError | MemoryShortageError) or "OutOfMemoryError" in names:
            return Failure.MEMORY
        if isinstance(seen, OSError) and seen.errno in _FULL:
            return Failure.DISK
        seen = seen.__cause__
    return Failure.ERROR


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"
