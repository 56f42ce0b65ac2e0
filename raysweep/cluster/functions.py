"""The plain functions that are carried, by name."""

import importlib
import textwrap
from collections.abc import Callable
from typing import Any


def resolve(name: str) -> Callable[..., Any]:
    """The function 'package.module:function'.

    Functions travel by name, so that torch is imported where they run and nowhere else.
    """
    module, _, function = name.partition(":")
    resolved: Callable[..., Any] = getattr(importlib.import_module(module), function)
    return resolved


def brief(text: str) -> str:
    """The first line that says something, cut to what a person reads; Ray adds causes by the paragraph."""
    first = next((line for line in text.splitlines() if line.strip()), "no reason given")
    return textwrap.shorten(first, 160, placeholder=" …")
