"""Splits by writing prompt, and by learner and prompt together."""

import csv
from collections import Counter

import numpy as np
import pyarrow.parquet as pq
import pytest

from raysweep.config.data_settings import DataConfig, SplitConfig
from raysweep.config.schema import Config
from raysweep.corpus.preparing import prepare_corpus
from raysweep.corpus.sample import SAMPLE_COLUMNS
from raysweep.corpus.split_units import split_prompts, unit_shares
from raysweep.errors import InputError
from raysweep.pipeline.identities import corpus_identity
from raysweep.storage.atomic_files import read_json


def prepared(folder, sample_csv, unit, columns=SAMPLE_COLUMNS):
    data = DataConfig(split=SplitConfig(unit=unit))
    summary = prepare_corpus([sample_csv], folder, data, seed=0, columns=columns)
    return summary, pq.read_table(folder.documents).to_pylist(), read_json(folder.leakage)


def splits_of(rows, column):
    """The splits in which each value occurs."""
    splits = {}
    for row in rows:
        splits.setdefault(row[column], set()).add(row["split"])
    return splits.values()


def test_every_prompt_is_in_one_split_and_every_level_in_all_three(folder, sample_csv):
    """Tests are on tasks that no model has seen; learners may be known, and that is no leak."""
    summary, rows, leakage = prepared(folder, sample_csv, "prompt")
    assert {len(splits) for splits in splits_of(rows, "prompt")} == {1}
    assert max(len(splits) for splits in splits_of(rows, "learner")) > 1
    assert all(min(counts.values()) > 0 for counts in summary.counts.values())
    assert leakage["leaky_test_documents"] == 0
    assert set(leakage["leaky_by_kind"]) == {"id", "text", "near", "prompt"}
    assert summary.grouped_by == "prompt and text"


def test_splitting_by_both_shares_no_learner_and_no_prompt_between_splits(folder, sample_csv):
    """A document whose learner and prompt are in different splits is set aside, and listed."""
    summary, rows, leakage = prepared(folder, sample_csv, "both")
    assert {len(splits) for column in ("learner", "prompt") for splits in splits_of(rows, column)} == {1}
    assert leakage["leaky_test_documents"] == 0
    assert all(min(counts.values()) > 0 for counts in summary.counts.values())
    reason = "its learner and its prompt are in different splits"
    assert summary.bad_rows[reason] == 1500 - len(rows) - sum(
        count for name, count in summary.bad_rows.items() if name != reason
    )
    with folder.quarantine.open(newline="", encoding="utf-8") as file:
        assert Counter(row["reason"] for row in csv.DictReader(file))[reason] == summary.bad_rows[reason] > 300


def test_learners_and_prompts_are_split_by_the_square_roots_of_the_shares():
    """Then the documents on which both agree have the shares that were asked for."""
    shares = unit_shares(SplitConfig(unit="both"))
    kept = np.array([shares.train, shares.valid, shares.test]) ** 2
    np.testing.assert_allclose(kept / kept.sum(), [0.8, 0.1, 0.1])
    assert unit_shares(SplitConfig(unit="prompt")) == SplitConfig(unit="prompt")


@pytest.mark.parametrize(("unit", "missing"), [("prompt", "prompt"), ("both", "prompt"), ("both", "learner")])
def test_a_split_unit_missing_from_documents_is_refused(folder, sample_csv, unit, missing):
    """The message gives the number of documents and both remedies."""
    columns = SAMPLE_COLUMNS.model_copy(update={missing: None})
    with pytest.raises(InputError, match=rf"found '{unit}'; 1,500 of 1,500 documents have no {missing}\. Name the col"):
        prepared(folder, sample_csv, unit, columns)


def test_a_level_with_two_prompts_cannot_be_split_by_prompt(folder, sample_csv, tmp_path):
    """Each split needs a prompt."""
    with sample_csv.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    kept = sorted({row["prompt_id"] for row in rows if row["cefr_level"] == "B1"})[:2]
    path = tmp_path / "two.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(row for row in rows if row["cefr_level"] != "B1" or row["prompt_id"] in kept)
    with pytest.raises(InputError, match="level B1 has 2 writing prompts; at least 3 are needed"):
        prepared(folder, path, "prompt")


def test_a_prompt_used_in_several_levels_goes_to_one_split():
    """The first level that has it decides; the others fill up with their own."""
    import pyarrow as pa

    prompts = pa.chunked_array([["a", "b", "c", "a", "d", "e", "f"]])
    levels = np.array([0, 0, 0, 1, 1, 1, 1])
    splits = split_prompts(prompts, levels, ("A1", "B1"), SplitConfig(unit="prompt"), seed=1)
    assert splits[0] == splits[3]
    assert sorted(splits[:3].tolist()) == [0, 1, 2]
    assert set(splits[3:].tolist()) == {0, 1, 2}


def test_the_fingerprint_of_splits_by_learner_is_unchanged():
    """Nobody's corpus is prepared again for a setting that did not exist."""
    trials = {"A1": {"levels": ("A1",)}}
    plain, by_prompt = (
        corpus_identity(Config.model_validate({"trials": trials, "data": {"split": {"unit": unit}}}), [])
        for unit in ("learner", "prompt")
    )
    assert "unit" not in plain["data"]["split"]
    assert by_prompt["data"]["split"]["unit"] == "prompt"
