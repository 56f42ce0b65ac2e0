"""The prepare stage from a CSV to its files: what they hold, what they prove, and what cannot change them."""

import csv
import json
from collections import defaultdict
from dataclasses import asdict

import pyarrow.parquet as pq
import pytest

from raysweep.config.data_settings import DataConfig, SplitConfig
from raysweep.corpus import documents as documents_file
from raysweep.corpus.leakage import LeakSearch
from raysweep.corpus.normalising import normalise_text
from raysweep.corpus.preparing import export_ilm_texts, prepare_corpus, read_summary
from raysweep.corpus.sample import SAMPLE_COLUMNS, SYNTHETIC_NOTICE
from raysweep.errors import InputError
from raysweep.storage.run_folder import RunFolder
from tests.corpus.odd_csv import LEVELS, csv_bytes

DATA = DataConfig()


@pytest.fixture
def prepared(folder, sample_csv):
    return prepare_corpus(sample_csv, folder, DATA, seed=0, columns=SAMPLE_COLUMNS)


def rows_of(folder) -> list[dict]:
    return pq.read_table(folder.documents).to_pylist()


def test_documents_are_numbered_in_the_order_of_their_ids(folder, prepared):
    """`document` is the row, so a shard is read by its row numbers."""
    rows = rows_of(folder)
    assert [row["document"] for row in rows] == list(range(1500))
    assert [row["writing_id"] for row in rows] == sorted(row["writing_id"] for row in rows)
    assert list(rows[0]) == [
        "document",
        "writing_id",
        "l1",
        "level",
        "split",
        "learner",
        "prompt",
        "date",
        "score",
        "text",
    ]


def test_documents_equal_the_rows_of_the_csv(folder, prepared, sample_csv):
    """The reference is Python's own csv module."""
    with sample_csv.open(newline="", encoding="utf-8") as file:
        expected = sorted(
            (row["writing_id"], row["l1"], row["cefr_level"], row["learner_id"], row["prompt_id"], row["text"])
            for row in csv.DictReader(file)
        )
    names = ("writing_id", "l1", "level", "learner", "prompt", "text")
    assert [tuple(row[name] for name in names) for row in rows_of(folder)] == expected


def test_no_learner_id_or_text_appears_in_two_splits(folder, prepared):
    """The test counts them itself and does not trust leakage.json."""
    seen = defaultdict(set)
    for row in rows_of(folder):
        seen["learner", row["learner"]].add(row["split"])
        seen["id", row["writing_id"]].add(row["split"])
        seen["text", normalise_text(row["text"])].add(row["split"])
    assert all(len(splits) == 1 for splits in seen.values())
    proof = json.loads(folder.leakage.read_text())
    assert [proof[f"{kind}_in_two_splits"] for kind in ("ids", "learners", "texts")] == [0, 0, 0]
    assert proof["learners"] == sum(kind == "learner" for kind, _ in seen)
    assert proof["texts"] == sum(kind == "text" for kind, _ in seen)
    assert proof["repeated_texts"] > 0  # the sample holds copies, so the test could fail


def test_row_order_does_not_change_the_documents_file(tmp_path, sample_csv):
    """Two rows swapped, and the whole file reversed: documents.parquet stays the same file."""
    with sample_csv.open(newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    swapped = [*rows[:10], rows[700], *rows[11:700], rows[10], *rows[701:]]
    written = []
    for number, order in enumerate((rows, swapped, rows[::-1])):
        path, folder = tmp_path / f"{number}.csv", RunFolder(tmp_path / str(number))
        path.write_bytes(csv_bytes(order, header))
        prepare_corpus(path, folder, DATA, seed=0, columns=SAMPLE_COLUMNS)
        written.append((folder.documents.read_bytes(), folder.splits.read_bytes(), folder.leakage.read_bytes()))
    assert written[0] == written[1] == written[2]


def test_another_seed_gives_other_splits(tmp_path, sample_csv):
    """Splits depend on nothing but the documents and the seed."""
    splits = []
    for seed in (0, 1):
        folder = RunFolder(tmp_path / str(seed))
        prepare_corpus(sample_csv, folder, DATA, seed=seed, columns=SAMPLE_COLUMNS)
        splits.append([row["split"] for row in rows_of(folder)])
    assert splits[0] != splits[1]


def test_the_summary_counts_equal_those_of_the_documents(folder, prepared):
    """splits.json, what `prepare_corpus` returns and what is read back are one thing."""
    rows = rows_of(folder)
    for level in LEVELS:
        for split in ("train", "valid", "test"):
            count = sum(row["level"] == level and row["split"] == split for row in rows)
            assert prepared.counts[level][split] == count
        inside = [row["text"] for row in rows if row["level"] == level]
        assert prepared.lengths[level]["characters"] == sum(map(len, inside))
        assert prepared.lengths[level]["documents"] == len(inside)
    assert sum(map(sum, (by_split.values() for by_split in prepared.first_languages.values()))) == 1500
    assert read_summary(folder) == prepared
    assert json.loads(folder.splits.read_text()) == {**asdict(prepared), "levels": list(LEVELS)}


def test_levels_reach_their_shares_although_learners_are_not_divided(folder, prepared):
    """Within the size of a few learners, in levels of some hundred documents."""
    assert prepared.grouped_by == "learner and text"
    for level in ("A1", "A2", "B1"):
        for split, share in prepared.asked.items():
            assert prepared.reached[level][split] == pytest.approx(share, abs=0.02)


def test_only_a_synthetic_corpus_is_marked_as_synthetic(folder, prepared, tmp_path):
    """No report may present generated texts as learners' texts."""
    assert prepared.synthetic
    assert prepared.notice == SYNTHETIC_NOTICE
    path = tmp_path / "corpus.csv"
    path.write_bytes(csv_bytes([(f"x{n}", "Thai", "A1", f"text {n}") for n in range(20)]))
    other = prepare_corpus(path, RunFolder(tmp_path / "other"), DATA, seed=0)
    assert not other.synthetic
    assert other.notice is None


def test_equal_texts_stay_together_in_a_corpus_without_learners(folder, tmp_path):
    """The EFCAMDAT release of this project has no learner ids."""
    path = tmp_path / "corpus.csv"
    texts = [f"Text number {n // 3}" if n % 3 else f"TEXT  number {n // 3}" for n in range(300)]
    path.write_bytes(csv_bytes([(n, "Thai", "A1", text) for n, text in enumerate(texts)]))
    summary = prepare_corpus(path, folder, DATA, seed=0)
    assert (summary.grouped_by, summary.groups, summary.largest_group) == ("text", 100, 3)
    splits = defaultdict(set)
    for row in rows_of(folder):
        splits[row["text"].casefold().split()[-1]].add(row["split"])
        assert row["learner"] is None
    assert all(len(documents_of_text) == 1 for documents_of_text in splits.values())
    assert abs(summary.counts["A1"]["test"] - 30) <= 3


def test_row_groups_are_small_enough_to_be_read_separately(folder, sample_csv, monkeypatch):
    """A worker reads only its shard of the corpus."""
    monkeypatch.setattr(documents_file, "DOCUMENTS_PER_ROW_GROUP", 512)
    prepare_corpus(sample_csv, folder, DATA, seed=0, columns=SAMPLE_COLUMNS)
    file = pq.ParquetFile(folder.documents)
    assert [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)] == [512, 512, 476]
    assert file.read_row_group(1, columns=["document"])["document"].to_pylist() == list(range(512, 1024))
    file.close()


def test_too_many_bad_rows_stop_the_stage_but_write_the_quarantine(folder, tmp_path):
    """The message names the first one; quarantine.csv holds all; no record says that the stage is done."""
    path = tmp_path / "corpus.csv"
    path.write_bytes(csv_bytes([(n, "Thai", "A1" if n % 2 else "Z9", f"text {n}") for n in range(40)]))
    with pytest.raises(InputError) as caught:
        prepare_corpus(path, folder, DATA, seed=0)
    assert str(caught.value) == (
        "corpus.csv row 1, column 'cefr_level': found 'Z9'; known levels are A1, A2, B1, B2, C1. "
        "Add it to data.levels or data.level_aliases, or to data.leave_out to do without such rows\n"
        "corpus.csv: 20 of 40 rows are bad (50.0 %; data.max_bad_fraction allows 1 %): 20 unknown level. "
        f"All of them are listed in {folder.quarantine}"
    )
    assert len(folder.quarantine.read_text().splitlines()) == 21
    assert not folder.splits.exists()


def test_a_few_bad_rows_are_counted_in_the_summary(folder, tmp_path):
    """Documents and bad rows add up to the rows of the file."""
    path = tmp_path / "corpus.csv"
    path.write_bytes(csv_bytes([(n, "Thai", "A1" if n else "Z9", f"text {n}") for n in range(200)]))
    summary = prepare_corpus(path, folder, DATA, seed=0)
    assert (summary.rows, summary.documents, summary.bad_rows) == (200, 199, {"unknown level": 1})


def test_a_failed_prepare_removes_the_earlier_record(folder, prepared, tmp_path):
    """The quarantine is no longer the one that the record counts, so the stage is not done."""
    path = tmp_path / "corpus.csv"
    path.write_bytes(csv_bytes([(1, "Thai", "Z9", "Hi.")]))
    with pytest.raises(InputError):
        prepare_corpus(path, folder, DATA, seed=0)
    with pytest.raises(InputError, match=r"splits\.json: no such file; the corpus is not prepared"):
        read_summary(folder)


def test_a_record_of_another_version_is_refused(folder, prepared):
    """It is refused rather than read in part."""
    folder.splits.write_text('{"levels": ["A1"], "colour": 1}')
    with pytest.raises(InputError, match="not a record of this version"):
        read_summary(folder)


def test_leaks_are_found_in_the_documents_file_itself(folder, prepared):
    """If a split is changed behind our back, the proof fails for each of its reasons."""
    table = pq.read_table(folder.documents)
    rows = table.to_pylist()
    by_text = defaultdict(list)
    for row in rows:
        by_text[normalise_text(row["text"])].append(row)
    twins = next(documents_of_text for documents_of_text in by_text.values() if len(documents_of_text) > 1)
    twins[0]["split"] = "test" if twins[0]["split"] == "train" else "train"
    pq.write_table(table.from_pylist(rows, schema=table.schema), folder.documents)
    leakage = LeakSearch(folder.documents).summary()
    assert leakage.texts_in_two_splits == 1
    with pytest.raises(AssertionError, match="leaks between splits"):
        leakage.raise_if_any(near=False)


def test_shares_missed_because_of_large_groups_are_logged(folder, tmp_path, caplog):
    """A level whose documents are all one text cannot be divided, and the log says so."""
    path = tmp_path / "corpus.csv"
    path.write_bytes(csv_bytes([(n, "Thai", "A1", "the same") for n in range(50)]))
    data = DataConfig(levels=("A1",), split=SplitConfig(train=0.5, valid=0.25, test=0.25))
    with caplog.at_level("WARNING"):
        prepare_corpus(path, folder, data, seed=0)
    assert "level A1: train 50 (asked 25), valid 0 (asked 12), test 0 (asked 12)" in caplog.text


def test_progress_is_reported_phase_by_phase(folder, sample_csv):
    """At the end of every phase all its items are reported as done."""
    progress = []
    prepare_corpus(
        sample_csv, folder, DATA, seed=0, columns=SAMPLE_COLUMNS, on_progress=lambda *event: progress.append(event)
    )
    assert list(dict.fromkeys(phase for phase, _, _ in progress)) == ["read", "split", "compare", "write", "check"]
    assert all((phase, 1500, 1500) in progress for phase in ("read", "split", "compare", "write", "check"))


def test_ilm_files_hold_each_models_documents_joined_by_three_newlines(folder, prepared):
    """The original code splits at three newlines and finds the documents again."""
    assert export_ilm_texts(folder, {"B1": ("B1",), "all": LEVELS}) == 0
    for model, levels in (("B1", ("B1",)), ("all", LEVELS)):
        for split in ("train", "valid", "test"):
            texts = folder.ilm_text(model, split).read_text(encoding="utf-8").split("\n\n\n")
            expected = [row["text"] for row in rows_of(folder) if row["level"] in levels and row["split"] == split]
            assert texts == expected


def test_a_document_that_ilm_would_split_is_changed_and_counted(folder, tmp_path):
    """Three newlines inside become two, and newlines at the ends go."""
    path = tmp_path / "corpus.csv"
    odd = ["a\n\n\nb", "\n\nc\n", "d\r\n\r\n\r\ne", "plain", "two\n\nparagraphs"]
    path.write_bytes(csv_bytes([(n, "Thai", "A1", text) for n, text in enumerate(odd)]))
    prepare_corpus(path, folder, DataConfig(split=SplitConfig(train=0.98, valid=0.01, test=0.01)), seed=0)
    assert export_ilm_texts(folder, {"A1": ("A1",)}) == 3
    texts = folder.ilm_text("A1", "train").read_text(encoding="utf-8").split("\n\n\n")
    assert texts == ["a\n\nb", "c", "d\n\ne", "plain", "two\n\nparagraphs"]
    assert folder.ilm_text("A1", "test").read_text() == ""
