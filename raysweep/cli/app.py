"""The commands of `raysweep`.

Heavy rooms are imported inside the command that needs them, so that `--help`, `plan`, `check` and
config errors answer at once.  Exit codes: 0 all done, 1 something failed, 2 the config or the input
is wrong (or the budget too small), 3 stopped at the budget's cap, 70 a fault that raysweep does not know,
130 interrupted (Ctrl-C or SIGTERM), 141 the reader of the output is gone; see `cli.endings`.
"""

import signal
import sys
from typing import Any

import typer

from raysweep.cli import (
    bench_commands,
    inspect_commands,
    publish_commands,
    run_commands,
    text_commands,
)
from raysweep.cli.endings import Commands, end_with

app = typer.Typer(
    name="raysweep",
    cls=Commands,
    help="Is a language model per CEFR level worth it? From a CSV of learner texts to a decided experiment.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

for group in (run_commands, inspect_commands, publish_commands, text_commands):
    app.add_typer(group.app)
app.add_typer(bench_commands.app, name="bench")


def main() -> None:
    """Run a command; whatever goes wrong ends in a message, not in a traceback."""
    end_on_sigterm()
    try:
        app()
    except Exception as error:
        sys.exit(end_with(error))


def end_on_sigterm() -> None:
    """Treat SIGTERM like Ctrl-C."""
    signal.signal(signal.SIGTERM, _interrupt)


def _interrupt(*_: Any) -> None:
    raise KeyboardInterrupt
