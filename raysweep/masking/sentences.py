"""Finds the sentences of paragraphs.

A full stop, question mark or exclamation mark is a candidate for the end of a sentence if space or closing
punctuation follows.  Question and exclamation marks always end a sentence, and so does a full stop after a
plain word that is not an abbreviation.  A kernel decides these cases, which are nine in ten; Punkt (Kiss and Strunk
2006) with its model of the language decides the others (abbreviations, initials, numbers, ellipses), and its decisions
are cached by context.  Closing quotes and brackets after the mark belong to the sentence.
"""

from functools import cache

import numpy as np
import numpy.typing as npt
from punkt import PunktSentenceTokenizer, load_model

from raysweep.masking.characters import PUNKT_CLOSING, PUNKT_SINGLE, SPACE, Classes, Codes, Offsets
from raysweep.masking.kernels import kernel

ENDS, DOES_NOT_END, ASK = 1, 0, 2
_MAX_CACHED_DECISIONS = 200_000


def find_sentences(
    codes: Codes, starts: Offsets, ends: Offsets, classes: Classes, model: str = "english"
) -> tuple[Offsets, Offsets, Offsets]:
    """Find the sentences of many paragraphs.

    Args:
        codes: code points of all documents.
        starts, ends: the range of each paragraph in `codes`, without surrounding space.
        model: name of the Punkt model.

    Returns:
        The first sentence of each paragraph and the end of the last one (one more entry than paragraphs), and the start
        and end of each sentence in `codes`.
    """
    candidates = _find_candidates(codes, starts, ends, classes, _plain_exceptions(model))
    owner, position, context_start, context_end, next_token, decision = candidates
    for index in np.flatnonzero(decision == ASK):
        context = codes[context_start[index] : context_end[index]].tobytes().decode("utf-32-le", "surrogatepass")
        decision[index] = _decide(context, model)
    return _cut_sentences(codes, starts, ends, classes, owner, position, next_token, decision)


_decisions: dict[tuple[str, str], int] = {}


def _decide(context: str, model: str) -> int:
    """Decide whether a sentence ends inside `context`: the word before a mark, the mark, and the next word."""
    known = _decisions.get((model, context))
    if known is None:
        if len(_decisions) >= _MAX_CACHED_DECISIONS:
            _decisions.clear()
        # The last token is needed only to judge the token before it.
        *tokens, _ = _punkt(model).annotated_tokens(context)
        known = _decisions[model, context] = ENDS if any(token.sentbreak for token in tokens) else DOES_NOT_END
    return known


@cache
def _punkt(model: str) -> PunktSentenceTokenizer:
    return PunktSentenceTokenizer(load_model(model))


@cache
def _plain_exceptions(model: str) -> npt.NDArray[np.uint64]:
    """Return the sorted hashes of the plain words after which Punkt must decide about a full stop."""
    parameters = _punkt(model).params
    words = parameters.abbrev_types | {first for first, _ in parameters.collocations}
    return np.unique(np.array([_hash_word(word) for word in words], dtype=np.uint64))


def _hash_word(word: str) -> int:
    value = 0xCBF29CE484222325
    for code in map(ord, word):
        value = ((value ^ code) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return value


@kernel
def _is_plain_word_end(codes: Codes, start: int, stop: int, exceptions: npt.NDArray[np.uint64]) -> bool:
    """Tell whether codes[start:stop] consists of two or more ASCII letters and is not an abbreviation."""
    if stop - start < 2:
        return False
    value = np.uint64(0xCBF29CE484222325)
    for i in range(start, stop):
        lower = codes[i] | np.uint32(32)
        if lower < 97 or lower > 122:
            return False
        value = (value ^ np.uint64(lower)) * np.uint64(0x100000001B3)
    low, high = 0, len(exceptions)
    while low < high:
        middle = (low + high) // 2
        if exceptions[middle] < value:
            low = middle + 1
        else:
            high = middle
    return low == len(exceptions) or exceptions[low] != value


@kernel
def _find_candidates(
    codes: Codes, starts: Offsets, ends: Offsets, classes: Classes, exceptions: npt.NDArray[np.uint64]
) -> tuple[Offsets, Offsets, Offsets, Offsets, Offsets, npt.NDArray[np.uint8]]:
    """Find every position where a sentence may end, with its context and, in clear cases, the decision."""
    room = 0
    for p in range(len(starts)):
        for i in range(starts[p], ends[p]):
            if codes[i] == 46 or codes[i] == 63 or codes[i] == 33:
                room += 1
    owner = np.empty(room, np.int64)
    position = np.empty(room, np.int64)
    context_start = np.empty(room, np.int64)
    context_end = np.empty(room, np.int64)
    next_token = np.empty(room, np.int64)
    decision = np.empty(room, np.uint8)
    count = 0
    for p in range(len(starts)):
        first, end = starts[p], ends[p]
        word_start, word_stop = int(first), int(first)
        pending = False
        for i in range(first, end - 1):
            code = codes[i]
            if not (code == 46 or code == 63 or code == 33):
                continue
            follower, after = -1, int(i + 2)
            if not classes[codes[i + 1]] & PUNKT_SINGLE:
                if not classes[codes[i + 1]] & SPACE:
                    continue
                follower = int(i + 1)
                while classes[codes[follower]] & SPACE:
                    follower += 1
                after = follower
                while after < end and not classes[codes[after]] & SPACE:
                    after += 1
            # The preceding word begins after ASCII space, or is the word of the previous candidate.
            back = i - 1
            while back > word_stop and not (codes[back] == 32 or 9 <= codes[back] <= 13):
                back -= 1
            begin = int(back + 1 if back > word_stop else word_start)
            # A candidate inside the word of the next candidate is part of a run such as "?!".
            if pending and word_stop > begin:
                count -= 1
            owner[count] = p
            position[count] = i
            context_start[count] = begin
            context_end[count] = after
            next_token[count] = follower
            plain = code != 46 or _is_plain_word_end(codes, begin, i, exceptions)
            decision[count] = ENDS if plain else ASK
            count += 1
            pending = True
            word_start, word_stop = begin, int(i)
    return (
        owner[:count],
        position[:count],
        context_start[:count],
        context_end[:count],
        next_token[:count],
        decision[:count],
    )


@kernel
def _closing_run(codes: Codes, start: int, end: int, classes: Classes) -> tuple[int, int]:
    """Find closing quotes and brackets at the start of a piece that belong to the preceding sentence.

    Returns the end of this run and the end of the space after it; both are `start` if there is no run.
    """
    i = start
    while i < end and classes[codes[i]] & PUNKT_CLOSING:
        i += 1
        if i == end:
            return i, i
        if classes[codes[i]] & SPACE:
            after = i
            while after < end and classes[codes[after]] & SPACE:
                after += 1
            return i, after
        if i + 1 < end and codes[i] == 45 and codes[i + 1] == 45:
            return i, i
    return start, start


@kernel
def _cut_sentences(
    codes: Codes,
    starts: Offsets,
    ends: Offsets,
    classes: Classes,
    owner: Offsets,
    position: Offsets,
    next_token: Offsets,
    decision: npt.NDArray[np.uint8],
) -> tuple[Offsets, Offsets, Offsets]:
    pointers = np.zeros(len(starts) + 1, np.int64)
    sentence_start = np.empty(len(starts) + len(owner), np.int64)
    sentence_end = np.empty(len(starts) + len(owner), np.int64)
    count = 0
    c = 0
    for p in range(len(starts)):
        begin = starts[p]
        while c < len(owner) and owner[c] == p:
            if decision[c] == ENDS:
                stop = position[c] + 1
                following = next_token[c] if next_token[c] >= 0 else stop
                # The next piece ends at the next mark that ends a sentence.
                piece_end = ends[p]
                for d in range(c + 1, len(owner)):
                    if owner[d] != p:
                        break
                    if decision[d] == ENDS:
                        piece_end = position[d] + 1
                        break
                run_end, after = _closing_run(codes, following, piece_end, classes)
                if run_end > following:
                    stop = run_end
                if stop > begin:
                    sentence_start[count] = begin
                    sentence_end[count] = stop
                    count += 1
                begin = after
            c += 1
        if ends[p] > begin:
            sentence_start[count] = begin
            sentence_end[count] = ends[p]
            count += 1
        pointers[p + 1] = count
    return pointers, sentence_start[:count], sentence_end[:count]
