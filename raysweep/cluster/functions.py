"""Calls functions that are passed by name."""

import textwrap
import traceback
from collections.abc import Callable
from dataclasses import fields
from operator import attrgetter
from typing import Any

from raysweep.errors import RaysweepError
from raysweep.model.heavy_imports import import_quickly
from raysweep.pipeline.training_attempt import describe_error


def resolve(name: str) -> Any:
    """Import the object that 'package.module:name' names, so that torch is imported only where functions run."""
    module, _, attribute = name.partition(":")
    return attrgetter(attribute)(import_quickly(module))


def call_with_fields(function: str, task: Any, require: Callable[[], None] | None, **others: Any) -> Any:
    """Call 'module:function' with the fields of a dataclass; return its result or its error.

    Ray wraps an error raised by a task in an error of its own, so errors are returned instead: raysweep's own
    unchanged, any other as a `RuntimeError` with its traceback.

    Args:
        require: called first; raises if this process cannot do the work.
    """
    values = {field.name: getattr(task, field.name) for field in fields(task)}
    return catch_errors(require, lambda: resolve(function)(**values, **others))


def catch_errors(require: Callable[[], None] | None, call: Callable[[], Any]) -> Any:
    """Return the result of the call or its error, as `call_with_fields` does."""
    try:
        if require is not None:
            require()
        return call()
    except RaysweepError as error:
        return error
    except Exception as error:
        return RuntimeError(f"{describe_error(error)}\n{traceback.format_exc()}")


def first_line(text: str) -> str:
    """Return the first line that is not blank, cut to 160 characters."""
    line = next((line for line in text.splitlines() if line.strip()), "no reason given")
    return textwrap.shorten(line, 160, placeholder=" …")


def last_line(text: str) -> str:
    """Return the last line that is not blank, which in a traceback is the error."""
    return first_line("\n".join(reversed(text.splitlines())))
