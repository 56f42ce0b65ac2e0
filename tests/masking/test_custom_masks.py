"""A mask function of the user's own: called per document, checked, and never trusted."""

import sys
import types

import pytest

from raysweep.config.data_settings import MaskingConfig
from raysweep.errors import ConfigError, InputError
from raysweep.masking.mask_function import function_digest, load_mask_function
from raysweep.masking.vocabulary import Kind
from tests.masking.stored_examples import spans_of


@pytest.fixture
def mask_with(monkeypatch, tmp_path, write_documents, make_store):
    """Mask two documents with a function; returns the store."""
    documents = write_documents(tmp_path / "documents.parquet", ["I like tea.", "We like milk."])

    def run(function, **policy):
        module = types.ModuleType("my_masks")
        module.mask = function
        monkeypatch.setitem(sys.modules, "my_masks", module)
        return make_store(tmp_path / "store", documents, MaskingConfig(function="my_masks:mask", **policy))

    return run


def test_a_mask_function_gets_text_hierarchy_and_generator_and_defines_the_examples(mask_with):
    """The function masks every first word twice; the repeated mask is left out."""
    seen = []

    def first_words(text, hierarchy, generator):
        seen.append((text, float(generator.random())))
        start, size = hierarchy[2][0][2][0][2][0]
        return [[(Kind.WORD, start, size)], [(Kind.WORD, start, size)], []]

    store = mask_with(first_words)
    assert [spans_of(store, example) for example in range(len(store))] == [
        [(Kind.WORD, 0, 1)],
        [],
        [(Kind.WORD, 0, 1)],
        [],
    ]
    first = list(seen)
    mask_with(first_words)
    assert seen[2:] == first
    assert first[0] != first[1]


@pytest.mark.parametrize(
    ("mask", "problem"),
    [
        ([(4, 0, 99)], "inside the text"),
        ([(4, -1, 2)], "inside the text"),
        ([(4, 0, 0)], "inside the text"),
        ([(4, 2, 4), (4, 3, 4)], "must not overlap"),
        ([(4, 7, 3), (4, 0, 1)], "text order"),
        ([(7, 0, 1)], "kinds are 0 to 4"),
        ([(4, 0)], "kind, offset, length"),
        (["word"], "kind, offset, length"),
        ([(4, 0.5, 1)], "whole numbers"),
        ([(0, -5, 10**5000)], "inside the text"),
        ([None], "kind, offset, length"),
    ],
)
def test_invalid_spans_are_reported_with_document_and_span(mask_with, mask, problem):
    """Users can find the mistake in their function."""
    with pytest.raises(InputError, match=problem) as error:
        mask_with(lambda text, hierarchy, generator: [[], mask])
    assert "masking.function my_masks:mask: document 0 ('w00000'), mask 1: span" in str(error.value)


def test_too_many_masks_of_a_document_are_refused(mask_with):
    """The store has at most `examples_per_document` examples of a document."""
    with pytest.raises(InputError, match="found over 2 masks; must be at most"):
        mask_with(lambda text, hierarchy, generator: [[], [], []], examples_per_document=2)


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("no_colon", "package.module:function"),
        ("no.such.package:mask", "No module named 'no'"),
        ("math:mask", "mask"),
        ("math:pi", "must be a function"),
        ("..:mask", "importing .. failed"),
        ("os:getcwd", "must be a function of"),
    ],
)
def test_a_missing_mask_function_is_a_config_error(path, problem):
    """The message names the setting, the value found and the fix."""
    with pytest.raises(ConfigError, match=problem) as error:
        load_mask_function(path)
    assert f"masking.function: found {path!r}" in str(error.value)


def _raises(text, hierarchy, generator):
    raise ValueError("boom\x1b[31m" + "x" * 500)


def _exits(text, hierarchy, generator):
    sys.exit(0)


def _endless(text, hierarchy, generator):
    while True:
        yield []


def _exits_late(text, hierarchy, generator):
    yield []
    sys.exit(0)


def _endless_mask(text, hierarchy, generator):
    def spans():
        while True:
            yield (4, 0, 1)

    return [spans()]


FAILING = {
    _raises: "it raised ValueError: boom\\x1b[31mxxx",
    _exits: "it called sys.exit(0); must return a list of masks, and never end the process",
    _exits_late: "it called sys.exit(0)",
    _endless: "found over 16 masks; must be at most masking.examples_per_document",
    _endless_mask: "begins before 1, where the one before it ends",
    (lambda text, hierarchy, generator: None): "it raised TypeError: 'NoneType' object is not iterable",
    (lambda text, hierarchy, generator: 5): "must return a list of masks",
    (lambda text, hierarchy, generator: "abc"): "returned a str; must be a list of masks",
    (lambda text, hierarchy, generator: {0: 1}): "returned a dict; must be a list of masks",
    (lambda text, hierarchy, generator: [None]): "found a NoneType; must be a list of spans",
}


@pytest.mark.parametrize("function", FAILING, ids=range(len(FAILING)))
def test_a_failing_mask_function_is_reported_with_document_and_fix(mask_with, function):
    """`sys.exit(0)` ended a run as if it were done; whatever the function does, the run ends with an error."""
    with pytest.raises(InputError) as error:
        mask_with(function)
    assert str(error.value).startswith("masking.function my_masks:mask: document 0 ('w00000')")
    assert FAILING[function] in str(error.value)
    assert len(str(error.value)) < 300


def test_a_process_forked_by_the_mask_function_does_not_continue_the_run(mask_with):
    """It would write the same shards a second time, and end the run twice."""
    import os

    children = []

    def forks(text, hierarchy, generator):
        child = os.fork()
        if child:
            children.append(child)
        return []

    mask_with(forks)
    assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [1, 1]


BROKEN_MODULES = {
    "raise RuntimeError('import boom')": "importing own_masks failed: it raised RuntimeError: import boom",
    "def mask(": "importing own_masks failed: it raised SyntaxError",
    "import sys; sys.exit(0)": "importing own_masks failed: it called sys.exit(0). Mend the module",
    "mask = 5": "mask is a int; must be a function",
    "def mask(text): pass": "it takes (text); must be a function of (text, hierarchy, generator)",
    "async def mask(text, hierarchy, generator): pass": "it is async; must be a function of",
    "": "has no attribute 'mask'",
}


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Write own_masks.py, and a package beside it, where Python finds them; forgotten afterwards."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def write(text, **others):
        import importlib

        for name, source in {"own_masks": text, **others}.items():
            path = tmp_path / f"{name}.py"
            path.parent.mkdir(exist_ok=True)
            path.write_text(source)
            monkeypatch.delitem(sys.modules, name, raising=False)
        importlib.invalidate_caches()

    yield write
    for name in [name for name in sys.modules if name.partition(".")[0] in ("own_masks", "beside", "own_package")]:
        del sys.modules[name]


@pytest.mark.parametrize("text", BROKEN_MODULES)
def test_a_mask_module_that_fails_to_import_is_a_config_error(module, text):
    """It is reported before anything is done."""
    module(text)
    with pytest.raises(ConfigError) as error:
        load_mask_function("own_masks:mask")
    assert BROKEN_MODULES[text] in str(error.value)


MASK = "def mask(text, hierarchy, generator):\n    return []\n"


def test_the_fingerprint_of_a_mask_function_covers_its_module_and_imports(module):
    """The source includes its module and everything that this imports from the user's folders, at any level."""
    others = {"beside": "x = 1\n", "own_package/__init__": "", "own_package/inner": "from . import deeper\n"}
    others["own_package/deeper"] = "y = 1\n"
    text = "import json, numpy, beside\n" + MASK.replace("return", "from own_package import inner; return")
    module(text, **others)
    first = function_digest("own_masks:mask")
    assert function_digest("own_masks:mask") == first
    changes = [
        (text + "# edited\n", {}),
        (text, {"beside": "x = 2\n"}),
        (text, {"own_package/deeper": "y = 2\n"}),
        (text, {"own_package/__init__": "z = 1\n"}),
    ]
    digests = set()
    for changed, other in changes:
        module(changed, **{**others, **other})
        digests.add(function_digest("own_masks:mask"))
    assert first not in digests
    assert len(digests) == len(changes)
    module(text, **others)
    assert function_digest("own_masks:mask") == first


def test_the_fingerprint_of_a_mask_function_does_not_depend_on_its_path(module):
    """The path is not part of the identity."""
    module(MASK, beside=MASK)
    assert function_digest("own_masks:mask") == function_digest("beside:mask")
