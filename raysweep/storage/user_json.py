"""Reads JSON from users, with a size limit and messages that name the file."""

import json
from pathlib import Path
from typing import Any, NoReturn

from raysweep.errors import InputError

MIB = 1 << 20


def read_user_json(path: Path, place: str, *, limit_bytes: int = MIB) -> dict[str, Any]:
    """Read the JSON object in a file.

    Args:
        place: beginning of a message.

    Raises:
        InputError: it is larger than `limit_bytes`, or `parse_user_json` refuses it.
    """
    return parse_user_json(read_user_bytes(path, place, limit_bytes=limit_bytes), place)


def read_user_bytes(path: Path, place: str, *, limit_bytes: int = MIB) -> bytes:
    """Read the bytes of a file; raises InputError if it is larger than `limit_bytes`."""
    if (size := path.stat().st_size) > limit_bytes:
        raise InputError(f"{place}: found {size:,} bytes; must be at most {limit_bytes:,}: this is no such file")
    return path.read_bytes()


def parse_user_json(data: bytes, place: str) -> dict[str, Any]:
    """Parse the JSON object in these bytes.

    Raises:
        InputError: it is not JSON or not an object, is nested too deeply, or has a number that is NaN, infinite or
            thousands of digits long.
    """
    try:
        value = json.loads(data, parse_constant=_refuse_constant)
    except RecursionError:
        raise InputError(f"{place}: its JSON is nested too deeply; get the file anew") from None
    except ValueError as error:
        # Python's own message about a long integer suggests a function call; this one names the fault.
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
