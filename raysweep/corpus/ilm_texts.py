"""Writes the splits in the text format of the original ILM code, so that people can move over.

A model's folder holds train.txt, valid.txt and test.txt: documents joined by three newlines.  A
document that holds three newlines itself would fall apart there, and one that begins or ends with a
newline would blur the joint; these are changed, and counted.
"""

import re
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TextIO

import pyarrow.parquet as pq

from raysweep.corpus.splits import SPLITS
from raysweep.store import RunFolder, written_beside

JOINT = "\n\n\n"


@dataclass(frozen=True, kw_only=True, slots=True)
class IlmText:
    """One file that was written."""

    documents: int
    changed: int  # documents whose line breaks had to be changed to keep them whole


def export_ilm_texts(folder: RunFolder, models: Mapping[str, tuple[str, ...]]) -> dict[str, dict[str, IlmText]]:
    """Write every model's documents, in the order of documents.parquet, a file per split.

    Args:
        models: the levels whose documents each model sees.

    Returns:
        model → split → what was written.
    """
    with ExitStack() as stack:
        writers = {
            (model, split): _Writer(
                stack.enter_context(
                    stack.enter_context(written_beside(folder.ilm_text(model, split))).open(
                        "w", encoding="utf-8", newline="\n"
                    )
                )
            )
            for model in models
            for split in SPLITS
        }
        with pq.ParquetFile(folder.documents) as file:
            for batch in file.iter_batches(batch_size=8192, columns=["level", "split", "text"]):
                for level, split, text in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                    for model, levels in models.items():
                        if level in levels:
                            writers[model, split].add(text)
    return {model: {split: writers[model, split].summary() for split in SPLITS} for model in models}


class _Writer:
    """A file that grows by documents."""

    def __init__(self, file: TextIO) -> None:
        self.file = file
        self.documents = 0
        self.changed = 0

    def add(self, text: str) -> None:
        whole = _keep_whole(text)
        self.file.write(JOINT + whole if self.documents else whole)
        self.documents += 1
        self.changed += whole != text

    def summary(self) -> IlmText:
        return IlmText(documents=self.documents, changed=self.changed)


def _keep_whole(text: str) -> str:
    """The text without what would read as a joint; ILM's reader takes every kind of line end for a newline."""
    if "\n" not in text and "\r" not in text:
        return text
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    return re.sub(r"\n{3,}", "\n\n", text).strip("\n")
