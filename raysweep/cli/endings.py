"""Turns an exception into one message on stderr and an exit code, never a traceback.

Errors of raysweep's own family are printed as they are.  Operating-system errors that a user can fix are
explained.  Any other exception is a bug in raysweep: its traceback goes to a file that only the
user can read, and the message names the file.
"""

import errno
import os
import platform
import select
import shlex
import sys
import tempfile
import traceback
from typing import Any

import typer
from typer.core import TyperGroup

from raysweep import __version__
from raysweep.errors import RaysweepError
from raysweep.storage.printable import say, shorten_line, shorten_quotes

UNFORESEEN = 70
"""EX_SOFTWARE in sysexits.h."""
INTERRUPTED = 130
OUTPUT_CLOSED = 141
"""128 + SIGPIPE, the code that a shell reports for other programs whose reader closed the pipe."""

_STDOUT = 1
_LONGEST_USAGE = 300
_USAGE_ERROR = typer.BadParameter.__bases__[0]

_FULL = (1, "make room; the same command then continues")
_FAILED = (1, "the disk or the network file system failed; the same command continues once it works")
_FORBIDDEN = (2, "give yourself the right to it, or name another place")
_ADVICE = {
    errno.ENOSPC: _FULL,
    errno.EDQUOT: _FULL,
    errno.EIO: _FAILED,
    errno.ESTALE: _FAILED,
    errno.EMFILE: (1, "raise the limit (ulimit -n 65536); the same command then continues"),
    errno.EACCES: _FORBIDDEN,
    errno.EPERM: _FORBIDDEN,
    errno.EROFS: (2, "mount it writable, or name another place"),
    errno.EISDIR: (2, "a folder is there; name a file"),
    errno.ENOTDIR: (2, "a part of this path is a file; name another place"),
    errno.EEXIST: (2, "a file is there where a folder is needed; name another place"),
    errno.ENAMETOOLONG: (2, "name a shorter path"),
    errno.ELOOP: (2, "a symbolic link leads back to itself; name the place itself"),
}
"""Exit code and advice for system errors that the user can fix."""


class Commands(TyperGroup):
    """The group of all commands; it turns whatever would end the process silently into a message or an error."""

    def invoke(self, ctx: Any) -> Any:
        """Run a command.

        Raises:
            RuntimeError: foreign code ended the process (a mask function that calls `sys.exit(0)` must not look
                like a finished run), or a pipe other than our output broke.
            typer.Exit: the user interrupted, or the reader of the output closed it.
        """
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
        except SystemExit as error:
            raise RuntimeError(f"code that raysweep called ended the process (sys.exit({error.code!r}))") from error
        except KeyboardInterrupt:
            again = shlex.join(["raysweep", *sys.argv[1:]])
            say(f"interrupted; what is saved is kept. To go on: `{again}`", to_stderr=True)
            raise typer.Exit(INTERRUPTED) from None
        except BrokenPipeError as error:
            if not _output_is_closed():
                raise RuntimeError(f"a pipe to another process broke ({error})") from error
            # Discard buffered output, or Python reports the broken pipe again at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), _STDOUT)
            raise typer.Exit(OUTPUT_CLOSED) from None
        return result


def end_with(error: Exception) -> int:
    """Print what went wrong; return the exit code."""
    if isinstance(error, typer.Abort):
        return INTERRUPTED
    if isinstance(error, _USAGE_ERROR):
        return _end_with_usage(error)
    if isinstance(error, RaysweepError):
        say(f"error: {shorten_quotes(str(error))}", to_stderr=True)
        return error.exit_code
    if isinstance(error, OSError) and error.filename and error.errno in _ADVICE:
        code, advice = _ADVICE[error.errno]
        say(f"error: {error.filename2 or error.filename}: {error.strerror}; {advice}", to_stderr=True)
        return code
    what = f"error: unexpected {type(error).__name__}: {shorten_line(shorten_quotes(str(error)), 80)}"
    say(f"{what}; {_keep_traceback(error)}. This is a fault in raysweep; please report it", to_stderr=True)
    return UNFORESEEN


def _end_with_usage(error: Any) -> int:
    """Print the usage and the mistake on the command line, or the help if no command was given."""
    mistake = error.format_message()
    if not mistake.startswith("Usage:"):
        command = error.ctx.command_path if error.ctx else "raysweep"
        usage = f"{error.ctx.get_usage()}\n" if error.ctx else ""
        mistake = (
            f"{usage}Try '{command} --help' for help.\n\nError: {shorten_line(shorten_quotes(mistake), _LONGEST_USAGE)}"
        )
    say(mistake, to_stderr=True)
    return int(error.exit_code)


def _keep_traceback(error: Exception) -> str:
    """Write the traceback to a file that only the user can read; return a phrase that says where it is."""
    lines = [f"raysweep {__version__}, Python {platform.python_version()}, {platform.platform()}\n"]
    lines += traceback.format_exception(error)
    try:
        handle, path = tempfile.mkstemp(prefix="raysweep-", suffix=".log")
        with open(handle, "w", encoding="utf-8", errors="backslashreplace") as file:  # noqa: PTH123 - a descriptor
            file.writelines(lines)
    except OSError as cannot_write:
        say("".join(lines), to_stderr=True)
        return f"the traceback is above, since no file can be written for it ({cannot_write})"
    return f"the traceback is in {path}"


def _output_is_closed() -> bool:
    """Return whether the reader of our output (head, less) has closed it."""
    output = select.poll()
    output.register(_STDOUT, 0)
    return any(events & (select.POLLERR | select.POLLHUP) for _, events in output.poll(0))
