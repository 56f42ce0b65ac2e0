"""Determines which trial may start: a graph that receives every start and end.

A node needs others to be *done* (a child its parent) or only waits for them to *end*, successfully or not
(a round of a search for the preceding round).  Among ready nodes, the one with the longest remaining path is first.
When a node fails, only the nodes that need it are blocked.  When it is stopped, the nodes that need it
wait for a later run.

The cost of a change depends only on the nodes that wait for the changed one, however large the sweep is.
"""

import bisect
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from raysweep.scheduling.order import remaining_path
from raysweep.scheduling.records import State

_ENDED = frozenset({State.DONE, State.FAILED, State.BLOCKED, State.STOPPED})


@dataclass(frozen=True, kw_only=True, slots=True)
class Node:
    """A training, or the end of a search."""

    name: str
    cost: float
    """Expected duration, in any unit."""
    needs: tuple[str, ...] = ()
    """Nodes that must be done first; names that are not in the graph are done already."""
    after: tuple[str, ...] = ()
    """Nodes that must have ended first, done or not."""


class TrialGraph:
    """The state of every node."""

    def __init__(self, nodes: Iterable[Node]) -> None:
        self._nodes = {node.name: node for node in nodes}
        self._states = dict.fromkeys(self._nodes, State.PENDING)
        waits_for = {node.name: (*node.needs, *node.after) for node in self._nodes.values()}
        self._is_halted = False
        self._paused: set[str] = set()
        self._place = {name: place for place, name in enumerate(self._nodes)}
        self._waiting: dict[str, list[str]] = {name: [] for name in self._nodes}
        """By node, the nodes that need it or come after it."""
        for name, others in waits_for.items():
            for other in others:
                self._waiting.get(other, []).append(name)
        remaining = remaining_path({node.name: node.cost for node in self._nodes.values()}, waits_for)
        self._urgency = {name: (-remaining[name], self._place[name]) for name in self._nodes}
        self._running: set[str] = set()
        self._ready = sorted((name for name in self._nodes if self._is_ready(name)), key=self._urgency.__getitem__)

    def state(self, name: str) -> State:
        """Return the state of a node."""
        return self._states[name]

    def running(self) -> list[str]:
        """Return the running nodes, in their given order."""
        return sorted(self._running, key=self._place.__getitem__)

    @property
    def is_over(self) -> bool:
        """Whether nothing runs and nothing can start any more."""
        return not self._running and (self._is_halted or not self._ready)

    def ready(self) -> list[str]:
        """Return the nodes that may start now, the most urgent first; ties in their given order."""
        return [] if self._is_halted else self._ready.copy()

    def start(self, name: str) -> None:
        """Mark the node as running."""
        assert self._is_ready(name), f"{name} is not ready"
        assert not self._is_halted, "nothing starts after a halt"
        self._move(name, State.RUNNING)

    def end(self, name: str, state: State) -> None:
        """Mark the node as no longer running: done, stopped, or pending if another attempt will follow."""
        assert self._states[name] is State.RUNNING, f"{name} does not run"
        self._move(name, state)

    def pause(self, name: str) -> None:
        """Release the node's resources until it is resumed or dropped."""
        self._paused.add(name)
        self.end(name, State.PENDING)

    def resume(self, name: str) -> None:
        """Allow the paused node to start again."""
        self._paused.remove(name)
        self._rank(name)

    def drop(self, name: str) -> None:
        """Stop the paused node for good."""
        self._paused.remove(name)
        self._move(name, State.STOPPED)

    def halt(self) -> None:
        """Let no more nodes start."""
        self._is_halted = True

    def fail(self, name: str) -> dict[str, str]:
        """Mark the node as failed.

        Returns:
            The nodes that it blocks, directly or indirectly, each with the reason; parents before children.
        """
        self.end(name, State.FAILED)
        blocked: dict[str, str] = {}
        ended = [name]
        while ended:
            waiting = sorted({child for each in ended for child in self._waiting[each]}, key=self._place.__getitem__)
            pending = [child for child in waiting if self._states[child] is State.PENDING]
            reasons = {child: why for child in pending if (why := self._why_blocked(child))}
            for child in reasons:
                self._move(child, State.BLOCKED)
            blocked |= reasons
            ended = list(reasons)
        return blocked

    def _move(self, name: str, state: State) -> None:
        self._states[name] = state
        if state is State.RUNNING:
            self._running.add(name)
        else:
            self._running.discard(name)
        for each in (name, *self._waiting[name]):
            self._rank(each)

    def _rank(self, name: str) -> None:
        """Insert the node into the ready nodes, or remove it from them."""
        place = bisect.bisect_left(self._ready, self._urgency[name], key=self._urgency.__getitem__)
        is_listed = self._ready[place : place + 1] == [name]
        is_ready = self._is_ready(name)
        if is_ready and not is_listed:
            self._ready.insert(place, name)
        elif is_listed and not is_ready:
            del self._ready[place]

    def _why_blocked(self, name: str) -> str:
        words = {State.FAILED: "failed", State.BLOCKED: "is blocked"}
        for parent in self._nodes[name].needs:
            if (state := self._states.get(parent)) in words:
                return f"its parent {parent} {words[state]}"
        return ""

    def _is_ready(self, name: str) -> bool:
        node = self._nodes[name]
        can_start = self._states[name] is State.PENDING and name not in self._paused
        return can_start and self._all(node.needs, {State.DONE}) and self._all(node.after, _ENDED)

    def _all(self, names: Sequence[str], states: Iterable[State]) -> bool:
        return all(self._states.get(name, State.DONE) in states for name in names)
