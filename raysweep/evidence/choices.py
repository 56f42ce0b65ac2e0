"""What each way of serving all levels costs, in plain words: training, disk, and the time of an answer."""

from collections.abc import Mapping, Sequence
from typing import Any

from raysweep.evidence import formats

Values = Mapping[str, Any]

WAYS = {
    "general": "One general model",
    "specialised": "A model per level",
    "transfer": "A general model, fine-tuned per level",
}


def describe_choices(strategies: Sequence[Values], speed: Values | None, trainings: Sequence[Values]) -> list[str]:
    """A sentence per way, with its perplexity against the general model's.

    Args:
        speed: evaluation/speed.json; None if nothing was timed.
        trainings: for what their hours are of, GPUs or CPUs.
    """
    hours_of = " and ".join(sorted({one["hours_of"] for one in trainings if one["hours"] is not None})) or "CPU"
    by_name = {one["name"]: one for one in strategies if one["name"] in WAYS}
    general = by_name.get("general")
    base = general["perplexity"]["value"] if general else None
    return [
        f"{WAYS[name]}: {', '.join(_parts(by_name[name], speed, hours_of, base))}." for name in WAYS if name in by_name
    ]


def _parts(strategy: Values, speed: Values | None, hours_of: str, base: float | None) -> list[str]:
    cost, is_general = strategy["cost"], strategy["name"] == "general"
    models = cost["models"]
    size = f" of {formats.size(cost['bytes'])}" if cost["bytes"] is not None else ""
    parts = [f"{models} model{'s' if models != 1 else ''}{size}{' together' if size and models != 1 else ''}"]
    if cost["hours"] is not None:
        parts.append(f"{formats.hours(cost['hours'])} of {hours_of} time to train")
    parts += _latency(speed, is_general=is_general)
    if base is not None and not is_general:
        change = strategy["perplexity"]["value"] / base
        parts.append(f"perplexity {formats.percent(change)} against the general model's")
    return parts


def _latency(speed: Values | None, *, is_general: bool) -> list[str]:
    if not speed:
        return []
    timed = next(iter(speed.values()))
    one, together = _median(timed), _median(timed.get("ensemble") or {})
    if one is None:
        return []
    known = f"{_shown(one)} for an answer"
    if is_general or together is None:
        return [known if is_general else f"{known} if the level is known"]
    return [f"{known} if the level is known and {_shown(together)} if it must be found first"]


def _median(timed: Values) -> float | None:
    found = timed.get("batches", {}).get("1")
    return None if found is None else float(found["latency_p50_s"])


def _shown(seconds: float) -> str:
    milliseconds = seconds * 1000.0
    shown = f"{milliseconds:.1f}" if milliseconds < 100.0 else f"{milliseconds:,.0f}"
    return f"{shown}{formats.SPACE}ms"
