"""How `raysweep diff` is printed."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from rich.text import Text

from raysweep.cli.terminal import PrintableConsole, plain_table
from raysweep.pipeline.run_diff import Difference
from raysweep.storage.printable import say, say_json, without_secrets


def print_differences(first: str, second: str, differences: Sequence[Difference], *, as_json: bool) -> None:
    """Print a row per field, or one JSON object."""
    if as_json:
        rows = [dataclasses.asdict(difference) for difference in differences]
        say_json({"first": first, "second": second, "differences": rows})
        return
    if not differences:
        say(f"{first} and {second} have the same settings and results")
        return
    table = plain_table()
    for header in ("", "field", first, second):
        table.add_column(header, overflow="fold")
    for row in differences:
        table.add_row(row.kind, *(Text(word) for word in (row.field, _shown(row.first), _shown(row.second))))
    PrintableConsole().print(table)


def _shown(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:,.4g}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else without_secrets(str(value))
