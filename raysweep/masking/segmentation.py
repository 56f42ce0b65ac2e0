"""Splits documents into paragraphs, sentences and words, as offsets and lengths.

A paragraph is a line without surrounding space; empty lines are dropped.  A paragraph has sentences
(`sentences.py`), a sentence has words (`words.py`).  The result equals what NLTK gives the original ILM
code, except where that code loses the document: see `words.py`.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from raysweep.masking.characters import ENDS_LINE, SPACE, Classes, Codes, Offsets, character_classes, join_texts
from raysweep.masking.kernels import kernel
from raysweep.masking.languages import (
    ENGLISH,
    PUNKT_MODELS,
    find_sentences_by_rules,
    split_words_without_spaces,
)
from raysweep.masking.sentences import find_sentences
from raysweep.masking.words import find_words

Hierarchy = list[object]
"""`[offset, length, parts]`, down to a word's `[offset, length]`."""


class Segments(NamedTuple):
    """The paragraphs, sentences and words of many documents; a named tuple, which kernels can read.

    All positions are indices into `codes`, which holds the code points of all documents.  An array such as
    `document_paragraphs` points into the next level: the paragraphs of document d have the numbers
    `document_paragraphs[d]` to `document_paragraphs[d + 1] - 1`.
    """

    codes: Codes
    documents: Offsets
    """The start of each document, and the end of the last one; one more entry than documents."""
    document_paragraphs: Offsets
    paragraph_starts: Offsets
    paragraph_ends: Offsets
    paragraph_sentences: Offsets
    sentence_starts: Offsets
    sentence_ends: Offsets
    sentence_words: Offsets
    word_starts: Offsets
    word_ends: Offsets


def segment(texts: Sequence[str], language: str = ENGLISH) -> Segments:
    """Segment many documents in a language (an ISO 639 code); a text may be empty."""
    codes, documents = join_texts(texts)
    classes = character_classes()
    document_paragraphs, paragraph_starts, paragraph_ends = _find_paragraphs(codes, documents, classes)
    model = PUNKT_MODELS.get(language)
    if model is None:
        paragraph_sentences, sentence_starts, sentence_ends = find_sentences_by_rules(
            codes, paragraph_starts, paragraph_ends, classes, language
        )
        sentence_pieces, piece_starts, piece_ends = np.arange(len(sentence_starts) + 1), sentence_starts, sentence_ends
    else:
        paragraph_sentences, sentence_starts, sentence_ends = find_sentences(
            codes, paragraph_starts, paragraph_ends, classes, model
        )
        # NLTK's `word_tokenize` splits a sentence into sentences again, and a few in a thousand become two ("What.?").
        sentence_pieces, piece_starts, piece_ends = find_sentences(
            codes, sentence_starts, sentence_ends, classes, model
        )
    piece_words, word_starts, word_ends = find_words(codes, piece_starts, piece_ends, classes)
    if model is None:
        piece_words, word_starts, word_ends = split_words_without_spaces(codes, piece_words, word_starts, word_ends)
    return Segments(
        codes=codes,
        documents=documents,
        document_paragraphs=document_paragraphs,
        paragraph_starts=paragraph_starts,
        paragraph_ends=paragraph_ends,
        paragraph_sentences=paragraph_sentences,
        sentence_starts=sentence_starts,
        sentence_ends=sentence_ends,
        sentence_words=piece_words[sentence_pieces],
        word_starts=word_starts,
        word_ends=word_ends,
    )


def hierarchy_of(segments: Segments, document: int) -> Hierarchy:
    """Return the segments of a document as nested lists of offsets into its text, for custom mask functions."""
    base = int(segments.documents[document])

    def place(start: npt.NDArray[np.int64], end: npt.NDArray[np.int64], index: int) -> list[object]:
        return [int(start[index]) - base, int(end[index] - start[index])]

    def parts(pointers: Offsets, index: int) -> range:
        return range(int(pointers[index]), int(pointers[index + 1]))

    paragraphs: list[object] = []
    for p in parts(segments.document_paragraphs, document):
        sentences: list[object] = []
        for s in parts(segments.paragraph_sentences, p):
            words = [place(segments.word_starts, segments.word_ends, w) for w in parts(segments.sentence_words, s)]
            sentences.append([*place(segments.sentence_starts, segments.sentence_ends, s), words])
        paragraphs.append([*place(segments.paragraph_starts, segments.paragraph_ends, p), sentences])
    return [0, int(segments.documents[document + 1]) - base, paragraphs]


@kernel
def _find_paragraphs(codes: Codes, documents: Offsets, classes: Classes) -> tuple[Offsets, Offsets, Offsets]:
    room = len(documents)
    for code in codes:
        room += classes[code] & ENDS_LINE != 0
    pointers = np.zeros(len(documents), np.int64)
    starts = np.empty(room, np.int64)
    ends = np.empty(room, np.int64)
    count = 0
    for d in range(len(documents) - 1):
        i, end = documents[d], documents[d + 1]
        while i < end:
            stop = i
            while stop < end and not classes[codes[stop]] & ENDS_LINE:
                stop += 1
            first, last = i, stop
            while first < last and classes[codes[first]] & SPACE:
                first += 1
            while last > first and classes[codes[last - 1]] & SPACE:
                last -= 1
            if last > first:
                starts[count] = first
                ends[count] = last
                count += 1
            i = stop + 1
        pointers[d + 1] = count
    return pointers, starts[:count].copy(), ends[:count].copy()
