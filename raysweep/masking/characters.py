"""Turns texts into arrays of code points, and classifies code points.

The kernels of this room work on one array for many documents.  Classes follow Python's own tables
(`str.isspace`, `re`'s `\\w` and `\\d`).  The classes of GPT-2's pattern are defined only below `GPT2_KNOWN`, where
a test compares them with the library; documents with other characters (emoji, CJK, curly quotes) are tokenised
by the library, which is slower.
"""

import re
import sys
import unicodedata
from collections.abc import Sequence
from functools import cache

import numpy as np
import numpy.typing as npt

SPACE = 1
"""`str.isspace`, which is also `\\s`."""
WORD = 2
"""`\\w`."""
DIGIT = 4
"""`\\d`."""
GPT2_LETTER = 8
"""`\\p{L}`."""
GPT2_NUMBER = 16
"""`\\p{N}`."""
GPT2_SPACE = 32
"""Unicode's White_Space: unlike Python's, without the separators U+001C to U+001F."""
ENDS_LINE = 64
"""A line boundary of `str.splitlines`."""
PUNKT_SINGLE = 128
"""In Punkt, a character that is never part of the preceding word."""
PUNKT_CLOSING = 256
"""In Punkt, a character that belongs to the end of the preceding sentence."""
TREEBANK_ALONE = 512
"""In the Penn Treebank, a character that is always a separate word."""
TREEBANK_LATE = 2048
"""The `TREEBANK_ALONE` characters that are separated after the rules for apostrophes."""
TREEBANK_TAIL = 1024
"""In the Penn Treebank, a character that may follow the full stop of a sentence."""

_ROLES = {
    ENDS_LINE: "\n\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029",
    PUNKT_SINGLE: ")\";}]*:@'({[‘’“”«»?!",
    PUNKT_CLOSING: "\"')]}‘’“”«»",
    TREEBANK_ALONE: ";@#$%&\u2012\u2013\u2014\u2015?!*[](){}<>«“‘„»”’",
    TREEBANK_LATE: "*[](){}<>»”’",
    TREEBANK_TAIL: "])}>\"'»”’ ",
}

GPT2_KNOWN = 0x2000
"""Code points below this have exact GPT-2 classes."""

Codes = npt.NDArray[np.uint32]
Offsets = npt.NDArray[np.int64]
Classes = npt.NDArray[np.uint16]


@cache
def character_classes() -> Classes:
    """Compute the class bits of every code point."""
    all_characters = "".join(map(chr, range(sys.maxunicode + 1)))
    classes = np.zeros(sys.maxunicode + 1, dtype=np.uint16)
    for pattern, bit in ((r"\s+", SPACE), (r"\w+", WORD), (r"\d+", DIGIT)):
        for match in re.finditer(pattern, all_characters):
            classes[match.start() : match.end()] |= bit
    for code in range(GPT2_KNOWN):
        category = unicodedata.category(chr(code))
        if category.startswith("L"):
            classes[code] |= GPT2_LETTER
        elif category.startswith("N"):
            classes[code] |= GPT2_NUMBER
        elif chr(code).isspace() and not 0x1C <= code <= 0x1F:
            classes[code] |= GPT2_SPACE
    for role, characters in _ROLES.items():
        classes[[ord(character) for character in characters]] |= role
    return classes


def join_texts(texts: Sequence[str]) -> tuple[Codes, Offsets]:
    """Join texts to one array of code points; also returns the start of each text and the end of the last one."""
    joined = "".join(texts)
    codes = np.frombuffer(joined.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    lengths = np.fromiter(map(len, texts), dtype=np.int64, count=len(texts))
    return codes, np.concatenate((np.zeros(1, dtype=np.int64), np.cumsum(lengths)))
