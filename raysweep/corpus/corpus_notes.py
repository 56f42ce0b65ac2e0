"""Notes on a corpus: what a person should look at, counted in the documents that are kept.  None stops a run."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from raysweep.corpus.normalising import normalised_codes
from raysweep.readers.compiled import kernel

CELL_LIMIT = 32_767  # characters of a cell in Excel, where a longer text is cut
LARGE_SHARE = 0.1
NOT_A_VALUE = ("nan", "na", "n/a", "#n/a", "null", "none")

_LISTED = "'nan', 'NA', 'N/A', 'null' or 'none'"
_MOJIBAKE = r"[ÂÃ][\x{80}-\x{BF}€‚ƒ„…†‡ˆ‰Š‹ŒŽ‘’“”•–—˜™š›œžŸ]|â€|ï¿½|\x{FFFD}"
"""UTF-8 that was read as Latin-1 or Windows-1252, and the character that stands for an unreadable one."""
_PATTERNS = {
    b"\xc3\xef": (
        _MOJIBAKE,
        "texts have characters such as 'Ã©' or '\N{REPLACEMENT CHARACTER}': read with the wrong encoding?",
    ),
    b"<": (r"</?[A-Za-z][^<>]{0,200}>", "texts have markup such as <br>; data.clean: true unwraps it"),
    b"&": (r"&(?:[a-z]{2,8}|#[0-9]{1,6});", "texts have entities such as &amp;; data.clean: true unwraps them"),
    b"\\": (r'\\"', 'texts have quotes after a backslash (\\")'),
}
"""Bytes of which a text must have one to match; a regular expression (RE2); and what is said of such texts."""
MARKUP_SIGNS = 0b110
"""The bits that `find_signs` sets for `<` and `&`."""


def note_oddities(documents: pa.Table, most_alike: int = 1) -> dict[str, int]:
    """Count oddities, each under what is said of it; those that are not there are left out.

    Args:
        most_alike: documents that the most frequent text has.
    """
    noted = {**dict(_odd_texts(documents["text"])), **dict(_odd_values(documents))}
    if most_alike > max(1.0, LARGE_SHARE * documents.num_rows):
        noted["documents have one and the same text, more than a tenth of all"] = most_alike
    return {words: count for words, count in noted.items() if count}


def _odd_texts(texts: pa.ChunkedArray) -> Iterator[tuple[str, int]]:
    yield f"texts are {_LISTED}: a missing value written as text?", _count_not_values(texts)
    # Regular expressions over all texts would take ten times as long.
    signs = find_signs(texts)
    for sign, (pattern, words) in enumerate(_PATTERNS.values()):
        some = texts.filter(pa.array((signs & (1 << sign)) > 0))
        yield words, _count(pc.match_substring_regex(some, pattern))
    long = texts.filter(pc.greater_equal(pc.binary_length(texts), CELL_LIMIT))
    yield (
        f"texts have exactly {CELL_LIMIT:,} characters: cut by Excel?",
        _count(pc.equal(pc.utf8_length(long), CELL_LIMIT)),
    )


def _odd_values(documents: pa.Table) -> Iterator[tuple[str, int]]:
    yield f"documents have {_LISTED} as first language", _count_not_values(documents["l1"])
    if documents["learner"].null_count < documents.num_rows:
        codes, _ = normalised_codes(documents["learner"])
        most = int(np.bincount(codes[codes >= 0]).max())
        is_large = len(set(codes.tolist())) > 1 and most >= LARGE_SHARE * documents.num_rows
        yield "documents are by one learner, a tenth of all or more", most if is_large else 0
        if len(set(codes.tolist())) == 1:
            yield "documents are all by one learner", documents.num_rows


def _count_not_values(cells: pa.ChunkedArray) -> int:
    short = cells.filter(pc.less(pc.binary_length(cells), 16))
    plain = pc.utf8_lower(pc.utf8_trim_whitespace(short))
    return _count(pc.is_in(plain, pa.array(NOT_A_VALUE, pa.large_string())))


def _count(mask: pa.ChunkedArray) -> int:
    return int(pc.sum(mask).as_py() or 0)


def find_signs(texts: pa.ChunkedArray) -> npt.NDArray[np.uint8]:
    """Tell for each text which of `_PATTERNS` have one of their bytes in it: bit n for the n-th."""
    bits = np.zeros(256, dtype=np.uint8)
    for sign, some in enumerate(_PATTERNS):
        bits[list(some)] |= np.uint8(1 << sign)
    found = [np.zeros(0, dtype=np.uint8)]
    for chunk in texts.chunks:
        _, offsets, data = chunk.buffers()
        begins = np.frombuffer(offsets, dtype=np.int64)[chunk.offset : chunk.offset + len(chunk) + 1]
        signs = np.zeros(len(chunk), dtype=np.uint8)
        _collect_bits(np.frombuffer(data or b"", dtype=np.uint8), begins, bits, signs)
        found.append(signs)
    return np.concatenate(found)


@kernel
def _collect_bits(
    data: npt.NDArray[np.uint8],
    begins: npt.NDArray[np.int64],
    bits: npt.NDArray[np.uint8],
    signs: npt.NDArray[np.uint8],
) -> None:
    for text in range(len(signs)):
        sign = np.uint8(0)
        for place in range(begins[text], begins[text + 1]):
            sign |= bits[data[place]]
        signs[text] = sign
