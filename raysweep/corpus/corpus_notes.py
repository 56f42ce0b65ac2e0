"""Notes on a corpus: oddities that a person should check, counted over the documents kept.  No note stops a run."""

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from raysweep.readers.compiled import kernel

CELL_LIMIT = 32_767  # characters of a cell in Excel, where a longer text is cut
LARGE_SHARE = 0.1
NOT_A_VALUE = ("nan", "na", "n/a", "#n/a", "null", "none")

_LISTED = "'nan', 'NA', 'N/A', 'null' or 'none'"
_MOJIBAKE = r"[ÂÃ][\x{80}-\x{BF}€‚ƒ„…†‡ˆ‰Š‹ŒŽ‘’“”•–—˜™š›œžŸ]|â€|ï¿½|\x{FFFD}"
"""UTF-8 that was decoded as Latin-1 or Windows-1252, and the Unicode replacement character."""
_PATTERNS = {
    b"\xc3\xef": (
        _MOJIBAKE,
        "texts have characters such as 'Ã©' or '\N{REPLACEMENT CHARACTER}': read with the wrong encoding?",
    ),
    b"<": (r"</?[A-Za-z][^<>]{0,200}>", "texts have markup such as <br>; data.clean: true unwraps it"),
    b"&": (r"&(?:[a-z]{2,8}|#[0-9]{1,6});", "texts have entities such as &amp;; data.clean: true unwraps them"),
    b"\\": (r'\\"|\A\{\\rtf', 'texts have quotes after a backslash (\\"), or are RTF'),
}
"""Bytes of which a matching text has at least one → the regular expression (RE2) and the note on matching texts."""
_ODDITIES = (
    f"texts are {_LISTED}: a missing value written as text?",
    *(words for _, words in _PATTERNS.values()),
    f"texts have exactly {CELL_LIMIT:,} characters: cut by Excel?",
    f"documents have {_LISTED} as first language",
    f"documents have {_LISTED} as learner: each such word counts as one writer",
)
MARKUP_SIGNS = 0b110
"""The bits that `find_signs` sets for `<` and `&`."""


def find_oddities(documents: pa.Table) -> npt.NDArray[np.uint8]:
    """Find the oddities of each document, as bits: bit n stands for the n-th of `_ODDITIES`."""
    texts = documents["text"]
    signs = find_signs(texts)
    masks = [are_not_values(texts)]
    # Regular expressions over all texts would take ten times as long.
    for sign, (pattern, _) in enumerate(_PATTERNS.values()):
        masks.append((signs & (1 << sign)) > 0)
        masks[-1][masks[-1]] = _mask(pc.match_substring_regex(texts.filter(pa.array(masks[-1])), pattern))
    is_cut = _mask(pc.greater_equal(pc.binary_length(texts), CELL_LIMIT))
    is_cut[is_cut] = _mask(pc.equal(pc.utf8_length(texts.filter(pa.array(is_cut))), CELL_LIMIT))
    masks += [is_cut, are_not_values(documents["l1"]), are_not_values(documents["learner"])]
    bits: npt.NDArray[np.uint8] = np.packbits(masks, axis=0, bitorder="little")[0]
    return bits


def note_oddities(
    oddities: npt.NDArray[np.uint8], learners: npt.NDArray[np.int64] | None, most_alike: int = 1
) -> dict[str, int]:
    """Count the documents of each note; notes that concern no document are left out.

    Args:
        oddities: the bits of each document, from `find_oddities`.
        learners: a code for each document's learner, if all are known.
        most_alike: number of documents with the most frequent text.
    """
    noted = {words: int(np.count_nonzero(oddities & (1 << bit))) for bit, words in enumerate(_ODDITIES)}
    if learners is not None:
        counts = np.bincount(learners)
        most, distinct = int(counts.max()), np.count_nonzero(counts)
        is_large = distinct > 1 and most >= LARGE_SHARE * len(learners)
        noted["documents are by one learner, a tenth of all or more"] = most if is_large else 0
        noted["documents are all by one learner"] = len(learners) if distinct == 1 else 0
    if most_alike > max(1.0, LARGE_SHARE * len(oddities)):
        noted["documents have one and the same text, more than a tenth of all"] = most_alike
    return {words: count for words, count in noted.items() if count}


def are_not_values(cells: pa.ChunkedArray) -> npt.NDArray[np.bool_]:
    """Tell which cells hold a word for a missing value; nulls do not."""
    is_none = _mask(pc.fill_null(pc.less(pc.binary_length(cells), 16), False))
    plain = pc.utf8_lower(pc.utf8_trim_whitespace(cells.filter(pa.array(is_none))))
    is_none[is_none] = _mask(pc.is_in(plain, pa.array(NOT_A_VALUE, pa.large_string())))
    return is_none


def _mask(values: pa.ChunkedArray) -> npt.NDArray[np.bool_]:
    return np.array(values.to_numpy(), dtype=np.bool_)


def find_signs(texts: pa.ChunkedArray) -> npt.NDArray[np.uint8]:
    """Find for each text the `_PATTERNS` of which it contains a byte, as bits: bit n stands for the n-th pattern."""
    bits = np.zeros(256, dtype=np.uint8)
    for sign, some in enumerate(_PATTERNS):
        bits[list(some)] |= np.uint8(1 << sign)
    parts = [np.zeros(0, dtype=np.uint8)]
    for chunk in texts.chunks:
        _, offsets, data = chunk.buffers()
        begins = np.frombuffer(offsets, dtype=np.int64)[chunk.offset : chunk.offset + len(chunk) + 1]
        signs = np.zeros(len(chunk), dtype=np.uint8)
        _collect_bits(np.frombuffer(data or b"", dtype=np.uint8), begins, bits, signs)
        parts.append(signs)
    return np.concatenate(parts)


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
