"""Rounds the numbers of the evidence once, so that page, tables and `verify` all show and compare the same digits.

A float is a sum of thousands of others, and its last bits depend on the processor and the libraries.  Nine digits do
not, except where a value lies, to within the accuracy of the sums, on the boundary between two of them.  So the
evidence holds nine digits, every document prints those, and they are compared as they are written.
"""

import math
from typing import Any

from pydantic_core import to_json

DIGITS = 9
"""Significant digits of a number."""
DECIMALS = 3
"""Decimals that are kept in any case: clock times in seconds have ten digits before the point."""
ACCURACY = 1e-12
"""Relative; two machines may differ by so much before rounding."""


def rounded(value: Any) -> Any:
    """A JSON value with every float in it rounded, and the names of every object in order."""
    if isinstance(value, float):
        return _round(value)
    if isinstance(value, list):
        return list(map(rounded, value))
    return {name: rounded(value[name]) for name in sorted(value)} if isinstance(value, dict) else value


def in_order(value: Any) -> Any:
    """A JSON value with the names of every object in order."""
    if isinstance(value, list):
        return list(map(in_order, value))
    return {name: in_order(value[name]) for name in sorted(value)} if isinstance(value, dict) else value


def as_text(value: Any) -> str:
    """The text of evidence.json for a JSON value whose names are in order.

    Not by `dump_json`: `json` indents in Python, which takes fifty times as long.
    """
    return f"{to_json(value, indent=2).decode()}\n"


def is_on_boundary(stated: Any, exact: Any) -> bool:
    """True if `stated` is what another machine may have rounded `exact` to, whose own rounding is another."""
    if not isinstance(stated, float) or not isinstance(exact, float):
        return False
    if abs(exact) < ACCURACY:  # a difference of equal sums: it is zero, or the rest of their rounding
        return abs(stated) < ACCURACY
    return stated in (_round(exact * (1.0 - ACCURACY)), _round(exact * (1.0 + ACCURACY)))


def _round(value: float) -> float:
    if not math.isfinite(value):
        raise ValueError(f"a number of the evidence is {value}")
    if value == 0.0:
        return value
    return round(value, max(DECIMALS, DIGITS - 1 - math.floor(math.log10(abs(value)))))
