"""Hostile YAML is refused at its line before it is expanded; the rest is read as a person reads it."""

import re

import pytest

from raysweep.config.safe_yaml import DEEPEST, LONGEST_KEY, MOST_CHARACTERS, MOST_NODES, parse_yaml

LAUGHS = "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 60))
NO_TAG = "remove it: text, numbers, lists and mappings need none"
REFUSED = {
    "a: !!int foo": "line 1, column 4: found 'foo'; must be a whole number",
    "a: !!float x": "line 1, column 4: found 'x'; must be a number",
    "a: !!bool foo": "line 1, column 4: found 'foo'; must be true or false",
    "a: !!null foo": "line 1, column 4: found 'foo'; must be null or empty",
    "a: !!int [1]": f"line 1, column 4: found the tag '!!int'; {NO_TAG}",
    "a: !!timestamp 2001-01-01": f"line 1, column 4: found the tag '!!timestamp'; {NO_TAG}",
    "a: !!binary aGk=": f"line 1, column 4: found the tag '!!binary'; {NO_TAG}",
    "a: !!set {x}": f"line 1, column 4: found the tag '!!set'; {NO_TAG}",
    "a: !!omap [x: 1]": f"line 1, column 4: found the tag '!!omap'; {NO_TAG}",
    "a: !own x": f"line 1, column 4: found the tag '!own'; {NO_TAG}",
    "a: !!python/name:os.system x": f"line 1, column 4: found the tag '!!python/name:os.system'; {NO_TAG}",
    "? [a, b]\n: c": "line 1, column 3: found a list as a key; must be a name",
    "? {a: b}\n: c": "line 1, column 3: found a mapping as a key; must be a name",
    "1: a\n'1': b": "line 2, column 1: the key '1' is given twice",
    "a: {b: 1, b: 2}": "line 1, column 11: the key 'b' is given twice",
    "k" * (LONGEST_KEY + 1) + ": 1": f"must be a name of 1 to {LONGEST_KEY} characters on one line",
    "'': 1": "line 1, column 1: found the key ''; must be a name",
    "&a [*a]": "line 1, column 5: the alias *a stands inside of what it repeats; remove it",
    "a: &a {<<: *a}": "line 1, column 12: the alias *a stands inside of what it repeats; remove it",
    "a: *nothing": "line 1, column 4: found undefined alias 'nothing'",
    LAUGHS: f"found more than {MOST_NODES:,} values",
    f"a: &a [{'x, ' * 300}]\nb: [{'*a, ' * 300}]": "line 2, column",
    "[" * 100_000: f"line 1, column {DEEPEST + 1}: nested too deeply; at most {DEEPEST} levels",
    "- " * 50_000: f"nested too deeply; at most {DEEPEST} levels",
    f"a: {'9' * 5000}": "…; must be a number of at most 19 digits",
    f"a: {2**63}": f"found '{2**63}'; must be a number of at most 19 digits",
    "a: \x01": "line 1: found the character U+0001, which YAML does not allow; remove it",
    'a: "\\0"': "found '\\x00'; must hold no control characters",
    'a: "\\ud800"': "found '\\ud800'; must hold no control characters",
    'a: "\\u202egnp"': "found '\\u202egnp'; must hold no control characters",
    'a:\n  "\\e[31m": 1': "line 2, column 3: found '\\x1b[31m'; must hold no control characters",
    "a:\n\tb: 1": "line 2, column 1: found a tab where the line begins; indent with spaces",
    "a: 1\n---\nb: 2": "line 2, column 1: a second document ('---') begins here; must be one",
    "a: [1": "line 1, column 6: expected ',' or ']', but got '<stream end>'",
    " " * (MOST_CHARACTERS + 1): f"found {MOST_CHARACTERS + 1:,} characters; must be at most {MOST_CHARACTERS:,}",
}


@pytest.mark.timeout(20)
@pytest.mark.parametrize("text", REFUSED, ids=lambda text: text[:25])
def test_hostile_yaml_is_refused_with_its_line(text):
    """The message says what was found and the fix, and is short whatever the length of the input."""
    with pytest.raises(ValueError, match=re.escape(REFUSED[text])) as error:
        parse_yaml(text)
    assert len(str(error.value)) < 250


def test_yaml_scalars_are_not_read_as_octal_sexagesimal_dates_or_booleans():
    """No octal, no sexagesimal, no dates, no yes and no; a key is the text that stands there."""
    text = "{a: 010, b: 1:30, c: 2001-01-01, d: yes, e: 1e-5, f: 1_000, g: !!str 5, h: !!float 1, true: 0x10, 7: ~}"
    assert parse_yaml(text) == {
        "a": "010", "b": "1:30", "c": "2001-01-01", "d": "yes", "e": 1e-5, "f": 1000, "g": "5", "h": 1.0,
        "true": "0x10", "7": None,
    }  # fmt: skip
    assert parse_yaml("") is None


def test_anchors_and_merge_keys_work_as_in_yaml():
    """A few aliases are harmless; keys next to `<<` take precedence."""
    assert parse_yaml("x: &b {p: 1, q: 1}\ny: {<<: *b, p: 2}\nz: *b") == {
        "x": {"p": 1, "q": 1}, "y": {"p": 2, "q": 1}, "z": {"p": 1, "q": 1}
    }  # fmt: skip
