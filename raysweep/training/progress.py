"""How far a training has come: what a checkpoint keeps besides tensors, and what the result is made of."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any, Self

from raysweep.training.job import Evaluation

PATIENCE = "patience"


@dataclass(kw_only=True, slots=True)
class Progress:
    """Counts and scores up to and including `step`."""

    step: int = 0
    best_step: int = 0
    """0 before the first evaluation."""
    best_losses: dict[str, float] = field(default_factory=dict)
    evaluations_without_better: int = 0
    stopped: str = ""
    """'patience' if it ended before its steps were done."""
    examples: int = 0
    tokens: int = 0
    share_tokens: int = 0
    """Those of the first worker's share."""
    share_positions: int = 0
    """Positions it computed for them, padding included."""
    seconds: dict[str, float] = field(
        default_factory=lambda: {"data": 0.0, "step": 0.0, "evaluation": 0.0, "checkpoint": 0.0}
    )
    """Wall seconds of all attempts up to their last checkpoint."""

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """What `to_state` gave."""
        return cls(**state)

    def to_state(self) -> dict[str, Any]:
        """Plain values for a checkpoint."""
        return asdict(self)

    def count_step(self, *, examples: int, tokens: int, share_tokens: int, share_positions: int) -> None:
        """One more step is done."""
        self.step += 1
        self.examples += examples
        self.tokens += tokens
        self.share_tokens += share_tokens
        self.share_positions += share_positions

    def is_done(self, steps: int) -> bool:
        """Whether there is no step left to do."""
        return self.step >= steps or self.stopped != ""

    def note(self, losses: dict[str, float], decides: str, patience: int | None) -> Evaluation:
        """Take in an evaluation: is it the best, and has there been none better for too long?

        Ties go to the earlier step, which has seen less.
        """
        is_best = not self.best_step or losses[decides] < self.best_losses[decides]
        if is_best:
            self.best_step, self.best_losses, self.evaluations_without_better = self.step, losses, 0
        else:
            self.evaluations_without_better += 1
        if patience is not None and self.evaluations_without_better >= patience:
            self.stopped = PATIENCE
        return Evaluation(step=self.step, losses=losses, is_best=is_best)

    @contextmanager
    def timed(self, part: str) -> Iterator[None]:
        """Count the block's wall seconds as `part`."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[part] += time.perf_counter() - start
