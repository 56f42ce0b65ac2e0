"""The progress of a training: the part of a checkpoint that is not tensors, from which the result is built."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

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
    precision: str = ""
    """The precision of all steps: 'fp32', 'fp32_onednn' or 'bf16'; '' in checkpoints of earlier versions."""
    examples: int = 0
    tokens: int = 0
    share_tokens: int = 0
    """Tokens of the first worker's share."""
    share_positions: int = 0
    """Positions computed for that share, including padding."""
    seconds: dict[str, float] = field(
        default_factory=lambda: {"data": 0.0, "step": 0.0, "evaluation": 0.0, "checkpoint": 0.0}
    )
    """Wall-clock seconds of all attempts up to their last checkpoint."""

    def to_state(self) -> dict[str, Any]:
        """Return the fields as plain values for a checkpoint."""
        return asdict(self)

    def count_step(self, *, examples: int, tokens: int, share_tokens: int, share_positions: int) -> None:
        """Add one finished step."""
        self.step += 1
        self.examples += examples
        self.tokens += tokens
        self.share_tokens += share_tokens
        self.share_positions += share_positions

    def is_done(self, steps: int) -> bool:
        """Tell whether no step is left to do."""
        return self.step >= steps or self.stopped != ""

    def add_evaluation(self, losses: dict[str, float], metric: str, patience: int | None) -> Evaluation:
        """Record an evaluation, and check whether it is the best so far and whether patience has run out.

        Among equal losses the earliest step is the best, because it has trained on fewer examples.
        """
        is_best = not self.best_step or losses[metric] < self.best_losses[metric]
        if is_best:
            self.best_step, self.best_losses, self.evaluations_without_better = self.step, losses, 0
        else:
            self.evaluations_without_better += 1
        if patience is not None and self.evaluations_without_better >= patience:
            self.stopped = PATIENCE
        return Evaluation(step=self.step, losses=losses, is_best=is_best)

    @property
    def padding_share(self) -> float:
        """Share of padding among all positions computed."""
        return 1.0 - self.share_tokens / self.share_positions if self.share_positions else 0.0

    @property
    def tokens_per_second(self) -> float | None:
        """Tokens of all workers over the seconds of `data` and `step`; None if no step was timed."""
        busy = self.seconds["data"] + self.seconds["step"]
        return self.tokens / busy if busy else None

    def since(self, earlier: Mapping[str, Any]) -> "Progress":
        """Return the counts and seconds added since `to_state` returned `earlier`."""
        counts = {name: getattr(self, name) - earlier[name] for name in ("tokens", "share_tokens", "share_positions")}
        return Progress(
            **counts, seconds={part: seconds - earlier["seconds"][part] for part, seconds in self.seconds.items()}
        )

    @contextmanager
    def timed(self, part: str) -> Iterator[None]:
        """Add the wall-clock seconds of the block to `part`."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[part] += time.perf_counter() - start
