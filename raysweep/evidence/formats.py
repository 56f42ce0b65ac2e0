"""Formats numbers for readers: few digits, units, a true minus sign."""

from collections.abc import Sequence
from datetime import UTC, datetime

NONE = "–"
SPACE = "\N{NO-BREAK SPACE}"
MINUS = "\N{MINUS SIGN}"
FAR = 1000.0
"""For a ratio of perplexities beyond this, in either direction, only that fact is shown."""


def perplexity(value: float | None) -> str:
    """Format with about three digits: 8.03, 21.4, 312, 1,204."""
    if value is None:
        return NONE
    if value >= 1e6:
        return f"{value:.2g}"
    return f"{value:.2f}" if value < 10 else f"{value:.1f}" if value < 100 else f"{value:,.0f}"


def ratio(value: float | None) -> str:
    """Format with three decimals, since differences are often below one per cent; beyond `FAR`, show only that."""
    if value is None:
        return NONE
    if value < 1.0 / FAR:
        return f"<{SPACE}{1.0 / FAR:g}"
    return f">{SPACE}{FAR:,.0f}" if value > FAR else f"{value:.3f}" if value < 100 else f"{value:,.0f}"


def percent(value: float | None) -> str:
    """Format a ratio as a change: 1.25 is +25.0 %; above 10 as a factor: ×73.7; beyond `FAR`, show only that."""
    if value is None:
        return NONE
    if value >= 10.0:
        return f"×{value:,.1f}" if value <= FAR else f">{SPACE}×{FAR:,.0f}"
    if value < 1.0 / FAR:
        return f"<{SPACE}{MINUS}99.9{SPACE}%"
    return f"{(value - 1.0) * 100.0:+z,.1f}{SPACE}%".replace("-", "\N{MINUS SIGN}")


def change(ratio: float) -> str:
    """Word a ratio of two perplexities, before "than": `25.0 % higher`, `1.9 % lower`, `73.7 times higher`."""
    return f"{_size_of_change(ratio)} {_direction(ratio)}"


def change_range(low: float, high: float) -> str:
    """Word the limits of a ratio: `96.3 % to 108.9 % higher`, or from lower to higher."""
    if _direction(low) != _direction(high):
        return f"{change(low)} to {change(high)}"
    near, far = (low, high) if low >= 1.0 else (high, low)
    return f"{_size_of_change(near)} to {_size_of_change(far)} {_direction(high)}"


def _direction(ratio: float) -> str:
    return "higher" if ratio >= 1.0 else "lower"


def _size_of_change(ratio: float) -> str:
    if ratio > FAR:
        return f"more than {FAR:,.0f}{SPACE}times"
    if ratio < 1.0 / FAR:
        return f"more than 99.9{SPACE}%"
    return percent(ratio).lstrip(f"+{MINUS}") if ratio < 10.0 else f"{percent(ratio).lstrip('×')}{SPACE}times"


def share(value: float | None) -> str:
    """Format a share in per cent."""
    return NONE if value is None else f"{value * 100.0:z.1f}{SPACE}%".replace("-", MINUS)


def loss(value: float | None) -> str:
    """Format nats per token."""
    return NONE if value is None else f"{value:.3f}"


def counted(number: int, noun: str) -> str:
    """Format as `1 seed`, `1,200 seeds`."""
    return f"{number:,} {noun if number == 1 else f'{noun}s'}"


def count(value: float | None) -> str:
    """Format a whole number with thousands separators."""
    return NONE if value is None else f"{value:,.0f}"


def hours(value: float | None) -> str:
    """Format hours, as minutes, seconds or milliseconds if they are few."""
    if value is None:
        return NONE
    if value >= 1.0:
        return f"{value:,.1f}{SPACE}h"
    if value * 60.0 >= 1.0:
        return f"{value * 60.0:.1f}{SPACE}min"
    return f"{value * 3600.0:.1f}{SPACE}s" if value * 3600.0 >= 0.1 else f"{value * 3.6e6:.1f}{SPACE}ms"


def size(value: float | None) -> str:
    """Format bytes, in powers of 1,000."""
    if value is None:
        return NONE
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000.0:
            return f"{value:.0f}{SPACE}{unit}" if unit == "B" else f"{value:.1f}{SPACE}{unit}"
        value /= 1000.0
    return f"{value:.1f}{SPACE}TB"


def p_value(value: float | None) -> str:
    """Format with three decimals, the resolution of the resamples."""
    return NONE if value is None else f"<{SPACE}0.001" if value < 0.001 else f"{value:.3f}"


def date(unix_seconds: float | None) -> str:
    """Format the day and minute, in UTC."""
    return NONE if unix_seconds is None else f"{datetime.fromtimestamp(unix_seconds, UTC):%Y-%m-%d %H:%M} UTC"


def signed(value: float | None) -> str:
    """Format a number that may be negative, such as a correlation."""
    return NONE if value is None else f"{value:z.3f}".replace("-", MINUS)


def points(value: float | None) -> str:
    """Format a difference of shares, in percentage points."""
    return NONE if value is None else f"{value * 100.0:+z.1f}".replace("-", MINUS)


def listed(names: Sequence[str]) -> str:
    """List at least one name: `A1`, or `A1, A2 and B1`."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
