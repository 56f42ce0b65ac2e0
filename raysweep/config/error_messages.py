"""Turns what pydantic complains of into `found value; must be …`, with the nearest valid name."""

import difflib
import json
import re
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from raysweep.config.schema import Config


def error_messages(details: Sequence[ErrorDetails]) -> list[tuple[str, str]]:
    """The path and the message of each error; the branches of a union become one message."""
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


def did_you_mean(name: Any, known: Any) -> str:
    """The nearest of the known names, or all of them if they are few; '' if neither helps."""
    names = [str(each) for each in known]
    folded = {re.sub(r"[^a-z0-9]", "", each.lower()): each for each in names}
    close = difflib.get_close_matches(re.sub(r"[^a-z0-9]", "", str(name).lower()), list(folded), n=1)
    if close:
        return f"; did you mean {folded[close[0]]!r}?"
    return f"; known are {', '.join(names)}" if 0 < len(names) <= 12 else ""


def show(value: Any) -> str:
    """A value as a message shows it, cut to 60 characters."""
    text = repr(value) if isinstance(value, str) else json.dumps(value, default=str)
    return text if len(text) <= 60 else text[:57] + "…"


def _path_of(detail: ErrorDetails) -> str:
    # A union's branches stand in the location too; the field's name is enough.
    return ".".join(str(part) for part in detail["loc"] if part != "[key]" and not _UNION_BRANCH.match(str(part)))


UNKNOWN = "unknown field"
_UNION_BRANCH = re.compile(r"constrained-|function-|literal\[|(?:float|int|str|bool)\Z")


def _complaint(detail: ErrorDetails) -> str:
    kind, found, context = detail["type"], detail["input"], detail.get("ctx", {})
    if kind == "extra_forbidden":
        name = str(detail["loc"][-1])
        return f"{UNKNOWN} {name!r}{did_you_mean(name, _fields_at(detail['loc'][:-1]))}"
    if kind == "missing":
        return "is missing; must be given"
    if kind == "value_error":
        return str(context["error"])
    must = _REQUIREMENTS.get(kind)
    requirement = must.format(**context) if must else detail["msg"].removeprefix("Input should be ")
    hint = f" ({description})" if (description := _description_at(detail["loc"])) else ""
    return f"found {show(found)}; must be {requirement}{hint}"


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
