"""Prints the result of `raysweep diff`."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from rich.text import Text

from raysweep.cli.terminal import PrintableConsole, plain_table
from raysweep.config.training_settings import GPT2_TOKENIZER
from raysweep.pipeline.run_diff import Difference
from raysweep.storage.printable import say, say_json, without_secrets


def print_differences(first: str, second: str, differences: Sequence[Difference], *, as_json: bool) -> None:
    """Print one row per field, or one JSON object."""
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
    tokenizers = [row for row in differences if row.field == "model.tokenizer"]
    if any((row.first or GPT2_TOKENIZER) != (row.second or GPT2_TOKENIZER) for row in tokenizers):
        say("the tokenizers differ, so losses per token cannot be compared; bits_per_byte can")


def _shown(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:,.4g}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else without_secrets(str(value))
