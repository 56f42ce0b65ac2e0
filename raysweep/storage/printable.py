"""Makes text that others wrote safe to print: no control, bidi or ANSI character, no secret of a URL, nothing endless.

Whatever reaches a terminal, a log, a TeX or a CSV file from a text, an id, a name, a path or a bundle passes
through here.  `say` and `say_json` are the only functions that print; tables and colours go through
`cli.terminal.PrintableConsole`, which escapes its texts too.  A test forbids any other way.
"""

import json
import re
import sys
import unicodedata
from collections.abc import Callable
from typing import Any

SHOWN_CHARACTERS = 80
"""The most characters of an input that a message repeats."""
HIDDEN = "***"
"""What stands for a secret."""
_LONGEST_LINE = 2000
_UNPRINTABLE = {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}
_HARMLESS = "\n\t\N{ZERO WIDTH JOINER}\N{ZERO WIDTH NON-JOINER}"  # the joiners are part of emoji and of Persian words
_LONG_QUOTE = re.compile(rf"(?<=['\"])([^'\"\n]{{{SHOWN_CHARACTERS + 1},}})(?=['\"])")
_LONG_NAME = re.compile(r"[^\s/\\]{256,}")
"""Longer than the name of any file, so no path that the reader needs whole."""
_WORD = r"""(?:'[^']*'|"[^"\n]*"|[^\s'"`])++"""
_COMMAND = re.compile(f"(`(?:cd {_WORD} && )?(?:python -m )?raysweep(?: {_WORD})*`)")
"""A command to paste, as messages write it; its words are quoted as a shell needs them."""
_LONGEST_COMMAND = 20_000
_FORMULA = re.compile(r"'*(\s*[=+\-@]|[\t\r\n])(?!(?<=[+\-])\d+([.,]\d+)?(e[+-]?\d+)?\Z)", re.IGNORECASE)
"""What a spreadsheet runs or trims; a number is neither."""
_USER_IN_URL = re.compile(r"(?<=://)(?![^/\s@]*\$\{)[^/\s'\"@]*@")
_SECRET_IN_QUERY = re.compile(
    r"([?&;][\w.-]*(?:token|key|secret|sig|signature|password|passwd|pwd|auth|credential)[\w.-]*=)(?!\$\{)[^&\s'\"#;]+",
    re.IGNORECASE,
)


def printable(text: str) -> str:
    r"""The text with every control, bidi, surrogate and private character as its escape (`\x1b`); lines stay lines."""
    if text.isprintable():
        return text
    return "".join(_escaped(character) for character in text)


def printable_message(text: str) -> str:
    """A message as it may be printed: `printable`, without the secrets of URLs, no line longer than a page."""
    return _outside_commands(
        printable(without_secrets(text)), lambda prose: "\n".join(_cut(line) for line in prose.split("\n"))
    )


def say(text: object, *, to_stderr: bool = False) -> None:
    """Print a message as `printable_message` makes it, at once."""
    print(printable_message(str(text)), file=sys.stderr if to_stderr else sys.stdout, flush=True)


def say_json(value: Any) -> None:
    """Print a value as JSON in ASCII, without the secrets of URLs."""
    # json leaves DEL as it is; every other control, bidi or private character is beyond ASCII or escaped.
    print(without_secrets(json.dumps(value, indent=2)).replace("\x7f", r"\u007f"), flush=True)


def shorten_quotes(text: str) -> str:
    """A message without the middle of quotes over `SHOWN_CHARACTERS`, and of words too long for a file's name.

    Commands in backticks stay whole, since they are to be pasted.
    """
    return _outside_commands(text, _shorten_quotes)


def shorten_line(text: str, most: int) -> str:
    """A message on one line, cut between words to `most` characters; a command is there whole or not at all."""
    line = _outside_commands(text.strip(), lambda prose: re.sub(r"\s+", " ", prose))
    if len(line) <= most:
        return line
    end = line.rfind(" ", 0, most - 1)
    end = most - 2 if end < 0 else end
    end = next((found.start() for found in _COMMAND.finditer(line) if found.start() < end < found.end()), end)
    return f"{line[:end].rstrip()} …"


def _outside_commands(text: str, change: Callable[[str], str]) -> str:
    pieces = _COMMAND.split(text)  # every second one is a command
    return "".join(
        piece if number % 2 and len(piece) <= _LONGEST_COMMAND else change(piece) for number, piece in enumerate(pieces)
    )


def _shorten_quotes(prose: str) -> str:
    prose = _LONG_QUOTE.sub(lambda found: _without_middle(found[1]), prose)
    return _LONG_NAME.sub(lambda found: _without_middle(found[0]), prose)


def _without_middle(value: str) -> str:
    return f"{value[:50]}…{value[-29:]}"


def without_secrets(text: str) -> str:
    """The text with the user and password, and the token-like query values, of its URLs as `***`; `${NAME}`s stay."""
    return _SECRET_IN_QUERY.sub(rf"\1{HIDDEN}", _USER_IN_URL.sub(f"{HIDDEN}@", text))


def shown(value: Any, limit: int = SHOWN_CHARACTERS) -> str:
    """A value as a message quotes it: on one line, printable, without secrets, cut to `limit` characters."""
    if isinstance(value, str):
        text = repr(value[: limit + 1])
    elif isinstance(value, int) and abs(value) >= 10**limit:
        return "a number of very many digits"  # Python refuses to spell it
    else:
        try:
            text = json.dumps(value, default=repr, ensure_ascii=False)
        except (TypeError, ValueError, RecursionError):
            text = f"a {type(value).__name__}"
    text = printable(without_secrets(text)).replace("\n", r"\n")
    return text if len(text) <= limit else text[: limit - 1] + "…"


def spreadsheet_safe(text: str) -> str:
    """A text cell that no spreadsheet runs as a formula, with its control characters escaped.

    An apostrophe goes before it; before those of a text that looks as if it had one already too, so that taking one
    apostrophe off gives the text again.
    """
    return ("'" if _FORMULA.match(text) else "") + printable(text)


def _escaped(character: str) -> str:
    if character in _HARMLESS or unicodedata.category(character) not in _UNPRINTABLE:
        return character
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")


def _cut(line: str) -> str:
    left_out = len(line) - _LONGEST_LINE
    return line if left_out <= 0 else f"{line[:_LONGEST_LINE]} … ({left_out:,} characters more)"
