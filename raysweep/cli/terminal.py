"""Formats times, sizes, money and tables for the commands."""

import os
import time
from collections.abc import Iterable, Mapping
from typing import Any, TextIO

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from raysweep.storage.printable import printable

_UNWRAPPED = 10_000
"""Width for output to a file or a pipe, in which lines should not be wrapped."""

_ANSWER_S = 2.0
"""Seconds that a distant terminal may take to answer."""


class PrintableConsole(Console):
    """A console that styles text, and escapes control characters in the text itself."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        if not self.is_terminal and "COLUMNS" not in os.environ and "width" not in options:
            self.width = _UNWRAPPED

    def on_broken_pipe(self) -> None:
        """Raise the error again: the end of the command deals with a closed output."""
        raise

    def render_str(self, text: str, **options: Any) -> Text:
        """Escape text before its width is measured, or a table would cut it off."""
        return super().render_str(printable(text), **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Escape what is printed; segments with which rich itself moves the cursor stay unchanged."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(printable(segment.text), segment.style)


def is_watched(keyboard: TextIO, screen: TextIO) -> bool:
    """Return whether a person sees this terminal; `ray exec` gives a command one even if its output goes to a file.

    Such a terminal has no size if there is no keyboard at its other end.  With one (`ray exec … > log`) it has a size
    but does not answer a request for the cursor's position; only a terminal made by ssh is asked.  A file is never a
    terminal, even if FORCE_COLOR, which CI services set, asks for terminal output.
    """
    if not screen.isatty() or os.get_terminal_size(screen.fileno()).columns == 0:
        return False
    is_remote = "SSH_CONNECTION" in os.environ and os.environ.get("TERM", "dumb") != "dumb"
    return not is_remote or (_may_ask(keyboard) and _answers_cursor_request(keyboard.fileno(), screen.fileno()))


def _may_ask(keyboard: TextIO) -> bool:
    """Return whether this is a terminal and not a background job, which would be stopped for reading from it."""
    if not keyboard.isatty():
        return False
    try:
        return os.tcgetpgrp(keyboard.fileno()) == os.getpgrp()
    except OSError:
        # The terminal does not control this process.
        return True


def _answers_cursor_request(keyboard: int, screen: int) -> bool:
    import select
    import termios
    import tty

    before = termios.tcgetattr(keyboard)
    # The answer must not be shown, and it does not end with a line break.
    tty.setcbreak(keyboard)
    try:
        os.write(screen, b"\x1b[6n")
        answer, until = b"", time.monotonic() + _ANSWER_S
        while not answer.endswith(b"R"):
            left = until - time.monotonic()
            if left <= 0 or not select.select([keyboard], [], [], left)[0] or not (more := os.read(keyboard, 32)):
                return False
            answer += more
        return True
    finally:
        termios.tcsetattr(keyboard, termios.TCSANOW, before)


def duration(seconds: float) -> str:
    """Format as `42 s`, `3 min 05 s` or `2 h 10 min`."""
    rounded = round(seconds)
    if rounded < 60:
        return f"{rounded} s"
    if rounded < 3600:
        return f"{rounded // 60} min {rounded % 60:02d} s"
    return f"{rounded // 3600:,} h {rounded % 3600 // 60:02d} min"


def size(count: float) -> str:
    """Format as `13 MB` or `1.5 GB`, in powers of ten as disks are sold."""
    for unit, factor in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= factor:
            value = count / factor
            return f"{value:.1f} {unit}" if value < 10 else f"{value:,.0f} {unit}"
    return f"{count:.0f} B"


def amount(cost: Mapping[str, Any] | None) -> str:
    """Format as `12.40 EUR` or `0.0008 EUR`; '-' without a price."""
    if cost is None:
        return "-"
    figure = f"{cost['amount']:,.2f}" if cost["amount"] >= 0.01 else f"{cost['amount']:.2g}"
    return f"{figure} {cost['currency']}"


def plain_table() -> Table:
    """Make a table without lines and with bold headers."""
    return Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
