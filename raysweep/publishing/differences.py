"""Lists where two things that should be equal differ: JSON values by their path, texts by their line."""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

from raysweep.evidence.rounding import is_on_boundary

_AROUND = 24
_LONGEST = 80


@dataclass(frozen=True, slots=True)
class Mismatch:
    """One difference between what a bundle states and what was found."""

    place: str
    """A file, and a position in it."""
    stated: str
    found: str
    is_rounding: bool = False
    """Whether the two are neighbouring roundings of a value that lies between them, to within float accuracy."""

    def __str__(self) -> str:
        return f"{self.place}: stated {self.stated}, {self.found}"


def compare_values(place: str, stated: Any, found: Any, exact: Any) -> Iterator[Mismatch]:
    """Yield the differences between two JSON values, by leaf; `exact` is `found` before rounding."""
    if isinstance(stated, dict) and isinstance(found, dict):
        for name in sorted(stated.keys() | found.keys()):
            inner = f"{place}.{name}" if ": " in place else f"{place}: {name}"
            if name not in found:
                yield Mismatch(inner, _show(stated[name]), "recomputed without it")
            elif name not in stated:
                yield Mismatch(inner, "nothing", f"recomputed {_show(found[name])}")
            else:
                yield from compare_values(inner, stated[name], found[name], exact[name])
    elif isinstance(stated, list) and isinstance(found, list) and len(stated) == len(found):
        for index, values in enumerate(zip(stated, found, exact, strict=True)):
            yield from compare_values(f"{place}[{index}]", *values)
    elif type(stated) is not type(found) or stated != found:
        yield Mismatch(place, _show(stated), f"recomputed {_show(found)}", is_on_boundary(stated, exact))


def compare_texts(place: str, stated: str, found: str) -> Iterator[Mismatch]:
    """Yield the differences between two texts, one for each line."""
    lines = zip_longest(stated.split("\n"), found.split("\n"))
    for number, (before, after) in enumerate(lines, start=1):
        line = f"{place} line {number}"
        if before is None:
            yield Mismatch(line, "no such line", f"recomputed {_cut(after)!r}")
        elif after is None:
            yield Mismatch(line, repr(_cut(before)), "recomputed without it")
        elif before != after:
            first = next(i for i, pair in enumerate(zip_longest(before, after)) if pair[0] != pair[1])
            around = slice(max(0, first - _AROUND), first + _AROUND)
            yield Mismatch(line, repr(before[around]), f"recomputed {after[around]!r}")


def count_leaves(value: Any) -> int:
    if isinstance(value, dict):
        return sum(map(count_leaves, value.values()))
    return sum(map(count_leaves, value)) if isinstance(value, list) else 1


def shorten(differences: Sequence[Mismatch], most: int) -> list[str]:
    """Return the first `most` differences of every file as lines, then how many more each file has."""
    lines: list[str] = []
    per_file: Counter[str] = Counter()
    for difference in differences:
        name = difference.place.split(" line ")[0].split(": ")[0]
        per_file[name] += 1
        if per_file[name] <= most:
            lines.append(str(difference))
    return lines + [f"{name}: {count - most:,} more" for name, count in per_file.items() if count > most]


def _show(value: Any) -> str:
    return _cut(json.dumps(value, ensure_ascii=False))


def _cut(text: str) -> str:
    shown = text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"
    return shown.encode("utf-8", "backslashreplace").decode("utf-8")  # a forged file may hold bytes that are no text
