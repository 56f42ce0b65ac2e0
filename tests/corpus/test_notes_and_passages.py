"""What prepare says of odd texts, and of passages that stand elsewhere too: counted rightly, and never fatal."""

import csv
import json
import unicodedata

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raysweep.config.data_settings import ColumnsConfig, DataConfig
from raysweep.corpus import passages as passages_module
from raysweep.corpus.corpus_notes import find_oddities, note_oddities
from raysweep.corpus.corpus_rows import NO_LEARNER
from raysweep.corpus.near_duplicates import WordSequences
from raysweep.corpus.normalising import normalise_text, normalised_codes
from raysweep.corpus.passages import Passages, count_passages
from raysweep.corpus.preparing import prepare_corpus
from tests.corpus.odd_csv import csv_bytes

GOOD = [f"We saw {n} birds over the water & they were <3 of {n} kinds; São João, café" for n in range(40)]
NOT_VALUES = "'nan', 'NA', 'N/A', 'null' or 'none'"


def documents_of(texts, l1="Thai", learner=None):
    """Documents as `read_corpus` gives them."""
    string, count = pa.large_string(), len(texts)
    columns = {"l1": l1, "learner": learner, "text": texts}
    return pa.table(
        {
            name: pa.chunked_array([pa.array(value if isinstance(value, list) else [value] * count, string)])
            for name, value in columns.items()
        }
    )


def notes_of(documents, most_alike=1):
    learners = normalised_codes(documents["learner"])[0] if not documents["learner"].null_count else None
    return note_oddities(find_oddities(documents), learners, most_alike)


@pytest.mark.parametrize(
    ("odd", "note"),
    [
        (["nan", " NA", "N/A", "null", "None"], f"texts are {NOT_VALUES}: a missing value written as text?"),
        (["cafÃ© here", "it â€™s", "a Â£5", "b\ufffd"], "read with the wrong encoding?"),
        (["a<br> <br>b", "<NS type='x'><i>a</i></NS>"], "texts have markup such as <br>; data.clean: true unwraps it"),
        (
            ["you &amp; me", "&quot;a&quot;", "&#39;"],
            "texts have entities such as &amp;; data.clean: true unwraps them",
        ),
        (['He said \\"Hi\\"'], 'texts have quotes after a backslash (\\"), or are RTF'),
        (["{\\rtf1\\ansi Hi.}"], 'texts have quotes after a backslash (\\"), or are RTF'),
        (["é" * 32_767], "texts have exactly 32,767 characters: cut by Excel?"),
    ],
)
def test_each_kind_of_odd_text_is_counted_without_false_alarms(odd, note):
    """Ampersands, hearts, accents and longer texts are not odd."""
    (words, count), *others = notes_of(documents_of([*GOOD, *odd, "x" * 32_768])).items()
    assert not others
    assert words.endswith(note)
    assert count == len(odd)
    assert notes_of(documents_of([*GOOD, "x" * 32_768])) == {}


def test_odd_first_languages_and_prolific_learners_are_counted():
    """A missing value as a first language, one learner with a tenth of all texts."""
    first = ["nan", "N/A", *["Thai"] * 38]
    noted = notes_of(documents_of(GOOD, l1=first, learner=[*["w"] * 4, *map(str, range(36))]))
    assert noted == {
        f"documents have {NOT_VALUES} as first language": 2,
        "documents are by one learner, a tenth of all or more": 4,
    }
    assert notes_of(documents_of(GOOD, learner=[*["w"] * 3, *map(str, range(37))])) == {}
    noted = notes_of(documents_of(GOOD, learner=["NA", "nan", None, *map(str, range(37))]))
    assert noted == {f"documents have {NOT_VALUES} as learner: each such word counts as one writer": 2}
    assert notes_of(documents_of(GOOD), most_alike=4) == {}
    assert notes_of(documents_of(GOOD), most_alike=5) == {
        "documents have one and the same text, more than a tenth of all": 5
    }
    assert notes_of(documents_of(GOOD, learner=["w"] * 40)) == {"documents are all by one learner": 40}


def test_notes_are_stored_in_splits_json_and_do_not_stop_the_run(folder, tmp_path):
    """Notes are part of splits.json, from which the evidence takes them."""
    path = tmp_path / "corpus.csv"
    rows = [(n, "Thai", "A1", text, "x", "y") for n, text in enumerate([*GOOD, "nan", "nan"])]
    path.write_bytes(csv_bytes(rows, ("writing_id", "l1", "cefr_level", "text", "note", "note")))
    summary = prepare_corpus(path, folder, DataConfig(), seed=0)
    assert summary.notes == {
        NO_LEARNER: 42,
        "columns share a name with another (none of them is used)": 1,
        "columns are there and not used: note": 1,
        f"texts are {NOT_VALUES}: a missing value written as text?": 2,
    }
    assert json.loads(folder.splits.read_text())["notes"] == summary.notes


def test_cells_of_invisible_characters_count_as_empty(folder, tmp_path):
    """Zero-width spaces, soft hyphens, variation selectors: no text, no id, no learner."""
    path = tmp_path / "corpus.csv"
    rows = [(n, "Thai", "A1", text, "w") for n, text in enumerate(GOOD)]
    rows += [("x", "Thai", "A1", "\u200b \u00ad\ufe0f\u3164\n", "w"), ("y", "Thai", "A1", "Hi", "\u200b")]
    path.write_bytes(csv_bytes(rows, ("writing_id", "l1", "cefr_level", "text", "who")))
    data = DataConfig(columns=ColumnsConfig(learner="who"), max_bad_fraction=0.1)
    assert prepare_corpus(path, folder, data, seed=0).bad_rows == {"empty text": 1, "missing value": 1}


def test_normalisation_removes_all_format_characters_and_is_idempotent():
    """The reference is Python's own table of characters."""
    for code in range(0x110000):
        character = chr(code)
        if unicodedata.category(character) == "Cf" or 0xFE00 <= code <= 0xFE0F or 0xE0100 <= code <= 0xE01EF:
            assert normalise_text(f"a{character}b") == "ab", hex(code)
        once = normalise_text(f"a{character}b")
        assert normalise_text(once) == once, hex(code)
    assert normalise_text("e\u034f\u0301") == normalise_text("É") == "é"


def words(start, count):
    return " ".join(f"w{n}" for n in range(start, start + count))


def test_passages_shared_with_train_and_prompts_are_counted():
    """Thirteen words in a row are a passage, twelve are none; half of a text's passages is mostly."""
    own = iter(range(10_000, 1_000_000, 100))
    train = f"{words(next(own), 20)} {words(0, 60)} {words(next(own), 20)}"
    tests = [
        f"{words(next(own), 30)}, {words(20, 13).upper()}! {words(next(own), 30)}",  # one passage of many
        f"{words(next(own), 30)} {words(20, 12)} {words(next(own), 30)}",  # none
        f"{words(next(own), 3)} {words(10, 40)}",  # mostly
        words(next(own), 40),
        words(5, 12),  # too short
    ]
    task = f"Write about it: {words(500, 20)}"
    valid = [words(0, 60), f"{words(next(own), 9)} {words(501, 14)}"]
    texts = pa.chunked_array([pa.array([train, *tests, *valid], pa.large_string())])
    splits = np.array([0, 2, 2, 2, 2, 2, 1, 1])
    passages = count_passages(WordSequences.of(texts), splits, [task, "T2"])
    assert passages == Passages(in_train=2, mostly_in_train=1, in_prompts=1)
    assert count_passages(WordSequences.of(texts), splits, ["T1", "T2"]).in_prompts is None


def test_passage_counts_equal_those_of_a_brute_force_search(monkeypatch):
    """Random texts of few words, so that passages repeat, against sets of Python's tuples; in parts and blocks too."""
    rng = np.random.default_rng(0)
    texts = [" ".join(f"w{n}" for n in rng.integers(0, 2, rng.integers(0, 60))) for _ in range(300)]
    splits = rng.choice(3, 300, p=[0.4, 0.1, 0.5])

    def passages(text):
        split = text.split()
        return [tuple(split[place : place + 13]) for place in range(len(split) - 12)]

    known = {passage for text, split in zip(texts, splits, strict=True) if split == 0 for passage in passages(text)}
    shares = [
        (sum(passage in known for passage in passages(text)), len(passages(text)))
        for text, split in zip(texts, splits, strict=True)
        if split == 2
    ]
    counted = count_passages(WordSequences.of(pa.chunked_array([pa.array(texts, pa.large_string())])), splits, [])
    assert counted.in_train == sum(shared > 0 for shared, _ in shares) > 20
    assert counted.mostly_in_train == sum(shared > 0 and shared >= 0.5 * count for shared, count in shares) > 5
    monkeypatch.setattr(passages_module, "_BYTES_OF_TABLE", 800)
    monkeypatch.setattr(passages_module, "_DOCUMENTS_AT_ONCE", 7)
    assert (
        count_passages(WordSequences.of(pa.chunked_array([pa.array(texts, pa.large_string())])), splits, []) == counted
    )


COLUMNS = ColumnsConfig(learner="who")


def polite_corpus(path, thanks, learners=400):
    """Learners of four texts, each the learner's own but some that are "Thank you."."""
    rows = []
    for learner in range(learners):
        for number in range(4):
            own = " ".join(f"x{learner}y{number}z{k}" for k in range(12))
            polite = number == 0 and learner < thanks
            rows.append((f"{learner}-{number}", "Thai", "A1", "Thank you." if polite else own, f"w{learner}"))
    path.write_bytes(csv_bytes(rows, ("writing_id", "l1", "cefr_level", "text", "who")))


def test_a_text_shared_by_hundreds_of_learners_does_not_skew_the_splits(folder, tmp_path):
    """The text ties no documents; outside train it is set aside, counted and listed in a local file; nothing leaks."""
    path = tmp_path / "corpus.csv"
    polite_corpus(path, thanks=300)
    summary = prepare_corpus(path, folder, DataConfig(columns=COLUMNS), seed=0)
    assert summary.largest_group == 4
    aside = summary.bad_rows["the same text as a document of another split"]
    assert summary.documents + aside == summary.rows == 1600
    assert 30 <= aside <= 90
    assert summary.reached["A1"]["test"] == pytest.approx(0.1, abs=0.025)
    leakage = json.loads(folder.leakage.read_text())
    assert leakage["texts_not_tied"] == 299
    assert leakage["leaky_test_documents"] == leakage["texts_in_two_splits"] == 0
    with folder.untied_texts.open(newline="", encoding="utf-8") as file:
        assert list(csv.DictReader(file)) == [
            {"documents": "300", "set_aside": str(aside), "text": "'Thank you.'"},
        ]
    assert "Thank you" not in folder.leakage.read_text() + folder.splits.read_text()


def test_spelling_variants_of_a_learner_id_stay_in_one_split_and_are_stored_unchanged(folder, tmp_path):
    """36 of 100 such learners were once in two splits."""
    path = tmp_path / "corpus.csv"
    ways = [
        str,
        str.upper,
        lambda name: unicodedata.normalize("NFD", name),
        lambda name: name[:2] + "\u200b" + name[2:],
    ]
    rows = [
        (f"{learner}-{n}", "Thai", "A1", " ".join(f"x{learner}y{n}z{k}" for k in range(12)), way(f"jos\u00e9{learner}"))
        for learner in range(100)
        for n, way in enumerate(ways)
    ]
    path.write_bytes(csv_bytes(rows, ("writing_id", "l1", "cefr_level", "text", "who")))
    prepare_corpus(path, folder, DataConfig(columns=COLUMNS), seed=0)
    documents = pq.read_table(folder.documents).to_pylist()
    splits = {}
    for row in documents:
        splits.setdefault(row["writing_id"].split("-")[0], set()).add(row["split"])
    assert all(len(splits_of_learner) == 1 for splits_of_learner in splits.values())
    assert {row["learner"] for row in documents} == {row[4] for row in rows}
    assert json.loads(folder.leakage.read_text())["learners"] == 100
