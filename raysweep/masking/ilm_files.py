"""Exchanges examples with the original ILM code, and writes its list of special tokens.

Its files are pickles, and loading a pickle can run code.  Files are therefore read by an unpickler that admits only
lists, tuples, dictionaries, strings, numbers and the original's span type, which becomes a plain number; anything else
is refused before it runs.  The original code can load the files that we write.
"""

import pickle
import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from raysweep.config.data_settings import MaskingConfig
from raysweep.corpus.documents import Documents
from raysweep.errors import InputError
from raysweep.masking.languages import ENGLISH
from raysweep.masking.mask_function import Span
from raysweep.masking.mask_sampling import document_seeds
from raysweep.masking.mask_shard import draw_masks
from raysweep.masking.segmentation import segment
from raysweep.masking.vocabulary import SPECIAL_TOKENS, Kind, Vocabulary
from raysweep.storage.atomic_files import atomic_file

SPAN_TYPE = ("ilm.mask.hierarchical", "MaskHierarchicalType")


@dataclass(frozen=True, kw_only=True, slots=True)
class MaskedDocument:
    """A text and its masks, each a list of (kind, offset, length) in characters."""

    text: str
    masks: list[list[Span]]


def read_examples(path: Path) -> list[MaskedDocument]:
    """Read the original's examples: `[(document, [[(type, offset, length), …], …]), …]`.

    Raises:
        InputError: the file is not such a pickle, or contains anything else; nothing in it was run.
    """
    try:
        with path.open("rb") as file:
            data = _Reader(file).load()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error})") from error
    except Exception as error:
        # The unpickler raises nearly any exception on bytes that are not a pickle.
        raise InputError(
            f"{path}: refused, {error or type(error).__name__}; admitted are lists, tuples, strings, numbers and "
            f"{'.'.join(SPAN_TYPE)}"
        ) from error
    if type(data) is not list:
        raise InputError(f"{path}: found a {type(data).__name__}; must be a list of documents with masks")
    return [_document(entry, f"{path}: document {number}") for number, entry in enumerate(data)]


def write_examples(path: Path, documents: Iterable[MaskedDocument]) -> None:
    """Write examples in the format of the original code, by rename."""
    with atomic_file(path) as temporary, temporary.open("wb") as file:
        file.write(pickle.PROTO + b"\x02" + pickle.EMPTY_LIST + pickle.MARK)
        for document in documents:
            file.write(_string(document.text) + pickle.EMPTY_LIST + pickle.MARK)
            for mask in document.masks:
                spans = b"".join(
                    _span_type(kind) + _number(offset) + _number(length) + pickle.TUPLE3
                    for kind, offset, length in mask
                )
                file.write(pickle.EMPTY_LIST + pickle.MARK + spans + pickle.APPENDS)
            file.write(pickle.APPENDS + pickle.TUPLE2)
        file.write(pickle.APPENDS + pickle.STOP)


def draw_examples(
    documents: Documents, policy: MaskingConfig, seed: int, language: str = ENGLISH
) -> list[MaskedDocument]:
    """Draw the same masks as `mask_shard` for these documents, in characters."""
    segments = segment(documents.texts, language)
    masks = draw_masks(documents, segments, document_seeds(seed, documents.ids, documents.splits), policy, seed)
    owners = np.searchsorted(segments.documents, masks.starts, side="right") - 1
    offsets, lengths = masks.starts - segments.documents[owners], masks.ends - masks.starts
    spans = list(zip(masks.kinds.tolist(), offsets.tolist(), lengths.tolist(), strict=True))
    examples = [spans[first:last] for first, last in pairwise(masks.example_spans.tolist())]
    return [
        MaskedDocument(text=text, masks=examples[first:last])
        for text, (first, last) in zip(documents.texts, pairwise(masks.document_examples.tolist()), strict=True)
    ]


def write_special_tokens(path: Path, vocabulary: Vocabulary) -> None:
    """Write `additional_ids_to_tokens.pkl` as the original does, by rename."""
    with atomic_file(path) as temporary:
        temporary.write_bytes(
            pickle.dumps(dict(enumerate(SPECIAL_TOKENS, start=vocabulary.start_of_infill)), protocol=4)
        )


class _Reader(pickle.Unpickler):
    """Refuses every class and function except the span type, which it reads as a number."""

    def find_class(self, module: str, name: str) -> Callable[..., Any]:
        if (module, name) == SPAN_TYPE:
            # A new function for each call, so that a pickle cannot modify ours.
            return lambda value: int(Kind(value))
        raise pickle.UnpicklingError(f"it wants to load {module}.{name}")


def _document(entry: Any, place: str) -> MaskedDocument:
    if type(entry) is not tuple or len(entry) != 2 or type(entry[0]) is not str or type(entry[1]) is not list:
        raise InputError(f"{place}: found {str(entry)[:60]!r}; must be a text with a list of masks")
    for number, mask in enumerate(entry[1]):
        if type(mask) is not list or not all(_is_span(span, len(entry[0])) for span in mask):
            raise InputError(
                f"{place}, mask {number}: found {str(mask)[:60]!r}; must be a list of (type, offset, length) "
                f"within the text's {len(entry[0])} characters"
            )
    return MaskedDocument(text=entry[0], masks=entry[1])


def _is_span(span: Any, size: int) -> bool:
    if type(span) is not tuple or len(span) != 3 or any(type(part) is not int for part in span):
        return False
    kind, offset, length = (int(part) for part in span)
    return 0 <= kind < len(Kind) and offset >= 0 and 0 < length <= size - offset


def _string(text: str) -> bytes:
    data = text.encode("utf-8", "surrogatepass")
    return pickle.BINUNICODE + struct.pack("<I", len(data)) + data


def _number(value: int) -> bytes:
    return pickle.BININT + struct.pack("<i", value)


def _span_type(kind: int) -> bytes:
    return pickle.GLOBAL + "{}\n{}\n".format(*SPAN_TYPE).encode() + _number(kind) + pickle.TUPLE1 + pickle.REDUCE
