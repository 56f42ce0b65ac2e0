"""Turns pydantic's validation errors into `found value; must be …`, with the nearest valid name."""

import difflib
import re
from collections.abc import Sequence
from typing import Any

from pydantic_core import ErrorDetails

from raysweep.config.schema import Config
from raysweep.config.section import Section
from raysweep.storage.printable import shown

UNKNOWN = "unknown field"
_MOST_NAMES = 40
_UNION_BRANCH = re.compile(r"constrained-|function-|literal\[|dict\[|(?:float|int|str|bool)\Z")
_REQUIREMENTS = {
    "greater_than": "above {gt:,}",
    "greater_than_equal": "at least {ge:,}",
    "less_than": "below {lt:,}",
    "less_than_equal": "at most {le:,}",
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
    "too_long": "a list or mapping with at most {max_length:,} entries",
    "too_short": "a list or mapping with at least {min_length} entry",
}


def error_messages(details: Sequence[ErrorDetails], root: type[Section] = Config) -> list[tuple[str, str]]:
    """Return the path and the message of each error; the errors of a union's branches become one message.

    Args:
        root: the section that was validated.
    """
    by_path: dict[str, list[ErrorDetails]] = {}
    for detail in details:
        # The location also names the branches of a union, which are left out.
        parts = [str(part) for part in detail["loc"] if part != "[key]" and not _UNION_BRANCH.match(str(part))]
        by_path.setdefault(".".join(parts), []).append(detail)
    return [(path, message) for path, errors in by_path.items() for message in dict.fromkeys(_messages(errors, root))]


def did_you_mean(name: Any, known: Any) -> str:
    """Suggest the nearest of the known names, or list all if they are not too many; otherwise return ''."""
    names = [str(name) for name in known]
    folded = {re.sub(r"[^a-z0-9]", "", known.lower()): known for known in names}
    close = difflib.get_close_matches(re.sub(r"[^a-z0-9]", "", str(name).lower()), list(folded), n=1)
    if close:
        return f"; did you mean {folded[close[0]]!r}?"
    return f"; known are {', '.join(names)}" if 0 < len(names) <= _MOST_NAMES else ""


def show(value: Any) -> str:
    """Format a value for a message, cut to 60 characters."""
    return shown(value, 60)


def _messages(errors: Sequence[ErrorDetails], root: type[Section]) -> list[str]:
    messages: list[str] = []
    requirements: list[str] = []
    for error in errors:
        kind = error["type"]
        if kind == "extra_forbidden":
            messages.append(_unknown_key(str(error["loc"][-1]), _look_up(error["loc"][:-1], root)[0]))
        elif kind == "missing":
            messages.append("is missing; must be given")
        elif kind == "value_error":
            messages.append(str(error["ctx"]["error"]))
        elif kind in _REQUIREMENTS:
            requirements.append(_REQUIREMENTS[kind].format(**_whole_bounds(error.get("ctx", {}))))
        else:
            requirements.append(error["msg"].removeprefix("Input should be "))
    if requirements:
        description = _look_up(errors[0]["loc"], root)[1]
        must = " or ".join(dict.fromkeys(requirements)) + (f" ({description})" if description else "")
        messages.append(f"found {show(errors[0]['input'])}; must be {must}")
    return messages


def _whole_bounds(context: dict[str, Any]) -> dict[str, Any]:
    """Convert bounds that are whole numbers to int, so that messages show no `.0`."""
    whole_names = {name for name, value in context.items() if isinstance(value, float) and value.is_integer()}
    return {name: int(value) if name in whole_names else value for name, value in context.items()}


def _unknown_key(key: str, section: type[Section] | None) -> str:
    if section is None:
        return f"{UNKNOWN} {show(key)}"
    if key in section.renamed_keys:
        return f"{UNKNOWN} {key!r}; it is now called {section.renamed_keys[key]!r}"
    known = [field.alias or name for name, field in section.model_fields.items()]
    return f"{UNKNOWN} {show(key)}{did_you_mean(key, known)}"


def _look_up(location: Sequence[int | str], root: type[Section]) -> tuple[type[Section] | None, str | None]:
    """Return the section at a path, or None for a plain value, and the description of the last known field on it."""
    section: type[Section] | None = root
    description, is_entry = None, False
    for part in location:
        if is_entry:
            is_entry = False
        elif section is not None:
            fields = section.model_fields.items()
            field = next((field for name, field in fields if part in (name, field.alias)), None)
            if field is None:
                return None, description
            description, kinds = field.description, _kinds_in(field.annotation)
            section = next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, Section)), None)
            is_entry = "dict" in str(field.annotation)  # the next part of the path names an entry
    return section, description


def _kinds_in(annotation: Any) -> list[Any]:
    arguments = getattr(annotation, "__args__", ())
    return [annotation] if not arguments else [kind for inner in arguments for kind in _kinds_in(inner)]
