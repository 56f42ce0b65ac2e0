"""Draws masks with a function of the user: `masking.function: package.module:function`.

The function is called once per document with its text, its hierarchy (`segmentation.hierarchy_of`)
and a NumPy generator seeded for this document; it returns a list of masks, one per example, each a
list of `(kind, offset, length)` in characters and in text order.  The masks are checked; a mask that
repeats an earlier mask of its document is left out and counted.
"""

import operator
from collections.abc import Sequence
from itertools import islice
from typing import Any

import numpy as np

from raysweep.config.data_settings import MaskingConfig
from raysweep.corpus.documents import Documents
from raysweep.errors import InputError
from raysweep.masking.mask_function import Span, call_mask_function, load_mask_function
from raysweep.masking.mask_sampling import LeftOut, Masks
from raysweep.masking.segmentation import Segments, hierarchy_of
from raysweep.masking.vocabulary import Kind
from raysweep.seeding import generator_for
from raysweep.storage.printable import shown


def custom_masks(documents: Documents, segments: Segments, seed: int, policy: MaskingConfig) -> Masks:
    """Call the user's function for every document.

    Raises:
        ConfigError: there is no such function.
        InputError: it failed, returned too many masks, or returned spans that are out of range, overlap or are out of
            order; the message names the document and the span.
    """
    assert policy.function is not None
    function = load_mask_function(policy.function)
    given = []
    places = []
    for index, text in enumerate(documents.texts):
        name = documents.ids[index]
        generator = generator_for(seed, name, documents.splits[index], "own mask function")
        places.append(f"masking.function {policy.function}: document {index} ({shown(name)})")
        hierarchy, most = hierarchy_of(segments, index), policy.examples_per_document
        given.append(call_mask_function(function, places[-1], text, hierarchy, generator, most=most))
        if len(given[-1]) > most:
            raise InputError(f"{places[-1]}: found over {most} masks; must be at most masking.examples_per_document")
    return masks_from_lists(segments, given, places)


def masks_from_lists(
    segments: Segments, given: Sequence[Sequence[Sequence[Span]]], places: Sequence[str], *, drop_repeated: bool = True
) -> Masks:
    """Check masks and convert them to arrays.

    Args:
        given: the masks of each document.
        places: the name of each document in messages.
        drop_repeated: leave out a mask that its document already has.

    Raises:
        InputError: a span is out of range, overlaps or is out of order; the message names the document and the span.
    """
    examples, numbers, pointers, spans = [0], [], [0], []
    repeated = 0
    for index, masks in enumerate(given):
        seen: set[tuple[Span, ...]] = set()
        base, end = int(segments.documents[index]), int(segments.documents[index + 1])
        for number, mask in enumerate(masks):
            checked = _check_mask(mask, end - base, f"{places[index]}, mask {number}")
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


def _check_mask(mask: Sequence[Any], size: int, place: str) -> tuple[Span, ...]:
    """Check a mask and convert it to plain numbers."""
    end = 0
    spans: list[Span] = []
    try:
        # A mask has at most one span per character; an endless generator is refused at the first span too many.
        listed = list(islice(mask, size + 1))
    except (Exception, SystemExit) as error:
        raise InputError(f"{place}: found a {type(mask).__name__}; must be a list of spans") from error
    for span in listed:
        try:
            kind, offset, length = (operator.index(part) for part in span)
            Kind(kind)
        except (Exception, SystemExit) as error:
            must = "must be (kind, offset, length), whole numbers; kinds are 0 to 4"
            raise InputError(f"{place}: span {_show_span(span)}: {must}") from error
        if length < 1 or offset < 0 or offset + length > size:
            raise InputError(
                f"{place}: span {_show_span((kind, offset, length))}: must lie inside the text's {size} characters"
            )
        if offset < end:
            must = "spans must be in text order and must not overlap"
            shown_span = _show_span((kind, offset, length))
            raise InputError(f"{place}: span {shown_span}: begins before {end}, where the one before it ends; {must}")
        end = offset + length
        spans.append((kind, offset, length))
    return tuple(spans)


def _show_span(span: Any) -> str:
    """Format a span for a message; Python refuses to print numbers with very many digits."""
    if isinstance(span, tuple) and all(isinstance(part, int) and abs(part) < 10**12 for part in span):
        return str(tuple(int(part) for part in span))
    return shown(span)
