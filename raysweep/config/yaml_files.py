"""Reads experiments.yaml, and applies `--set` values to a profile.

Unlike YAML 1.1, a duplicate key is an error, `1e-5` is a number, and `no` and `on` are text.
"""

import json
import re
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any

import yaml

from raysweep.config.error_messages import did_you_mean, show
from raysweep.errors import ConfigError

SET_PLACE = "--set"


def apply_overrides(values: Any, overrides: Sequence[str]) -> tuple[Any, list[str]]:
    """Apply each `path.to.key=value` to a copy of the profile; also returns the paths that were set."""
    copy: Any = json.loads(json.dumps(values, default=str)) if overrides else values
    paths, problems = [], []
    for override in overrides:
        path, equals, text = override.partition("=")
        if not equals or not path:
            problems.append(f"{SET_PLACE} {override}: must read path.to.key=value, such as training.steps=200")
            continue
        try:
            value = yaml.load(text, Loader=_Loader)  # noqa: S506 -- a SafeLoader of ours
        except yaml.YAMLError as error:
            problems.append(f"{SET_PLACE} {override}: the value is not YAML ({error})")
            continue
        target = copy
        *folders, last = path.split(".")
        for folder in folders:
            if not isinstance(target, dict):
                break
            if not isinstance(target.get(folder), dict):
                target[folder] = {}
            target = target[folder]
        if not isinstance(target, dict):
            problems.append(f"{SET_PLACE} {override}: {path!r} leads through a value that is not a mapping")
            continue
        target[last] = value
        paths.append(path)
    if problems:
        raise ConfigError(*problems)
    return copy, paths


def read_file(path: Path) -> dict[str, Any]:
    """The file as plain values, with `default` and `profiles`.

    Raises:
        ConfigError: it cannot be read, is not YAML, or lacks one of the two.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file; give it with --config, or work in the folder that holds it") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read ({error})") from error
    try:
        data = yaml.load(text, Loader=_Loader)  # noqa: S506 -- a SafeLoader of ours
    except yaml.YAMLError as error:
        raise ConfigError(f"{path.name}: {_where_in_yaml(error)}") from error
    if not isinstance(data, dict):
        raise ConfigError(f"{path.name}: found {show(data)}; must be a mapping with 'default' and 'profiles'")
    problems = [
        f"{path.name}: unknown field {str(name)!r}{did_you_mean(name, ['default', 'profiles'])}"
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


def _where_in_yaml(error: yaml.YAMLError) -> str:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        mark = error.problem_mark
        return f"line {mark.line + 1}, column {mark.column + 1}: {error.problem}"
    return f"not valid YAML ({error})"


class _Loader(yaml.SafeLoader):
    """Resolves plain values as the module's docstring says."""


def _construct_mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Hashable, Any]:
    seen: set[Hashable] = set()
    for key_node, _ in node.value:
        key = loader.construct_object(key_node, deep=True)
        if key_node.tag == "tag:yaml.org,2002:merge":
            continue
        if key in seen:
            raise yaml.constructor.ConstructorError(None, None, f"the key {key!r} is given twice", key_node.start_mark)
        seen.add(key)
    loader.flatten_mapping(node)
    return {
        str(loader.construct_object(key_node, deep=True)): loader.construct_object(value_node, deep=True)
        for key_node, value_node in node.value
    }


_Loader.add_constructor("tag:yaml.org,2002:map", _construct_mapping)
_PLAIN = {
    "tag:yaml.org,2002:bool": (re.compile(r"(?:true|false|True|False)\Z"), "tTfF"),
    "tag:yaml.org,2002:int": (re.compile(r"[-+]?(?:0|[1-9][0-9_]*)\Z"), "-+0123456789"),
    "tag:yaml.org,2002:float": (
        re.compile(r"[-+]?(?:[0-9][0-9_]*)?\.?[0-9]+(?:[eE][-+]?[0-9]+)?\Z|[-+]?[0-9]+\.(?:[eE][-+]?[0-9]+)?\Z"),
        "-+.0123456789",
    ),
    "tag:yaml.org,2002:null": (re.compile(r"(?:~|null|Null|)\Z"), "~nN\0"),
    "tag:yaml.org,2002:merge": (re.compile(r"<<\Z"), "<"),
}
_Loader.yaml_implicit_resolvers = {}
for _tag, (_pattern, _first) in _PLAIN.items():
    _Loader.add_implicit_resolver(
        _tag, _pattern, list(_first) if _tag != "tag:yaml.org,2002:null" else ["~", "n", "N", ""]
    )
