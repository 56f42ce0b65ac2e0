"""Which part of its document a long example is made of.

A window is a run of whole sentences around one span, drawn at random, that grows to both sides while
it fits.  Where a sentence is too long by itself, it is a run of tokens around the span; where a span
is, the span is cut to whole sentences in it, so the answer still ends.
"""

import numpy as np
import numpy.typing as npt

from raysweep.masking.characters import Offsets
from raysweep.masking.kernels import kernel
from raysweep.masking.mask_sampling import Kinds, Seeds, uniform

Small = npt.NDArray[np.int32]


@kernel
def cut_points(sentences: Small, starts: Small, ends: Small, spans: int, size: int, cuts: Small) -> int:
    """Where a window may begin or end: the document's ends and the sentence starts inside no span.

    Writes them to `cuts`, ascending, and returns the number of pieces between them.
    """
    cuts[0] = 0
    count, k = 0, 0
    for s in range(len(sentences)):
        at = sentences[s]
        while k < spans and ends[k] <= at:
            k += 1
        if at <= cuts[count] or at >= size or (k < spans and starts[k] < at):
            continue
        count += 1
        cuts[count] = at
    count += 1
    cuts[count] = size
    return count


@kernel
def _spans_inside(starts: Small, ends: Small, spans: int, first: int, last: int) -> int:
    count = 0
    for k in range(spans):
        count += starts[k] >= first and ends[k] <= last
    return count


@kernel
def choose_window(
    state: Seeds,
    cuts: Small,
    sentences: Small,
    begins: Kinds,
    starts: Small,
    ends: Small,
    spans: int,
    anchor: int,
    budget: int,
    window: Offsets,
) -> bool:
    """Choose the run of tokens that stands for the document, so that tokens + 2 · spans fit into `budget`.

    Returns whether the anchor span must be cut to the run.
    """
    pieces = len(cuts) - 1
    left = 0
    if anchor >= 0:
        while cuts[left + 1] <= starts[anchor]:
            left += 1
    else:
        left = int(uniform(state) * pieces)
    right = left + 1
    cost = cuts[right] - cuts[left] + 2 * _spans_inside(starts, ends, spans, cuts[left], cuts[right])
    if cost > budget:
        return _choose_tokens(
            state, cuts[left], cuts[right], sentences, begins, starts, ends, spans, anchor, budget, window
        )
    goes_left = uniform(state) < 0.5
    can_left, can_right = True, True
    while can_left or can_right:
        if (goes_left and can_left) or not can_right:
            can_left = left > 0
            if can_left:
                more = cuts[left] - cuts[left - 1] + 2 * _spans_inside(starts, ends, spans, cuts[left - 1], cuts[left])
                can_left = cost + more <= budget
            if can_left:
                left -= 1
                cost += more
        else:
            can_right = right < pieces
            if can_right:
                more = (
                    cuts[right + 1] - cuts[right] + 2 * _spans_inside(starts, ends, spans, cuts[right], cuts[right + 1])
                )
                can_right = cost + more <= budget
            if can_right:
                right += 1
                cost += more
        goes_left = not goes_left
    window[0], window[1] = cuts[left], cuts[right]
    return False


@kernel
def _choose_tokens(
    state: Seeds,
    low: int,
    high: int,
    sentences: Small,
    begins: Kinds,
    starts: Small,
    ends: Small,
    spans: int,
    anchor: int,
    budget: int,
    window: Offsets,
) -> bool:
    """The window where whole sentences do not fit; its ends fall between characters."""
    if anchor >= 0 and ends[anchor] - starts[anchor] + 2 <= budget:
        first, last = starts[anchor], ends[anchor]
        room = budget - 2 - (last - first)
        before = min(first - low, max(room // 2, room - (high - last)))
        after = min(high - last, room - before)
        while (before + last - first + after) + 2 * _spans_inside(
            starts, ends, spans, first - before, last + after
        ) > budget:
            if before > after:
                before -= 1
            else:
                after -= 1
        window[0], window[1] = first - before, last + after
        while window[0] < first and not begins[window[0]]:
            window[0] += 1
        while window[1] > last and window[1] < len(begins) and not begins[window[1]]:
            window[1] -= 1
        return False
    is_cut = anchor >= 0
    if is_cut:
        low, high, budget = starts[anchor], ends[anchor], budget - 2
    # Begin at a sentence from which a full window is left, and end with a sentence if one ends inside.
    choices = 1
    for s in range(len(sentences)):
        choices += low < sentences[s] <= high - budget
    choice = int(uniform(state) * choices)
    first = low
    for s in range(len(sentences)):
        if low < sentences[s] <= high - budget:
            choice -= 1
            if choice == 0:
                first = sentences[s]
    last = min(high, first + budget)
    ended = last
    for s in range(len(sentences)):
        if first < sentences[s] <= last:
            ended = sentences[s]
    if ended == last:
        while last > first + 1 and last < len(begins) and not begins[last]:
            last -= 1
    else:
        last = ended
    window[0], window[1] = first, last
    return is_cut
