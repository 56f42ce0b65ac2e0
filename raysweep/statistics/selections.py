"""Other ways to add up the same losses: some of the documents, or every document the same weight."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from raysweep.statistics.loss_table import LevelLosses


def pick_documents(losses: LevelLosses, wanted_D: npt.NDArray[Any]) -> LevelLosses:
    """Those documents alone: a mask, or places."""
    return replace(
        losses,
        documents=losses.documents[wanted_D],
        tokens=losses.tokens[wanted_D],
        nats=losses.nats[wanted_D],
        bytes=None if losses.bytes is None else losses.bytes[wanted_D],
    )


def weigh_documents(losses: Mapping[str, LevelLosses]) -> dict[str, LevelLosses]:
    """Every document counts as one token of its mean loss, long or short.

    exp of the mean is then the geometric mean of the documents' perplexities.
    """
    return {
        level: replace(one, tokens=np.ones_like(one.tokens), nats=one.nats / one.tokens[:, None], bytes=None)
        for level, one in losses.items()
    }
