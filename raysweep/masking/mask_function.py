"""Imports, calls and identifies the user's own mask function; its identity is its source code.

Whatever this foreign code raises, including `sys.exit(0)`, becomes an error that names the function and the fix; a
process that it forks ends when it returns from the function.
"""

import ast
import hashlib
import importlib
import importlib.util
import inspect
import json
import os
import site
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, cast

import numpy as np

import raysweep
from raysweep.errors import ConfigError, InputError
from raysweep.masking.segmentation import Hierarchy
from raysweep.storage.printable import shown

Span = tuple[int, int, int]
"""Kind, offset and length, in characters."""
_SURVIVED = 77
_TRY_IMPORT = f"""
import json, os, sys
sys.path[:] = json.loads(sys.argv[1])
try:
    __import__(sys.argv[2])
except BaseException:
    pass  # it fails in the same way, and is reported, in the calling process
os._exit({_SURVIVED})
"""
MaskFunction = Callable[[str, Hierarchy, np.random.Generator], Sequence[Sequence[Span]]]


def load_mask_function(path: str) -> MaskFunction:
    """Import the function at `package.module:function`.

    Raises:
        ConfigError: there is no such function, its module fails, or it does not take the three arguments; the message
            names the setting and the fix.
    """
    place = f"masking.function: found {shown(path)}"
    module, colon, name = path.partition(":")
    if not (module and colon and name):
        raise ConfigError(f"{place}; must be 'package.module:function'")
    if module not in sys.modules and _ends_the_process(module):
        raise ConfigError(f"{place}; importing {shown(module)} ends the process, without an error. Mend the module")
    try:
        function = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"{place}; {error}. Install the package, or put its folder on PYTHONPATH") from error
    except (Exception, SystemExit) as error:
        # Importing runs the module's code, which can raise any error.
        raise ConfigError(f"{place}; importing {module} failed: {_describe_error(error)}. Mend the module") from error
    if not callable(function):
        raise ConfigError(f"{place}; {name} is a {type(function).__name__}; must be a function")
    _check_signature(function, place)
    return cast("MaskFunction", function)


def call_mask_function(function: MaskFunction, place: str, *arguments: Any, most: int) -> list[Sequence[Span]]:
    """Draw the masks of a document; at most one more than `most`, so that an endless generator is allowed.

    Raises:
        InputError: the function raised, ended the process or returned no list of masks; the message names the place and
            the fix.
    """
    process = os.getpid()
    try:
        returned = function(*arguments)
        masks = list(islice(returned, most + 1))
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # SystemExit, and anything else that the user's code may raise
        raise InputError(f"{place}: {_describe_error(error)}; {_advice(error)}") from error
    finally:
        if os.getpid() != process:
            os._exit(1)  # The function forked; the run continues in the original process.
    if isinstance(returned, str | bytes | dict):
        raise InputError(f"{place}: returned a {type(returned).__name__}; must be a list of masks")
    return masks


def function_digest(path: str) -> str:
    """Hash the function's name, the source of its module and of all modules that it imports from the user's folders.

    Installed packages, the standard library and raysweep are not included, nor are data files, or modules whose names
    are computed at run time.

    Raises:
        ConfigError: there is no such function.
    """
    load_mask_function(path)
    module, _, name = path.partition(":")
    digest = hashlib.blake2b(name.encode(), digest_size=12)
    seen: set[str] = set()
    for source in _sources(module, seen, is_asked_for=True):
        digest.update(hashlib.blake2b(source).digest())
    return digest.hexdigest()


def _ends_the_process(module: str) -> bool:
    """Tell whether importing the module calls `os._exit` or crashes, by trying it in another process."""
    command = [sys.executable, "-c", _TRY_IMPORT, json.dumps(sys.path), module]
    tried = subprocess.run(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False
    )
    return tried.returncode != _SURVIVED


def _sources(module: str, seen: set[str], *, is_asked_for: bool = False) -> Iterator[bytes]:
    """Yield the source of a module, of its parent packages, and of the modules that they import, each once."""
    if module in seen or not module:
        return
    seen.add(module)
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, AttributeError, ValueError):
        return  # A name in a module, or a module created at run time: there is no file to read.
    if spec is None or spec.origin is None or not Path(spec.origin).is_file():
        return
    if not is_asked_for and _is_installed(Path(spec.origin)):
        return
    source = Path(spec.origin).read_bytes()
    yield source
    yield from _sources(module.rpartition(".")[0], seen)
    if spec.origin.endswith(".py"):
        package = module if spec.submodule_search_locations is not None else module.rpartition(".")[0]
        for name in _imported(source, package):
            yield from _sources(name, seen)


def _imported(source: bytes, package: str) -> Iterator[str]:
    """Yield the names that the source imports anywhere; `from a import b` may refer to the module a.b."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")
            base = ".".join(parents[: len(parents) - node.level + 1]) if node.level else ""
            start = ".".join(part for part in (base, node.module or "") if part)
            yield start
            yield from (f"{start}.{alias.name}" for alias in node.names)


def _is_installed(path: Path) -> bool:
    """Tell whether a file belongs to Python, to an installed package or to raysweep."""
    paths = sysconfig.get_paths()
    places = [paths[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    places += [*site.getsitepackages(), site.getusersitepackages(), str(Path(raysweep.__file__).parent)]
    return any(path.resolve().is_relative_to(Path(place).resolve()) for place in places)


def _check_signature(function: Callable[..., Any], place: str) -> None:
    must = "must be a function of (text, hierarchy, generator)"
    if inspect.iscoroutinefunction(function):
        raise ConfigError(f"{place}; it is async; {must}")
    try:
        signature = inspect.signature(function)
    except ValueError:
        return  # A function written in C, without a signature.
    try:
        signature.bind("", (), None)
    except TypeError as error:
        raise ConfigError(f"{place}; it takes {shown(str(signature))[1:-1]}; {must}") from error


def _describe_error(error: BaseException) -> str:
    """Describe an error of the user's code in one line, with its position in that code."""
    if isinstance(error, SystemExit):
        return f"it called sys.exit({shown(error.code)})"
    frames = inspect.getinnerframes(error.__traceback__) if error.__traceback__ else []
    where = f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""
    return f"it raised {type(error).__name__}: {shown(str(error))[1:-1]}{where}"


def _advice(error: BaseException) -> str:
    if isinstance(error, SystemExit):
        return "must return a list of masks, and never end the process"
    return "must return a list of masks, and [] where it finds none"
