"""The plain functions that are carried, by name, and their errors."""

import importlib
import textwrap
from collections.abc import Callable
from typing import Any

from raysweep.errors import RaysweepError


def resolve(name: str) -> Callable[..., Any]:
    """The function 'package.module:function'.

    Functions travel by name, so that torch is imported where they run and nowhere else.
    """
    module, _, function = name.partition(":")
    resolved: Callable[..., Any] = getattr(importlib.import_module(module), function)
    return resolved


def describe_error(error: Exception) -> str:
    """Our own errors speak for themselves; of others the kind is told too."""
    return str(error) if isinstance(error, RaysweepError) else f"{type(error).__name__}: {error}"


def brief(text: str) -> str:
    """The first line that says something, cut to what a person reads; Ray adds causes by the paragraph."""
    first = next((line for line in text.splitlines() if line.strip()), "no reason given")
    return textwrap.shorten(first, 160, placeholder=" …")
