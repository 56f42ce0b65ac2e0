"""Which trial may start: a graph that is told of every start and end.

A node needs others to be *done* (a child its parent) or waits only for them to *end*, well or badly
(a round of a search for the round before).  Among ready nodes the longest remaining path is first.
When a node fails, those that need it are blocked, and no others.  When it is stopped, those that need it
wait for a later run.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from raysweep.scheduling.order import rank, remaining_path
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
        self._remaining = remaining_path({node.name: node.cost for node in self._nodes.values()}, waits_for)

    def state(self, name: str) -> State:
        """The state of a node."""
        return self._states[name]

    def names(self, state: State) -> list[str]:
        """The nodes in this state, in their given order."""
        return [name for name, each in self._states.items() if each is state]

    @property
    def is_over(self) -> bool:
        """Whether nothing runs and nothing can start any more."""
        return not self.names(State.RUNNING) and not self.ready()

    def ready(self) -> list[str]:
        """The nodes that may start now, the most urgent first."""
        if self._is_halted:
            return []
        return rank([name for name in self.names(State.PENDING) if self._is_ready(name)], self._remaining)

    def start(self, name: str) -> None:
        """The node runs now."""
        assert name in self.ready(), f"{name} is not ready"
        self._states[name] = State.RUNNING

    def end(self, name: str, state: State) -> None:
        """The node runs no longer: it is done or stopped, or pending if another attempt is to follow."""
        assert self._states[name] is State.RUNNING, f"{name} does not run"
        self._states[name] = state

    def pause(self, name: str) -> None:
        """The node gives its resources back, and waits until it is resumed or dropped."""
        self.end(name, State.PENDING)
        self._paused.add(name)

    def resume(self, name: str) -> None:
        """The paused node may start again."""
        self._paused.remove(name)

    def drop(self, name: str) -> None:
        """The paused node is stopped for good."""
        self._paused.remove(name)
        self._states[name] = State.STOPPED

    def halt(self) -> None:
        """Nothing more starts."""
        self._is_halted = True

    def fail(self, name: str) -> dict[str, str]:
        """The node has failed.

        Returns:
            The nodes that it blocks, directly or not, each with the reason; parents before children.
        """
        self.end(name, State.FAILED)
        blocked: dict[str, str] = {}
        while reasons := {child: why for child in self.names(State.PENDING) if (why := self._why_blocked(child))}:
            self._states.update(dict.fromkeys(reasons, State.BLOCKED))
            blocked |= reasons
        return blocked

    def _why_blocked(self, name: str) -> str:
        words = {State.FAILED: "failed", State.BLOCKED: "is blocked"}
        for parent in self._nodes[name].needs:
            if (state := self._states.get(parent)) in words:
                return f"its parent {parent} {words[state]}"
        return ""

    def _is_ready(self, name: str) -> bool:
        node = self._nodes[name]
        return name not in self._paused and self._all(node.needs, {State.DONE}) and self._all(node.after, _ENDED)

    def _all(self, names: Sequence[str], states: Iterable[State]) -> bool:
        return all(self._states.get(name, State.DONE) in states for name in names)
