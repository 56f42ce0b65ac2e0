"""Sums of losses per document, kind and part."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from transformers import GPT2LMHeadModel

from raysweep.errors import TrainingError
from raysweep.evaluation.document_sums import CELLS, FIRST, DocumentSums, score_examples
from raysweep.evaluation.scoring import check_finite, write_table
from raysweep.masking.vocabulary import Kind, TargetType
from raysweep.model.token_losses import full_precision
from tests.gpt2_tokens import document_tokenizer

PARTS = {TargetType.CONTEXT: "context", TargetType.INFILL: "answer", TargetType.INFILL_SPECIAL: "end"}


def score(model, store, examples=None, *, batch_tokens=10_000, context_examples=9):
    with full_precision():
        return score_examples(
            model,
            store,
            store.all if examples is None else np.asarray(examples),
            batch_tokens=batch_tokens,
            context_examples=context_examples,
        )


def score_by_hand(model, example, *, is_first):
    """Score one example at a time, with torch's cross entropy over the whole table of logits."""
    nats, tokens, sizes = np.zeros(len(CELLS)), np.zeros(len(CELLS), dtype=int), np.zeros(len(CELLS), dtype=int)
    with torch.inference_mode():
        logits_TV = model(torch.tensor([example.ids])).logits[0].double()
    for place in range(1, len(example.ids)):
        part = PARTS.get(example.types[place])
        if part is not None:
            kind = "" if part == "context" else Kind(example.kinds[place]).name.lower()
            target = torch.tensor(example.ids[place])
            loss = torch.nn.functional.cross_entropy(logits_TV[place - 1], target).item()
            text = "" if part == "end" else document_tokenizer().decode([example.ids[place]])
            for cell in [(kind, part), ("", f"first_{part}")][: 1 + is_first]:
                nats[CELLS.index(cell)] += loss
                tokens[CELLS.index(cell)] += 1
                sizes[CELLS.index(cell)] += len(text.encode())
    return nats, tokens, sizes


def test_losses_summed_per_label_equal_those_of_torch(model, store):
    """Every document's nats, tokens and bytes, for every kind and part, and for its first mask by itself."""
    scores = score(model, store)
    for row, document in enumerate(scores.documents):
        examples = [example for example in store.examples if example.document == document]
        scored = [score_by_hand(model, example, is_first=example is examples[0]) for example in examples]
        nats, tokens, sizes = (sum(sums) for sums in zip(*scored, strict=True))
        np.testing.assert_array_equal(scores.tokens[row], tokens)
        np.testing.assert_array_equal(scores.bytes[row], sizes)
        np.testing.assert_allclose(scores.nats[row], nats, atol=1e-4)


def test_a_documents_loss_is_the_sum_over_its_masks(model, store):
    """Scoring its examples separately and adding up gives the same."""
    whole = score(model, store, [0, 1])
    parts = [score(model, store, [number]) for number in (0, 1)]
    every = slice(None, -len(FIRST))
    np.testing.assert_array_equal(whole.tokens[:, every], sum(part.tokens[:, every] for part in parts))
    np.testing.assert_allclose(whole.nats[:, every], sum(part.nats[:, every] for part in parts), atol=1e-5)


def test_the_first_mask_of_a_document_is_also_summed_separately(model, store):
    """Later masks of a document add nothing to it: their text would give its answers away."""
    both, alone = score(model, store, [0, 1]), score(model, store, [0])
    np.testing.assert_array_equal(both.tokens[:, -len(FIRST) :], alone.tokens[:, -len(FIRST) :])
    np.testing.assert_allclose(both.nats[:, -len(FIRST) :], alone.nats[:, -len(FIRST) :], atol=1e-5)
    assert alone.tokens[0, CELLS.index(("", "first_context"))] == alone.tokens[0, CELLS.index(("", "context"))]


@pytest.mark.parametrize("batch_tokens", [1, 30, 60])
def test_batch_size_does_not_change_scores(model, store, batch_tokens):
    """Size and padding change no score by 1e-5 nats a token; the last batch counts like the first."""
    expected, scores = score(model, store), score(model, store, batch_tokens=batch_tokens)
    np.testing.assert_array_equal(scores.tokens, expected.tokens)
    assert (np.abs(scores.nats - expected.nats) <= 1e-5 * expected.tokens).all()


def test_a_batch_never_exceeds_its_token_limit(model, store):
    """Padding included, or memory would depend on the luck of the draw."""
    sizes = []
    assemble = store.assemble

    def watch(examples):
        batch = assemble(examples)
        sizes.append(batch.ids_BT.shape)
        return batch

    store.assemble = watch
    score(model, store, batch_tokens=40)
    assert all(rows * length <= 40 for rows, length in sizes)
    assert sum(rows for rows, _ in sizes) == len(store.examples)
    assert [length for _, length in sizes] == sorted((length for _, length in sizes), reverse=True)


def test_example_order_does_not_change_scores(model, store):
    """The documents are sorted by number."""
    expected, scores = score(model, store), score(model, store, store.all[::-1])
    assert scores.documents.tolist() == expected.documents.tolist() == [2, 4, 9]
    np.testing.assert_allclose(scores.nats, expected.nats, atol=1e-5)


def test_scores_are_bitwise_reproducible(model, store):
    """On one machine's CPU a score can be reproduced exactly."""
    np.testing.assert_array_equal(score(model, store).nats, score(model, store).nats)


def test_the_context_is_scored_only_under_the_first_masks(model, store):
    """Answers of all masks count; the context, nearly the same each time, only as often as asked for."""
    first, every = score(model, store, context_examples=1), score(model, store)
    alone = score(model, store, [0, 2, 4])
    context = CELLS.index(("", "context"))
    np.testing.assert_array_equal(first.tokens[:, context], alone.tokens[:, context])
    np.testing.assert_allclose(first.nats[:, context], alone.nats[:, context], atol=1e-4)
    np.testing.assert_array_equal(np.delete(first.tokens, context, 1), np.delete(every.tokens, context, 1))


def test_blanks_the_start_token_and_padding_are_never_labels(model, hand_made):
    """An example without a span that starts with a blank: only its text is predicted."""
    store = hand_made.store([hand_made.example(0, (Kind.WORD, "Hello"), " you")])
    tokens = dict(zip(CELLS, score(model, store).tokens[0].tolist(), strict=True))
    assert {cell: count for cell, count in tokens.items() if count} == {
        ("", "context"): 1,
        ("word", "answer"): 1,
        ("word", "end"): 1,
        ("", "first_context"): 1,
        ("", "first_answer"): 1,
        ("", "first_end"): 1,
    }


def test_the_loss_table_has_a_sorted_row_for_every_part_with_tokens(model, store, tmp_path):
    """Levels in their order, then documents, then kinds; the columns are the promise to the statistics."""
    level_of = np.array(["?"] * 2 + ["A2"] + ["?"] + ["B1"] + ["?"] * 4 + ["A2"])
    ids = pa.chunked_array([[f"w{number}" for number in range(10)]], type=pa.large_string())
    sums = score(model, store)
    write_table(tmp_path / "a" / "cells.parquet", "m", ("B1", "A2"), sums, level_of=level_of, writing_ids=ids)
    table = pq.read_table(tmp_path / "a" / "cells.parquet")
    assert table.column_names == ["model", "level", "document", "writing_id", "kind", "part", "nats", "tokens", "bytes"]
    rows = table.to_pylist()
    assert [(row["level"], row["document"], row["writing_id"]) for row in rows[:: max(1, len(rows) - 1)]] == [
        ("B1", 4, "w4"),
        ("A2", 9, "w9"),
    ]
    places = [
        (("B1", "A2").index(row["level"]), row["document"], CELLS.index((row["kind"], row["part"]))) for row in rows
    ]
    assert places == sorted(set(places))
    assert all(row["tokens"] > 0 and row["model"] == "m" for row in rows)
    assert sum(row["tokens"] for row in rows) == sums.tokens.sum()
    assert sum(row["nats"] for row in rows) == pytest.approx(sums.nats.sum())


def test_a_diverged_model_is_refused_by_name():
    """NaN in a table would spread into every mean of the report."""
    nats = np.zeros((3, len(CELLS)))
    nats[1, 4] = np.nan
    ones = np.ones(nats.shape, dtype=np.int64)
    sums = DocumentSums(documents=np.arange(3), nats=nats, tokens=ones, bytes=ones)
    with pytest.raises(TrainingError, match=r"all-B2: .* 1 of 3 documents.*--force all-B2"):
        check_finite("all-B2", sums)


def test_a_model_of_zero_weights_has_the_perplexity_of_the_vocabulary_size(model, store):
    """With weights of zero it is 50,264 for every kind and part."""
    uniform = GPT2LMHeadModel(model.config).eval()
    torch.nn.init.zeros_(uniform.transformer.wte.weight)
    sums = score(uniform, store)
    filled = sums.tokens > 0
    np.testing.assert_allclose(np.exp(sums.nats[filled] / sums.tokens[filled]), 50_264, rtol=1e-5)
