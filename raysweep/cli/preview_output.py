"""`raysweep preview`: prints masked examples of a run in colour."""

import csv
from itertools import islice

import numpy as np
from rich.text import Text

from raysweep.cli.settings import Settings
from raysweep.cli.terminal import PrintableConsole
from raysweep.errors import ConfigError
from raysweep.masking.example_store import ExampleStore
from raysweep.masking.preview import preview_example
from raysweep.seeding import generator_for
from raysweep.staging.run_command import this_command

CLEANED = 3
"""Number of texts shown before and after their markup was unwrapped."""
_AROUND = 60
STYLES = {
    "context": "",
    "blank": "bold cyan",
    "start": "bold magenta",
    "answer": "green",
    "end": "bold magenta",
}


def print_examples(settings: Settings, *, level: str | None, count: int) -> None:
    """Print training examples drawn with the run's seed; raises ConfigError if there are none."""
    if not settings.folder.manifest.exists():
        fix = this_command(settings.command(), stage="mask")
        raise ConfigError(f"{settings.folder.root} holds no examples; do {fix} first")
    levels = settings.config.data.levels
    store = ExampleStore.open(settings.folder.examples)
    examples = store.select(levels if level is None else (level,), "train")
    if not len(examples):
        raise ConfigError(f"--level: found '{level}', which has no examples; levels are {', '.join(levels)}")
    size = min(count, len(examples))
    chosen = generator_for(settings.config.seed, "preview").choice(examples, size=size, replace=False)
    console = PrintableConsole(highlight=False)
    console.print(
        Text.assemble(
            "context  ", ("[blank]", STYLES["blank"]), "  ", ("→ answers start", STYLES["start"]), "  ",
            ("answer", STYLES["answer"]), "  ", ("■ answer ends", STYLES["end"]),
        )
    )  # fmt: skip
    _print_cleaned(settings, console)
    for example in np.sort(chosen).tolist():
        (document,) = store.documents_of(np.array([example]))
        console.print(Text(f"\nexample {example:,} of document {document:,}", style="dim"))
        pieces = preview_example(store, example)
        console.print(Text.assemble(*((text, STYLES[role]) for text, role in pieces)))


def _print_cleaned(settings: Settings, console: PrintableConsole) -> None:
    """Show how unwrapping markup changed the first texts, each from its first changed character."""
    path = settings.folder.cleaned_texts
    if not path.exists():
        return
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(islice(csv.DictReader(file), CLEANED))
    console.print(Text("\nmarkup was unwrapped, such as in", style="dim"))
    for row in rows:
        pairs = enumerate(zip(row["before"], row["after"], strict=False))
        same = next((place for place, (left, right) in pairs if left != right), len(row["after"]))
        start = max(0, same - _AROUND // 3)
        before, after = (row[name][start : start + _AROUND].replace("\n", "⏎") for name in ("before", "after"))
        console.print(Text.assemble((f"{row['writing_id']}: ", "dim"), before, (" → ", "dim"), (after, "green")))
