"""The store: made in any pieces it is the same, and batches come out of it as they were put in."""

import json
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest

from raysweep.config.data_settings import MaskingConfig
from raysweep.errors import InputError
from raysweep.masking.example_store import ExampleStore
from raysweep.masking.mask_shard import mask_shard
from raysweep.masking.shards import plan_shards, read_manifest, read_shard_summary, write_manifest
from raysweep.masking.tokens import forget_pieces
from raysweep.masking.vocabulary import Kind, TargetType
from raysweep.storage.run_folder import ExamplesFolder
from tests.gpt2_tokens import END_OF_INFILL, FIRST_BLANK, START_OF_INFILL
from tests.masking.stored_examples import spans_of, tokenise_texts, window_of

POLICY = MaskingConfig(word=0.1, examples_per_document=4)


def contents(store: ExampleStore) -> list[object]:
    """Everything a training can see of a store."""
    examples = np.arange(len(store))
    batch = store.assemble(examples)
    return [
        batch.ids_BT.tolist(),
        batch.types_BT.tolist(),
        batch.kinds_BT.tolist(),
        store.documents_of(examples).tolist(),
    ]


def test_the_number_of_shards_does_not_change_the_examples(corpus, tmp_path, make_store):
    """One shard and seven shards give the same examples in the same order."""
    single_shard = make_store(tmp_path / "one", corpus, POLICY)
    seven = make_store(tmp_path / "seven", corpus, POLICY, shard_documents=7)
    assert len(plan_shards(48, 7)) == 7
    assert contents(single_shard) == contents(seven)


def test_a_rebuilt_shard_has_the_same_bytes(corpus, tmp_path):
    """Whatever was made before it in the process: a restarted worker fills in what is missing."""
    made = [
        mask_shard(documents=corpus, rows=rows, shard=shard, folder=tmp_path / "a", policy=POLICY, seed=3)
        for shard, rows in enumerate(plan_shards(48, 12))
    ]
    forget_pieces()
    again = mask_shard(documents=corpus, rows=(24, 36), shard=2, folder=tmp_path / "b", policy=POLICY, seed=3)
    assert again["checksum"] == made[2]["checksum"]
    assert ExamplesFolder(tmp_path / "a").shard(2).read_bytes() == ExamplesFolder(tmp_path / "b").shard(2).read_bytes()
    assert len({summary["checksum"] for summary in made}) == 4


def test_the_same_corpus_gives_the_same_bytes_on_every_machine(corpus, tmp_path):
    """Frozen: if this changes, every user's examples change, and `EXAMPLES_VERSION` must be raised."""
    summary = mask_shard(documents=corpus, rows=(0, 48), shard=0, folder=tmp_path, policy=MaskingConfig(), seed=0)
    assert (summary["examples"], summary["tokens"], summary["checksum"]) == (743, 1212, "c12ca1f2206c0656e67f7016")


def test_another_seed_gives_other_examples(corpus, tmp_path, make_store):
    """The masks depend on the seed of the config."""
    assert contents(make_store(tmp_path / "0", corpus, POLICY)) != contents(
        make_store(tmp_path / "1", corpus, POLICY, seed=1)
    )


def test_a_batch_is_assembled_from_tokens_and_spans(corpus, tmp_path, make_store):
    """Put together by hand, from the document's tokens and the example's spans."""
    store = make_store(tmp_path / "store", corpus, POLICY, shard_documents=20)
    texts = pq.read_table(corpus)["text"].to_pylist()
    examples = np.random.default_rng(0).permutation(len(store))[:50]
    batch = store.assemble(examples, pad_multiple=8)
    assert batch.ids_BT.shape[1] % 8 == 0
    for row, example in enumerate(examples):
        (document,) = store.documents_of(np.array([example])).tolist()
        tokens = tokenise_texts([texts[document]])[0]
        context, answers, kinds, at = [], [], [], 0
        for kind, start, length in spans_of(store, int(example)):
            context += [*tokens[at:start], FIRST_BLANK + kind]
            answers += [*tokens[start : start + length], END_OF_INFILL]
            kinds += [int(kind)] * (length + 1)
            at = start + length
        expected = [*context, *tokens[at:], START_OF_INFILL, *answers]
        size = int(batch.lengths_B[row])
        assert batch.ids_BT[row, :size].tolist() == expected
        assert not batch.ids_BT[row, size:].any()
        assert (batch.types_BT[row, size:] == TargetType.PADDING).all()
        assert batch.kinds_BT[row, size - len(kinds) : size].tolist() == kinds
        assert (batch.kinds_BT[row, : size - len(kinds)] == 255).all()


def test_other_task_formats_of_the_paper_are_assembled(store_of):
    """Language modelling forwards, backwards, with the whole document as answer, and answers without context."""
    text = "I like green tea."
    ids = tokenise_texts([text])[0]
    store = store_of([text], [[[(int(Kind.WORD), 7, 5)]]], MaskingConfig())
    context, infill, redundant = TargetType.CONTEXT, TargetType.INFILL, TargetType.REDUNDANT
    blanked = [*ids[:2], FIRST_BLANK + Kind.WORD, *ids[3:], START_OF_INFILL]
    start = [context, context, TargetType.CONTEXT_SPECIAL, context, context, TargetType.START]
    expected = {
        "lm": (ids, [context] * 5),
        "reverse_lm": (ids[::-1], [context] * 5),
        "lm_all": ([*blanked, *ids], [*start, redundant, redundant, infill, redundant, redundant]),
        "no_context_ilm": (
            [START_OF_INFILL, ids[2], END_OF_INFILL],
            [TargetType.START, infill, TargetType.INFILL_SPECIAL],
        ),
    }
    for task, (tokens, types) in expected.items():
        batch = store.assemble(np.array([0]), task=task)
        assert batch.ids_BT[0].tolist() == tokens
        assert batch.types_BT[0].tolist() == types
        assert store.lengths(np.array([0]), task).tolist() == [len(tokens)]


def test_select_returns_a_levels_examples_of_a_split_in_document_order(corpus, tmp_path, make_store):
    """Examples of other levels and splits are never selected."""
    store = make_store(tmp_path / "store", corpus, POLICY, shard_documents=20)
    table = pq.read_table(corpus)
    levels, splits = table["level"].to_pylist(), table["split"].to_pylist()
    chosen = store.select(["B2"], "train")
    documents = store.documents_of(chosen)
    assert (np.diff(chosen) > 0).all()
    assert set(documents.tolist()) == {d for d in range(48) if levels[d] == "B2" and splits[d] == "train"}
    assert store.levels_of(documents).tolist() == ["B2"] * len(documents)
    everything = np.sort(np.concatenate([store.select(["A1", "B2"], split) for split in ("train", "test")]))
    assert everything.tolist() == list(range(len(store)))
    assert len(store.select(["C1"], "train")) == 0


def test_select_limits_examples_per_document_and_documents(corpus, tmp_path, make_store):
    """The first masks of each document; documents by their seeds, so not the alphabet's first."""
    store = make_store(tmp_path / "store", corpus, POLICY)
    few = store.select(["A1", "B2"], "train", examples_per_document=2, documents_per_level=5)
    documents, counts = np.unique(store.documents_of(few), return_counts=True)
    assert counts.max() <= 2
    assert np.unique(store.levels_of(documents), return_counts=True)[1].tolist() == [5, 5]
    first = np.unique(store.documents_of(store.select(["A1"], "train")))[:5]
    assert documents[store.levels_of(documents) == "A1"].tolist() != first.tolist()
    more = store.select(["A1", "B2"], "train", examples_per_document=2, documents_per_level=6)
    assert set(few.tolist()) < set(more.tolist())


def test_documents_without_examples_do_not_shift_other_documents(tmp_path, write_documents, make_store):
    """Texts of white space only have no words to mask."""
    documents = write_documents(tmp_path / "documents.parquet", [" ", "I like tea.", "\n", " ", "We like milk.", " "])
    store = make_store(tmp_path / "store", documents, POLICY)
    assert set(store.documents_of(np.arange(len(store))).tolist()) == {1, 4}
    assert read_manifest(tmp_path / "store")["totals"]["documents_without_examples"] == 4


def test_an_example_index_out_of_range_is_refused(corpus, tmp_path, make_store):
    """A negative number would silently count from the end."""
    store = make_store(tmp_path / "store", corpus, POLICY)
    for number in (-1, len(store)):
        with pytest.raises(IndexError, match="example numbers"):
            store.assemble(np.array([number]))


def test_long_documents_and_masks_are_stored_with_four_byte_numbers(tmp_path, write_documents, make_store):
    """70,000 tokens in one document: its shard is wide, and its windows lie where they should."""
    documents = write_documents(tmp_path / "documents.parquet", ["I like tea. " * 23_500, "I like milk."])
    store = make_store(tmp_path / "store", documents, MaskingConfig(examples_per_document=2, word=0.2, max_tokens=64))
    windows = [window_of(store, example) for example in range(2)]
    assert max(windows)[1] > 0
    for example, (first, last) in enumerate(windows):
        spans = spans_of(store, example)
        assert all(first <= start and start + length <= last for _, start, length in spans)
        assert store.lengths(np.array([example]))[0] == last - first + 2 * len(spans) + 1


def test_the_summary_counts_stored_and_dropped_examples(corpus, tmp_path):
    """No silent drops: every example is stored or counted by its reason."""
    summary = mask_shard(documents=corpus, rows=(0, 48), shard=0, folder=tmp_path, policy=MaskingConfig(), seed=0)
    assert summary["documents"] * 16 == summary["examples"] + sum(summary["dropped"].values())
    assert summary["dropped"]["repeated"] > 0
    assert 0.08 < summary["characters_masked"] / summary["characters"] / 16 < 0.3
    assert set(summary["spans"]) == {kind.name.lower() for kind in Kind}
    assert set(summary["seconds"]) == {"read", "segment", "tokenise", "sample", "encode", "write"}
    assert read_shard_summary(tmp_path, 0) == summary


def test_a_shard_is_complete_only_with_its_record_and_whole_file(corpus, tmp_path):
    """A kill between the two, or a file cut short, costs the shard's work and nothing else."""
    mask_shard(documents=corpus, rows=(0, 10), shard=0, folder=tmp_path, policy=POLICY, seed=0)
    assert read_shard_summary(tmp_path, 1) is None
    ExamplesFolder(tmp_path).shard(0).write_bytes(ExamplesFolder(tmp_path).shard(0).read_bytes()[:-64])
    assert read_shard_summary(tmp_path, 0) is None
    ExamplesFolder(tmp_path).shard_record(0).write_text("{")
    assert read_shard_summary(tmp_path, 0) is None


def test_the_manifest_contains_no_timestamps(corpus, tmp_path, make_store):
    """Equal examples, equal manifest: it can be compared between machines."""
    for name in ("a", "b"):
        make_store(tmp_path / name, corpus, POLICY, shard_documents=20)
    assert (tmp_path / "a" / "manifest.json").read_bytes() == (tmp_path / "b" / "manifest.json").read_bytes()
    manifest = read_manifest(tmp_path / "a")
    assert manifest["fingerprint"] == "f"
    assert manifest["totals"]["documents"] == 48


def test_a_manifest_of_incomplete_shards_is_refused(corpus, tmp_path):
    """Otherwise a missing range of rows would be dropped silently."""
    summaries = [
        mask_shard(documents=corpus, rows=rows, shard=shard, folder=tmp_path, policy=POLICY, seed=0)
        for shard, rows in enumerate(plan_shards(48, 20))
    ]
    with pytest.raises(InputError, match="shard 1 must begin at row 20"):
        write_manifest(tmp_path, fingerprint="f", identity={}, summaries=[summaries[0], summaries[2]])


def test_a_damaged_store_is_reported_with_file_and_fix(corpus, tmp_path, make_store):
    """The message names the file, the damage and the fix."""
    make_store(tmp_path / "good", corpus, POLICY, shard_documents=20)

    def broken(change):
        folder = tmp_path / "broken"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(tmp_path / "good", folder)
        change(folder, ExamplesFolder(folder).shard(1))
        with pytest.raises(InputError) as error:
            ExampleStore.open(folder)
        return str(error.value)

    def flip(_, path):
        data = bytearray(path.read_bytes())
        data[-100] ^= 1
        path.write_bytes(data)

    def other_version(folder, _):
        manifest = json.loads((folder / "manifest.json").read_text())
        (folder / "manifest.json").write_text(json.dumps({**manifest, "version": 99}))

    assert "shard-00001.examples: missing; run the mask stage again" in broken(lambda _, path: path.unlink())
    assert "shard-00001.examples: damaged" in broken(flip)
    assert "its header says" in broken(lambda _, path: path.write_bytes(path.read_bytes()[:-64]))
    assert "cannot be read" in broken(lambda _, path: path.write_bytes(b""))
    assert "not a shard of examples" in broken(lambda _, path: path.write_bytes(b"hello\n" * 40))
    assert "manifest.json: missing" in broken(lambda folder, _: (folder / "manifest.json").unlink())
    assert "found version 99" in broken(other_version)
