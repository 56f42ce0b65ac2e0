"""Formats numbers for people: few digits, units, a true minus sign."""

from datetime import UTC, datetime

NONE = "–"
SPACE = "\N{NO-BREAK SPACE}"
MINUS = "\N{MINUS SIGN}"
FAR = 1000.0
"""A ratio of perplexities beyond it, either way, says only that the interval has no end that matters."""


def perplexity(value: float | None) -> str:
    """About three digits: 8.03, 21.4, 312, 1,204."""
    if value is None:
        return NONE
    if value >= 1e6:
        return f"{value:.2g}"
    return f"{value:.2f}" if value < 10 else f"{value:.1f}" if value < 100 else f"{value:,.0f}"


def ratio(value: float | None) -> str:
    """Three decimals: differences of perplexities are often below one per cent.  Beyond a thousand, only that it is."""
    if value is None:
        return NONE
    if value < 1.0 / FAR:
        return f"<{SPACE}{1.0 / FAR:g}"
    return f">{SPACE}{FAR:,.0f}" if value > FAR else f"{value:.3f}" if value < 100 else f"{value:,.0f}"


def percent(value: float | None) -> str:
    """A ratio as a change: 1.25 is +25.0 %; above 10 it is a factor: ×73.7, and beyond a thousand only that."""
    if value is None:
        return NONE
    if value >= 10.0:
        return f"×{value:,.1f}" if value <= FAR else f">{SPACE}×{FAR:,.0f}"
    if value < 1.0 / FAR:
        return f"<{SPACE}{MINUS}99.9{SPACE}%"
    return f"{(value - 1.0) * 100.0:+z,.1f}{SPACE}%".replace("-", "\N{MINUS SIGN}")


def change(ratio: float) -> str:
    """A ratio of two perplexities in words, before "than": `25.0 % higher`, `1.9 % lower`, `73.7 times higher`."""
    return f"{_size_of_change(ratio)} {_direction(ratio)}"


def change_range(low: float, high: float) -> str:
    """The limits of a ratio in words: `96.3 % to 108.9 % higher`, or from lower to higher."""
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
    """A share in per cent."""
    return NONE if value is None else f"{value * 100.0:z.1f}{SPACE}%".replace("-", MINUS)


def loss(value: float | None) -> str:
    """Nats per token."""
    return NONE if value is None else f"{value:.3f}"


def counted(number: int, noun: str) -> str:
    """`1 seed`, `1,200 seeds`."""
    return f"{number:,} {noun if number == 1 else f'{noun}s'}"


def count(value: float | None) -> str:
    """A whole number with thousands."""
    return NONE if value is None else f"{value:,.0f}"


def hours(value: float | None) -> str:
    """Hours, or minutes, seconds or milliseconds if they are few."""
    if value is None:
        return NONE
    if value >= 1.0:
        return f"{value:,.1f}{SPACE}h"
    if value * 60.0 >= 1.0:
        return f"{value * 60.0:.1f}{SPACE}min"
    return f"{value * 3600.0:.1f}{SPACE}s" if value * 3600.0 >= 0.1 else f"{value * 3.6e6:.1f}{SPACE}ms"


def size(value: float | None) -> str:
    """Bytes, in powers of 1,000."""
    if value is None:
        return NONE
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000.0:
            return f"{value:.0f}{SPACE}{unit}" if unit == "B" else f"{value:.1f}{SPACE}{unit}"
        value /= 1000.0
    return f"{value:.1f}{SPACE}TB"


def p_value(value: float | None) -> str:
    """Three decimals, which the resamples can tell."""
    return NONE if value is None else f"<{SPACE}0.001" if value < 0.001 else f"{value:.3f}"


def date(unix_seconds: float | None) -> str:
    """The day and minute, UTC."""
    return NONE if unix_seconds is None else f"{datetime.fromtimestamp(unix_seconds, UTC):%Y-%m-%d %H:%M} UTC"


def signed(value: float | None) -> str:
    """A number that may be below zero, such as a correlation."""
    return NONE if value is None else f"{value:z.3f}".replace("-", MINUS)


def points(value: float | None) -> str:
    """A difference of shares, in percentage points."""
    return NONE if value is None else f"{value * 100.0:+z.1f}".replace("-", MINUS)
