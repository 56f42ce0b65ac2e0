"""Reads JSON that a user gives us: no larger than a limit, and every mistake a sentence that names the file."""

import json
from pathlib import Path
from typing import Any, NoReturn

from raysweep.errors import InputError

MIB = 1 << 20


def read_user_json(path: Path, place: str, *, limit_bytes: int = MIB) -> dict[str, Any]:
    """The JSON object in a file.

    Args:
        place: what a message begins with.

    Raises:
        InputError: it is larger than `limit_bytes`, or what `parse_user_json` refuses.
    """
    return parse_user_json(read_user_bytes(path, place, limit_bytes=limit_bytes), place)


def read_user_bytes(path: Path, place: str, *, limit_bytes: int = MIB) -> bytes:
    """The bytes of a file, as `read_user_json` parses them.

    Raises:
        InputError: it is larger than `limit_bytes`.
    """
    if (size := path.stat().st_size) > limit_bytes:
        raise InputError(f"{place}: found {size:,} bytes; must be at most {limit_bytes:,}: this is no such file")
    return path.read_bytes()


def parse_user_json(data: bytes, place: str) -> dict[str, Any]:
    """The JSON object in these bytes.

    Raises:
        InputError: no JSON, no object, nested too deeply, or a number that is none or has thousands of digits.
    """
    try:
        value = json.loads(data, parse_constant=_refuse_constant)
    except RecursionError:
        raise InputError(f"{place}: its JSON is nested too deeply; get the file anew") from None
    except ValueError as error:
        # Python's own message on a long integer advises a call; ours names the fault.
        is_syntax = isinstance(error, json.JSONDecodeError | UnicodeDecodeError | _NotFiniteError)
        fault = str(error)[:80] if is_syntax else "a number has thousands of digits"
        raise InputError(f"{place}: not valid JSON ({fault}); get the file anew") from error
    if not isinstance(value, dict):
        raise InputError(f"{place}: its JSON must be an object in braces; get the file anew")
    return value


class _NotFiniteError(ValueError):
    """A number is NaN or infinite."""


def _refuse_constant(name: str) -> NoReturn:
    raise _NotFiniteError(f"{name} is no number")
