"""Reads experiments.yaml as plain values, and applies `--set` values to a profile."""

import json
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from raysweep.config.error_messages import did_you_mean, show
from raysweep.config.safe_yaml import DEEPEST, MOST_CHARACTERS, parse_yaml
from raysweep.errors import ConfigError
from raysweep.storage.printable import printable

SET_PLACE = "--set"


def apply_overrides(values: Any, overrides: Sequence[str]) -> tuple[Any, list[str]]:
    """Apply each `path.to.key=value` to a copy of the profile; also returns the paths that were set."""
    # Copied through JSON, so that sections shared by an anchor and its aliases can be changed independently.
    changed: Any = json.loads(json.dumps(values)) if overrides else values
    paths, problems = [], []
    for override in overrides:
        try:
            path, value = _read_override(override)
            _check_drop(changed, path, value)
            _set(changed, path, value)
        except ValueError as error:
            problems.append(f"{SET_PLACE} {show(override)[1:-1]}: {error}")
        else:
            paths.append(path)
    if problems:
        raise ConfigError(*problems)
    return changed, paths


def read_file(path: Path) -> dict[str, Any]:
    """Read `default` and `profiles` as plain values; raises ConfigError if the file has none, or is unreadable."""
    try:
        data = parse_yaml(_read_text(path))
    except ValueError as error:
        raise ConfigError(f"{path.name}: {error}") from error
    if not isinstance(data, dict):
        raise ConfigError(f"{path.name}: found {show(data)}; must be a mapping with 'default' and 'profiles'")
    problems = [
        f"{path.name}: unknown field {show(name)}{did_you_mean(name, ['default', 'profiles'])}"
        for name in data
        if name not in {"default", "profiles"}
    ]
    if not isinstance(data.get("default"), str):
        problems.append(f"{path.name}: default: found {show(data.get('default'))}; must be the name of a profile")
    if not isinstance(data.get("profiles"), dict) or not data.get("profiles"):
        problems.append(f"{path.name}: profiles: found {show(data.get('profiles'))}; must be a mapping of profiles")
    if problems:
        raise ConfigError(*problems)
    return data


def _read_text(path: Path) -> str:
    """Read the file; raises ConfigError if that is impossible, ValueError if it is too long or not UTF-8."""
    try:
        about = path.stat()
        if not stat.S_ISREG(about.st_mode):
            kind = "a folder" if stat.S_ISDIR(about.st_mode) else "a pipe or a device"
            raise ConfigError(f"{path}: is {kind}; must be a file. Give it with --config")
        if about.st_size > 4 * MOST_CHARACTERS:
            raise ValueError(f"found {about.st_size:,} bytes; must be at most {4 * MOST_CHARACTERS:,}")
        data = path.read_bytes()
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file; give it with --config, or work in the folder that holds it") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); give another with --config") from error
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ValueError(f"line {line}: found the byte 0x{data[error.start]:02X}; must be UTF-8. Save it so") from error


def _read_override(override: str) -> tuple[str, Any]:
    """Parse the path and the value of a `--set`."""
    path, equals, text = override.partition("=")
    if not equals or not path:
        raise ValueError("must read path.to.key=value, such as training.steps=200")
    if printable(override) != override:
        raise ValueError("must hold no control characters")
    parts = path.split(".")
    if not all(parts) or len(parts) > DEEPEST:
        raise ValueError(f"found the path {show(path)}; must be names with a dot between them, at most {DEEPEST}")
    try:
        return path, parse_yaml(text)
    except ValueError as error:
        raise ValueError(f"the value is not YAML ({error})") from error


def _check_drop(values: Any, path: str, value: Any) -> None:
    """Raise if `trials.NAME=null` names no trial; with a plan, this is checked when the plan is expanded."""
    section, _, name = path.partition(".")
    trials = values.get(section) if isinstance(values, dict) and section == "trials" else None
    if value is not None or not isinstance(trials, dict) or "plan" in trials:
        return
    if "." not in name and name not in {"plan", *trials}:
        raise ValueError(f"null drops a trial, and there is no {show(name)}{did_you_mean(name, trials)}")


def _set(values: Any, path: str, value: Any) -> None:
    *folders, last = path.split(".")
    for folder in folders:
        if not isinstance(values, dict):
            break
        if not isinstance(values.get(folder), dict):
            values[folder] = {}
        values = values[folder]
    if not isinstance(values, dict):
        raise ValueError(f"{show(path)} leads through a value that is not a mapping")
    values[last] = value
