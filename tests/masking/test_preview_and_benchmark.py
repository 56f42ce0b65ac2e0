"""What a person sees of examples, and of their speed."""

import numpy as np
import pytest

from raysweep.config.data_settings import MaskingConfig
from raysweep.errors import InputError
from raysweep.masking.masking_benchmark import benchmark_masking, read_texts
from raysweep.masking.original_shape import ROW_TOKENS, assemble, make_rows
from raysweep.masking.preview import preview_example
from raysweep.masking.vocabulary import Kind, gpt2


def test_a_preview_shows_blanks_and_answers(store_of):
    """The pieces of text have roles, and blanks show their kind."""
    text = "I like green tea. It is hot."
    store = store_of([text], [[[(int(Kind.WORD), 7, 5), (int(Kind.SENTENCE), 18, 10)]]], MaskingConfig())
    assert preview_example(store, 0) == [
        ("I like", "context"),
        ("[word]", "blank"),
        (" tea.", "context"),
        ("[sentence]", "blank"),
        ("→", "start"),
        (" green", "answer"),
        ("■", "end"),
        (" It is hot.", "answer"),
        ("■", "end"),
    ]


def test_the_mask_benchmark_measures_every_part_and_its_baseline(texts):
    """Numbers of a run on this machine; how large they are is for the machine to say."""
    measured = benchmark_masking(texts, assembly_s=0.05, like_original_shape=True)
    assert measured["documents"] == len(texts)
    assert measured["ratio_to_yardstick"] == pytest.approx(
        measured["documents_per_s"] / measured["yardstick_documents_per_s"]
    )
    assert set(measured["documents_per_s_by_phase"]) == {"read", "segment", "tokenise", "sample", "encode", "write"}
    assert measured["assembled_examples_per_s"] > 0
    assert measured["store_bytes"] > 0
    ours, peer = measured["examples_per_s"], measured["original_shape_examples_per_s"]
    assert 0 < measured["ratio_to_original_shape"] < ours / peer, "assembling counts too: the peer's rows are assembled"


def test_the_baseline_makes_the_same_example_from_a_mask(store_of):
    """If it did not, its speed would say nothing about ours; spans that share a token drop the example."""
    text, mask = "I like green tea. It is hot.", ((Kind.WORD, 7, 12), (Kind.SENTENCE, 18, 28))
    store = store_of([text], [[[(int(kind), begin, end - begin) for kind, begin, end in mask]]], MaskingConfig())
    encoding = gpt2().plain.encode(text, add_special_tokens=False)
    assert assemble(encoding.ids, encoding.offsets, mask, gpt2()) == store.assemble([0]).ids_BT[0].tolist()
    assert assemble(encoding.ids, encoding.offsets, ((Kind.WORD, 8, 9), (Kind.WORD, 10, 11)), gpt2()) is None


def test_the_baseline_masks_according_to_the_policy():
    """A document gets as many distinct masks as configured; every row has a start token, and an end for each blank."""
    text = "One two three four five. Six seven eight!\nNine ten eleven?"
    rows = make_rows([text, "", " \n"], MaskingConfig(examples_per_document=16))
    assert rows.shape == (16, ROW_TOKENS)
    assert len(np.unique(rows, axis=0)) == 16
    vocabulary = gpt2()
    assert (np.count_nonzero(rows == vocabulary.start_of_infill, axis=1) == 1).all()
    ends = np.count_nonzero(rows == vocabulary.end_of_infill, axis=1)
    assert (ends == np.count_nonzero(rows >= vocabulary.first_blank, axis=1)).all()
    whole = make_rows([text], MaskingConfig(document=1.0))
    assert (whole[:, 0] == vocabulary.first_blank).all()
    assert len(whole) == 1, "there is one such mask"


def test_benchmark_texts_are_read_from_a_csv_with_quoted_newlines(tmp_path):
    """Texts may contain newlines, commas and quotes."""
    (tmp_path / "corpus.csv").write_text('id,text\n1,"a\nb, ""c"""\n2,d\n', encoding="utf-8")
    assert read_texts(tmp_path / "corpus.csv", "text") == ['a\nb, "c"', "d"]
    assert read_texts(tmp_path / "corpus.csv", "text", rows=1) == ['a\nb, "c"']
    with pytest.raises(InputError, match="a column 'essay'"):
        read_texts(tmp_path / "corpus.csv", "essay")
