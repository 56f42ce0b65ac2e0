"""Known corpora are read as they are downloaded: columns, levels, markup, what is left out."""

from typing import get_args

import pytest

from raysweep.config.data_settings import ColumnsConfig, DataConfig, LayoutName
from raysweep.corpus.corpus_rows import read_corpus
from raysweep.corpus.layouts import CEFR, LAYOUTS
from raysweep.corpus.new_texts import read_new_texts
from raysweep.corpus.preparing import prepare_corpus
from raysweep.corpus.quarantine import EMPTY_TEXT, LEFT_OUT, count_by_reason
from raysweep.errors import InputError
from raysweep.readers.locations import find_files
from tests.corpus.layout_files import MAKERS
from tests.readers.small_files import zipped

EXPECTED = {
    # the levels, what the first document has besides its text, texts left out of 10 per spelling
    "efcamdat": ({"A1": 10, "B1": 10, "C1": 10}, ("0", "Thai", "u0", "Taking &amp; giving", "2012-01-01", "90"), 0),
    "efcamdat_xml": (
        {"A1": 10, "B1": 10, "C1": 10},
        ("C0", "cn", "0", "A made-up topic", "2011-10-22 11:14:04.960", "95"),
        0,
    ),
    "write_and_improve": ({"A2": 20, "B1": 20}, ("e0", "Thai", "u0", "p1", "2024-01-01", None), 20),
    "wi_locness": ({"A1": 10, "A2": 10, "B1": 10}, ("1-4", "unknown", "4", None, None, None), 10),
    "icnale": ({"A2": 10, "B1": 20}, ("W_CHN_PTJ0_000_A2_0", "CHN", "CHN-000", "PTJ", None, None), 10),
    "asag": ({"A2": 10, "B1": 10, "B2": 10}, ("0000", "fr", None, "Describe your day.", None, None), 0),
    "universal_cefr": ({"A1": 10, "A2": 10, "B1": 10}, ("row00000001", "unknown", None, None, None, None), 10),
    "ellipse": ({"S1": 10, "S2": 10, "S3": 20, "S4": 10}, ("K0", "unknown", None, "Being positive", None, "1.5"), 0),
    "cefr_sp": ({"A1": 10, "B1": 10, "B2": 10}, ("1-row00000001", "unknown", None, None, None, None), 0),
    "level_folders": ({"A1": 10, "B1": 10, "B2": 10}, ("A1/u0/0.txt", "unknown", None, None, None, None), 0),
}


def read_layout(name, folder, **data):
    path = MAKERS[name](folder, 10)
    levels = LAYOUTS[name].level_names
    return read_corpus(find_files(str(path)), DataConfig(layout=name, levels=levels, **data))


@pytest.mark.parametrize("name", get_args(LayoutName))
def test_a_published_corpus_is_read_as_downloaded(tmp_path, name):
    """The name of its layout is the only setting."""
    corpus = read_layout(name, tmp_path)
    levels, first, left_out = EXPECTED[name]
    levels_read = corpus.documents["level"].to_pylist()
    assert {level: levels_read.count(level) for level in sorted(set(levels_read))} == levels
    assert corpus.rows == corpus.documents.num_rows + len(corpus.bad_rows)
    assert count_by_reason(corpus.bad_rows) == ({LEFT_OUT: left_out} if left_out else {})
    roles = ("writing_id", "l1", "learner", "prompt", "date", "score")
    by_id = {row["writing_id"]: tuple(row[role] for role in roles) for row in corpus.documents.to_pylist()}
    assert by_id[first[0]] == first


def test_a_folder_per_level_may_be_zipped_and_an_empty_file_is_one_bad_row(tmp_path):
    """The innermost folder with a level's name counts; ids hold no path of this machine, and no two are equal."""
    names = ("B2/A1/1.txt", "B2/A1/2.txt", "B2/x/1.txt", "B2/y/A1/1.txt")
    data = DataConfig(layout="level_folders")
    (tmp_path / "t.zip").write_bytes(zipped({"t/README.txt": b"Read me.", **dict.fromkeys(names, b"Hello.")}))
    documents = read_corpus(tmp_path / "t.zip", data).documents
    assert dict(zip(documents["writing_id"].to_pylist(), documents["level"].to_pylist(), strict=True)) == {
        "B2/A1/1.txt": "A1", "B2/A1/2.txt": "A1", "B2/x/1.txt": "B2", "B2/y/A1/1.txt": "A1",
    }  # fmt: skip
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("" if name == names[1] else "Hello.")
    corpus = read_corpus(find_files(str(tmp_path / "B2")), data)
    assert corpus.documents["writing_id"].to_pylist() == ["B2/A1/1.txt", "B2/x/1.txt", "B2/y/A1/1.txt"]
    assert [(bad.writing_id, bad.reason) for bad in corpus.bad_rows] == [("B2/A1/2.txt", EMPTY_TEXT)]


def test_a_text_beside_the_folders_of_levels_is_refused(tmp_path):
    """It has no level, although a folder of this machine is named like one."""
    for name in ("A1/1.txt", "B1/1.txt", "notes.txt"):
        (tmp_path / "c1" / "corpus" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "c1" / "corpus" / name).write_text("Hello.")
    files = find_files(str(tmp_path / "c1" / "corpus"))
    with pytest.raises(InputError, match=r"notes\.txt: its path is not of the form that data\.layout expects"):
        read_corpus(files, DataConfig(layout="level_folders"))
    corpus = read_corpus(files[:2], DataConfig(layout="level_folders"))
    assert corpus.documents["writing_id"].to_pylist() == ["A1/1.txt", "B1/1.txt"]


@pytest.mark.parametrize(
    "names", [("B2/texts.txt",), ("B2/x/texts.txt", "B2/y/texts.txt"), ("B2/texts.txt", "B2/more.txt")]
)
def test_tables_are_no_texts_although_a_folder_is_named_like_a_level(tmp_path, names):
    """Only folders of two levels below the one that all files share identify the layout."""
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(f"id\ttext\n{name}1\tHello.\n{name}2\tHow are you?\n")
    corpus = read_new_texts([tmp_path / name for name in names], DataConfig())
    assert corpus.documents["text"].to_pylist() == ["Hello.", "How are you?"] * len(names)


def test_every_layout_has_a_config_name_and_a_test_corpus():
    """The layouts are declared in a single list."""
    assert set(get_args(LayoutName)) == set(LAYOUTS) == set(MAKERS) == set(EXPECTED)


def test_markup_of_a_published_corpus_is_removed_and_counted(tmp_path):
    """Line breaks become paragraphs, and of corrections the learner's words stay."""
    corpus = read_layout("efcamdat_xml", tmp_path)
    text = corpus.documents["text"][0].as_py()
    assert text.endswith(".\nI has it & you.")
    assert corpus.notes["texts had markup (tags, entities), which was unwrapped"] == 30
    assert "<change><selection>has</selection>" in corpus.cleaned.samples[0][1]
    (tmp_path / "raw").mkdir()
    raw = read_layout("efcamdat_xml", tmp_path / "raw", clean=False)
    assert "<correct>have</correct>" in raw.documents["text"][0].as_py()
    assert raw.cleaned.texts == 0


def test_the_config_overrides_single_fields_of_a_layout(tmp_path):
    """Another level column and other levels can be set while the rest of the layout applies."""
    columns = ColumnsConfig(level="automarker_cefr_level", prompt="is_final_version")
    corpus = read_layout("write_and_improve", tmp_path, columns=columns, level_aliases={"B1": "B1"})
    assert set(corpus.documents["level"].to_pylist()) == {"B1"}
    assert set(corpus.documents["prompt"].to_pylist()) == {"TRUE"}


def test_splits_are_taken_from_file_names_and_validation_from_train(tmp_path, folder):
    """W&I+LOCNESS publishes train and dev; dev is the test set, because the real one has no levels."""
    files = find_files(str(MAKERS["wi_locness"](tmp_path, 40)))
    data = DataConfig(layout="wi_locness", levels=CEFR[:3], columns=ColumnsConfig(split="@file"))
    summary = prepare_corpus(files, folder, data, seed=0)
    assert summary.grouped_by == "published splits"
    tested = {level: counts["test"] for level, counts in summary.counts.items()}
    assert tested == {"A1": 10, "A2": 10, "B1": 10}
    assert 8 <= sum(counts["valid"] for counts in summary.counts.values()) <= 14


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("notes.txt", b"Some text.", "is a plain text; what its name says of it is said by a layout"),
        ("a.xml", b"<TEI><p>Hi.</p></TEI>", "is XML; which of its elements are texts is said by a layout"),
    ],
)
def test_text_and_xml_files_need_a_layout(tmp_path, name, content, message):
    """Only a layout says what is where in such files."""
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_corpus(tmp_path / name, DataConfig(format="text" if name.endswith("txt") else None))


def test_files_that_do_not_fit_the_layout_are_refused(tmp_path):
    """XML of another kind, a name of another form, entities, broken XML, a folder with nothing fitting."""
    (tmp_path / "a.xml").write_text("<root><p>Hi.</p></root>")
    with pytest.raises(InputError, match=r"has no element <writing>; is it of the layout that data\.layout names"):
        read_corpus(tmp_path / "a.xml", DataConfig(layout="efcamdat_xml"))
    (tmp_path / "a.xml").write_text('<!DOCTYPE x [<!ENTITY a "b">]><x/>')
    with pytest.raises(InputError, match="declares XML entities, which are not read"):
        read_corpus(tmp_path / "a.xml", DataConfig(layout="efcamdat_xml"))
    (tmp_path / "a.xml").write_text("<selection>\n<writing>My secret & diary</writing></selection>")
    with pytest.raises(InputError, match=r"is not well-formed XML at line 2, column \d+ \(not well-formed") as caught:
        read_corpus(tmp_path / "a.xml", DataConfig(layout="efcamdat_xml"))
    assert "secret" not in str(caught.value)
    (tmp_path / "W_1.txt").write_text("Hi.")
    with pytest.raises(InputError, match=r"its path is not of the form that data\.layout expects"):
        read_corpus(tmp_path / "W_1.txt", DataConfig(layout="icnale"))
    with pytest.raises(InputError, match=r"no file is named \*_\*_\*_\*_\*\.txt, as data\.layout expects"):
        read_corpus([tmp_path / "W_1.txt", tmp_path / "a.xml"], DataConfig(layout="icnale"))
