"""The leak firewall: whatever one split knows of another is found in the finished corpus, and nothing else is."""

import json
import os
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from raysweep.config.data_settings import DataConfig, NearDuplicatesConfig
from raysweep.corpus.leakage import LeakSearch
from raysweep.corpus.preparing import prepare_corpus, read_summary
from raysweep.corpus.sample import SAMPLE_COLUMNS
from tests.corpus.odd_csv import csv_bytes

SHARED = Path(os.environ.get("RAYSWEEP_SHARED", Path(__file__).parents[2] / ".." / "shared"))
PLANTED = 12  # of each kind
WORDS = [f"moon{number}" for number in range(20)]


def same_id(seen, new, _):
    new["writing_id"] = seen["writing_id"]


def same_text(seen, new, _):
    new["text"] = seen["text"]


def other_case_and_spaces(seen, new, _):
    new["text"] = "  " + seen["text"].upper().replace(" ", "   ") + "\n"


def one_word_changed(seen, new, number):
    words = seen["text"].split()
    words[number % len(words)] = "zebra"
    new["text"] = " ".join(words)


def same_learner(seen, new, number):
    seen["learner"] = new["learner"] = f"planted {number}"


def shared_prompt(seen, new, number):
    seen["prompt"] = new["prompt"] = f"planted {number}"


KINDS = {
    same_id: "id",
    same_text: "text",
    other_case_and_spaces: "text",
    one_word_changed: "near",
    same_learner: "learner",
    shared_prompt: None,
}


def plant_leaks(folder, seed=0):
    """Change test documents of a clean corpus so that train knows them, each in one way; gives them by way."""
    table = pq.read_table(folder.documents)
    rows = table.to_pylist()
    rng = np.random.default_rng(seed)
    long = [row for row in rows if len(row["text"].split()) >= 20]
    seen = rng.permutation([row["document"] for row in long if row["split"] == "train"])
    new = rng.permutation([row["document"] for row in rows if row["split"] == "test"])
    planted = {way: new[place :: len(KINDS)][:PLANTED].tolist() for place, way in enumerate(KINDS)}
    for place, (way, documents) in enumerate(planted.items()):
        for number, document in enumerate(documents):
            way(rows[seen[place * PLANTED + number]], rows[document], number)
    pq.write_table(table.from_pylist(rows, schema=table.schema), folder.documents)
    return planted


def leaks_of(folder):
    LeakSearch(folder.documents).write_leaks(folder.leaks)
    return pq.read_table(folder.leaks).to_pylist()


def check_planted(folder):
    clean = json.loads(folder.leakage.read_text())
    assert clean["leaky_test_documents"] == 0
    planted = plant_leaks(folder)
    rows = leaks_of(folder)
    reported = {(row["document"], row["kind"]) for row in rows}
    for way, documents in planted.items():
        missed = [document for document in documents if KINDS[way] and (document, KINDS[way]) not in reported]
        assert not missed, way.__name__
    leakage = LeakSearch(folder.documents).summary()
    assert (leakage.prompts_in_two_splits or 0) - (clean["prompts_in_two_splits"] or 0) == PLANTED
    real = {document for way, documents in planted.items() if KINDS[way] for document in documents}
    false_alarms = {row["document"] for row in rows} - real
    documents = pq.read_table(folder.documents, columns=["split"])["split"].to_pylist()
    others = sum(split != "train" for split in documents) - len(real)
    assert len(false_alarms) <= 0.01 * others
    assert leakage.leaky_test_documents == len({row["document"] for row in rows if row["split"] == "test"})
    assert leakage.ids_in_two_splits == leakage.exact_texts_in_two_splits == PLANTED
    assert leakage.texts_in_two_splits == 2 * PLANTED
    assert leakage.near_duplicates_in_two_splits >= 2 * PLANTED  # both sides


def test_all_six_kinds_of_planted_leaks_are_found_in_the_sample(folder, sample_csv):
    """At most one in a hundred of the other documents is suspected; shared prompts are counted, but are not leaks."""
    prepare_corpus(sample_csv, folder, DataConfig(), seed=0, columns=SAMPLE_COLUMNS)
    check_planted(folder)


def test_all_six_kinds_of_planted_leaks_are_found_in_real_essays(folder):
    """Essays of 400 words, whose corpus names no learner and no prompt but the planted ones."""
    path = SHARED / "data" / "ellipse.csv"
    if not path.exists():
        pytest.skip(f"{path} is not there; set RAYSWEEP_SHARED to the folder that holds data/ellipse.csv")
    prepare_corpus(path, folder, DataConfig(), seed=0)
    check_planted(folder)


def test_near_duplicates_go_to_one_split_unless_the_config_only_reports_them(folder, sample_csv):
    """The sample holds copies with a word left out, and texts that are alike by nature."""
    grouped = prepare_corpus(sample_csv, folder, DataConfig(), seed=0, columns=SAMPLE_COLUMNS)
    summary = LeakSearch(folder.documents).summary()
    assert summary.near_pairs > 10
    assert summary.near_pairs_in_two_splits == summary.near_duplicates_in_two_splits == 0
    data = DataConfig(near_duplicates=NearDuplicatesConfig(action="report"))
    apart = prepare_corpus(sample_csv, folder, data, seed=0, columns=SAMPLE_COLUMNS)
    record = json.loads(folder.leakage.read_text())
    assert apart.groups > grouped.groups
    assert record["near_pairs"] == summary.near_pairs
    assert record["near_pairs_in_two_splits"] > 0
    assert record["leaky_by_kind"]["near"] == record["leaky_test_documents"] > 0
    assert record["leaky_by_kind"]["text"] == 0


def chain_of_learners(rows, length):
    """Learners whose first text resembles the last one's second: all tied together by likeness alone."""
    texts = [(f"m{number}", " ".join([*WORDS, f"word{number}"])) for number in range(length + 1)]
    chain = []
    for number in range(length):
        for place, (name, text) in enumerate(texts[number : number + 2]):
            ending = f" {name}" * 40 if place else f" {name}" * 39 + " x"
            chain.append((f"c{number}-{place}", "Thai", "A1", text + ending, f"chain{number}"))
    others = [(f"o{n}", "Thai", "A1", " ".join(f"{n}-{k}" for k in range(30)), f"l{n}") for n in range(rows)]
    return chain + others


def test_an_oversized_group_is_divided_and_its_leaking_texts_are_quarantined(folder, tmp_path, caplog):
    """No split can take half of the corpus; the few texts that would leak are listed in the quarantine."""
    path = tmp_path / "corpus.csv"
    rows = chain_of_learners(300, 60)
    path.write_bytes(csv_bytes(rows, ("writing_id", "l1", "cefr_level", "text", "learner_id")))
    columns = SAMPLE_COLUMNS.model_copy(update={"prompt": None})
    with caplog.at_level("INFO"):
        summary = prepare_corpus(path, folder, DataConfig(), seed=0, columns=columns)
    record = json.loads(folder.leakage.read_text())
    assert record["links_not_followed"] > 0
    assert record["near_duplicates_in_two_splits"] == record["leaky_test_documents"] == 0
    reason = "almost the same as a text of another split"
    aside = folder.quarantine.read_text().splitlines()[1:]
    assert summary.bad_rows == {reason: len(aside)}
    assert 0 < len(aside) < 20
    assert summary.documents + len(aside) == summary.rows == len(rows)
    for line in aside:
        row, name = line.split(",")[:2]
        assert rows[int(row) - 1][0] == name
    assert summary.largest_group <= 20
    kept = pq.read_table(folder.documents, columns=["document", "writing_id"]).to_pylist()
    assert [row["document"] for row in kept] == list(range(summary.documents))
    assert not {line.split(",")[1] for line in aside} & {row["writing_id"] for row in kept}
    assert sum(sum(by_split.values()) for by_split in summary.counts.values()) == summary.documents
    assert read_summary(folder) == summary


def test_documents_without_a_learner_are_not_grouped_together(folder, sample_csv):
    """Where some learners are not known, they are not taken for one and the same."""
    prepare_corpus(sample_csv, folder, DataConfig(), seed=0, columns=SAMPLE_COLUMNS)
    rows = pq.read_table(folder.documents).to_pylist()
    for row in rows[::3]:
        row["learner"] = None
    pq.write_table(pq.read_table(folder.documents).from_pylist(rows), folder.documents)
    assert LeakSearch(folder.documents).summary().learners_in_two_splits == 0
    assert leaks_of(folder) == []


def test_a_text_of_valid_repeated_in_test_is_a_leak(folder, sample_csv):
    """The best step of a training is chosen on the valid split."""
    prepare_corpus(sample_csv, folder, DataConfig(), seed=0, columns=SAMPLE_COLUMNS)
    rows = pq.read_table(folder.documents).to_pylist()
    valid = next(row for row in rows if row["split"] == "valid")
    test = next(row for row in rows if row["split"] == "test")
    test["text"] = valid["text"]
    pq.write_table(pq.read_table(folder.documents).from_pylist(rows), folder.documents)
    assert {"document": test["document"], "split": "test", "kind": "text", "known_to": "valid"} in leaks_of(folder)


def test_a_text_changed_on_disk_is_refused_by_the_leak_search(folder, sample_csv):
    """A damaged text would match none of its copies, and the search would call the corpus clean."""
    prepare_corpus(sample_csv, folder, DataConfig(), seed=0, columns=SAMPLE_COLUMNS)
    table = pq.read_table(folder.documents)
    pq.write_table(table, folder.documents, compression="none", use_dictionary=False, write_page_checksum=True)
    LeakSearch(folder.documents)
    data = folder.documents.read_bytes()
    text = table["text"][700].as_py().encode()
    assert data.count(text) >= 1
    folder.documents.write_bytes(data.replace(text, text[:-2] + b"~" + text[-1:]))
    with pytest.raises(OSError, match="CRC"):
        LeakSearch(folder.documents)
