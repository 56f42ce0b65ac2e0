"""Masks from a function that the user names: `masking.function: package.module:function`.

The function is called once per document with its text, its hierarchy (`segmentation.hierarchy_of`)
and a NumPy generator seeded for this document; it returns a list of masks, one per example, each a
list of `(kind, offset, length)` in characters and in text order.  The masks are checked; a mask that
repeats an earlier one of its document is left out, and counted.
"""

import importlib
from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np

from raysweep.config.data_settings import MaskingConfig
from raysweep.corpus.documents import Documents
from raysweep.errors import ConfigError, InputError
from raysweep.masking.mask_sampling import LeftOut, Masks
from raysweep.masking.segmentation import Hierarchy, Segments, hierarchy_of
from raysweep.masking.vocabulary import Kind
from raysweep.seeding import generator_for

Span = tuple[int, int, int]
"""Kind, offset and length, in characters."""
MaskFunction = Callable[[str, Hierarchy, np.random.Generator], Sequence[Sequence[Span]]]


def load_mask_function(path: str) -> MaskFunction:
    """Import the function at `package.module:function`.

    Raises:
        ConfigError: there is no such function; names the setting and the fix.
    """
    place = f"masking.function: found {path!r}"
    module, colon, name = path.partition(":")
    if not (module and colon and name):
        raise ConfigError(f"{place}; must be 'package.module:function'")
    try:
        function = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"{place}; {error}. Install the package, or put its folder on PYTHONPATH") from error
    if not callable(function):
        raise ConfigError(f"{place}; {name} is a {type(function).__name__}; must be a function")
    return cast("MaskFunction", function)


def custom_masks(documents: Documents, segments: Segments, seed: int, policy: MaskingConfig) -> Masks:
    """Call the user's function for every document.

    Raises:
        ConfigError: there is no such function.
        InputError: it returned too many masks, or spans that are out of range, overlap or are out of order;
            names the document and the span.
    """
    assert policy.function is not None
    function = load_mask_function(policy.function)
    given = []
    places = []
    for index, text in enumerate(documents.texts):
        name = documents.ids[index]
        generator = generator_for(seed, name, documents.splits[index], "own mask function")
        given.append(list(function(text, hierarchy_of(segments, index), generator)))
        places.append(f"{policy.function}: document {name!r}")
        if len(given[-1]) > policy.examples_per_document:
            raise InputError(
                f"{places[-1]}: found {len(given[-1])} masks; must be at most {policy.examples_per_document} "
                "(masking.examples_per_document)"
            )
    return masks_from_lists(segments, given, places)


def masks_from_lists(
    segments: Segments, given: Sequence[Sequence[Sequence[Span]]], places: Sequence[str], *, drop_repeated: bool = True
) -> Masks:
    """Check masks that were drawn elsewhere.

    Args:
        given: the masks of each document.
        places: what messages call each document.
        drop_repeated: leave out a mask that its document already has.

    Raises:
        InputError: a span is out of range, overlaps or is out of order; names the document and the span.
    """
    examples, numbers, pointers, spans = [0], [], [0], []
    repeated = 0
    for index, masks in enumerate(given):
        seen: set[tuple[Span, ...]] = set()
        base, end = int(segments.documents[index]), int(segments.documents[index + 1])
        for number, mask in enumerate(masks):
            checked = _checked(mask, end - base, f"{places[index]}, mask {number}")
            if checked in seen and drop_repeated:
                repeated += 1
                continue
            seen.add(checked)
            spans += [(kind, base + offset, base + offset + length) for kind, offset, length in checked]
            numbers.append(number)
            pointers.append(len(spans))
        examples.append(len(numbers))
    table = np.array(spans, dtype=np.int64).reshape(-1, 3)
    return Masks(
        document_examples=np.array(examples, dtype=np.int64),
        numbers=np.array(numbers, dtype=np.uint8),
        example_spans=np.array(pointers, dtype=np.int64),
        kinds=table[:, 0].astype(np.uint8),
        starts=table[:, 1].copy(),
        ends=table[:, 2].copy(),
        left_out=LeftOut(repeated=repeated, too_few_spans=0),
    )


def _checked(mask: Sequence[Any], size: int, place: str) -> tuple[Span, ...]:
    """The mask as plain numbers."""
    end = 0
    spans: list[Span] = []
    for span in mask:
        try:
            kind, offset, length = (int(part) for part in span)
            Kind(kind)
        except (TypeError, ValueError) as error:
            raise InputError(f"{place}: span {span!r}: must be (kind, offset, length); kinds are 0 to 4") from error
        if length < 1 or offset < 0 or offset + length > size:
            raise InputError(f"{place}: span {(kind, offset, length)}: must lie inside the text's {size} characters")
        if offset < end:
            raise InputError(
                f"{place}: span {(kind, offset, length)}: begins before {end}, where the one before it ends; "
                "spans must be in text order and must not overlap"
            )
        end = offset + length
        spans.append((kind, offset, length))
    return tuple(spans)
