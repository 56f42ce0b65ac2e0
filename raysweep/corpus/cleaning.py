"""Removes markup that a download left in texts, so that models learn what learners wrote.

`<br>` and the end of a paragraph become line breaks.  From a marked correction the learner's own words are kept:
`<i>wrong</i><c>right</c>` and EFCAMDAT's `<change><selection>wrong</selection>…</change>` become "wrong".  Other tags
are removed, their content is kept, and entities such as `&amp;` become characters.  "<3" and "a < b" are not tags.
"""

import html
import re
from dataclasses import dataclass
from html.entities import html5

import numpy as np
import pyarrow as pa

from raysweep.corpus.corpus_notes import MARKUP_SIGNS, find_signs

SAMPLES = 100
"""Most texts of which the original and the cleaned form are listed."""

_CORRECTION = re.compile(
    r"<(c|correct|tag|symbol)(?:\s[^<>]{0,200})?>(?:(?!<\1[\s>]).)*?</\1\s*>", re.IGNORECASE | re.DOTALL
)
_BREAK = re.compile(r"[ \t]*<(?:br|/p|/div|/li|/tr)\b[^<>]{0,200}>[ \t]*", re.IGNORECASE)
_TAG = re.compile(r"</?[A-Za-z][^<>]{0,200}>|<!--.{0,1000}?-->", re.DOTALL)
_ENTITY = re.compile(r"&(?:[A-Za-z]{2,8}[0-9]{0,2}|#[0-9]{1,7}|#[xX][0-9A-Fa-f]{1,6});")
_NESTING = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class CleanedTexts:
    """The result of cleaning."""

    texts: int = 0  # texts that were changed
    samples: tuple[tuple[str, str, str], ...] = ()  # (id, before, after) of the first changed texts
    emptied: int = 0  # texts that consist of markup only, which were left unchanged


def clean_text(text: str) -> str:
    """Return a text without markup."""
    for _ in range(_NESTING):
        text, count = _CORRECTION.subn("", text)
        if not count:
            break
    text = _TAG.sub("", _BREAK.sub("\n", text))
    return _ENTITY.sub(_character, text)


def _character(entity: re.Match[str]) -> str:
    """Return the character of an entity; `html.unescape` alone would convert the `&not` of `&nothing;`."""
    name = entity.group()
    return html.unescape(name) if name[1] == "#" or name[1:] in html5 else name


def clean_texts(documents: pa.Table) -> tuple[pa.Table, CleanedTexts]:
    """Clean the texts of a corpus; a text that consists of markup only is left unchanged."""
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
