"""A mask function of the user's own: called per document, checked, and never trusted."""

import sys
import types

import pytest

from raysweep.config.data_settings import MaskingConfig
from raysweep.errors import ConfigError, InputError
from raysweep.masking.custom_masks import load_mask_function
from raysweep.masking.vocabulary import Kind
from tests.masking.stored_examples import spans_of


@pytest.fixture
def own(monkeypatch, tmp_path, write_documents, make_store):
    """Mask two documents with a function; returns the store."""
    documents = write_documents(tmp_path / "documents.parquet", ["I like tea.", "We like milk."])

    def run(function, **policy):
        module = types.ModuleType("my_masks")
        module.mask = function
        monkeypatch.setitem(sys.modules, "my_masks", module)
        return make_store(tmp_path / "store", documents, MaskingConfig(function="my_masks:mask", **policy))

    return run


def test_it_gets_text_hierarchy_and_generator_and_its_spans_are_the_examples(own):
    """Every first word, twice over: the repeated mask is left out."""
    seen = []

    def first_words(text, hierarchy, generator):
        seen.append((text, float(generator.random())))
        start, size = hierarchy[2][0][2][0][2][0]
        return [[(Kind.WORD, start, size)], [(Kind.WORD, start, size)], []]

    store = own(first_words)
    assert [spans_of(store, example) for example in range(len(store))] == [
        [(Kind.WORD, 0, 1)],
        [],
        [(Kind.WORD, 0, 1)],
        [],
    ]
    first = list(seen)
    own(first_words)
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
    ],
)
def test_bad_spans_name_the_document_and_the_span(own, mask, problem):
    """The user can find the fault in their function."""
    with pytest.raises(InputError, match=problem) as error:
        own(lambda text, hierarchy, generator: [[], mask])
    assert "my_masks:mask: document 'w00000', mask 1: span" in str(error.value)


def test_too_many_masks_are_refused(own):
    """The store keeps at most `examples_per_document`."""
    with pytest.raises(InputError, match="found 3 masks; must be at most 2"):
        own(lambda text, hierarchy, generator: [[], [], []], examples_per_document=2)


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("no_colon", "package.module:function"),
        ("no.such.package:mask", "No module named 'no'"),
        ("math:mask", "mask"),
        ("math:pi", "must be a function"),
    ],
)
def test_a_function_that_is_not_there_is_a_config_error(path, problem):
    """The setting, what was found and what to do."""
    with pytest.raises(ConfigError, match=problem) as error:
        load_mask_function(path)
    assert f"masking.function: found {path!r}" in str(error.value)
