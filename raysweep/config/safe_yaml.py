"""Reads untrusted YAML into plain values: text, numbers, booleans, null, lists, and mappings with text keys.

Unlike YAML 1.1, a duplicate key is an error, `1e-5` is a number, and `no`, `on`, `010` and `1:30` are text; keys are
always text.  Tags of other types, recursive aliases, and documents that expand to more values than any config needs are
refused at their line, before they are expanded.
"""

import re
from typing import Any

import yaml

from raysweep.config.error_messages import show
from raysweep.storage.printable import printable

MOST_CHARACTERS = 256 * 1024
MOST_NODES = 50_000
"""Most values and keys, each alias counted as often as it is used."""
DEEPEST = 40
LONGEST_KEY = 80
_LARGEST = 2**63 - 1
_TAG = "tag:yaml.org,2002:"
_SCALARS = {
    # tag: (pattern of its plain values, their first characters, message for a wrong value)
    "bool": (re.compile(r"(?:true|false|True|False)\Z"), "tTfF", "must be true or false"),
    "int": (re.compile(r"[-+]?(?:0|[1-9][0-9_]*)\Z"), "-+0123456789", "must be a whole number"),
    "float": (
        re.compile(
            r"[-+]?(?:(?:[0-9][0-9_]*)?\.[0-9]+|[0-9][0-9_]*\.)(?:[eE][-+]?[0-9]+)?\Z|[-+]?[0-9]+[eE][-+]?[0-9]+\Z"
        ),
        "-+.0123456789",
        "must be a number",
    ),
    "null": (re.compile(r"(?:~|null|Null|)\Z"), ["~", "n", "N", ""], "must be null or empty"),
    "merge": (re.compile(r"<<\Z"), "<", "must be a key"),
}
_KINDS = {
    yaml.ScalarNode: {_TAG + "str", *(_TAG + name for name in _SCALARS)},
    yaml.SequenceNode: {_TAG + "seq"},
    yaml.MappingNode: {_TAG + "map"},
}


def parse_yaml(text: str) -> Any:
    """Parse a document to plain values; None if it is empty.

    Raises:
        ValueError: it is not YAML, or contains what a config must not; the message names the line, the value found and
            the fix.
    """
    if len(text) > MOST_CHARACTERS:
        raise ValueError(f"found {len(text):,} characters; must be at most {MOST_CHARACTERS:,}")
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506 -- a SafeLoader of ours
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        character = f"U+{ord(text[error.position]):04X}"
        raise ValueError(
            f"line {line}: found the character {character}, which YAML does not allow; remove it"
        ) from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise ValueError(f"{where}{_fix(error)}") from error


class _Loader(yaml.SafeLoader):
    """Resolves plain values as described above, and counts the values to which aliases expand."""

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self._depth = 0
        self._sizes: dict[int, int] = {}
        """Id of a composed node → number of nodes that it expands to, including itself."""
        self._nodes = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event: yaml.Event = self.peek_event()  # type: ignore[no-untyped-call]
        before, self._depth = self._nodes, self._depth + 1
        if self._depth > DEEPEST:
            raise _refusal(f"nested too deeply; at most {DEEPEST} levels", event.start_mark)
        node = super().compose_node(parent, index)
        if isinstance(event, yaml.AliasEvent):
            if id(node) not in self._sizes:
                raise _refusal(
                    f"the alias *{event.anchor} stands inside of what it repeats; remove it", event.start_mark
                )
            self._nodes += self._sizes[id(node)]
        elif node is not None:
            self._nodes += 1
            self._sizes[id(node)] = self._nodes - before
            _check_node(node)
        if self._nodes > MOST_NODES:
            must = f"must be at most {MOST_NODES:,}, each alias (*name) counted as often as it is used"
            raise _refusal(f"found more than {MOST_NODES:,} values; {must}", event.start_mark)
        self._depth -= 1
        return node


def _check_node(node: yaml.Node) -> None:
    """Raise if the tag of a value does not fit its kind, or its text does not fit its tag."""
    kind = node.tag.removeprefix(_TAG)
    if node.tag not in _KINDS[type(node)]:
        tag = show("!!" + kind if kind != node.tag else node.tag)
        raise _refusal(f"found the tag {tag}; remove it: text, numbers, lists and mappings need none", node.start_mark)
    if not isinstance(node, yaml.ScalarNode):
        return
    is_whole_float = kind == "float" and _SCALARS["int"][0].match(node.value)
    if kind in _SCALARS and not _SCALARS[kind][0].match(node.value) and not is_whole_float:
        raise _refusal(f"found {show(node.value)}; {_SCALARS[kind][2]}", node.start_mark)
    if kind == "int" and (len(node.value) > 40 or abs(int(node.value.replace("_", ""))) > _LARGEST):
        raise _refusal(f"found {show(node.value)}; must be a number of at most 19 digits", node.start_mark)
    if printable(node.value) != node.value or "\0" in node.value:
        raise _refusal(f"found {show(node.value)}; must hold no control characters", node.start_mark)


def _construct_mapping(loader: _Loader, node: yaml.MappingNode) -> dict[str, Any]:
    seen: set[str] = set()
    for key_node, _ in node.value:
        if key_node.tag == _TAG + "merge":
            continue
        key = _key(key_node)
        if key in seen:
            raise _refusal(f"the key {show(key)} is given twice", key_node.start_mark)
        seen.add(key)
    loader.flatten_mapping(node)
    return {_key(key): loader.construct_object(value, deep=True) for key, value in node.value}


def _key(node: yaml.Node) -> str:
    """Return the text of a key as written in the file."""
    if not isinstance(node, yaml.ScalarNode):
        kind = "list" if isinstance(node, yaml.SequenceNode) else "mapping"
        raise _refusal(f"found a {kind} as a key; must be a name", node.start_mark)
    key = str(node.value)
    if not key or key != key.strip() or "\n" in key or "\t" in key or len(key) > LONGEST_KEY:
        must = f"must be a name of 1 to {LONGEST_KEY} characters on one line, without spaces around it"
        raise _refusal(f"found the key {show(key)}; {must}", node.start_mark)
    return key


def _refusal(problem: str, mark: Any) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=mark)


def _fix(error: yaml.MarkedYAMLError) -> str:
    """Return the parser's message, replaced by a clearer one with the fix for some errors."""
    problem = printable(str(error.problem))
    if "'\\t' that cannot start any token" in problem:
        return "found a tab where the line begins; indent with spaces"
    if error.context == "expected a single document in the stream":
        return "a second document ('---') begins here; must be one"
    return problem


_Loader.add_constructor(_TAG + "map", _construct_mapping)
_Loader.yaml_implicit_resolvers = {}
for _name, (_pattern, _first, _) in _SCALARS.items():
    _Loader.add_implicit_resolver(_TAG + _name, _pattern, list(_first))
