"""Rounds the numbers of the evidence once, so that page, tables and `verify` all show and compare the same digits.

A float here is a sum of thousands of others, whose last bits depend on the processor and the libraries.  Nine digits
do not, except if a value lies, to within the accuracy of the sums, on the boundary between two of them.  So the
evidence holds nine digits, every document prints those, and they are compared as they are written.
"""

import math
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from pydantic_core import to_json

from raysweep.errors import InputError

DIGITS = 9
"""Number of significant digits."""
DECIMALS = 3
"""Number of decimals that are always kept: clock times in seconds have ten digits before the point."""
ACCURACY = 1e-12
"""Relative difference that may occur between two machines before rounding."""
_FEW_DIGITS = 10.0 ** (DIGITS - DECIMALS)
"""A number below this has few enough digits before the point that significant digits suffice for its decimals."""
_WRITTEN = f"%.{DIGITS}g"
_LONGEST_PLACE = 80
_UNROUNDED_TYPES = frozenset({str, int, bool, type(None)})


def rounded(value: Any) -> Any:
    """Round every float in a JSON value, and sort all names; raises InputError if a number is not finite."""
    try:
        return _rounded(value)
    except _NotFiniteError as error:
        raise InputError(
            f"evidence.{', '.join(_not_finite(value))}: no finite number. A record of the run holds it, or a model "
            "diverged: make again what it rests on (raysweep run --force TRIAL, or raysweep evaluate --force evaluate)"
        ) from error


def in_order(value: Any) -> Any:
    """Sort the names of every object in a JSON value."""
    if isinstance(value, list):
        return list(map(in_order, value))
    return {name: in_order(value[name]) for name in sorted(value)} if isinstance(value, dict) else value


def as_text(value: Any) -> str:
    """Return the text of evidence.json for a JSON value whose names are sorted.

    `dump_json` is not used, because `json` indents in Python, which takes fifty times as long.
    """
    return f"{to_json(value, indent=2).decode()}\n"


def is_on_boundary(stated: Any, exact: Any) -> bool:
    """Return whether `stated` may be another machine's rounding of `exact`, different from the rounding here."""
    if not isinstance(stated, float) or not isinstance(exact, float):
        return False
    if abs(exact) < ACCURACY:  # a difference of equal sums is zero, or what rounding left of it
        return abs(stated) < ACCURACY
    return stated in (_round(exact * (1.0 - ACCURACY)), _round(exact * (1.0 + ACCURACY)))


class _NotFiniteError(ValueError):
    """A number is infinite or NaN."""


def _rounded(value: Any) -> Any:
    # Most values are texts and whole numbers, and most others floats, so no call is made for the former.
    if isinstance(value, float):
        return _round(value)
    if isinstance(value, list):
        return [item if type(item) in _UNROUNDED_TYPES else _rounded(item) for item in value]
    if isinstance(value, dict):
        names = _sorted_names(tuple(value))
        return {
            name: item
            if (kind := type(item := value[name])) in _UNROUNDED_TYPES
            else (_round if kind is float else _rounded)(item)
            for name in names
        }
    return value


@lru_cache(maxsize=1024)
def _sorted_names(names: tuple[str, ...]) -> list[str]:
    """Return the sorted names, cached because thousands of records have the same names."""
    return sorted(names)


def _not_finite(value: Any, place: str = "") -> list[str]:
    """Describe the first three numbers that are not finite, with their places."""
    if isinstance(value, float) and not math.isfinite(value):
        return [f"{place[:_LONGEST_PLACE]} is {value}"]
    inside: Iterator[tuple[str, Any]] = iter(())
    if isinstance(value, list):
        inside = ((f"{place}[{number}]", item) for number, item in enumerate(value))
    elif isinstance(value, dict):
        inside = ((f"{place}.{name}" if place else name, item) for name, item in value.items())
    return [number for place, item in inside for number in _not_finite(item, place)][:3]


def _round(value: float) -> float:
    if -_FEW_DIGITS < value < _FEW_DIGITS:
        return float(_WRITTEN % value)
    if value.is_integer():
        return value
    if not math.isfinite(value):
        raise _NotFiniteError(value)
    return round(value, max(DECIMALS, DIGITS - 1 - math.floor(math.log10(abs(value)))))
