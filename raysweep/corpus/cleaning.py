"""Unwraps markup that a download left in texts, so that models learn what learners wrote.

`<br>` and the end of a paragraph become line breaks.  Of a marked correction the learner's own words stay:
`<i>wrong</i><c>right</c>` and EFCAMDAT's `<change><selection>wrong</selection>…</change>` are "wrong".  Other tags go,
their content stays, and entities such as `&amp;` become characters.  "<3" and "a < b" are no tags.
"""

import html
import re
from dataclasses import dataclass
from html.entities import html5

import numpy as np
import pyarrow as pa

from raysweep.corpus.corpus_notes import MARKUP_SIGNS, find_signs

SAMPLES = 100
"""Texts that are shown before and after."""

_CORRECTION = re.compile(
    r"<(c|correct|tag|symbol)(?:\s[^<>]{0,200})?>(?:(?!<\1[\s>]).)*?</\1\s*>", re.IGNORECASE | re.DOTALL
)
_BREAK = re.compile(r"[ \t]*<(?:br|/p|/div|/li|/tr)\b[^<>]{0,200}>[ \t]*", re.IGNORECASE)
_TAG = re.compile(r"</?[A-Za-z][^<>]{0,200}>|<!--.{0,1000}?-->", re.DOTALL)
_ENTITY = re.compile(r"&(?:[A-Za-z]{2,8}[0-9]{0,2}|#[0-9]{1,7}|#[xX][0-9A-Fa-f]{1,6});")
_NESTING = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class CleanedTexts:
    """What cleaning did."""

    texts: int = 0  # that were changed
    samples: tuple[tuple[str, str, str], ...] = ()  # id, before, after; the first ones
    emptied: int = 0  # texts of markup alone, which stayed as they were


def clean_text(text: str) -> str:
    """One text without markup."""
    for _ in range(_NESTING):
        text, count = _CORRECTION.subn("", text)
        if not count:
            break
    text = _TAG.sub("", _BREAK.sub("\n", text))
    return _ENTITY.sub(_character, text)


def _character(entity: re.Match[str]) -> str:
    """The character of an entity; `html.unescape` alone would take the `&not` of `&nothing;`."""
    name = entity.group()
    return html.unescape(name) if name[1] == "#" or name[1:] in html5 else name


def clean_texts(documents: pa.Table) -> tuple[pa.Table, CleanedTexts]:
    """Clean the texts of a corpus; a text that holds nothing but markup stays as it is."""
    signs = find_signs(documents["text"]) & MARKUP_SIGNS
    places = np.flatnonzero(signs)
    samples: list[tuple[str, str, str]] = []
    count, emptied = 0, 0
    texts = documents["text"].take(pa.array(places)).to_pylist()
    changed = list(texts)
    for number, before in enumerate(texts):
        after = clean_text(before)
        if after == before:
            continue
        if not after.strip():
            emptied += 1
            continue
        changed[number] = after
        count += 1
        if len(samples) < SAMPLES:
            samples.append((documents["writing_id"][int(places[number])].as_py(), before, after))
    if not count:
        return documents, CleanedTexts(emptied=emptied)
    mask = np.zeros(documents.num_rows, dtype=bool)
    mask[places] = True
    column = documents["text"].combine_chunks()
    cleaned = pa.compute.replace_with_mask(column, pa.array(mask), pa.array(changed, pa.large_string()))
    place = documents.column_names.index("text")
    return documents.set_column(place, "text", pa.chunked_array([cleaned])), CleanedTexts(
        texts=count, samples=tuple(samples), emptied=emptied
    )
