"""Surrounds a sweep, whatever executor trains: makes its state, halts it for signals and the budget, and ends it."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from raysweep.pipeline.signals import GRACE_S, Interruption
from raysweep.pipeline.sweep_state import SweepState
from raysweep.pipeline.tasks import Listener, TrainTask
from raysweep.planning.budget import BudgetWatch, Spent
from raysweep.scheduling.capacity import Capacity, ResourceRequest
from raysweep.scheduling.retries import Retries


class SweepWatch:
    """Halts the sweep after a signal or at the budget's cap, when the executor polls it."""

    def __init__(self, state: SweepState, interruption: Interruption, budget: BudgetWatch | None) -> None:
        self.state = state
        self._interruption, self._budget = interruption, budget

    def poll_signals(self) -> None:
        """Halt the sweep if a signal was received; raise KeyboardInterrupt `GRACE_S` seconds later."""
        if self._interruption.reason and not self.state.halted:
            self.state.halt(self._interruption.reason, within_s=GRACE_S)
        if self._interruption.is_overdue:
            raise KeyboardInterrupt(self._interruption.reason)

    @property
    def spent(self) -> Spent | None:
        """What all trainings have cost so far; None if it is not counted."""
        return self._budget.spent if self._budget is not None else None

    def poll_budget(self) -> None:
        """Charge the resources in use since the last poll, and halt the sweep if the budget is used up."""
        if self._budget is None:
            return
        in_use = self.state.in_use
        cores = in_use.cpus if not in_use.gpus else 0.0
        reason = self._budget.record_usage(time.monotonic(), gpus=in_use.gpus, cores=cores)
        if reason and not self.state.halted:
            self.state.halt(reason)


@contextmanager
def open_sweep(
    tasks: Sequence[TrainTask],
    *,
    requests: Mapping[str, ResourceRequest],
    capacity: Capacity,
    listener: Listener,
    budget: BudgetWatch | None,
    max_failures: int = 0,
    fail_fast: bool = False,
) -> Iterator[SweepWatch]:
    """Open a sweep that the block executes; afterwards, also after Ctrl-C, all records say how their trials ended.

    Raises:
        KeyboardInterrupt: Ctrl-C or SIGTERM; running trainings have saved a checkpoint and are recorded as stopped.
    """
    for task in tasks:
        if task.fresh:
            task.folder.clear()
    state = SweepState(
        tasks,
        requests=requests,
        capacity=capacity,
        listener=listener,
        retries=Retries(max_failures),
        fail_fast=fail_fast,
    )
    interruption = Interruption()
    try:
        with interruption:
            yield SweepWatch(state, interruption, budget)
        interruption.raise_if_asked()
        assert state.is_over, "the executor goes on until all is over"
        if state.halted:
            # Entries that are not trainings themselves, such as searches, still have a record that says running.
            state.mark_stopped(state.halted)
    except KeyboardInterrupt:
        state.mark_stopped(interruption.reason or "interrupted")
        raise
    except BaseException as error:
        state.mark_stopped(f"the sweep broke off: {type(error).__name__}: {error}")
        raise
    finally:
        if budget is not None:
            budget.close()
