"""`raysweep infill`: fills the blanks of one text, or of texts typed at a prompt, with models that are loaded once."""

import importlib.util
import sys
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.text import Text

from raysweep.cli.infill_models import ChosenModels
from raysweep.cli.terminal import PrintableConsole, duration, plain_table
from raysweep.errors import ConfigError, InputError
from raysweep.storage.clock import unix_seconds
from raysweep.storage.printable import say_json


def fill_texts(chosen: ChosenModels, text: str | None, *, as_json: bool = False, **options: Any) -> None:
    """Print the fillings of a text; without one, ask for texts until an empty line or the end of the input.

    Raises:
        ConfigError: JSON is requested without a text.
    """
    if as_json and text is None:
        raise ConfigError("--json: needs a text; give it after the options, or leave --json out to be asked for texts")
    models = chosen.load()
    if text is not None and as_json:
        answers = {name: _as_json(fillings) for name, fillings in _fill(models, text, options).items()}
        say_json(answers.get("", answers))
        return
    console = PrintableConsole(highlight=False)
    if text is not None:
        _print_fillings(console, _fill(models, text, options))
        return
    console.print("A text with blanks, such as: I like \\[word] because \\[sentence].  An empty line ends it.")
    _remember_lines()
    while text := _ask(console):
        began = unix_seconds()
        try:
            with console.status(f"filling with {len(models)} {'model' if len(models) == 1 else 'models'} …"):
                fillings = _fill(models, text, options)
        except InputError as error:
            console.print(str(error), style="red", markup=False)
            continue
        _print_fillings(console, fillings)
        console.print(Text(f"in {duration(unix_seconds() - began)}", style="dim"))


def _fill(models: Mapping[str, Any], text: str, options: dict[str, Any]) -> dict[str, Any]:
    from raysweep.evaluation.infilling import infill

    return {name: infill(model, text, **options) for name, model in models.items()}


def _as_json(fillings: list[Any]) -> list[dict[str, Any]]:
    return [
        {
            "text": filling.text,
            "finished": filling.finished,
            "answers": [
                {
                    "text": answer.text,
                    "start": answer.start,
                    "finished": answer.finished,
                    "probability": answer.probability,
                }
                for answer in filling.answers
            ],
        }
        for filling in fillings
    ]


def _remember_lines() -> None:
    """Let the arrow keys recall texts of this session; they are learners' texts, so they are not saved to a file."""
    if sys.stdin.isatty() and importlib.util.find_spec("readline"):
        importlib.import_module("readline")


def _ask(console: Console) -> str:
    """Read the next line; '' at the end of the input."""
    try:
        return console.input("[bold]> [/]").strip()
    except EOFError:
        return ""


def _print_fillings(console: Console, fillings_of: Mapping[str, Any]) -> None:
    """Print each filling on a line; with several models, print a table with a column per model and a row per sample."""
    lines = {name: [_styled(filling) for filling in fillings] for name, fillings in fillings_of.items()}
    if "" in lines:
        for number, line in enumerate(lines[""], start=1):
            console.print(Text(f"{number}. ", style="dim").append_text(line))
        return
    table = plain_table()
    table.add_column("")
    for name in lines:
        table.add_column(name, overflow="fold")
    for number, row in enumerate(zip(*lines.values(), strict=True), start=1):
        table.add_row(Text(f"{number}.", style="dim"), *row)
    console.print(table)


def _styled(filling: Any) -> Text:
    shown = Text(filling.text)
    for answer in filling.answers:
        shown.stylize("bold green" if answer.finished else "bold yellow", answer.start, answer.stop)
    if not filling.finished:
        shown.append("  (unfinished: the model did not end every answer)", style="yellow")
    return shown
