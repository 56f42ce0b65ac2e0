"""Uses the splits that were published with a corpus.

The split names of most corpora are known (dev is valid); `data.split_names` adds others.  Documents stay in their
published split; only if there are no validation documents, some training documents become validation documents, in
whole groups.
"""

import re
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from raysweep.config.data_settings import SplitConfig, SplitName
from raysweep.corpus.splits import SPLITS, Strata, split_documents
from raysweep.errors import InputError

USUAL_SPLITS: dict[str, SplitName] = {
    **dict.fromkeys(("train", "training", "trn"), "train"),
    **dict.fromkeys(("valid", "validation", "val", "dev", "devel", "development"), "valid"),
    **dict.fromkeys(("test", "testing", "tst", "eval", "evaluation", "heldout", "held-out"), "test"),
}
TRAIN, VALID, TEST = (SPLITS.index(split) for split in ("train", "valid", "test"))

Splits = npt.NDArray[np.int8]


def read_splits(column: pa.ChunkedArray, names: Mapping[str, SplitName], *, in_file_names: bool = False) -> Splits:
    """Map names of splits to indices into `SPLITS`; −1 for an unknown name.

    Args:
        names: names in addition to the usual ones.
        in_file_names: the values are file names that contain the name of a split as a word: `A.train`, `corpus_dev`.
    """
    known = {**USUAL_SPLITS, **{name.casefold(): split for name, split in names.items()}}
    encoded = column.combine_chunks().dictionary_encode()

    def index(value: str) -> int:
        words = re.split(r"[^a-z]+", value.casefold()) if in_file_names else [value.strip().casefold()]
        splits = {known[word] for word in words if word in known}
        return SPLITS.index(splits.pop()) if len(splits) == 1 else -1

    indices = np.array([index(value) for value in encoded.dictionary.to_pylist()], dtype=np.int8)
    return np.asarray(indices[encoded.indices.to_numpy()], dtype=np.int8)


def complete_splits(
    published: Splits, strata: Strata, groups: np.ndarray, hashes: np.ndarray, shares: SplitConfig
) -> np.ndarray:
    """Keep published splits; if valid has no documents, move whole groups of documents from train to it.

    Raises:
        InputError: train or test has no documents.
    """
    counts = np.bincount(published, minlength=len(SPLITS))
    for split in (TRAIN, TEST):
        if not counts[split]:
            listed = ", ".join(f"{name} {count:,}" for name, count in zip(SPLITS, counts.tolist(), strict=True))
            raise InputError(
                f"data.columns.split: no document is in {SPLITS[split]} ({listed}). Say in data.split_names which name "
                f"stands for it, such as {{dev: {SPLITS[split]}}}, or leave out data.columns.split"
            )
    splits: np.ndarray = published.copy()
    if not counts[VALID]:
        train = np.flatnonzero(published == TRAIN)
        inside = Strata(levels=strata.levels[train], first_languages=strata.first_languages[train])
        known, own = np.unique(groups[train], return_inverse=True)
        total = shares.train + shares.valid
        # No document goes to test: its share is 0.
        asked = SplitConfig.model_construct(train=shares.train / total, valid=shares.valid / total, test=0.0)
        splits[train] = split_documents(inside, own, hashes[known], asked)
    return splits
