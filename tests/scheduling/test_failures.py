"""The reaction to each kind of failure."""

import errno

import pytest

from raysweep.errors import MemoryShortageError, NonFiniteLossError, TrainingError
from raysweep.scheduling.failures import Failure, decide_after_failure, failure_of

AGAIN, ALONE, FAIL = (True, False), (True, True), (False, False)

TABLE = [
    # failure, number of this kind in this run, whether it shares its memory → whether it continues, whether alone
    (Failure.WORKER, 1, True, AGAIN),
    (Failure.WORKER, 2, True, AGAIN),
    (Failure.WORKER, 3, True, FAIL),
    (Failure.DRIVER, 2, False, AGAIN),
    (Failure.DRIVER, 3, False, FAIL),
    (Failure.PREEMPTED, 30, False, AGAIN),
    (Failure.PREEMPTED, 1000, False, AGAIN),
    (Failure.MEMORY, 1, True, ALONE),
    (Failure.MEMORY, 2, True, FAIL),
    (Failure.MEMORY, 1, False, FAIL),
    (Failure.NUMBERS, 1, True, AGAIN),
    (Failure.NUMBERS, 2, True, FAIL),
    (Failure.DISK, 1, True, FAIL),
    (Failure.ERROR, 1, True, FAIL),
]


@pytest.mark.parametrize(("failure", "count", "shares", "expected"), TABLE)
def test_every_failure_kind_has_its_remedy_and_retry_limit(failure, count, shares, expected):
    """The cases use `resources.max_failures: 2`."""
    decision = decide_after_failure(failure, count, max_failures=2, shares_memory=shares)
    assert (decision.again, decision.alone) == expected


def test_every_failure_kind_except_reclaims_has_a_finite_retry_limit():
    """No failure of the training is retried for ever; nodes that a cloud reclaims are not failures of the training."""
    for failure in set(Failure) - {Failure.PREEMPTED, Failure.PROCESS}:
        assert not decide_after_failure(failure, 1000, max_failures=2, shares_memory=True).again


class OutOfMemoryError(RuntimeError):
    """An error with the name that torch and Ray use."""


class DistBackendError(RuntimeError):
    """An error with the name that torch uses."""


def caused(error, cause):
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (NonFiniteLossError("A1: the loss is not finite at step 3", 3, (1, 2)), Failure.NUMBERS),
        (MemoryShortageError("A1: a single example does not fit"), Failure.MEMORY),
        (OutOfMemoryError("CUDA out of memory"), Failure.MEMORY),
        (MemoryError(), Failure.MEMORY),
        (caused(TrainingError("cannot write"), OSError(errno.ENOSPC, "No space left on device")), Failure.DISK),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), Failure.DISK),
        (DistBackendError("NCCL error: remote process exited"), Failure.WORKER),
        (RuntimeError("[/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:538] Connection closed"), Failure.WORKER),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), Failure.ERROR),
        (FileNotFoundError("examples"), Failure.ERROR),
        (TrainingError("A1: no examples"), Failure.ERROR),
        (KeyError("learning_rate"), Failure.ERROR),
    ],
)
def test_errors_are_classified_by_class_name_or_cause(error, kind):
    """They are distinguished by class or name, including the errors that caused them."""
    assert failure_of(error) is kind
