"""The commands of `raysweep`.

Heavy rooms are imported inside the command that needs them, so that `--help`, `plan`, `check` and
config errors answer at once.  Exit codes: 0 everything is done, 1 something failed, 2 the config or the input
is wrong (or the budget too small), 3 stopped at the budget's cap, 70 an unexpected error,
130 interrupted (Ctrl-C or SIGTERM), 141 the reader of the output closed it; see `cli.endings`.
"""

import gc
import io
import os
import re
import signal
import sys
from collections.abc import Mapping
from typing import Annotated

import typer

from raysweep import __version__
from raysweep.cli import (
    bench_commands,
    cluster_commands,
    inspect_commands,
    publish_commands,
    run_commands,
    serve_commands,
    text_commands,
)
from raysweep.cli.endings import Commands, end_with
from raysweep.errors import ConfigError
from raysweep.storage.printable import say

app = typer.Typer(
    name="raysweep",
    cls=Commands,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _print_version(is_asked: bool) -> None:
    if is_asked:
        say(f"raysweep {__version__}")
        raise typer.Exit


@app.callback()
def begin(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Print the version and exit.")
    ] = False,
) -> None:
    """Is it worth training a language model per CEFR level? From a corpus of learner texts to a verdict."""


for group in (run_commands, inspect_commands, publish_commands, text_commands, serve_commands):
    app.add_typer(group.app)
app.add_typer(bench_commands.app, name="bench")
app.add_typer(cluster_commands.app, name="cluster")


def main() -> None:
    """Run a command; any error ends in a message rather than a traceback."""
    end_on_sigterm()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A name that is not valid UTF-8, or a terminal without arrows, must not end a command.
            stream.reconfigure(errors="backslashreplace")
    try:
        take_umask(os.environ)
        code = app(standalone_mode=False)
    except Exception as error:
        code = end_with(error)
    # Otherwise Python collects garbage once more before it exits: 1.3 s of CPU if torch was imported.
    gc.freeze()
    sys.exit(code)


def take_umask(variables: Mapping[str, str]) -> None:
    """Apply the mask in RAYSWEEP_UMASK to files created from now on, by Ray too; ConfigError if it is no mask."""
    if text := variables.get("RAYSWEEP_UMASK"):
        if not re.fullmatch("0?[0-7]{1,3}", text) or int(text, 8) & 0o700:
            raise ConfigError(f"RAYSWEEP_UMASK: found {text[:80]!r}; must be octal digits such as 077 (for you alone)")
        os.umask(int(text, 8))


def end_on_sigterm() -> None:
    """Treat SIGTERM like Ctrl-C."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
