"""Finds sentences and words in languages other than English.

Punkt has models of abbreviations for 18 languages.  For all other languages sentencex finds the sentences, with rules
for 244 languages.  Words follow the rules of the Penn Treebank in every language, as in NLTK; in scripts without spaces
each character is a word, together with its marks (vowel signs, tones).
"""

import unicodedata
from functools import cache

import numpy as np
from sentencex import get_sentence_boundaries

from raysweep.masking.characters import SPACE, Classes, Codes, Offsets

ENGLISH = "en"
PUNKT_MODELS = {
    "en": "english", "cs": "czech", "da": "danish", "de": "german", "el": "greek", "es": "spanish", "et": "estonian",
    "fi": "finnish", "fr": "french", "it": "italian", "ml": "malayalam", "nb": "norwegian", "nl": "dutch",
    "nn": "norwegian", "no": "norwegian", "pl": "polish", "pt": "portuguese", "ru": "russian", "sl": "slovene",
    "sv": "swedish", "tr": "turkish",
}  # fmt: skip
"""ISO 639 code → name of the Punkt model."""
_WITHOUT_SPACES = (
    (0x0E00, 0x0EFF), (0x1000, 0x109F), (0x1780, 0x17FF), (0x2E80, 0x2FFF), (0x3005, 0x3007), (0x3031, 0x3035),
    (0x3040, 0x31FF), (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xA9E0, 0xA9FF), (0xAA60, 0xAA7F), (0xF900, 0xFAFF),
    (0xFF66, 0xFF9F), (0x20000, 0x323AF),
)  # fmt: skip
"""Thai, Lao, Burmese, Khmer, Han and kana."""
_FOLLOWING_VOWELS = (0x0E30, 0x0E32, 0x0E33, 0x0EB0, 0x0EB2)
"""Thai and Lao vowels after a consonant: letters in Unicode, but part of the consonant's syllable."""


def find_sentences_by_rules(
    codes: Codes, starts: Offsets, ends: Offsets, classes: Classes, language: str
) -> tuple[Offsets, Offsets, Offsets]:
    """Find the sentences of paragraphs with sentencex; arguments and results are like those of `find_sentences`."""
    pointers = np.zeros(len(starts) + 1, dtype=np.int64)
    sentences: list[tuple[int, int]] = []
    for number, (start, end) in enumerate(zip(starts.tolist(), ends.tolist(), strict=True)):
        paragraph = codes[start:end].tobytes().decode("utf-32-le", "surrogatepass")
        clean = paragraph.encode("utf-8", "replace").decode("utf-8")  # same length, but no lone surrogates
        for boundary in get_sentence_boundaries(language, clean):
            first, last = start + boundary["start_index"], start + boundary["end_index"]
            while first < last and classes[codes[first]] & SPACE:
                first += 1
            while last > first and classes[codes[last - 1]] & SPACE:
                last -= 1
            if last > first:
                sentences.append((first, last))
        pointers[number + 1] = len(sentences)
    bounds = np.array(sentences, dtype=np.int64).reshape(-1, 2)
    return pointers, bounds[:, 0].copy(), bounds[:, 1].copy()


def split_words_without_spaces(
    codes: Codes, pointers: Offsets, starts: Offsets, ends: Offsets
) -> tuple[Offsets, Offsets, Offsets]:
    """Make each character of a script without spaces a word; words without such characters stay as they are.

    Args:
        pointers, starts, ends: the words, as returned by `find_words`.
    """
    is_apart, is_mark = _tables()
    counts = np.ones(len(starts), dtype=np.int64)
    cuts: list[np.ndarray] = []
    for number, (start, end) in enumerate(zip(starts.tolist(), ends.tolist(), strict=True)):
        word = codes[start:end]
        apart = is_apart[word]
        if not apart.any():
            cuts.append(np.array([start], dtype=np.int64))
            continue
        begins = apart & ~is_mark[word]
        begins[1:] |= apart[:-1] & ~apart[1:] & ~is_mark[word][1:]
        begins[0] = True
        places = start + np.flatnonzero(begins)
        counts[number] = len(places)
        cuts.append(places)
    firsts = np.concatenate([*cuts, np.zeros(0, dtype=np.int64)])
    total = np.concatenate((np.zeros(1, dtype=np.int64), np.cumsum(counts)))
    lasts = np.append(firsts[1:], 0)
    lasts[total[1:] - 1] = ends
    return total[pointers], firsts, lasts


@cache
def _tables() -> tuple[np.ndarray, np.ndarray]:
    """Tell for every code point whether its script has no spaces, and whether it belongs to the character before it."""
    size = 0x110000
    is_apart, is_mark = np.zeros(size, dtype=np.bool_), np.zeros(size, dtype=np.bool_)
    for first, last in _WITHOUT_SPACES:
        is_apart[first : last + 1] = True
    for code in np.flatnonzero(is_apart).tolist():
        is_mark[code] = unicodedata.category(chr(code)) in ("Mn", "Mc") or code in _FOLLOWING_VOWELS
    return is_apart, is_mark
