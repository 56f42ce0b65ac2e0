"""Chooses the part of its document that a long example uses.

A window is a run of whole sentences around a randomly drawn span, the anchor; it grows on both sides as long as it
fits.  If a single sentence is too long, the window is a run of tokens around the anchor; if the anchor itself is too
long, it is cut to whole sentences in it, so that the answer still has an end.
"""

import numpy as np
import numpy.typing as npt

from raysweep.masking.kernels import kernel
from raysweep.masking.mask_sampling import Kinds, Seeds, uniform

Small = npt.NDArray[np.int32]


@kernel
def cut_points(sentences: Small, starts: Small, ends: Small, size: int, cuts: Small) -> int:
    """Write to `cuts` where a window may begin or end: the document's ends and the sentence starts outside spans.

    Returns the number of pieces between these positions, which are ascending.
    """
    cuts[0] = 0
    count, k = 0, 0
    for s in range(len(sentences)):
        at = sentences[s]
        while k < len(starts) and ends[k] <= at:
            k += 1
        if at <= cuts[count] or at >= size or (k < len(starts) and starts[k] < at):
            continue
        count += 1
        cuts[count] = at
    count += 1
    cuts[count] = size
    return count


@kernel
def _cost(starts: Small, ends: Small, first: int, last: int) -> int:
    """Count the positions that a run of tokens takes: its tokens, and a blank and an end for each span inside."""
    cost = last - first
    for k in range(len(starts)):
        cost += 2 * (starts[k] >= first and ends[k] <= last)
    return cost


@kernel
def choose_window(
    state: Seeds, cuts: Small, sentences: Small, begins: Kinds, starts: Small, ends: Small, anchor: int, budget: int
) -> tuple[int, int, bool]:
    """Choose a run of tokens such that tokens + 2 · spans fit into `budget`.

    Returns its first token, its end, and whether the anchor must be cut to it.
    """
    pieces = len(cuts) - 1
    left = 0
    if anchor >= 0:
        while cuts[left + 1] <= starts[anchor]:
            left += 1
    else:
        left = int(uniform(state) * pieces)
    right = left + 1
    cost = _cost(starts, ends, cuts[left], cuts[right])
    if cost > budget:
        return _choose_tokens(state, cuts[left], cuts[right], sentences, begins, starts, ends, anchor, budget)
    goes_left = uniform(state) < 0.5
    # At the ends of the document `more` is the whole budget, which never fits in addition to the window.
    can_left, can_right = True, True
    while can_left or can_right:
        if (goes_left and can_left) or not can_right:
            more = _cost(starts, ends, cuts[left - 1], cuts[left]) if left > 0 else budget
            can_left = cost + more <= budget
            if can_left:
                left -= 1
                cost += more
        else:
            more = _cost(starts, ends, cuts[right], cuts[right + 1]) if right < pieces else budget
            can_right = cost + more <= budget
            if can_right:
                right += 1
                cost += more
        goes_left = not goes_left
    return cuts[left], cuts[right], False


@kernel
def _choose_tokens(
    state: Seeds,
    low: int,
    high: int,
    sentences: Small,
    begins: Kinds,
    starts: Small,
    ends: Small,
    anchor: int,
    budget: int,
) -> tuple[int, int, bool]:
    """Choose a window if whole sentences do not fit; it begins and ends between characters."""
    if anchor >= 0 and ends[anchor] - starts[anchor] + 2 <= budget:
        first, last = starts[anchor], ends[anchor]
        room = budget - 2 - (last - first)
        before = min(first - low, max(room // 2, room - (high - last)))
        after = min(high - last, room - before)
        while _cost(starts, ends, first - before, last + after) > budget:
            if before > after:
                before -= 1
            else:
                after -= 1
        begin, end = first - before, last + after
        while begin < first and not begins[begin]:
            begin += 1
        while last < end < len(begins) and not begins[end]:
            end -= 1
        return begin, end, False
    is_cut = anchor >= 0
    if is_cut:
        low, high, budget = starts[anchor], ends[anchor], budget - 2
    # Begin at a sentence that is followed by a full window, and end with a sentence if one ends inside.
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
    return first, last, is_cut
