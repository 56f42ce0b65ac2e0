"""Splits an example into pieces of text with their roles, to be shown in a terminal or on a page."""

import numpy as np

from raysweep.masking.example_store import ExampleStore
from raysweep.masking.vocabulary import Kind, TargetType, Vocabulary

ROLES = {
    TargetType.CONTEXT: "context",
    TargetType.CONTEXT_SPECIAL: "blank",
    TargetType.START: "start",
    TargetType.INFILL: "answer",
    TargetType.INFILL_SPECIAL: "end",
}


def preview_example(store: ExampleStore, example: int) -> list[tuple[str, str]]:
    """Return the pieces of the example in order, as (text, role); roles are the values of `ROLES`.

    A blank is shown as its kind, such as `[word]`, the start token as `→` and the end of an answer as `■`.
    """
    batch = store.assemble(np.array([example]))
    ids, types = batch.ids_BT[0].tolist(), batch.types_BT[0].tolist()
    pieces: list[tuple[str, str]] = []
    begin = 0
    for end in range(1, len(ids) + 1):
        target = TargetType(types[begin])
        is_run = end < len(ids) and types[end] == target
        if not (is_run and target in {TargetType.CONTEXT, TargetType.INFILL}):
            pieces.append((_text(target, ids[begin:end], store.vocabulary), ROLES[target]))
            begin = end
    return pieces


def _text(target: TargetType, ids: list[int], vocabulary: Vocabulary) -> str:
    if target == TargetType.CONTEXT_SPECIAL:
        return f"[{Kind(ids[0] - vocabulary.first_blank).name.lower()}]"
    if target == TargetType.START:
        return "→"
    if target == TargetType.INFILL_SPECIAL:
        return "■"
    return vocabulary.decode(ids)
