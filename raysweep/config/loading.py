"""Reads experiments.yaml into a `Config`, or says everything that is wrong with it at once.

A message is `place: path: found value; must be …`, with the nearest valid name for an unknown one.
YAML's traps are closed: a key that stands twice is an error, `1e-5` is a number, `no` and `on` are
words.  For validation the file is turned into JSON, where pydantic's strict mode takes lists for
tuples and nothing else for anything.
"""

import difflib
import json
import re
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from raysweep.config.schema import Config, ConfigFile
from raysweep.config.section import NAME
from raysweep.config.trials import TrainingConfig, TrialConfig
from raysweep.errors import ConfigError

SET_PLACE = "--set"
RESERVED_NAMES = {"start", "prepare", "mask", "train", "evaluate", "report"}
"""The baseline's row, and the stages that `--force` takes beside trials."""


def load_config(path: Path, profile: str | None = None, overrides: Sequence[str] = ()) -> tuple[str, Config]:
    """Read a profile of the file, with `--set` values laid over it.

    Args:
        profile: its name; the file's `default` if None.
        overrides: `path.to.key=value` each, the value in YAML.

    Returns:
        The profile's name and its settings.

    Raises:
        ConfigError: everything that is wrong, a line each.
    """
    data = _read_file(path)
    name = profile or data["default"]
    profiles = data["profiles"]
    if name not in profiles:
        raise ConfigError(f"{path.name}: profiles: no profile {name!r}{_did_you_mean(name, profiles)}")
    values, set_paths = _apply_overrides(profiles[name], overrides)
    return name, parse_config(values, place=path.name, set_paths=set_paths)


def check_file(path: Path) -> dict[str, Config]:
    """Read every profile of the file.

    Raises:
        ConfigError: everything that is wrong in any of them.
    """
    data = _read_file(path)
    configs: dict[str, Config] = {}
    problems: list[str] = []
    for name, values in data["profiles"].items():
        try:
            configs[name] = parse_config(values, place=f"{path.name}: profiles.{name}", joint=".")
        except ConfigError as error:
            problems.extend(error.problems)
    if data["default"] not in data["profiles"]:
        problems.append(
            f"{path.name}: default: no profile {data['default']!r}{_did_you_mean(data['default'], data['profiles'])}"
        )
    if problems:
        raise ConfigError(*problems)
    return configs


def parse_config(values: Any, *, place: str = "config", set_paths: Sequence[str] = (), joint: str = ": ") -> Config:
    """Validate a profile given as plain values.

    Raises:
        ConfigError: every problem, each as `place`, `joint`, the path, what was found and what must be.
    """
    if not isinstance(values, dict):
        raise ConfigError(f"{place}: found {_show(values)}; must be a mapping of settings")
    merged = _hand_down_training(values)
    try:
        text = json.dumps(merged)
    except TypeError as error:
        raise ConfigError(f"{place}: holds a value that is neither text, number, list nor mapping ({error})") from error
    try:
        config = Config.model_validate_json(text)
    except ValidationError as error:
        problems = _complaints([detail for detail in error.errors() if not _is_handed_down(detail, values)])
    else:
        problems = _cross_checks(config)
        if not problems:
            return config
    raise ConfigError(*[_line(path, complaint, place, set_paths, joint) for path, complaint in problems])


def config_schema() -> dict[str, Any]:
    """The JSON Schema of experiments.yaml, for editors."""
    return ConfigFile.model_json_schema(by_alias=True)


def dump_config(config: Config) -> str:
    """A resolved profile as YAML, as it is kept in the run folder."""
    data = json.loads(config.model_dump_json(by_alias=True))
    return yaml.safe_dump(data, sort_keys=False, allow_unicode=True)


def _cross_checks(config: Config) -> list[tuple[str, str]]:
    """What no single field can see: names, levels and parents of trials; paths and complaints."""
    problems = [problem for name, trial in config.trials.items() for problem in _check_trial(config, name, trial)]
    for level in config.data.sample.level_shares or {}:
        if level not in config.data.levels:
            problems.append((f"data.sample.level_shares.{level}", "no such level in data.levels"))
    scored, made = config.evaluation.examples_per_document, config.masking.examples_per_document
    if scored > made:
        must = f"must be at most masking.examples_per_document ({made})"
        problems.append(("evaluation.examples_per_document", f"found {scored}; {must}"))
    if cycle := _find_cycle({name: trial.parent for name, trial in config.trials.items()}):
        problems.append(("trials", f"a cycle: {' → '.join(cycle)}"))
    return problems


def _check_trial(config: Config, name: str, trial: TrialConfig) -> list[tuple[str, str]]:
    path = f"trials.{name}"
    problems = []
    if not NAME.match(name):
        problems.append(("trials", f"found the name {name!r}; must start with a letter or digit, then also . _ + -"))
    if name in RESERVED_NAMES:
        problems.append((path, "the name is raysweep's own; choose another"))
    for level in trial.levels:
        if level not in config.data.levels:
            known = ", ".join(config.data.levels)
            problems.append((f"{path}.levels", f"found {level!r}; known levels are {known}. Add it to data.levels"))
    if trial.parent is not None and trial.parent not in config.trials:
        problems.append((f"{path}.from", f"no trial {trial.parent!r}{_did_you_mean(trial.parent, config.trials)}"))
    if trial.warmup_steps >= trial.steps:
        must = f"must be below the trial's steps ({trial.steps})"
        problems.append((f"{path}.warmup_steps", f"found {trial.warmup_steps}; {must}"))
    return problems


def _find_cycle(parents: Mapping[str, str | None]) -> list[str] | None:
    for start in parents:
        path: list[str] = [start]
        while (parent := parents.get(path[-1])) is not None:
            if parent in path:
                return [*path[path.index(parent) :], parent]
            path.append(parent)
    return None


def _hand_down_training(values: dict[str, Any]) -> dict[str, Any]:
    """Give the settings under `training:` to every trial that does not override them."""
    training, trials = values.get("training"), values.get("trials")
    if not isinstance(training, dict) or not isinstance(trials, dict):
        return values
    known = {name: value for name, value in training.items() if name in TrainingConfig.model_fields}
    merged = {name: {**known, **trial} if isinstance(trial, dict) else trial for name, trial in trials.items()}
    return {**values, "trials": merged}


def _is_handed_down(detail: ErrorDetails, values: dict[str, Any]) -> bool:
    location = detail["loc"]
    if len(location) < 3 or location[0] != "trials":
        return False
    trial = values["trials"][location[1]]
    training = values.get("training")
    return isinstance(training, dict) and location[2] in training and location[2] not in trial


def _complaints(details: Sequence[ErrorDetails]) -> list[tuple[str, str]]:
    """Paths and complaints; the branches of a union become one."""
    complaints: dict[str, list[str]] = {}
    for detail in details:
        complaints.setdefault(_path_of(detail), []).append(_complaint(detail))
    problems: list[tuple[str, str]] = []
    for path, lines in complaints.items():
        heads = {line.partition("; must be ")[0] for line in lines}
        if len(lines) > 1 and len(heads) == 1:
            requirements = [re.sub(r" \(.*\)$", "", line.partition("; must be ")[2]) for line in lines]
            description = re.search(r" \(.*\)$", lines[0])
            requirement = " or ".join(dict.fromkeys(requirements))
            lines = [f"{heads.pop()}; must be {requirement}{description[0] if description else ''}"]
        problems.extend((path, line) for line in dict.fromkeys(lines))
    return problems


def _line(path: str, complaint: str, place: str, set_paths: Sequence[str], joint: str) -> str:
    """One line for a person: where it stands, then what is wrong with it."""
    label = SET_PLACE + " " if _is_set(path, set_paths) else place + joint
    if complaint.startswith(_UNKNOWN):
        path = path.rpartition(".")[0]  # the complaint names the field itself
    return f"{label}{path}: {complaint}" if path else f"{label.removesuffix(joint).strip()}: {complaint}"


def _is_set(path: str, set_paths: Sequence[str]) -> bool:
    """Whether a `--set` gave the value, a part of it, or something around it."""
    return any((path + ".").startswith(each + ".") or each.startswith(path + ".") for each in set_paths)


def _path_of(detail: ErrorDetails) -> str:
    # A union's branches stand in the location too; the field's name is enough.
    return ".".join(str(part) for part in detail["loc"] if part != "[key]" and not _UNION_BRANCH.match(str(part)))


_UNKNOWN = "unknown field"
_UNION_BRANCH = re.compile(r"constrained-|function-|literal\[|(?:float|int|str|bool)\Z")


def _complaint(detail: ErrorDetails) -> str:
    kind, found, context = detail["type"], detail["input"], detail.get("ctx", {})
    if kind == "extra_forbidden":
        name = str(detail["loc"][-1])
        return f"{_UNKNOWN} {name!r}{_did_you_mean(name, _fields_at(detail['loc'][:-1]))}"
    if kind == "missing":
        return "is missing; must be given"
    if kind == "value_error":
        return str(context["error"])
    must = _REQUIREMENTS.get(kind)
    requirement = must.format(**context) if must else detail["msg"].removeprefix("Input should be ")
    hint = f" ({description})" if (description := _description_at(detail["loc"])) else ""
    return f"found {_show(found)}; must be {requirement}{hint}"


_REQUIREMENTS = {
    "greater_than": "above {gt:g}",
    "greater_than_equal": "at least {ge:g}",
    "less_than": "below {lt:g}",
    "less_than_equal": "at most {le:g}",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "string_type": "text",
    "bool_type": "true or false",
    "tuple_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
    "literal_error": "{expected}",
    "too_short": "a list or mapping with at least {min_length} entry",
}


def _fields_at(location: tuple[int | str, ...]) -> list[str]:
    model = _model_at(location)
    return [field.alias or name for name, field in model.model_fields.items()] if model else []


def _description_at(location: tuple[int | str, ...]) -> str | None:
    for length in range(len(location), 0, -1):
        model = _model_at(location[: length - 1])
        if model is not None:
            for name, field in model.model_fields.items():
                if location[length - 1] in (name, field.alias):
                    return field.description
    return None


def _model_at(location: tuple[int | str, ...]) -> type[BaseModel] | None:
    """The section that a path of the file leads to; None where it leads to a plain value."""
    model: type[BaseModel] = Config
    rest = list(location)
    while rest:
        part = rest.pop(0)
        field = next((f for n, f in model.model_fields.items() if part in (n, f.alias)), None)
        if field is None:
            return None
        inner = [kind for kind in _kinds_in(field.annotation) if isinstance(kind, type) and issubclass(kind, BaseModel)]
        if not inner:
            return None
        model = inner[0]
        if rest and "dict" in str(field.annotation):
            rest.pop(0)  # the entry's own name
    return model


def _kinds_in(annotation: Any) -> list[Any]:
    arguments = getattr(annotation, "__args__", ())
    return [annotation] if not arguments else [kind for inner in arguments for kind in _kinds_in(inner)]


def _did_you_mean(name: Any, known: Any) -> str:
    names = [str(each) for each in known]
    folded = {re.sub(r"[^a-z0-9]", "", each.lower()): each for each in names}
    close = difflib.get_close_matches(re.sub(r"[^a-z0-9]", "", str(name).lower()), list(folded), n=1)
    if close:
        return f"; did you mean {folded[close[0]]!r}?"
    return f"; known are {', '.join(names)}" if 0 < len(names) <= 12 else ""


def _show(value: Any) -> str:
    text = repr(value) if isinstance(value, str) else json.dumps(value, default=str)
    return text if len(text) <= 60 else text[:57] + "…"


def _apply_overrides(values: Any, overrides: Sequence[str]) -> tuple[Any, list[str]]:
    """Lay `path.to.key=value` over a copy of the profile; also returns the paths set."""
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
            problems.append(f"{SET_PLACE} {override}: {path!r} leads through a value that is no mapping")
            continue
        target[last] = value
        paths.append(path)
    if problems:
        raise ConfigError(*problems)
    return copy, paths


def _read_file(path: Path) -> dict[str, Any]:
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
        raise ConfigError(f"{path.name}: found {_show(data)}; must be a mapping with 'default' and 'profiles'")
    problems = [
        f"{path.name}: unknown field {str(name)!r}{_did_you_mean(name, ['default', 'profiles'])}"
        for name in data
        if name not in {"default", "profiles"}
    ]
    if not isinstance(data.get("default"), str):
        problems.append(f"{path.name}: default: found {_show(data.get('default'))}; must be the name of a profile")
    if not isinstance(data.get("profiles"), dict) or not data.get("profiles"):
        problems.append(f"{path.name}: profiles: found {_show(data.get('profiles'))}; must be a mapping of profiles")
    if problems:
        raise ConfigError(*problems)
    return data


def _where_in_yaml(error: yaml.YAMLError) -> str:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        mark = error.problem_mark
        return f"line {mark.line + 1}, column {mark.column + 1}: {error.problem}"
    return f"not valid YAML ({error})"


class _Loader(yaml.SafeLoader):
    """YAML without its traps."""


def _construct_mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Hashable, Any]:
    seen: set[Hashable] = set()
    for key_node, _ in node.value:
        key = loader.construct_object(key_node, deep=True)
        if key_node.tag == "tag:yaml.org,2002:merge":
            continue
        if key in seen:
            raise yaml.constructor.ConstructorError(None, None, f"the key {key!r} stands twice", key_node.start_mark)
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
