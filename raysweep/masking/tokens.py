"""Tokenises many documents at once.

GPT-2's tokenizer first splits a text into pieces (a word with the blank before it, a number, a run of punctuation),
then merges bytes within each piece.  Here a kernel finds the pieces; the `tokenizers` library encodes each distinct
piece once, and a cache keeps its ids, because learners repeat their words.  A document with a character beyond
`characters.GPT2_KNOWN` is encoded as a whole by the library, and so are all documents for tokenizers that split texts
in another way.  Both methods give the same ids as `Vocabulary.encode`.
"""

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from raysweep.errors import InputError
from raysweep.masking.characters import (
    GPT2_KNOWN,
    GPT2_LETTER,
    GPT2_NUMBER,
    GPT2_SPACE,
    Classes,
    Codes,
    Offsets,
    character_classes,
    join_texts,
)
from raysweep.masking.kernels import kernel
from raysweep.masking.vocabulary import Vocabulary
from raysweep.storage.printable import shown

MAX_CACHED_PIECES = 1 << 19
"""When the cache holds more pieces, it is emptied before the next batch."""

Tokens = npt.NDArray[np.uint16] | npt.NDArray[np.uint32]
Slots = npt.NDArray[np.int32]


@dataclass(slots=True)
class PieceCache:
    """The token ids of pieces, in a hash table of arrays that kernels can read; the keys are code points."""

    vocabulary: Vocabulary
    ids: Tokens
    slots: Slots = field(default_factory=lambda: np.full(1 << 16, -1, dtype=np.int32))
    """The number of a piece for each hash, or -1."""
    letters: npt.NDArray[np.uint16] = field(default_factory=lambda: np.zeros(0, dtype=np.uint16))
    letter_offsets: Offsets = field(default_factory=lambda: np.zeros(1, dtype=np.int64))
    id_offsets: Offsets = field(default_factory=lambda: np.zeros(1, dtype=np.int64))
    count: int = 0

    def add(self, pieces: Sequence[str]) -> None:
        """Encode and add new pieces, which must be distinct."""
        encodings = self.vocabulary.pieces.encode_batch_fast(list(pieces), add_special_tokens=False)
        ids = [encoding.ids for encoding in encodings]
        codes, offsets = join_texts(pieces)
        flat = np.fromiter((number for row in ids for number in row), dtype=self.ids.dtype)
        lengths = np.fromiter(map(len, ids), dtype=np.int64, count=len(ids))
        self.id_offsets = np.concatenate((self.id_offsets, self.id_offsets[-1] + np.cumsum(lengths)))
        self.ids = np.concatenate((self.ids, flat))
        self.letter_offsets = np.concatenate((self.letter_offsets, self.letter_offsets[-1] + offsets[1:]))
        self.letters = np.concatenate((self.letters, codes.astype(np.uint16)))
        self.count += len(pieces)
        size = len(self.slots)
        while size < 3 * self.count:
            size *= 2
        self.slots = _fill_slots(self.letters, self.letter_offsets, size)


_cache: list[PieceCache] = []
_lock = threading.Lock()


def tokenise(codes: Codes, documents: Offsets, vocabulary: Vocabulary) -> tuple[Tokens, Offsets]:
    """Tokenise many documents.

    Args:
        codes: the code points of all documents.
        documents: the start of each document, and the end of the last one.

    Returns:
        All token ids, and the start of each document in them.

    Raises:
        InputError: the tokens of a document do not decode to its text.
    """
    if not vocabulary.cuts_like_gpt2:
        return _encode_whole(codes, documents, np.arange(len(documents) - 1), vocabulary)
    is_known, pieces, starts, ends = _cut_pieces(codes, documents, character_classes())
    with _lock:
        cache, numbers = _look_up_all(codes, starts, ends, vocabulary)
    whole_ids, whole_offsets = _encode_whole(codes, documents, np.flatnonzero(~is_known), vocabulary)
    return _gather(is_known, pieces, numbers, cache.ids, cache.id_offsets, whole_ids, whole_offsets)


def _look_up_all(codes: Codes, starts: Offsets, ends: Offsets, vocabulary: Vocabulary) -> tuple[PieceCache, Slots]:
    """Look up the number of each piece in the cache, after adding missing pieces."""
    if not _cache or _cache[0].count > MAX_CACHED_PIECES or _cache[0].vocabulary.digest != vocabulary.digest:
        _cache[:] = [PieceCache(vocabulary=vocabulary, ids=np.zeros(0, dtype=vocabulary.id_type))]
    cache = _cache[0]
    numbers = _look_up(codes, starts, ends, cache.slots, cache.letters, cache.letter_offsets)
    missing = np.flatnonzero(numbers < 0)
    if len(missing):
        new = missing[_first_occurrences(codes, starts[missing], ends[missing])]
        cache.add([_text_of(codes, starts[index], ends[index]) for index in new])
        starts, ends = starts[missing], ends[missing]
        numbers[missing] = _look_up(codes, starts, ends, cache.slots, cache.letters, cache.letter_offsets)
    return cache, numbers


def forget_pieces() -> None:
    """Empty the cache, as in a new process.  This affects speed, but never tokens."""
    _cache.clear()


def _text_of(codes: Codes, start: int, end: int) -> str:
    return codes[start:end].tobytes().decode("utf-32-le")


def _encode_whole(codes: Codes, documents: Offsets, chosen: Offsets, vocabulary: Vocabulary) -> tuple[Tokens, Offsets]:
    texts = [_text_of(codes, documents[index], documents[index + 1]) for index in chosen]
    encodings = vocabulary.plain.encode_batch_fast(texts, add_special_tokens=False) if texts else []
    if not vocabulary.cuts_like_gpt2:
        for text, encoding in zip(texts, encodings, strict=True):
            _refuse_loss(text, encoding.ids, vocabulary)
    rows = [np.array(encoding.ids, dtype=vocabulary.id_type) for encoding in encodings]
    offsets = np.zeros(len(rows) + 1, dtype=np.int64)
    np.cumsum([len(row) for row in rows], out=offsets[1:])
    return np.concatenate([*rows, np.zeros(0, dtype=vocabulary.id_type)]), offsets


def _refuse_loss(text: str, ids: Sequence[int], vocabulary: Vocabulary) -> None:
    """Raise if the tokens of a text do not decode to it, because spans are found by counting bytes."""
    spelled, wanted = b"".join(vocabulary.contents[number] for number in ids), text.encode()
    if spelled != wanted:
        at = next((place for place, (a, b) in enumerate(zip(spelled, wanted, strict=False)) if a != b), len(spelled))
        before, after = (part[max(0, at - 16) : at + 16].decode("utf-8", "replace") for part in (wanted, spelled))
        raise InputError(
            f"model.tokenizer: it is not lossless: its tokens of the text with {shown(before)} spell {shown(after)}. "
            "Take a byte-level BPE, or a SentencePiece that keeps spaces and has byte_fallback, or set it to 'corpus'"
        )


@kernel
def _cut_pieces(
    codes: Codes, documents: Offsets, classes: Classes
) -> tuple[npt.NDArray[np.bool_], Offsets, Offsets, Offsets]:
    """Split documents into pieces: 's 't 're 've 'm 'll 'd; a word, a number or other characters with at most one blank
    before them; and space, whose last character belongs to the next piece if that is possible.

    Returns which documents have only known characters, the first piece of each document, and the pieces.
    """
    is_known = np.ones(len(documents) - 1, np.bool_)
    pointers = np.zeros(len(documents), np.int64)
    starts = np.empty(len(codes), np.int64)
    ends = np.empty(len(codes), np.int64)
    count = 0
    for d in range(len(documents) - 1):
        end = documents[d + 1]
        for i in range(documents[d], end):
            if codes[i] >= GPT2_KNOWN:
                is_known[d] = False
                break
        i = documents[d] if is_known[d] else end
        while i < end:
            stop = i
            size = _contraction(codes, i, end) if codes[i] == 39 else 0
            if size:
                stop = i + size
            else:
                first = i
                if codes[i] == 32 and i + 1 < end and not classes[codes[i + 1]] & GPT2_SPACE:
                    first = i + 1
                group = classes[codes[first]] & (GPT2_LETTER | GPT2_NUMBER | GPT2_SPACE)
                stop = first + 1
                while stop < end and classes[codes[stop]] & (GPT2_LETTER | GPT2_NUMBER | GPT2_SPACE) == group:
                    stop += 1
                if group & GPT2_SPACE and stop < end and stop - i > 1:
                    stop -= 1
            starts[count] = i
            ends[count] = stop
            count += 1
            i = stop
        pointers[d + 1] = count
    return is_known, pointers, starts[:count].copy(), ends[:count].copy()


@kernel
def _contraction(codes: Codes, i: int, end: int) -> int:
    """Return the length of 's, 't, 'm, 'd, 're, 've or 'll at i; 0 if there is none."""
    if i + 1 >= end:
        return 0
    a = codes[i + 1]
    if a == 115 or a == 116 or a == 109 or a == 100:
        return 2
    if i + 2 >= end:
        return 0
    b = codes[i + 2]
    if (b == 101 and (a == 114 or a == 118)) or (a == 108 and b == 108):
        return 3
    return 0


@kernel
def _hash(codes: Codes | npt.NDArray[np.uint16], start: int, end: int) -> int:
    value = np.uint64(0xCBF29CE484222325)
    for i in range(start, end):
        value = (value ^ np.uint64(codes[i])) * np.uint64(0x100000001B3)
    return int((value ^ (value >> np.uint64(29))) & np.uint64(0x7FFFFFFF))


@kernel
def _fill_slots(letters: npt.NDArray[np.uint16], offsets: Offsets, size: int) -> Slots:
    slots = np.full(size, -1, np.int32)
    for piece in range(len(offsets) - 1):
        slot = _hash(letters, offsets[piece], offsets[piece + 1]) & (size - 1)
        while slots[slot] >= 0:
            slot = (slot + 1) & (size - 1)
        slots[slot] = piece
    return slots


@kernel
def _first_occurrences(codes: Codes, starts: Offsets, ends: Offsets) -> Offsets:
    """Return the index of the first piece with each distinct text."""
    size = 1024
    while size < 2 * len(starts):
        size *= 2
    slots = np.full(size, -1, np.int32)
    first = np.empty(len(starts), np.int64)
    count = 0
    for p in range(len(starts)):
        slot = _hash(codes, starts[p], ends[p]) & (size - 1)
        while slots[slot] >= 0:
            other = slots[slot]
            if ends[other] - starts[other] == ends[p] - starts[p]:
                k = 0
                while starts[p] + k < ends[p] and codes[starts[other] + k] == codes[starts[p] + k]:
                    k += 1
                if starts[p] + k == ends[p]:
                    break
            slot = (slot + 1) & (size - 1)
        if slots[slot] < 0:
            slots[slot] = p
            first[count] = p
            count += 1
    return first[:count].copy()


@kernel
def _look_up(
    codes: Codes, starts: Offsets, ends: Offsets, slots: Slots, letters: npt.NDArray[np.uint16], offsets: Offsets
) -> Slots:
    """Look up the number of each piece in the cache; -1 if it is missing."""
    numbers = np.empty(len(starts), np.int32)
    mask = len(slots) - 1
    for p in range(len(starts)):
        start, size = starts[p], ends[p] - starts[p]
        slot = _hash(codes, start, ends[p]) & mask
        while True:
            piece = slots[slot]
            if piece < 0:
                break
            base = offsets[piece]
            if offsets[piece + 1] - base == size:
                k = 0
                while k < size and letters[base + k] == codes[start + k]:
                    k += 1
                if k == size:
                    break
            slot = (slot + 1) & mask
        numbers[p] = piece
    return numbers


@kernel
def _gather(
    is_known: npt.NDArray[np.bool_],
    pieces: Offsets,
    numbers: Slots,
    ids: Tokens,
    id_offsets: Offsets,
    whole_ids: Tokens,
    whole_offsets: Offsets,
) -> tuple[Tokens, Offsets]:
    """Concatenate the tokens of all documents in order, from their pieces or from the library."""
    offsets = np.zeros(len(is_known) + 1, np.int64)
    total = len(whole_ids)
    for piece in numbers:
        total += id_offsets[piece + 1] - id_offsets[piece]
    tokens = np.empty(total, ids.dtype)
    at, whole = 0, 0
    for d in range(len(is_known)):
        if is_known[d]:
            for p in range(pieces[d], pieces[d + 1]):
                for k in range(id_offsets[numbers[p]], id_offsets[numbers[p] + 1]):
                    tokens[at] = ids[k]
                    at += 1
        else:
            for k in range(whole_offsets[whole], whole_offsets[whole + 1]):
                tokens[at] = whole_ids[k]
                at += 1
            whole += 1
        offsets[d + 1] = at
    return tokens, offsets
