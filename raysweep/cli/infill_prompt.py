"""`raysweep infill`: fills the blanks of a text with a trained model."""

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from raysweep.errors import InputError


def fill_text(folder: Path, text: str, **options: Any) -> None:
    """Print the fillings of one text."""
    _print_fillings(_load(folder), text, options)


def fill_texts_asked_for(folder: Path, **options: Any) -> None:
    """Ask for texts until an empty line or the end of the input; the model is loaded once."""
    console = Console()
    loaded = _load(folder)
    console.print("A text with blanks, such as: I like \\[word] because \\[sentence].  An empty line ends it.")
    while True:
        try:
            text = console.input("[bold]> [/]")
        except EOFError:
            return
        if not text.strip():
            return
        try:
            _print_fillings(loaded, text, options)
        except InputError as error:
            console.print(str(error), style="red", markup=False)


def _load(folder: Path) -> Any:
    from raysweep.model.gpt2 import load_model

    if not (folder / "config.json").is_file():
        raise InputError(
            f"--model: found '{folder}', which holds no model; must be a folder such as runs/local/trials/all/model"
        )
    return load_model(folder, "cpu")


def _print_fillings(model: Any, text: str, options: dict[str, Any]) -> None:
    from raysweep.evaluation.infilling import infill

    console = Console(highlight=False)
    for number, filling in enumerate(infill(model, text, **options), start=1):
        line = Text(f"{number}. ", style="dim")
        shown = Text(filling.text)
        for answer in filling.answers:
            shown.stylize("bold green" if answer.finished else "bold yellow", answer.start, answer.stop)
        line.append_text(shown)
        if not filling.finished:
            line.append("  (unfinished: the model did not end every answer)", style="yellow")
        console.print(line)
