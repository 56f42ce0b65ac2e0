"""Orders the trials, and computes how close a schedule is to the shortest possible.

Among the trials that could start, the one with the longest remaining path goes first: its own cost
plus the longest chain of trials that wait for it.  So the general model, which the fine-tunes wait
for, is not trained last.  A sweep (`trial_graph.py`) and `simulate`, which forecasts its length, use
the same rule.  A smaller trial may overtake one that does not fit, so that no GPU idles.
"""

import bisect
import heapq
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

Order = Literal["longest path", "first come"]
_SLACK = 1e-9
"""Tolerance: shares of a GPU such as 1/3 do not add up exactly."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Schedule:
    """When each trial runs, in the unit of the durations."""

    start: Mapping[str, float]
    end: Mapping[str, float]

    @property
    def makespan(self) -> float:
        """The time at which the last trial ends."""
        return max(self.end.values(), default=0.0)


def share_of_gpus(gpus: float) -> float:
    """Return the GPUs that a trial is charged for: a half if it requests 0.4, which fits on a GPU twice.

    So the charged shares add up to exactly the number of GPUs when no further trial of the kind fits.
    """
    return 1.0 / int(1.0 / gpus + _SLACK) if 0.0 < gpus < 1.0 else gpus


def remaining_path(costs: Mapping[str, float], parents: Mapping[str, Sequence[str]]) -> dict[str, float]:
    """Return each trial's cost plus the cost of the longest chain of trials that wait for it.

    Args:
        costs: cost of each trial, in any unit.
        parents: the trials that each trial waits for; parents that are not in `costs` are done already.
    """
    waits_for = {name: [parent for parent in parents.get(name, ()) if parent in costs] for name in costs}
    unknown = Counter(parent for waited in waits_for.values() for parent in waited)  # children whose path is not known
    longest, lengths = dict.fromkeys(costs, 0.0), {}
    known = [name for name in costs if not unknown[name]]
    while known:  # children before parents, without recursion: a chain may be of any length
        name = known.pop()
        lengths[name] = costs[name] + longest[name]
        for parent in waits_for[name]:
            longest[parent] = max(longest[parent], lengths[name])
            unknown[parent] -= 1
            if not unknown[parent]:
                known.append(parent)
    return {name: lengths[name] for name in costs}


def simulate(
    durations: Mapping[str, float],
    parents: Mapping[str, Sequence[str]],
    *,
    gpus: float,
    needs: Mapping[str, float] | None = None,
    order: Order = "longest path",
) -> Schedule:
    """Simulate when each trial would run on this number of GPUs, in the sweep's order or in the order of the file.

    Args:
        durations: duration of each trial, for example in hours, in the file's order.
        parents: the trials that must be done first; parents that are not in `durations` are done already.
        needs: GPUs of each trial, at most `gpus`; None for 1 each.
    """
    shares = {name: share_of_gpus(1.0 if needs is None else needs[name]) for name in durations}
    assert all(share <= gpus + _SLACK for share in shares.values()), "the session refuses trials that can never fit"
    smallest = min(shares.values(), default=0.0)
    urgency = remaining_path(durations, parents) if order == "longest path" else dict.fromkeys(durations, 0.0)
    priority = {name: (-urgency[name], place) for place, name in enumerate(durations)}
    waits_for = {name: {parent for parent in parents.get(name, ()) if parent in durations} for name in durations}
    children: dict[str, list[str]] = {name: [] for name in durations}
    for name, others in waits_for.items():
        for parent in others:
            children[parent].append(name)
    ready = sorted((name for name in durations if not waits_for[name]), key=priority.__getitem__)
    running: list[tuple[float, str]] = []
    start: dict[str, float] = {}
    now = 0.0
    while ready or running:
        while running and running[0][0] <= now:
            _, ended = heapq.heappop(running)
            for child in children[ended]:
                waits_for[child].remove(ended)
                if not waits_for[child]:
                    bisect.insort(ready, child, key=priority.__getitem__)
        free = gpus - sum(shares[name] for _, name in running) + _SLACK
        fitting = (place for place, name in enumerate(ready) if shares[name] <= free) if smallest <= free else iter(())
        if (place := next(fitting, None)) is not None:
            name = ready.pop(place)
            start[name] = now
            heapq.heappush(running, (now + durations[name], name))
        elif running:
            now = running[0][0]
    assert len(start) == len(durations), "loading refuses cycles"
    return Schedule(start=start, end={name: began + durations[name] for name, began in start.items()})


def lower_bound(
    durations: Mapping[str, float],
    parents: Mapping[str, Sequence[str]],
    *,
    gpus: float,
    needs: Mapping[str, float] | None = None,
) -> float:
    """Return a lower bound on any schedule's length: the longest chain, or all work divided by the GPUs."""
    chain = max(remaining_path(durations, parents).values(), default=0.0)
    work = sum(duration * share_of_gpus(1.0 if needs is None else needs[name]) for name, duration in durations.items())
    return max(chain, work / gpus)
