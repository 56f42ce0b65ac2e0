"""A model's cells end to end: documents masked by the real store, a model on disk, the table and its record."""

import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from raysweep.config.data_settings import MaskingConfig
from raysweep.config.evaluation_settings import EvaluationConfig
from raysweep.config.training_settings import ModelConfig
from raysweep.errors import InputError, TrainingError
from raysweep.evaluation.document_sums import FIRST
from raysweep.evaluation.matrix import build_matrix, merge_losses
from raysweep.evaluation.scoring import score_model
from raysweep.masking.example_store import ExampleStore
from raysweep.masking.mask_shard import mask_shard
from raysweep.masking.shards import write_manifest
from raysweep.masking.vocabulary import Kind, TargetType
from raysweep.model.export import save_model

SENTENCES = [
    "My name is Ana and I live in São Paulo.",
    "I like pizza because it is very good!",
    "On Monday I go to work by bus.",
    "She said “hello” 😀 to me.",
    "We don't have a dog, but my sister's cat is nice.",
]
EVALUATION = EvaluationConfig(
    examples_per_document=3, context_examples=2, documents_per_level=6, generation_documents=4, batch_tokens=300
)
START = SimpleNamespace(model=ModelConfig(size="micro"), max_tokens=64, seed=5, start_digest=None)


@pytest.fixture(scope="module")
def run(tmp_path_factory, model):
    """Twenty documents, their examples and a saved model."""
    root = tmp_path_factory.mktemp("a run")
    texts = [" ".join(SENTENCES[(n + k) % 5] for k in range(1 + n % 3)) for n in range(20)]
    documents = pd.DataFrame(
        {
            "writing_id": [f"w{n:02}" for n in range(20)],
            "l1": "pt",
            "level": ["B1" if n % 2 else "A1" for n in range(20)],
            "split": ["train" if n % 5 == 4 else "test" for n in range(20)],
            "text": texts,
        }
    )
    documents.to_parquet(root / "documents.parquet", index=False)
    policy = MaskingConfig(examples_per_document=6, max_tokens=64, word=0.2, sentence=0.1)
    shards = [
        mask_shard(
            documents=root / "documents.parquet",
            rows=rows,
            shard=shard,
            folder=root / "examples",
            policy=policy,
            seed=0,
        )
        for shard, rows in enumerate([(0, 9), (9, 20)])
    ]
    write_manifest(root / "examples", fingerprint="f", identity={}, summaries=shards)
    save_model(model, root / "model", "card")
    return SimpleNamespace(root=root, documents=documents)


def score(run, out, *, model="A1", start=None, evaluation=EVALUATION, levels=("A1", "B1"), **how):
    score_model(
        model=model,
        start=str(start or run.root / "model"),
        job=START,
        examples=run.root / "examples",
        documents=run.root / "documents.parquet",
        levels=levels,
        evaluation=evaluation,
        seed=0,
        out=out / f"{model}.parquet",
        record=out / f"{model}.json",
        identity={"seed": 0},
        made_from={"model": "abc"},
        device="cpu",
        **how,
    )
    return pd.read_parquet(out / f"{model}.parquet"), json.loads((out / f"{model}.json").read_text())


def test_losses_of_every_cell_equal_those_of_torch(run, model, tmp_path):
    """All levels in one pass: each document's sums, recomputed one example at a time from the store."""
    table, _ = score(run, tmp_path)
    store = ExampleStore.open(run.root / "examples")
    assert set(table["level"]) == {"A1", "B1"}
    for document, rows in table.groupby("document"):
        row = run.documents.loc[document]
        assert set(rows["writing_id"]) == {row["writing_id"]}
        assert set(rows["level"]) == {row["level"]}
        assert row["split"] == "test"
        expected = losses_by_hand(model, store, document)
        assert {(row.kind, row.part): row.tokens for row in rows.itertuples()} == {
            key: tokens for key, (_, tokens) in expected.items()
        }
        for cell in rows.itertuples():
            assert cell.nats == pytest.approx(expected[cell.kind, cell.part][0], abs=1e-5 * cell.tokens)


def test_interpolation_weights_zero_and_one_score_like_the_two_models(run, model, hand_made, tmp_path):
    """At the ends, losses equal the models' own to the byte; in between they differ."""
    save_model(hand_made.model(spread=0.2), run.root / "tuned", "card")
    general, tuned = score(run, tmp_path)[0], score(run, tmp_path, start=run.root / "tuned")[0]
    losses_by_model = {
        weight: score(run, tmp_path, start=run.root / "tuned", general=run.root / "model", weight=weight)[0]
        for weight in (0.0, 0.5, 1.0)
    }
    assert losses_by_model[0.0].equals(general)
    assert losses_by_model[1.0].equals(tuned)
    assert not np.isclose(losses_by_model[0.5]["nats"], general["nats"]).any()


def test_documents_of_several_splits_are_scored_in_one_table(run, tmp_path):
    table, _ = score(run, tmp_path, splits=("train", "test"), levels=("A1",))
    splits = run.documents.loc[table["document"].unique(), ["split", "level"]]
    assert {*splits.itertuples(index=False, name=None)} == {("train", "A1"), ("test", "A1")}
    with pytest.raises(InputError, match="no valid example of A1"):
        score(run, tmp_path, splits=("test", "valid"), levels=("A1",))


def losses_by_hand(model, store, document):
    cells = {}
    numbers = np.flatnonzero(store.documents_of(np.arange(len(store))) == document)[:3]
    for rank, number in enumerate(numbers):
        batch = store.assemble(np.array([number]))
        with torch.inference_mode():
            logits_TV = model(torch.from_numpy(batch.ids_BT.astype(np.int64))).logits[0].double()
        for place in range(1, batch.ids_BT.shape[1]):
            kind_of = {
                TargetType.CONTEXT: "context" if rank < 2 else None,
                TargetType.INFILL: "answer",
                TargetType.INFILL_SPECIAL: "end",
            }
            part = kind_of.get(TargetType(batch.types_BT[0, place]))
            if part is None:
                continue
            key = ("" if part == "context" else Kind(batch.kinds_BT[0, place]).name.lower(), part)
            target = torch.tensor(int(batch.ids_BT[0, place]))
            loss = torch.nn.functional.cross_entropy(logits_TV[place - 1], target).item()
            for cell in [key, ("", f"first_{part}")][: 2 if rank == 0 else 1]:
                nats, tokens = cells.get(cell, (0.0, 0))
                cells[cell] = (nats + loss, tokens + 1)
    return cells


def test_the_record_describes_what_was_scored(run, tmp_path):
    """It includes the generation scores, which belong to the cells."""
    table, record = score(run, tmp_path)
    assert (record["identity"], record["made_from"]) == ({"seed": 0}, {"model": "abc"})
    assert set(record["outputs"]) == {"A1.parquet", "A1.samples"}
    assert record["model"] == "A1"
    assert record["documents"] == table["document"].nunique() == 12
    assert record["examples"] <= 36
    assert record["tokens"] == table[~table["part"].isin(FIRST)]["tokens"].sum()
    assert record["device"] == "cpu"
    assert record["parameters"] > 400_000
    assert record["seconds"] > 0
    assert set(record["generation"]) == {"overall", "levels", "kinds"}
    assert set(record["generation"]["levels"]) == {"A1", "B1"}


def test_two_models_fill_two_rows_of_the_matrix(run, tmp_path):
    """The start that the trials share, unsure of everything, is the baseline row: here close to the vocabulary."""
    score(run, tmp_path)
    score(run, tmp_path, model="start", start="scratch")
    merge_losses([tmp_path / "start.parquet", tmp_path / "A1.parquet"], tmp_path / "losses.parquet")
    matrix = build_matrix(tmp_path / "losses.parquet", metric="infill")
    assert matrix.shape == (2, 2)
    assert list(matrix.index) == ["start", "A1"]
    np.testing.assert_allclose(matrix.loc["start"], 50_264, rtol=0.05)


def test_a_record_of_earlier_scores_is_removed_before_new_scores_are_written(run, tmp_path):
    """If the new table is written and the record is not, the model must be scored again."""
    score(run, tmp_path)
    (tmp_path / "A1.parquet").unlink()
    (tmp_path / "A1.parquet").mkdir()  # the table cannot be put in place
    with pytest.raises(OSError, match="directory"):
        score(run, tmp_path)
    assert not (tmp_path / "A1.json").exists()


def test_levels_without_test_documents_are_refused(run, tmp_path):
    """An empty matrix would be reported as if it had a meaning."""
    with pytest.raises(InputError, match="no test example of C1; give more documents"):
        score(run, tmp_path, levels=("C1",))
    assert list(tmp_path.iterdir()) == []


def test_a_diverged_model_writes_no_scores(run, tmp_path, model):
    """Its weights are NaN; the error names the trial."""
    broken = type(model)(model.config)
    broken.transformer.ln_f.weight.data.fill_(float("nan"))
    save_model(broken, tmp_path / "broken", "card")
    with pytest.raises(TrainingError, match="A1: found a loss that is not a finite number on 12 of 12"):
        score(run, tmp_path / "cells", start=tmp_path / "broken")
    assert not (tmp_path / "cells").exists()
