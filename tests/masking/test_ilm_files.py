"""The original's files: read without running them, written so that it can load them."""

import enum
import os
import pickle
import sys
import types
from pathlib import Path

import pytest

from raysweep.config.data_settings import MaskingConfig
from raysweep.corpus.documents import Documents
from raysweep.errors import InputError
from raysweep.masking.ilm_files import (
    MaskedDocument,
    draw_examples,
    read_examples,
    write_examples,
    write_special_tokens,
)
from raysweep.masking.vocabulary import Kind, gpt2

DOCUMENTS = [
    MaskedDocument(text="I like tea. 😀", masks=[[(int(Kind.WORD), 2, 4)], [], [(int(Kind.DOCUMENT), 0, 13)]]),
    MaskedDocument(text="", masks=[]),
]


@pytest.fixture
def reference() -> Path:
    folder = Path(os.environ.get("RAYSWEEP_GOLDEN", Path(__file__).parents[2].parent / "shared" / "reference"))
    if not folder.is_dir():
        pytest.skip(f"the original's files are not at {folder}; set RAYSWEEP_GOLDEN to their folder")
    return folder


@pytest.fixture
def original_code(monkeypatch):
    """Provide what the original's own `pickle.load` would find: a module with its span type."""
    module = types.ModuleType("ilm.mask.hierarchical")
    module.MaskHierarchicalType = enum.Enum("MaskHierarchicalType", {kind.name: int(kind) for kind in Kind})
    for name in ("ilm", "ilm.mask"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, "ilm.mask.hierarchical", module)
    return module.MaskHierarchicalType


def test_example_files_of_the_original_code_are_read(reference, golden):
    """Forty documents in its own format: their texts and masks are those of the golden data."""
    documents = read_examples(reference / "original_examples.pkl")
    by_text = {record["text"]: record["masks"] for record in golden}
    assert len(documents) == 40
    for document in documents:
        masks = [[(int(Kind[kind]), start, size) for kind, start, size in mask] for mask in by_text[document.text]]
        assert document.masks == masks


def test_the_original_code_loads_exported_files(tmp_path, original_code):
    """A plain `pickle.load` with its code at hand gives texts and masks with its own span type."""
    write_examples(tmp_path / "examples.pkl", DOCUMENTS)
    with (tmp_path / "examples.pkl").open("rb") as file:
        loaded = pickle.load(file)
    assert loaded == [
        ("I like tea. 😀", [[(original_code.WORD, 2, 4)], [], [(original_code.DOCUMENT, 0, 13)]]),
        ("", []),
    ]


def test_examples_survive_writing_and_reading(tmp_path):
    """Nothing is lost on the way."""
    write_examples(tmp_path / "examples.pkl", DOCUMENTS)
    assert read_examples(tmp_path / "examples.pkl") == DOCUMENTS


def test_exported_masks_equal_those_of_the_example_store(tmp_path):
    """Sixteen masks per document, in characters, are those of the store's examples."""
    documents = Documents(
        ids=["a"], levels=["A1"], splits=["train"], texts=["I like tea. It is hot. I like milk, too."]
    )
    drawn = draw_examples(documents, MaskingConfig(), seed=0)
    write_examples(tmp_path / "examples.pkl", drawn)
    assert len(drawn[0].masks) == 16
    assert read_examples(tmp_path / "examples.pkl") == drawn


class _Evil:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_that_would_run_a_command_is_refused_without_running_it(tmp_path, protocol):
    """A file from a stranger costs an error message, whatever it says."""
    path, proof = tmp_path / "evil.pkl", tmp_path / "proof"
    path.write_bytes(pickle.dumps([("text", [[_Evil(proof)]])], protocol=protocol))
    with pytest.raises(InputError, match=r"evil\.pkl: refused.*system"):
        read_examples(path)
    assert not proof.exists()


@pytest.mark.parametrize(
    "bad",
    [
        {"a": 1},
        [("text",)],
        [("text", [[("WORD", 0, 1)]])],
        [("text", [[(4, 0, 5)]])],
        [("text", [[(4, -1, 2)]])],
        [("text", [[(9, 0, 1)]])],
        [(b"text", [])],
        [("text", [[(4, 0, True)]])],
    ],
)
def test_a_pickle_of_anything_but_texts_and_spans_is_refused(tmp_path, bad):
    """The message says where the error is and what was found."""
    (tmp_path / "bad.pkl").write_bytes(pickle.dumps(bad))
    with pytest.raises(InputError, match=r"bad\.pkl.*found"):
        read_examples(tmp_path / "bad.pkl")


@pytest.mark.parametrize("data", [b"", b"hello", b"\x80\x04", pickle.dumps([1] * 100)[:-30]])
def test_a_file_that_is_not_a_pickle_is_refused(tmp_path, data):
    """There is no traceback from inside a library."""
    (tmp_path / "bad.pkl").write_bytes(data)
    with pytest.raises(InputError, match=r"bad\.pkl: refused"):
        read_examples(tmp_path / "bad.pkl")


def test_a_missing_pickle_is_reported_by_path():
    """The message gives the requested path."""
    with pytest.raises(InputError, match=r"nowhere\.pkl: cannot be read"):
        read_examples(Path("nowhere.pkl"))


def test_special_token_files_equal_those_of_the_original_code(tmp_path, reference):
    """`additional_ids_to_tokens.pkl` is equal to the byte."""
    write_special_tokens(tmp_path / "tokens.pkl", gpt2())
    assert (tmp_path / "tokens.pkl").read_bytes() == (reference / "additional_ids_to_tokens.pkl").read_bytes()
