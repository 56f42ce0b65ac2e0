"""Decides which samples of a search continue: successive halving over whole rounds.

ASHA (Li et al. 2020) decides for each sample as soon as it reaches a rung, comparing it with the samples that happened
to arrive before it, so the survivors depend on how many workers there are and how fast they are.
Here a rung is decided when all samples of the round have reached it, so the same seed gives the same
search on one GPU or eight.  The price is that a sample may wait for the others of its round; since a
round is small and other trials fill the gaps, little is lost.
"""

from collections.abc import Mapping, Sequence
from typing import TypeVar

from raysweep.config.training_settings import AshaConfig, SearchConfig, TrainingConfig

SEARCH_ROUND = 4
"""Number of a search's samples that are drawn, and judged, together."""
_Sample = TypeVar("_Sample")


def in_rounds(samples: Sequence[_Sample]) -> list[list[_Sample]]:
    """Divide the samples of a search into rounds."""
    return [list(samples[first : first + SEARCH_ROUND]) for first in range(0, len(samples), SEARCH_ROUND)]


def rung_steps(settings: TrainingConfig, asha: AshaConfig) -> list[int]:
    """Return the steps at which samples are judged: after the grace evaluations, then multiplied by `reduction`.

    The last step is not a rung: a sample that reaches it is done.
    """
    rungs = []
    evaluations = asha.grace_evaluations
    while evaluations * settings.evaluate_every < settings.steps:
        rungs.append(evaluations * settings.evaluate_every)
        evaluations *= asha.reduction
    return rungs


def survivors(losses: Mapping[int, float], *, reduction: int) -> set[int]:
    """Select the best 1/`reduction` (rounded up) of the samples at a rung; ties go to the earlier sample."""
    keep = -(-len(losses) // reduction)
    return set(sorted(losses, key=lambda sample: (losses[sample], sample))[:keep])


def share_of_steps(settings: TrainingConfig, search: SearchConfig) -> float:
    """Return the share of all samples' steps that is executed if 1/`reduction` of the samples continue at each rung."""
    if search.asha is None:
        return 1.0
    done = 0
    for samples in in_rounds(range(search.samples)):
        alive, before = len(samples), 0
        for rung in rung_steps(settings, search.asha):
            done += alive * (rung - before)
            alive, before = -(-alive // search.asha.reduction), rung
        done += alive * (settings.steps - before)
    return done / (search.samples * settings.steps)


class Halving:
    """Tracks one round of samples through the rungs."""

    def __init__(self, samples: list[int], *, reduction: int) -> None:
        self._reduction = reduction
        self._rung = dict.fromkeys(samples, 0)
        """The rung that each continuing sample is heading for."""
        self._here: dict[int, float] = {}
        """Losses of the samples that wait at the current rung."""
        self._done: dict[int, float] = {}
        """Best losses of the samples that are done."""
        self._current = 0

    def rung_of(self, sample: int) -> int:
        """Return the rung that the sample is heading for."""
        return self._rung[sample]

    def arrive(self, sample: int, loss: float) -> None:
        """Record that the sample waits at its rung."""
        assert self._rung[sample] == self._current, "a rung is decided before a sample leaves it"
        self._here[sample] = loss

    def finish(self, sample: int, loss: float | None) -> None:
        """Record that the sample is done, with its best loss; None if it failed."""
        self._rung.pop(sample, None)
        if loss is not None:
            self._done[sample] = loss

    def decide(self) -> tuple[list[int], list[int]] | None:
        """Return the samples to continue and to stop once all have arrived; None before that, or if none waits."""
        if not self._here or set(self._rung) != set(self._here):
            return None
        kept = survivors({**self._here, **self._done}, reduction=self._reduction)
        continuing = sorted(kept & set(self._here))
        stops = sorted(set(self._here) - kept)
        for sample in stops:
            del self._rung[sample]
        for sample in continuing:
            self._rung[sample] += 1
        self._here.clear()
        self._current += 1
        return continuing, stops
