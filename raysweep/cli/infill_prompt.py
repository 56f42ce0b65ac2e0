"""`raysweep infill`: fills the blanks of texts with a trained model, which is loaded once."""

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from raysweep.cli.terminal import PrintableConsole
from raysweep.errors import ConfigError, InputError
from raysweep.storage.printable import say_json


def fill_texts(folder: Path, text: str | None, *, as_json: bool = False, **options: Any) -> None:
    """Print the fillings of a text; without one, ask for texts until an empty line or the end of the input.

    Raises:
        ConfigError: JSON is asked for without a text.
    """
    if as_json and text is None:
        raise ConfigError("--json: needs a text; give it after the options, or leave --json out to be asked for texts")
    from raysweep.model.gpt2 import load_model

    if not (folder / "config.json").is_file():
        raise InputError(
            f"--model: found '{folder}', which holds no model; must be a folder such as runs/local/trials/all/model"
        )
    model = load_model(folder, "cpu")
    if text is not None and as_json:
        say_json(_fillings_json(model, text, options))
        return
    if text is not None:
        _print_fillings(model, text, options)
        return
    console = PrintableConsole()
    console.print("A text with blanks, such as: I like \\[word] because \\[sentence].  An empty line ends it.")
    while text := _ask(console):
        try:
            _print_fillings(model, text, options)
        except InputError as error:
            console.print(str(error), style="red", markup=False)


def _fillings_json(model: Any, text: str, options: dict[str, Any]) -> list[dict[str, Any]]:
    from raysweep.evaluation.infilling import infill

    return [
        {
            "text": filling.text,
            "finished": filling.finished,
            "answers": [
                {"text": filling.text[answer.start : answer.stop], "start": answer.start, "finished": answer.finished}
                for answer in filling.answers
            ],
        }
        for filling in infill(model, text, **options)
    ]


def _ask(console: Console) -> str:
    """The next line; '' at the end of the input."""
    try:
        return console.input("[bold]> [/]").strip()
    except EOFError:
        return ""


def _print_fillings(model: Any, text: str, options: dict[str, Any]) -> None:
    from raysweep.evaluation.infilling import infill

    console = PrintableConsole(highlight=False)
    for number, filling in enumerate(infill(model, text, **options), start=1):
        line = Text(f"{number}. ", style="dim")
        shown = Text(filling.text)
        for answer in filling.answers:
            shown.stylize("bold green" if answer.finished else "bold yellow", answer.start, answer.stop)
        line.append_text(shown)
        if not filling.finished:
            line.append("  (unfinished: the model did not end every answer)", style="yellow")
        console.print(line)
