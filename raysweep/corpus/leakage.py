"""Proves from documents.parquet itself that no document of one split is known to another.

The proof reads the finished file again and works the texts out anew, with a hash other than the one
that splits were made by, so a fault in making the splits, sorting or writing cannot hide.
"""

from dataclasses import asdict, dataclass
from hashlib import blake2b
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from raysweep.corpus.documents import DOCUMENTS_PER_ROW_GROUP
from raysweep.corpus.splits import SPLITS, normalise_text


@dataclass(frozen=True, kw_only=True, slots=True)
class Leakage:
    """What leakage.json says; each `…_in_two_splits` is 0 in a corpus that can be used."""

    documents: int
    ids: int  # distinct ones
    ids_in_two_splits: int
    learners: int | None  # distinct ones; None if the corpus names none
    learners_in_two_splits: int | None
    texts: int  # distinct normalised ones
    texts_in_two_splits: int
    repeated_texts: int  # normalised texts that more than one document has
    documents_with_repeated_texts: int
    most_documents_with_one_text: int

    def raise_if_any(self) -> None:
        """Stop on a leak: the splits are ours, so it is our fault and no input error."""
        if self.ids_in_two_splits or self.learners_in_two_splits or self.texts_in_two_splits:
            raise AssertionError(f"documents.parquet leaks between splits; please report this: {asdict(self)}")


def find_leakage(documents: Path) -> Leakage:
    """Look for ids, learners and normalised texts that stand in two splits."""
    table = pq.read_table(documents, columns=["writing_id", "learner", "split"])
    splits = table["split"].combine_chunks().dictionary_encode().indices.to_numpy().astype(np.int64)
    ids, ids_in_two = _count_divided(table["writing_id"].combine_chunks(), splits)
    has_learners = table["learner"].null_count < table.num_rows
    learners, learners_in_two = (
        _count_divided(table["learner"].combine_chunks(), splits) if has_learners else (None, None)
    )
    texts = _digests(documents)
    distinct, texts_in_two = _count_divided(texts, splits)
    repeats = pc.value_counts(texts).field("counts").to_numpy()
    return Leakage(
        documents=table.num_rows,
        ids=ids,
        ids_in_two_splits=ids_in_two,
        learners=learners,
        learners_in_two_splits=learners_in_two,
        texts=distinct,
        texts_in_two_splits=texts_in_two,
        repeated_texts=int((repeats > 1).sum()),
        documents_with_repeated_texts=int(repeats[repeats > 1].sum()),
        most_documents_with_one_text=int(repeats.max()),
    )


def _count_divided(values: pa.Array, splits: np.ndarray) -> tuple[int, int]:
    """How many distinct values there are, and how many of them stand in more than one split."""
    encoded = values.dictionary_encode()
    codes = encoded.indices.to_numpy().astype(np.int64)
    pairs = np.unique(codes * len(SPLITS) + splits)
    per_value = np.bincount(pairs // len(SPLITS))
    return len(encoded.dictionary), int((per_value > 1).sum())


def _digests(documents: Path) -> pa.Array:
    """A 128-bit hash of every document's normalised text, in the file's order."""
    digests = []
    with pq.ParquetFile(documents) as file:
        for batch in file.iter_batches(batch_size=DOCUMENTS_PER_ROW_GROUP, columns=["text"]):
            digests += [
                blake2b(normalise_text(text).encode("utf-8", "surrogatepass"), digest_size=16).digest()
                for text in batch.column(0).to_pylist()
            ]
    return pa.array(digests, pa.binary(16))
