"""Counts the documents of a bundle once more, and holds the corpus's summaries against them.

The summaries (`splits.json`, `leakage.json`) were written from the texts; these counts come from the
rows of `documents.parquet` alone: who wrote what at which level, in which split, how long.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from raysweep.storage.atomic_files import read_json
from raysweep.storage.run_folder import RunFolder

Values = dict[str, Any]


def recount(folder: RunFolder) -> Iterator[tuple[str, Any, Any]]:
    """Every count of the summaries that can be made again: its place, as stated, as counted."""
    documents = pq.read_table(folder.documents).to_pandas()
    if folder.splits.exists():
        stated = read_json(folder.splits)
        yield from _compare("corpus/splits.json", stated, _count_splits(documents, stated["levels"]))
    if folder.leakage.exists():
        yield from _compare("corpus/leakage.json", read_json(folder.leakage), _count_learners(documents))


def _count_splits(documents: pd.DataFrame, levels: list[str]) -> Values:
    lengths = {}
    for level in levels:
        of_level = documents.loc[documents["level"] == level, "characters"].to_numpy()
        if len(of_level):
            lengths[level] = {"documents": len(of_level), "mean": round(float(np.mean(of_level)), 2)}
    return {
        "documents": len(documents),
        "counts": {level: _by_split(documents, "level", level) for level in levels},
        "lengths": lengths,
    }


def _count_learners(documents: pd.DataFrame) -> Values:
    named = documents.dropna(subset=["learner"])
    splits = named.groupby("learner")["split"].nunique()
    learners = len(splits) or None
    return {
        "documents": len(documents),
        "learners": learners,
        "learners_in_two_splits": int((splits > 1).sum()) if learners else None,
    }


def _by_split(documents: pd.DataFrame, column: str, value: str) -> Values:
    found = documents.loc[documents[column] == value, "split"].value_counts()
    return {split: int(found.get(split, 0)) for split in ("train", "valid", "test")}


def _compare(place: str, stated: Any, counted: Any) -> Iterator[tuple[str, Any, Any]]:
    """Leaves that are both stated and counted; whatever else a summary says is left to its digest."""
    if not isinstance(counted, dict):
        yield place, stated, counted
        return
    for name in counted.keys() & stated.keys():
        yield from _compare(f"{place}.{name}" if ": " in place else f"{place}: {name}", stated[name], counted[name])
