"""The commands of `raysweep`.

Heavy rooms are imported inside the command that needs them, so that `--help`, `plan`, `check` and
config errors answer at once.  Exit codes: 0 all done, 1 something failed, 2 the config or the input
is wrong (or the budget too small), 3 stopped at the budget's cap, 130 interrupted (Ctrl-C or SIGTERM).
"""

import errno
import os
import signal
import sys
from typing import Any

import typer

from raysweep.cli import bench_commands, inspect_commands, publish_commands, run_commands, text_commands
from raysweep.errors import RaysweepError

app = typer.Typer(
    name="raysweep",
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
    """Run a command; an error of our family ends in its message, not in a traceback."""
    end_on_sigterm()
    try:
        app()
    except RaysweepError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        print("interrupted; the same command continues from the last checkpoints", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        # The reader of our output (head, less) has closed it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except OSError as error:
        if error.errno not in {errno.ENOSPC, errno.EDQUOT}:
            raise
        where = f"{error.filename}: " if error.filename else ""
        print(f"error: {where}{error.strerror}; make room; the same command then continues", file=sys.stderr)
        sys.exit(1)


def end_on_sigterm() -> None:
    """Treat SIGTERM like Ctrl-C."""
    signal.signal(signal.SIGTERM, _interrupt)


def _interrupt(*_: Any) -> None:
    raise KeyboardInterrupt
