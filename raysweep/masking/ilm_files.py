"""Moving over from, and back to, the original ILM code: its examples and its list of special tokens.

Its files are pickles, and a pickle is a program: what comes from a user is read by a reader that
admits lists, tuples, dictionaries, strings, numbers and the original's span type, which becomes a
plain number; anything else is refused before it runs.  What we write, the original can load.
"""

import io
import pickle
import struct
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raysweep.config.data_settings import MaskingConfig
from raysweep.errors import InputError
from raysweep.masking.custom_masks import Span, own_masks
from raysweep.masking.mask_sampling import document_seeds, sample_masks
from raysweep.masking.mask_shard import Documents
from raysweep.masking.segmentation import segment
from raysweep.masking.vocabulary import SPECIAL_TOKENS, START_OF_INFILL, Kind
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
        InputError: the file is no such pickle, or holds anything else; nothing of it has been run.
    """
    data = _load(path, admit_spans=True)
    if type(data) is not list:
        raise InputError(f"{path}: found a {type(data).__name__}; must be a list of documents with masks")
    return [_document(entry, f"{path}: document {number}") for number, entry in enumerate(data)]


def write_examples(path: Path, documents: Iterable[MaskedDocument]) -> None:
    """Write examples as the original reads them, by rename."""
    with atomic_file(path) as beside, beside.open("wb") as file:
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


def draw_examples(documents: Documents, policy: MaskingConfig, seed: int) -> list[MaskedDocument]:
    """The masks that `mask_shard` draws for these documents, in characters, to be written for the original."""
    segments = segment(documents.texts)
    seeds = document_seeds(seed, documents.ids, documents.splits)
    masks = own_masks(documents, segments, seed, policy) if policy.function else sample_masks(segments, seeds, policy)
    found = []
    for index, text in enumerate(documents.texts):
        base = int(segments.documents[index])
        lists = []
        for example in range(int(masks.document_examples[index]), int(masks.document_examples[index + 1])):
            rows = range(int(masks.example_spans[example]), int(masks.example_spans[example + 1]))
            lists.append(
                [
                    (int(masks.kinds[row]), int(masks.starts[row]) - base, int(masks.ends[row] - masks.starts[row]))
                    for row in rows
                ]
            )
        found.append(MaskedDocument(text=text, masks=lists))
    return found


def read_special_tokens(path: Path) -> dict[int, str]:
    """Read the original's `additional_ids_to_tokens.pkl`.

    Raises:
        InputError: the file is no such pickle, or its tokens are not ours.
    """
    data = _load(path, admit_spans=False)
    if data != special_tokens():
        raise InputError(f"{path}: found {data!r}; must be {special_tokens()!r}: its models use other special tokens")
    return special_tokens()


def write_special_tokens(path: Path) -> None:
    """Write `additional_ids_to_tokens.pkl` as the original does, by rename."""
    with atomic_file(path) as beside:
        beside.write_bytes(pickle.dumps(special_tokens(), protocol=4))


def special_tokens() -> dict[int, str]:
    """Our special tokens by id, which are the original's."""
    return dict(enumerate(SPECIAL_TOKENS, start=START_OF_INFILL))


class _Reader(pickle.Unpickler):
    """Refuses every class and function but the span type, which it reads as a number."""

    def __init__(self, file: io.BufferedIOBase, *, admit_spans: bool) -> None:
        super().__init__(file)
        self._admit_spans = admit_spans

    def find_class(self, module: str, name: str) -> Callable[..., Any]:
        if self._admit_spans and (module, name) == SPAN_TYPE:
            # A function made for this call: whatever a pickle does to it ends with it.
            return lambda value: int(Kind(value))
        raise pickle.UnpicklingError(f"it wants to load {module}.{name}")


def _load(path: Path, *, admit_spans: bool) -> Any:
    try:
        with path.open("rb") as file:
            return _Reader(file, admit_spans=admit_spans).load()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error})") from error
    except Exception as error:
        # The unpickler raises nearly anything on bytes that are no pickle of ours.
        raise InputError(
            f"{path}: refused, {error or type(error).__name__}; admitted are lists, tuples, strings, numbers and "
            f"{'.'.join(SPAN_TYPE)}"
        ) from error


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


def masks_for(documents: Sequence[MaskedDocument]) -> tuple[list[str], list[list[list[Span]]]]:
    """Texts and masks apart, as `own_masks.masks_from_lists` takes them; spans in text order."""
    return [document.text for document in documents], [
        [sorted(mask, key=lambda span: span[1]) for mask in document.masks] for document in documents
    ]
