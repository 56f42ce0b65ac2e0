"""Normalises ids and texts before they are compared.

Grouping, near duplicates and leak checks all use this normalisation: two learners, or two texts, that only differ
in Unicode form, case, invisible characters or white space are the same.  documents.parquet keeps ids and texts
as they are written.  Document ids are an exception: they are compared as written, because they may differ in case only.
"""

import re
import unicodedata

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Longs = npt.NDArray[np.int64]

_IGNORED = (
    r"\u00ad\u034f\u0600-\u0605\u061c\u06dd\u070f\u0890-\u0891\u08e2\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f"
    r"\u202a-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\U000110bd\U000110cd\U00013430-\U0001343f"
    r"\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
"""Format characters (Cf), variation selectors and the fillers that Unicode defines as ignorable."""
_HIDDEN = re.compile(f"[{_IGNORED}]")
_INVISIBLE = r"\A[\p{Cc}\p{Z}" + re.sub(r"\\[uU]([0-9a-f]+)", r"\\x{\1}", _IGNORED) + r"]*\z"
"""An RE2 pattern that matches a cell of nothing but these characters, control characters and white space."""


def normalise_text(text: str) -> str:
    """Normalise an id or a text for comparison.

    NFKC and case folding; format characters (soft hyphens, zero-width and direction marks) and variation selectors
    removed; white space collapsed to single spaces and stripped.
    """
    if text.isascii():
        return " ".join(text.casefold().split())
    # Case folding can produce text that is not in normal form.
    folded = unicodedata.normalize("NFKC", _HIDDEN.sub("", text)).casefold()
    return " ".join(unicodedata.normalize("NFKC", folded).split())


def bare(cell: str) -> str:
    """Remove ignorable characters, and the white space around a cell."""
    return _HIDDEN.sub("", cell).strip()


def is_invisible(cells: pa.ChunkedArray) -> pa.ChunkedArray:
    """Tell which cells hold nothing but white space, control and ignorable characters."""
    return pc.match_substring_regex(cells, _INVISIBLE)


def normalised_codes(column: pa.ChunkedArray) -> tuple[Longs, list[str]]:
    """Number the distinct normalised values (−1 for a missing value); also returns these values."""
    written = column.combine_chunks().dictionary_encode()
    names = pa.array([normalise_text(name) for name in written.dictionary.to_pylist()], pa.large_string())
    distinct = names.dictionary_encode()
    codes = distinct.indices.take(written.indices)
    return np.asarray(pc.fill_null(codes, -1).to_numpy(), dtype=np.int64), distinct.dictionary.to_pylist()
