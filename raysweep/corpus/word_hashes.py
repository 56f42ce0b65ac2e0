"""Splits texts into words for the search for near duplicates, and hashes each word; compiled by numba.

Words are lower-case letters and digits, without apostrophes; in scripts without spaces each character is a word.
"""

import numpy as np
import numpy.typing as npt

from raysweep.readers.compiled import kernel

Bytes = npt.NDArray[np.uint8]
Hashes = npt.NDArray[np.uint32]
Longs = npt.NDArray[np.int64]

_PRIME = np.uint64(1099511628211)
_BASIS = np.uint64(14695981039346656037)
_MIX = np.uint64(0x9E3779B97F4A7C15)
_HIGH = np.uint64(32)
_NONE = np.uint64(0)


@kernel
def _wide_character(text: Bytes, place: int, end: int) -> tuple[int, bool, bool]:
    """Classify a character that takes three or four bytes in UTF-8.

    Returns:
        The number of its bytes; whether it belongs to a script without spaces, as in `masking.languages`; whether it is
        East Asian punctuation, which separates words.
    """
    if text[place] >= 0xF0:
        if place + 3 >= end:
            return 1, False, False
        code = (
            (text[place] & 7) << 18 | (text[place + 1] & 63) << 12 | (text[place + 2] & 63) << 6 | text[place + 3] & 63
        )
        return 4, 0x20000 <= code <= 0x323AF, False
    if place + 2 >= end:
        return 1, False, False
    code = (text[place] & 15) << 12 | (text[place + 1] & 63) << 6 | text[place + 2] & 63
    if 0x3000 <= code <= 0x303F:
        is_apart = 0x3005 <= code <= 0x3007 or 0x3031 <= code <= 0x3035
        return 3, is_apart, not is_apart
    is_apart = (
        0x0E00 <= code <= 0x0EFF  # Thai, Lao
        or 0x1000 <= code <= 0x109F  # Burmese
        or 0x1780 <= code <= 0x17FF  # Khmer
        or 0x2E80 <= code <= 0x2FFF  # radicals
        or (0x3040 <= code <= 0x31FF and code != 0x30FB)  # kana; a middle dot separates
        or 0x3400 <= code <= 0x4DBF
        or 0x4E00 <= code <= 0x9FFF
        or 0xA9E0 <= code <= 0xA9FF
        or 0xAA60 <= code <= 0xAA7F
        or 0xF900 <= code <= 0xFAFF
    )
    return 3, is_apart, code == 0x30FB


@kernel
def hash_words(text: Bytes, ends: Longs, words: Hashes, counts: Longs) -> int:
    """Hash all words, in order; returns the number of words.

    Args:
        text: all texts in UTF-8, concatenated.
        ends: (D + 1,) the offset of each text's first byte, and the end of the last text.
        words: output; must have room for half as many words as there are bytes, and one more for each text.
        counts: (D,) output, the number of words of each text.
    """
    written = 0
    for document in range(len(counts)):
        first = written
        state = _NONE
        place, end = ends[document], ends[document + 1]
        while place < end:
            byte = text[place]
            step, is_word, is_skipped = 1, False, False
            if 65 <= byte <= 90:
                byte, is_word = byte + 32, True
            elif 97 <= byte <= 122 or 48 <= byte <= 57:
                is_word = True
            elif byte == 39:
                is_skipped = True
            elif byte == 0xE2 and place + 2 < end and text[place + 1] == 0x80:
                # General punctuation: quotes, dashes, the ellipsis; the single quotes are apostrophes.
                step = 3
                is_skipped = text[place + 2] == 0x98 or text[place + 2] == 0x99
            elif byte >= 0xE0:
                step, is_apart, is_separator = _wide_character(text, place, end)
                if is_apart and state != _NONE:
                    words[written] = np.uint32((state * _MIX) >> _HIGH)
                    written += 1
                    state = _NONE
                if not is_separator:
                    for part in text[place : place + step]:
                        state = ((_BASIS if state == _NONE else state) ^ np.uint64(part)) * _PRIME
                # A character of a script without spaces is a whole word, which ends here.
                is_skipped = not (is_apart or is_separator)
            elif byte >= 128:
                is_word = True
            if is_word:
                state = ((_BASIS if state == _NONE else state) ^ np.uint64(byte)) * _PRIME
            elif not is_skipped and state != _NONE:
                words[written] = np.uint32((state * _MIX) >> _HIGH)
                written += 1
                state = _NONE
            place += step
        if state != _NONE:
            words[written] = np.uint32((state * _MIX) >> _HIGH)
            written += 1
        counts[document] = written - first
    return written


@kernel
def hash_sequences(words: Hashes, starts: Longs, hashes: npt.NDArray[np.uint64]) -> None:
    """Write a 64-bit hash of each text's sequence of words; the values of texts without words do not change."""
    for text in range(len(hashes)):
        first, end = starts[text], starts[text + 1]
        if end > first:
            state = _BASIS
            for place in range(first, end):
                state = (state ^ np.uint64(words[place])) * _PRIME
                state = (state ^ (state >> _HIGH)) * _MIX
            hashes[text] = state
