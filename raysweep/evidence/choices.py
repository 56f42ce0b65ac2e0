"""Computes what each way of serving all levels costs: training, disk, and the time of an answer."""

from collections.abc import Iterable, Mapping, Sequence
from statistics import median
from typing import Any, TypeVar

from raysweep.evidence import formats
from raysweep.evidence.evidence_schema import Cost, Strategy, Way
from raysweep.evidence.lineup import Entrant
from raysweep.evidence.run_schema import Training

STRATEGY_NAMES = {
    "general": "One general model",
    "specialised": "A model per level",
    "transfer": "A general model, fine-tuned per level",
}
Number = TypeVar("Number", int, float)
Speed = Mapping[str, Any]
"""The contents of evaluation/speed.json, or a part of it."""


def price_strategies(
    ways: Sequence[Way], entrants: Sequence[Entrant], trainings: Sequence[Training]
) -> tuple[Strategy, ...]:
    """Add its cost to every way; the common start was not trained and has none."""
    compared = {entrant.name for entrant in entrants}
    rates = _seconds_per_token([training for training in trainings if training.entry in compared])
    return tuple(
        Strategy(**dict(way), cost=None if way.name == "start" else _cost(way, entrants, trainings, rates))
        for way in ways
    )


def _seconds_per_token(trainings: Sequence[Training]) -> dict[int | None, float]:
    """Return the typical time of a token in a step, by model size: the median, as some trainings ran beside others."""
    rates: dict[int | None, list[float]] = {}
    for training in trainings:
        if training.step_seconds and training.tokens:
            rates.setdefault(training.parameters, []).append(training.step_seconds / training.tokens)
    return {parameters: median(seconds) for parameters, seconds in rates.items()}


def _cost(
    way: Way, entrants: Sequence[Entrant], trainings: Sequence[Training], rates: Mapping[int | None, float]
) -> Cost:
    """Count models to keep, their bytes, and hours of training with parents and searches; None if unknown.

    Hours are the trainings' tokens at the typical time per token, so that two ways with equally many tokens cost the
    same, whatever ran beside them.  Entries with several seeds cost one seed, since the others serve the statistics.
    """

    def hours(training: Training) -> float | None:
        rate, tokens = rates.get(training.parameters), training.tokens_tried
        return None if rate is None or tokens is None else rate * tokens / 3600

    by_trial = {training.trial: training for training in trainings}
    models_of = {entrant.name: entrant.models for entrant in entrants}
    kept = [next(iter(models_of[entry].values())) for entry in way.entries]
    chosen = [by_trial[trial] for trial in kept if trial in by_trial]
    needed: dict[str, Training] = {}
    for training in chosen:
        ancestor: Training | None = training
        while ancestor is not None and ancestor.trial not in needed:
            needed[ancestor.trial] = ancestor
            ancestor = by_trial.get(ancestor.parent or "")
    return Cost(
        models=len(chosen),
        trainings=len(needed),
        bytes=_total(training.bytes for training in chosen),
        parameters=_total(training.parameters for training in chosen),
        hours=_total(map(hours, needed.values())),
    )


def _total(values: Iterable[Number | None]) -> Number | None:
    known = list(values)
    return None if None in known else sum(value for value in known if value is not None)


def describe_choices(
    strategies: Sequence[Strategy], speed: Speed | None, trainings: Sequence[Training]
) -> tuple[str, ...]:
    """Describe each way in a sentence, with its perplexity relative to the general model's.

    Args:
        speed: evaluation/speed.json; None if nothing was timed.
        trainings: for the unit of their hours, of GPUs or CPUs.
    """
    units = {training.hours_of for training in trainings if training.hours is not None}
    hours_of = " and ".join(sorted(units)) or "CPU"
    by_name = {strategy.name: strategy for strategy in strategies}
    base = by_name["general"].perplexity.value if "general" in by_name else None
    return tuple(
        f"{words}: {'; '.join(_parts(by_name[name], speed, hours_of, base))}."
        for name, words in STRATEGY_NAMES.items()
        if name in by_name
    )


def _parts(strategy: Strategy, speed: Speed | None, hours_of: str, base: float | None) -> list[str]:
    cost, is_general = strategy.cost, strategy.name == "general"
    assert cost is not None, "every way but the start has a cost"
    is_one = cost.models == 1
    size = f" of {formats.size(cost.bytes)}" if cost.bytes is not None else ""
    parts = [f"{cost.models} model{'' if is_one else 's'}{size}{' together' if size and not is_one else ''}"]
    if cost.hours is not None:
        parts.append(f"{formats.hours(cost.hours)} of {hours_of} time to train")
    parts += _latency(speed, is_general=is_general)
    if base is not None and not is_general:
        higher = formats.change(base / strategy.perplexity.value)
        parts.append(f"on these test documents the general model's perplexity is {higher}")
    return parts


def _latency(speed: Speed | None, *, is_general: bool) -> list[str]:
    if not speed:
        return []
    timed = next(iter(speed.values()))
    alone, together = _median(timed), _median(timed.get("ensemble") or {})
    if alone is None:
        return []
    answer = f"{_milliseconds(alone)} for an answer"
    if is_general or together is None:
        return [answer if is_general else f"{answer} if the level is known"]
    return [f"{answer} if the level is known and {_milliseconds(together)} if it must be found first"]


def _median(timed: Speed) -> float | None:
    single = timed.get("batches", {}).get("1")
    return None if single is None else float(single["latency_p50_s"])


def _milliseconds(seconds: float) -> str:
    milliseconds = seconds * 1000.0
    shown = f"{milliseconds:.1f}" if milliseconds < 100.0 else f"{milliseconds:,.0f}"
    return f"{shown}{formats.SPACE}ms"
