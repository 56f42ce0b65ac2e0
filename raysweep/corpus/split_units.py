"""The split unit, which a test document must not share with training: its learner (default), its prompt, or both.

    learner   `splits.py` alone: the documents of a learner, and those with the same text, stay in one split
    prompt    every prompt goes to one split, so that tests are on tasks that no model has seen
    both      learners and prompts are split independently, and a document is kept only if both are in the same
              split.  The other documents, more than half, are set aside

With both, learners and prompts are split by the square roots of the shares, so that the documents that are kept have
the configured shares.  Each split gets at least one prompt of each level; a prompt of several levels is placed with the
first of them.
"""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from raysweep.config.data_settings import SplitConfig
from raysweep.corpus.normalising import normalised_codes
from raysweep.errors import InputError
from raysweep.seeding import generator_for

Codes = npt.NDArray[np.int64]


def check_unit(missing: Mapping[str, int], documents: int, unit: str) -> None:
    """Raise InputError if one of the documents lacks the learner or prompt that the unit needs.

    Args:
        missing: number of documents without a learner, and without a prompt.
    """
    for column in {"learner": (), "prompt": ("prompt",), "both": ("learner", "prompt")}[unit]:
        if count := missing[column]:
            raise InputError(
                f"data.split.unit: found '{unit}'; {count:,} of {documents:,} documents have no {column}. "
                f"Name the column in data.columns.{column}, or set data.split.unit: learner"
            )


def grouped_by(unit: str, *, has_learners: bool) -> str:
    """Describe in words what is kept in one split."""
    if unit == "learner":
        return "learner and text" if has_learners else "text"
    return {"prompt": "prompt and text", "both": "learner, prompt and text"}[unit]


def unit_shares(shares: SplitConfig) -> SplitConfig:
    """Return the shares for splitting learners and prompts; with 'both' they give the kept documents the configured
    shares."""
    if shares.unit != "both":
        return shares
    train, valid = (share**0.5 for share in (shares.train, shares.valid))
    total = train + valid + shares.test**0.5
    return SplitConfig(train=train / total, valid=valid / total, test=1.0 - (train + valid) / total, unit=shares.unit)


def split_prompts(
    prompts: pa.ChunkedArray, level_codes: Codes, levels: tuple[str, ...], shares: SplitConfig, seed: int
) -> npt.NDArray[np.int8]:
    """Return documents' splits (int8, indices into `SPLITS`) by prompt; InputError if a level has under three."""
    codes, names = normalised_codes(prompts)
    # Prompts are ranked by name, so that the order of the rows has no effect.
    rank = np.argsort(np.argsort(np.array(names)))
    split_of = np.full(len(names), -1, dtype=np.int8)
    for level in np.unique(level_codes):
        own = np.unique(codes[level_codes == level])
        if len(own) < len(("train", "valid", "test")):
            raise InputError(
                f"data.split.unit: found '{shares.unit}'; level {levels[level]} has {len(own)} writing prompts; at "
                "least 3 are needed, one for each split. Set data.split.unit: learner"
            )
        own = own[np.argsort(rank[own], kind="stable")]
        own = generator_for(seed, "prompts", levels[level]).permutation(own)
        for split, share in ((2, shares.test), (1, shares.valid)):
            wanted = max(1, round(share * len(own))) - int((split_of[own] == split).sum())
            split_of[own[split_of[own] < 0][: max(wanted, 0)]] = split
        split_of[own[split_of[own] < 0]] = 0
    return split_of[codes]
