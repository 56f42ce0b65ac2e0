"""Finds the words of sentences by the Penn Treebank rules, as NLTK's `word_tokenize` does.

The rules are usually written as substitutions that insert spaces.  Here they mark *cuts* between characters
instead, so that every word keeps its offset: `cut[i]` means that a word ends before character i.  A rule that
requires a space accepts a cut.  The rules run in their published order: opening quotes, full stop at the
end, commas and colons, symbols, closing quotes, contractions ("do|n't", "can|not").

Two apostrophes are a quotation mark, like `"`.  (NLTK replaces both by other characters, which the original code
then cannot find in the text, so that it loses the document.)
"""

import numpy as np
import numpy.typing as npt

from raysweep.masking.characters import (
    DIGIT,
    SPACE,
    TREEBANK_ALONE,
    TREEBANK_LATE,
    TREEBANK_TAIL,
    WORD,
    Classes,
    Codes,
    Offsets,
)
from raysweep.masking.kernels import kernel

APOSTROPHE, QUOTE, STOP, BLANK, BACKTICK = 39, 34, 46, 32, 96

Cuts = npt.NDArray[np.uint8]
CUT = 1
OPENING = 2
"""A cut before an opening quote, which the rule for the final stop treats differently from a closing quote."""
LATE = 3
"""A cut next to brackets, asterisks and closing quotes; made after the rule for apostrophes before a space."""

_PAIRS = ("can|not", "d|'ye", "gim|me", "gon|na", "got|ta", "lem|me", "more|'n", "wan|na")
_PAIR_CODES = np.zeros((len(_PAIRS), 8), dtype=np.uint32)
_PAIR_SIZES = np.zeros((len(_PAIRS), 2), dtype=np.int64)
for _row, _pair in enumerate(_PAIRS):
    _left, _right = _pair.split("|")
    _PAIR_CODES[_row, : len(_left + _right)] = [ord(letter) for letter in _left + _right]
    _PAIR_SIZES[_row] = len(_left), len(_left + _right)


def find_words(codes: Codes, starts: Offsets, ends: Offsets, classes: Classes) -> tuple[Offsets, Offsets, Offsets]:
    """Find the words of many sentences.

    Args:
        codes: code points of all documents.
        starts, ends: the range of each sentence in `codes`.

    Returns:
        The first word of each sentence and the end of the last one (one more entry than sentences), and the start and
        end of each word in `codes`.
    """
    return _find_words(codes, starts, ends, classes, _PAIR_CODES, _PAIR_SIZES)


@kernel
def _find_words(
    codes: Codes, starts: Offsets, ends: Offsets, classes: Classes, pairs: Codes, pair_sizes: Offsets
) -> tuple[Offsets, Offsets, Offsets]:
    longest, room = 0, 0
    for s in range(len(starts)):
        longest = max(longest, ends[s] - starts[s])
        room += ends[s] - starts[s]
    pointers = np.zeros(len(starts) + 1, np.int64)
    word_start = np.empty(room, np.int64)
    word_end = np.empty(room, np.int64)
    scratch = np.empty(longest + 2, np.uint8)
    count = 0
    for s in range(len(starts)):
        text = codes[starts[s] : ends[s]]
        n = len(text)
        cut = scratch[: n + 1]
        for i in range(n + 1):
            cut[i] = 0
        cut[0] = cut[n] = 1
        _cut_opening_quotes(text, cut, classes)
        _cut_final_stop(text, cut, classes)
        _cut_symbols(text, cut, classes)
        _cut_closing_quotes(text, cut, classes)
        _cut_contractions(text, cut, classes, pairs, pair_sizes)
        begin = 0
        while begin < n:
            if classes[text[begin]] & SPACE:
                begin += 1
                continue
            stop = begin + 1
            while not cut[stop] and not classes[text[stop]] & SPACE:
                stop += 1
            word_start[count] = starts[s] + begin
            word_end[count] = starts[s] + stop
            count += 1
            begin = stop
        pointers[s + 1] = count
    return pointers, word_start[:count].copy(), word_end[:count].copy()


@kernel
def _cut_opening_quotes(text: Codes, cut: Cuts, classes: Classes) -> None:
    n = len(text)
    i = 0
    while i < n:
        code = text[i]
        if code == 0xAB or code == 0x201C or code == 0x2018 or code == 0x201E:
            cut[i] = cut[i] or 1
            cut[i + 1] = 1
        elif code == BACKTICK:
            stop = i
            while stop < n and text[stop] == BACKTICK:
                stop += 1
            cut[i] = cut[i] or 1
            for pair in range(i + 2, stop, 2):
                cut[pair] = 1
            cut[stop] = 1
            i = stop
            continue
        elif code == QUOTE or (code == APOSTROPHE and i + 1 < n and text[i + 1] == APOSTROPHE):
            size = 1 if code == QUOTE else 2
            opens = i == 0 and code == QUOTE
            if i > 0:
                before = text[i - 1]
                opens = cut[i] or before == BLANK or before == 40 or before == 91 or before == 123 or before == 60
                if before == QUOTE and i != 1:
                    opens = False
            if opens:
                cut[i] = OPENING
                cut[i + size] = 1
                i += size
                continue
        i += 1
    # An opening single quote: 'word, unless it is a separate clitic ('re).
    for i in range(n - 1):
        if text[i] != APOSTROPHE or cut[i] == OPENING:
            continue
        if not classes[text[i + 1]] & WORD or (i > 0 and classes[text[i - 1]] & WORD):
            continue
        if i > 0 and cut[i - 1] == OPENING and text[i - 1] == APOSTROPHE:
            continue
        if not _starts_with_clitic(text, i + 1, classes):
            cut[i + 1] = 1


@kernel
def _starts_with_clitic(text: Codes, i: int, classes: Classes) -> bool:
    """Tell whether re, ve, ll, m, t, s, d or n is a whole word at i, in upper or lower case."""
    n = len(text)
    first = text[i] | np.uint32(32)
    if i + 1 == n or not classes[text[i + 1]] & WORD:
        return bool(first == 109 or first == 116 or first == 115 or first == 100 or first == 110)
    if i + 2 < n and classes[text[i + 2]] & WORD:
        return False
    second = text[i + 1] | np.uint32(32)
    return bool((second == 101 and (first == 114 or first == 118)) or (first == 108 and second == 108))


@kernel
def _cut_final_stop(text: Codes, cut: Cuts, classes: Classes) -> None:
    """Separate the final full stop of a sentence, which only closing quotes, brackets and blanks may follow."""
    i = len(text) - 1
    while i > 0:
        if text[i] == STOP:
            if text[i - 1] != STOP or cut[i]:
                cut[i] = cut[i + 1] = 1
            return
        if not classes[text[i]] & TREEBANK_TAIL or cut[i] == OPENING:
            return
        i -= 1


@kernel
def _cut_symbols(text: Codes, cut: Cuts, classes: Classes) -> None:
    n = len(text)
    skipped = -1
    for i in range(n):
        code = text[i]
        if classes[code] & TREEBANK_ALONE or (code == QUOTE and cut[i] != OPENING):
            value = LATE if code == QUOTE or classes[code] & TREEBANK_LATE else CUT
            cut[i] = cut[i] or value
            cut[i + 1] = cut[i + 1] or value
        elif code == 58 or code == 44:
            # A comma or colon is a word unless a digit follows; the match includes the next character.
            if i + 1 == n:
                cut[i] = 1
            elif i != skipped and not classes[text[i + 1]] & DIGIT:
                cut[i] = cut[i + 1] = 1
                skipped = i + 1
        elif code == STOP and i + 1 < n and text[i + 1] == STOP and (i == 0 or text[i - 1] != STOP):
            stop = i
            while stop < n and text[stop] == STOP:
                stop += 1
            cut[i] = cut[stop] = 1
    i = 0
    while i + 1 < n:
        if text[i] == 45 and text[i + 1] == 45:
            cut[i] = cut[i] or LATE
            cut[i + 2] = cut[i + 2] or LATE
            i += 2
        else:
            i += 1


@kernel
def _is_gap(text: Codes, cut: Cuts, classes: Classes, i: int) -> bool:
    """Tell whether a word ends before i."""
    return i >= len(text) or cut[i] or classes[text[i]] & SPACE


@kernel
def _cut_closing_quotes(text: Codes, cut: Cuts, classes: Classes) -> None:
    n = len(text)
    i = 0
    while i + 1 < n:
        if text[i] == APOSTROPHE and text[i + 1] == APOSTROPHE and not cut[i + 1]:
            cut[i] = cut[i] or 1
            cut[i + 2] = cut[i + 2] or 1
            i += 2
        else:
            i += 1
    for i in range(1, n - 1):
        # An apostrophe that ends a word; applied before the rule for clitics, which may precede it ("x's'").
        if text[i] == APOSTROPHE and text[i - 1] != APOSTROPHE and (0 < cut[i + 1] < LATE or text[i + 1] == BLANK):
            cut[i] = cut[i] or 1
    for i in range(1, n):
        # 's, 'm, 'd, and the apostrophe alone.
        if text[i] != APOSTROPHE or cut[i] or text[i - 1] == APOSTROPHE or classes[text[i - 1]] & SPACE:
            continue
        if _is_gap(text, cut, classes, i + 1):
            cut[i] = 1
        elif _is_gap(text, cut, classes, i + 2):
            lower = text[i + 1] | np.uint32(32)
            if lower == 115 or lower == 109 or lower == 100:
                cut[i] = 1
    for i in range(1, n - 2):
        # 'll, 're, 've and n't, all in one case.
        if cut[i] or cut[i + 1] or cut[i + 2] or text[i - 1] == APOSTROPHE or classes[text[i - 1]] & SPACE:
            continue
        a, b, c = text[i], text[i + 1], text[i + 2]
        if a == APOSTROPHE:
            small = (b == 108 and c == 108) or (c == 101 and (b == 114 or b == 118))
            large = (b == 76 and c == 76) or (c == 69 and (b == 82 or b == 86))
            fits = small or large
        else:
            fits = b == APOSTROPHE and ((a == 110 and c == 116) or (a == 78 and c == 84))
        if fits and _is_gap(text, cut, classes, i + 3):
            cut[i] = 1


@kernel
def _cut_contractions(text: Codes, cut: Cuts, classes: Classes, pairs: Codes, pair_sizes: Offsets) -> None:
    n = len(text)
    for i in range(n):
        lower = text[i] | np.uint32(32)
        if lower < 99 or lower > 119 or (i > 0 and classes[text[i - 1]] & WORD and not cut[i]):
            continue
        for row in range(len(pairs)):
            if pairs[row, 0] != lower:
                continue
            left, size = pair_sizes[row]
            fits = i + size <= n
            for k in range(1, size):
                if not fits:
                    break
                code = text[i + k]
                if 65 <= code <= 90:
                    code += np.uint32(32)
                fits = code == pairs[row, k] and not cut[i + k]
            if not fits:
                continue
            after = i + size
            if row == len(pairs) - 1:
                fits = _is_gap(text, cut, classes, after)
            else:
                fits = after == n or cut[after] or not classes[text[after]] & WORD
            if fits:
                cut[i] = cut[i + left] = cut[after] = 1
