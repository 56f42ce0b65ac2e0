"""Hashes of texts, a column at a time, against those of one text; and the file that holds what is too large."""

from hashlib import blake2b

import numpy as np
import pyarrow as pa

from raysweep.corpus.normalising import normalise_text
from raysweep.corpus.spool import Spool
from raysweep.corpus.text_hashes import keyed_hashes, normalised_hashes, number_by_appearance, plain_hashes

TEXTS = [
    "",
    " ",
    "A  b\tC",
    "a b c",
    "\x1c a\x1fB\x0bc\r\n",
    "É",
    "e\u0301",
    "ﬁ x",
    "x" * 1000,
    "a\x00b",
    "\u2003Straße ",
    "STRASSE",
]


def array_of(texts):
    """A slice, whose offsets do not begin at 0."""
    return pa.array(["before", *texts], pa.large_string()).slice(1)


def test_normalising_a_column_equals_normalising_each_text():
    """Every white space and capital of ASCII, and what only Unicode's rules tell."""
    texts = [*TEXTS, *(f"{chr(code)}Q {chr(code)}{chr(code)} z{chr(code)}" for code in range(256))]
    expected = [blake2b(normalise_text(text).encode(), digest_size=8, key=b"k").digest() for text in texts]
    assert keyed_hashes(array_of(texts), b"k").tobytes() == b"".join(expected)
    codes = np.unique([normalise_text(text) for text in texts], return_inverse=True)[1]
    numbers = np.unique(normalised_hashes(array_of(texts)), return_inverse=True)[1]
    assert len(set(zip(codes.tolist(), numbers.tolist(), strict=True))) == len(set(codes.tolist())) == numbers.max() + 1


def test_texts_that_differ_in_any_byte_have_different_hashes():
    """Each of 20,000: lengths around the eight bytes of a step, one byte changed, zeros at the end."""
    texts = [f"{n:0{width}}" for width in range(4, 20) for n in range(1200)]
    texts += ["a" * length + "\0" * zeros for length in range(20) for zeros in range(1, 20)]
    assert len(set(plain_hashes(array_of(texts)).tolist())) == len(set(texts)) > 15_000


def test_values_are_numbered_in_order_of_first_appearance():
    """The numbers do not depend on the values themselves."""
    codes, firsts = number_by_appearance(np.array([9, 2, 9, 5, 2, 9], dtype=np.uint64))
    assert codes.tolist() == [0, 1, 0, 2, 1, 0]
    assert firsts.tolist() == [0, 1, 3]


def test_spooled_arrays_and_tables_are_read_back_unchanged(tmp_path):
    """Arrays, tables and the whole as one array; the file has no name."""
    spool = Spool(tmp_path / "new")
    place = spool.append(np.arange(12, dtype=np.uint32).reshape(3, 4)[:, 1:3])
    empty = spool.append(np.zeros(0, dtype=np.uint64))
    last = spool.append(np.arange(4, dtype=np.uint32))
    assert spool.read(place, np.uint32).tolist() == [1, 2, 5, 6, 9, 10]
    assert spool.read(empty, np.uint64).tolist() == []
    whole = spool.mapped(np.uint32)
    spool.release()
    assert whole.tolist() == [1, 2, 5, 6, 9, 10, 0, 1, 2, 3]
    assert spool.read(last, np.uint32).tolist() == [0, 1, 2, 3]
    assert list((tmp_path / "new").iterdir()) == []
