"""Which samples of a search are worth going on with: successive halving, decided by the whole round.  Pure.

ASHA (Li et al. 2020) decides for each sample as soon as it reaches a rung, from those that happened to
be there before it: what survives then depends on how many workers there are and how fast they are.
Here a rung is decided when all samples of the round have reached it, so the same seed gives the same
search on one GPU or eight.  The price is that a sample may wait for the others of its round; since a
round is small and other trials fill the gaps, little is lost.
"""

from collections.abc import Mapping, Sequence


def rung_steps(*, steps: int, evaluate_every: int, grace_evaluations: int, reduction: int) -> list[int]:
    """After which steps a sample waits to be judged: those of the grace, and each time `reduction` times as many.

    The last step is no rung: whoever comes so far is done.
    """
    rungs = []
    evaluations = grace_evaluations
    while evaluations * evaluate_every < steps:
        rungs.append(evaluations * evaluate_every)
        evaluations *= reduction
    return rungs


def survivors(losses: Mapping[int, float], *, reduction: int) -> set[int]:
    """The best of the samples at a rung, one of `reduction` of them (rounded up); ties go to the earlier sample."""
    keep = -(-len(losses) // reduction)
    return set(sorted(losses, key=lambda sample: (losses[sample], sample))[:keep])


def share_of_steps(*, samples: int, together: int, rungs: Sequence[int], steps: int, reduction: int) -> float:
    """Of the steps of all samples: those that are done if one of `reduction` goes on at each rung.

    Args:
        together: samples in a round.
    """
    done = 0
    for first in range(0, samples, together):
        alive, before = min(together, samples - first), 0
        for rung in rungs:
            done += alive * (rung - before)
            alive, before = -(-alive // reduction), rung
        done += alive * (steps - before)
    return done / (samples * steps)


class Halving:
    """One round on its way through the rungs."""

    def __init__(self, samples: list[int], *, reduction: int) -> None:
        self._reduction = reduction
        self._rung = dict.fromkeys(samples, 0)
        """Of each sample that goes on: the rung it is on its way to."""
        self._here: dict[int, float] = {}
        """Losses of those that wait at the current rung."""
        self._done: dict[int, float] = {}
        """Best losses of those that are at their end."""
        self._current = 0

    def rung_of(self, sample: int) -> int:
        """The rung that the sample is on its way to."""
        return self._rung[sample]

    def arrive(self, sample: int, loss: float) -> None:
        """The sample waits at its rung."""
        assert self._rung[sample] == self._current, "a rung is decided before anybody leaves it"
        self._here[sample] = loss

    def finish(self, sample: int, loss: float | None) -> None:
        """The sample is at its end; `loss` is None if it failed."""
        self._rung.pop(sample, None)
        if loss is not None:
            self._done[sample] = loss

    def decide(self) -> tuple[list[int], list[int]] | None:
        """Who goes on and who is stopped, once all have arrived; None before that, or with nobody waiting."""
        if not self._here or set(self._rung) != set(self._here):
            return None
        kept = survivors({**self._here, **self._done}, reduction=self._reduction)
        goes = sorted(kept & set(self._here))
        stops = sorted(set(self._here) - kept)
        for sample in stops:
            del self._rung[sample]
        for sample in goes:
            self._rung[sample] += 1
        self._here.clear()
        self._current += 1
        return goes, stops
