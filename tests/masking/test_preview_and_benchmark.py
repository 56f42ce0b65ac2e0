"""What a person sees of examples, and of their speed."""

import pytest

from raysweep.config.data_settings import MaskingConfig
from raysweep.errors import InputError
from raysweep.masking.masking_benchmark import benchmark_masking, read_texts
from raysweep.masking.preview import preview_example
from raysweep.masking.vocabulary import Kind


def test_a_preview_shows_blanks_and_answers(store_of):
    """Pieces of text with their roles, blanks by their kind."""
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
    assert preview_example(store, 0, task="lm") == [(text, "context")]


def test_the_benchmark_measures_every_part_beside_the_yardstick(texts):
    """Numbers of a run on this machine; how large they are is for the machine to say."""
    measured = benchmark_masking(texts, assembly_s=0.05)
    assert measured["documents"] == len(texts)
    assert measured["ratio_to_yardstick"] == pytest.approx(
        measured["documents_per_s"] / measured["yardstick_documents_per_s"]
    )
    assert set(measured["documents_per_s_by_phase"]) == {"read", "segment", "tokenise", "sample", "encode", "write"}
    assert measured["assembled_examples_per_s"] > 0
    assert measured["store_bytes"] > 0


def test_texts_are_read_from_a_csv_with_quoted_newlines(tmp_path):
    """A text may hold lines, commas and quotes."""
    (tmp_path / "corpus.csv").write_text('id,text\n1,"a\nb, ""c"""\n2,d\n', encoding="utf-8")
    assert read_texts(tmp_path / "corpus.csv", "text") == ['a\nb, "c"', "d"]
    assert read_texts(tmp_path / "corpus.csv", "text", rows=1) == ['a\nb, "c"']
    with pytest.raises(InputError, match="a column 'essay'"):
        read_texts(tmp_path / "corpus.csv", "essay")
