"""Makes text from outside safe to print: no control, bidi or ANSI characters, no secrets of URLs, bounded length.

All text from documents, ids, names, paths and bundles that reaches a terminal, a log, a TeX or a CSV file passes
through this module.  `say` and `say_json` are the only functions that print; tables and colours go through
`cli.terminal.PrintableConsole`, which escapes its texts too.  A test forbids any other way.
"""

import json
import re
import sys
import unicodedata
from collections.abc import Callable
from typing import Any

SHOWN_CHARACTERS = 80
"""Maximum number of characters of an input that a message repeats."""
HIDDEN = "***"
"""Replaces a secret."""
_LONGEST_LINE = 2000
_UNPRINTABLE = {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}
_HARMLESS = "\n\t\N{ZERO WIDTH JOINER}\N{ZERO WIDTH NON-JOINER}"  # the joiners are part of emoji and of Persian words
_LONG_QUOTE = re.compile(rf"(?<=['\"])([^'\"\n]{{{SHOWN_CHARACTERS + 1},}})(?=['\"])")
_LONG_NAME = re.compile(r"[^\s/\\]{256,}")
"""Matches words longer than any file name, which are therefore not paths that the reader needs in full."""
_WORD = r"""(?:'[^']*'|"[^"\n]*"|[^\s'"`])++"""
_COMMAND = re.compile(f"(`(?:cd {_WORD} && )?(?:python -m )?raysweep(?: {_WORD})*`)")
"""Matches a command to paste, as messages write it, with its words quoted for a shell."""
_LONGEST_COMMAND = 20_000
_FORMULA = re.compile(r"'*(\s*[=+\-@]|[\t\r\n])(?!(?<=[+\-])\d+([.,]\d+)?(e[+-]?\d+)?\Z)", re.IGNORECASE)
"""Matches what a spreadsheet would run or trim; numbers are exempt."""
_USER_IN_URL = re.compile(r"(?<=://)(?![^/\s@]*\$\{)[^/\s'\"@]*@")
_SECRET_IN_QUERY = re.compile(
    r"([?&;][\w.-]*(?:token|key|secret|sig|signature|password|passwd|pwd|auth|credential)[\w.-]*=)(?!\$\{)[^&\s'\"#;]+",
    re.IGNORECASE,
)


def printable(text: str) -> str:
    r"""Escape every control, bidi, surrogate and private character (`\x1b`), keeping line breaks and tabs."""
    if text.isprintable():
        return text
    return "".join(_escaped(character) for character in text)


def printable_message(text: str) -> str:
    """Make a message safe to print: `printable`, without secrets of URLs, and with overlong lines cut."""
    return _outside_commands(
        printable(without_secrets(text)), lambda prose: "\n".join(_cut(line) for line in prose.split("\n"))
    )


def say(text: object, *, to_stderr: bool = False) -> None:
    """Print a message in the form of `printable_message`, and flush."""
    print(printable_message(str(text)), file=sys.stderr if to_stderr else sys.stdout, flush=True)


def say_json(value: Any) -> None:
    """Print a value as ASCII JSON, without secrets of URLs."""
    # json leaves DEL unescaped; every other control, bidi or private character is escaped or not ASCII.
    print(without_secrets(json.dumps(value, indent=2)).replace("\x7f", r"\u007f"), flush=True)


def shorten_quotes(text: str) -> str:
    """Cut the middle out of quotes over `SHOWN_CHARACTERS`, and out of words too long for a file's name.

    Commands in backticks stay whole, since users paste them.
    """
    return _outside_commands(text, _shorten_quotes)


def shorten_line(text: str, most: int) -> str:
    """Put a message on one line, cut between words to `most` characters; a command is kept whole or left out."""
    line = _outside_commands(text.strip(), lambda prose: re.sub(r"\s+", " ", prose))
    if len(line) <= most:
        return line
    end = line.rfind(" ", 0, most - 1)
    end = most - 2 if end < 0 else end
    end = next((match.start() for match in _COMMAND.finditer(line) if match.start() < end < match.end()), end)
    return f"{line[:end].rstrip()} …"


def _outside_commands(text: str, change: Callable[[str], str]) -> str:
    pieces = _COMMAND.split(text)  # every second piece is a command
    return "".join(
        piece if number % 2 and len(piece) <= _LONGEST_COMMAND else change(piece) for number, piece in enumerate(pieces)
    )


def _shorten_quotes(prose: str) -> str:
    def cut(match: re.Match[str]) -> str:
        return f"{match[0][:50]}…{match[0][-29:]}"

    return _LONG_NAME.sub(cut, _LONG_QUOTE.sub(cut, prose))


def without_secrets(text: str) -> str:
    """Replace the user, password and token-like query values in a text's URLs by `***`; `${NAME}`s stay."""
    return _SECRET_IN_QUERY.sub(rf"\1{HIDDEN}", _USER_IN_URL.sub(f"{HIDDEN}@", text))


def shown(value: Any, limit: int = SHOWN_CHARACTERS) -> str:
    """Format a value as messages quote it: on one line, printable, without secrets, at most `limit` characters."""
    if isinstance(value, str):
        text = repr(value[: limit + 1])
    elif isinstance(value, int) and abs(value) >= 10**limit:
        return "a number of very many digits"  # Python refuses to convert it to text
    else:
        try:
            text = json.dumps(value, default=repr, ensure_ascii=False)
        except (TypeError, ValueError, RecursionError):
            text = f"a {type(value).__name__}"
    text = printable(without_secrets(text)).replace("\n", r"\n")
    return text if len(text) <= limit else text[: limit - 1] + "…"


def spreadsheet_safe(text: str) -> str:
    """Make a text cell that no spreadsheet runs as a formula, with its control characters escaped.

    An apostrophe is put before a formula, and before a text that already begins with apostrophes and a formula, so that
    removing one apostrophe restores the text.
    """
    return ("'" if _FORMULA.match(text) else "") + printable(text)


def _escaped(character: str) -> str:
    if character in _HARMLESS or unicodedata.category(character) not in _UNPRINTABLE:
        return character
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")


def _cut(line: str) -> str:
    left_out = len(line) - _LONGEST_LINE
    return line if left_out <= 0 else f"{line[:_LONGEST_LINE]} … ({left_out:,} characters more)"
