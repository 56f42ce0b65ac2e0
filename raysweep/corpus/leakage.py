"""Searches documents.parquet for leaks: documents of one split that another split knows.

The search reads the finished file again and hashes the texts with another function than the split used, so it
also finds errors in splitting, sorting and writing, and can check splits that raysweep did not make.  Kinds
of leak, the most obvious first:

    id        the same writing_id in two splits
    text      the same text, as `normalising.py` compares
    near      almost the same text (`near_duplicates.py`)
    learner   the same writer, as `normalising.py` compares; no leak if data.split.unit is 'prompt'
    prompt    the same writing prompt, if data.split.unit is 'prompt' or 'both'

Splits by learner share prompts (the task is the same, the answers differ): shared prompts are counted, but are not
leaks.  The same holds for shared passages of 13 words (`passages.py`).  Translations, paraphrases and learners with two
ids are not found.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from raysweep.corpus.near_duplicates import NearDuplicates, find_near_duplicates
from raysweep.corpus.passages import PASSAGE_WORDS, count_passages
from raysweep.corpus.splits import SPLITS, count_codes
from raysweep.corpus.spool import Place, Spool
from raysweep.corpus.text_groups import find_splits, known_to_earlier, near_in_other_splits, splits_of_codes
from raysweep.corpus.text_hashes import normalised_hashes, number_by_appearance, plain_hashes
from raysweep.readers.cpu_threads import map_in_threads, release_freed_memory
from raysweep.storage.atomic_files import atomic_file

logger = logging.getLogger(__name__)

Longs = npt.NDArray[np.int64]
LEAK_KINDS = ("id", "text", "near")
UNIT_KINDS = {"learner": ("learner",), "prompt": ("prompt",), "both": ("learner", "prompt")}
"""Further kinds of leak, by `data.split.unit`."""
TRAIN = SPLITS.index("train")
THRESHOLD = 0.9
_GROUPS_AT_ONCE = 4
_MISSING = np.uint64(0)
LEAKS_SCHEMA = pa.schema(
    [
        pa.field("document", pa.int64(), nullable=False),
        pa.field("split", pa.string(), nullable=False),
        pa.field("kind", pa.string(), nullable=False),
        pa.field("known_to", pa.string(), nullable=False),
    ]
)
"""`known_to` is the split that knows the document: 'train' if train does, otherwise 'valid'."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Leakage:
    """The content of leakage.json; in trustworthy splits every `…_in_two_splits` except that of prompts is 0."""

    documents: int
    ids: int  # distinct ids
    ids_in_two_splits: int
    learners: int | None  # distinct learners; None if the corpus names none
    learners_in_two_splits: int | None
    prompts: int | None  # distinct prompts; None if the corpus names none
    prompts_in_two_splits: int | None
    exact_texts: int  # distinct texts, compared without normalisation
    exact_texts_in_two_splits: int
    texts: int  # distinct normalised texts
    texts_in_two_splits: int
    repeated_texts: int  # normalised texts that more than one document has
    documents_with_repeated_texts: int
    most_documents_with_one_text: int
    near_threshold: float
    near_duplicates: int  # documents that have a near duplicate
    near_duplicates_in_two_splits: int  # documents that have a near duplicate in another split
    near_pairs: int  # pairs of similar texts with different words
    near_pairs_in_two_splits: int
    near_pairs_not_compared: int  # candidate pairs skipped because their bucket was too large
    texts_not_tied: int  # links between equal texts that were not followed (`text_groups.py`); see untied_texts.csv
    links_not_followed: int  # the same for near duplicates; documents set aside for it are in quarantine.csv
    passage_words: int  # length of a passage
    test_documents_with_passages_of_train: int
    test_documents_mostly_of_train: int  # at least half of their passages are in train too
    documents_with_passages_of_prompts: int | None  # None if no prompt is as long as a passage
    test_documents: int
    leaky_test_documents: int  # known to train or valid
    leaky_by_kind: Mapping[str, int]  # test documents, by kind of leak

    def raise_if_any(self, *, near: bool, unit: str = "learner") -> None:
        """Raise if there is a leak that grouping rules out, which is a bug of raysweep and not an input error.

        Args:
            near: whether near duplicates were grouped too.
            unit: `data.split.unit`.
        """
        divided = {"learner": self.learners_in_two_splits, "prompt": self.prompts_in_two_splits}
        others = self.ids_in_two_splits or self.texts_in_two_splits or any(divided[kind] for kind in UNIT_KINDS[unit])
        if others or (near and self.near_duplicates_in_two_splits):
            raise AssertionError(f"documents.parquet leaks between splits; please report this: {self}")


def log_leakage(leakage: Leakage) -> None:
    """Log how many near duplicates there are, and warn of leaks."""
    logger.info(
        "prepare: %s documents are almost the same as another (%s of their words or more)",
        f"{leakage.near_duplicates:,}", f"{leakage.near_threshold:.0%}",
    )  # fmt: skip
    if leakage.near_pairs_not_compared:
        logger.warning(
            "prepare: %s pairs of texts that look alike were not compared: too many look like each other",
            f"{leakage.near_pairs_not_compared:,}",
        )
    if leakage.texts_not_tied:
        logger.info(
            "prepare: %s pairs of learners with the same text stay apart: the text is short and common, or their group "
            "would be too large; see untied_texts.csv",
            f"{leakage.texts_not_tied:,}",
        )
    if leakage.leaky_test_documents:
        logger.warning(
            "prepare: %s of %s test documents are known to train or valid (%s); the report gives no verdict unless "
            "leaks are allowed",
            f"{leakage.leaky_test_documents:,}", f"{leakage.test_documents:,}",
            ", ".join(f"{kind} {count:,}" for kind, count in leakage.leaky_by_kind.items() if count),
        )  # fmt: skip


class LeakSearch:
    """Searches a finished documents.parquet of D documents for leaks."""

    def __init__(self, documents: Path, near: NearDuplicates | None = None, *, unit: str = "learner") -> None:
        """Read and compare the documents.

        Args:
            near: the near duplicates of the same documents in the same order; computed from the file if absent.
            unit: `data.split.unit`.
        """
        columns = _hash_columns(documents)
        self._splits, self._prompts, self._folder = columns.splits, columns.prompts, documents.parent
        self._kinds = (*LEAK_KINDS, *UNIT_KINDS[unit])
        self._counts: dict[str, tuple[int | None, int | None]] = {}
        self._known: dict[str, tuple[Longs, npt.NDArray[np.bool_]]] = {}
        """Kind → (K,) documents that an earlier split knows, and (K, 2) whether train and valid know each."""
        for kind, places in columns.places.items():
            codes = self._check_kind(kind, columns.spool.read_all(places, np.uint64))
            if kind == "text":
                assert codes is not None, "every document has a text"
                self._repeats, texts_of_all = count_codes(codes), codes
            del codes
        if near is None:
            texts = pq.read_table(documents, columns=["text"], page_checksum_verification=True)["text"]
            near = find_near_duplicates(texts, threshold=THRESHOLD)
        self._near = near
        in_another, any_near = near_in_other_splits(near, self._splits, texts_of_all)
        self._near_documents = int(any_near.sum()), int(in_another.any(axis=1).sum())
        self._note_known("near", in_another)
        release_freed_memory()

    def summary(self, *, texts_not_tied: int = 0, links_not_followed: int = 0) -> Leakage:
        """Count documents, repeats and leaks; the arguments are the counts of `TextGroups`."""
        passages = count_passages(self._near.sequences, self._splits, self._prompts, folder=self._folder)
        repeats = self._repeats
        is_test = self._splits == SPLITS.index("test")
        leaky = {kind: self._known[kind][0][is_test[self._known[kind][0]]] for kind in self._kinds}
        ids, learners, prompts, exact, texts = (
            self._counts[kind] for kind in ("id", "learner", "prompt", "exact", "text")
        )
        pairs = self._near.pairs
        holds = splits_of_codes(self._near.words, self._splits, count=int(pairs.max(initial=-1)) + 1)
        one, other = holds[pairs[:, 0]], holds[pairs[:, 1]]
        is_present = one.any(axis=1) & other.any(axis=1)  # neither was set aside
        is_divided = is_present & ((one | other).sum(axis=1) > 1)
        return Leakage(
            documents=len(self._splits),
            ids=ids[0] or 0,
            ids_in_two_splits=ids[1] or 0,
            learners=learners[0],
            learners_in_two_splits=learners[1],
            prompts=prompts[0],
            prompts_in_two_splits=prompts[1],
            exact_texts=exact[0] or 0,
            exact_texts_in_two_splits=exact[1] or 0,
            texts=texts[0] or 0,
            texts_in_two_splits=texts[1] or 0,
            repeated_texts=int((repeats > 1).sum()),
            documents_with_repeated_texts=int(repeats[repeats > 1].sum(dtype=np.int64)),
            most_documents_with_one_text=int(repeats.max(initial=0)),
            near_threshold=self._near.threshold,
            near_duplicates=self._near_documents[0],
            near_duplicates_in_two_splits=self._near_documents[1],
            near_pairs=int(is_present.sum()),
            near_pairs_in_two_splits=int(is_divided.sum()),
            near_pairs_not_compared=self._near.not_compared,
            texts_not_tied=texts_not_tied,
            links_not_followed=links_not_followed,
            passage_words=PASSAGE_WORDS,
            test_documents_with_passages_of_train=passages.in_train,
            test_documents_mostly_of_train=passages.mostly_in_train,
            documents_with_passages_of_prompts=passages.in_prompts,
            test_documents=int(is_test.sum()),
            leaky_test_documents=len(np.unique(np.concatenate(list(leaky.values())))),
            leaky_by_kind={kind: len(documents) for kind, documents in leaky.items()},
        )

    def write_leaks(self, path: Path) -> None:
        """Write one row for each leaking document outside train and kind of leak, by rename."""
        parts = []
        for kind in self._kinds:
            rows, known = self._known[kind]
            parts.append(
                pa.table(
                    {
                        "document": rows,
                        "split": np.array(SPLITS)[self._splits[rows]],
                        "kind": np.full(len(rows), kind),
                        "known_to": np.where(known[:, 0], "train", "valid"),
                    },
                    schema=LEAKS_SCHEMA,
                )
            )
        with atomic_file(path) as temporary:
            pq.write_table(pa.concat_tables(parts), temporary, compression="zstd", write_page_checksum=True)

    def _check_kind(self, kind: str, hashes: npt.NDArray[np.uint64]) -> npt.NDArray[np.int32] | None:
        """Count the distinct values of a kind and those in more than one split, and find the documents that leak.

        Returns:
            (D,) a code for each document's value, −1 if it is missing; None if all are missing.
        """
        if not hashes.any():
            self._counts[kind] = None, None
            self._known[kind] = np.zeros(0, dtype=np.int64), np.zeros((0, 2), dtype=np.bool_)
            return None
        is_there = hashes != _MISSING
        if is_there.all():
            codes, _ = number_by_appearance(hashes)
        else:
            codes = np.full(len(hashes), -1, dtype=np.int32)
            codes[is_there], _ = number_by_appearance(hashes[is_there])
        del hashes
        of_codes = splits_of_codes(codes, self._splits)
        self._counts[kind] = len(of_codes), int((of_codes.sum(axis=1) > 1).sum())
        if kind in self._kinds:
            self._note_known(kind, find_splits(codes, self._splits))
        return codes

    def _note_known(self, kind: str, others: npt.NDArray[np.bool_]) -> None:
        known = known_to_earlier(others, self._splits)
        documents = np.flatnonzero(known.any(axis=1))
        self._known[kind] = documents, known[documents]


@dataclass(frozen=True, kw_only=True, slots=True)
class _HashedColumns:
    """The columns of D documents that the search needs."""

    splits: npt.NDArray[np.int8]
    prompts: list[str]  # distinct prompts
    spool: Spool
    places: dict[str, list[Place]]  # kind → hashes of each block; `_MISSING` for a missing value


def _hash_columns(documents: Path) -> _HashedColumns:
    with pq.ParquetFile(documents) as file:
        groups = file.num_row_groups
    blocks = [range(start, min(start + _GROUPS_AT_ONCE, groups)) for start in range(0, groups, _GROUPS_AT_ONCE)]
    spool, splits = Spool(documents.parent), [np.zeros(0, dtype=np.int8)]
    places: dict[str, list[Place]] = {}
    prompts: dict[str, None] = {}
    for of_block, of_prompts, hashes in map_in_threads(lambda block: _hash_groups(documents, block), blocks):
        splits.append(of_block)
        prompts |= dict.fromkeys(of_prompts)
        for kind, values in hashes.items():
            places.setdefault(kind, []).append(spool.append(values))
    return _HashedColumns(splits=np.concatenate(splits), prompts=list(prompts), spool=spool, places=places)


def _hash_groups(
    documents: Path, groups: range
) -> tuple[npt.NDArray[np.int8], list[str], dict[str, npt.NDArray[np.uint64]]]:
    """Read the documents of some row groups: their splits, their distinct prompts, and hashes by kind."""
    with pq.ParquetFile(documents, page_checksum_verification=True) as file:
        names = ["writing_id", "learner", "prompt", "split", "text"]
        table = file.read_row_groups(list(groups), columns=names, use_threads=False).combine_chunks()
    columns = ([chunk.cast(pa.large_string()) for chunk in table[name].chunks] for name in names)
    ids, learners, prompts, splits, texts = map(pa.concat_arrays, columns)
    hashes = {
        "id": plain_hashes(ids),
        "learner": _hash_distinct(learners),
        "prompt": _hash_distinct(prompts),
        "exact": plain_hashes(texts),
        "text": normalised_hashes(texts),
    }
    codes = pc.index_in(splits, pa.array(SPLITS, pa.large_string())).to_numpy().astype(np.int8)
    return codes, [prompt for prompt in pc.unique(prompts).to_pylist() if prompt is not None], hashes


def _hash_distinct(column: pa.Array) -> npt.NDArray[np.uint64]:
    """Hash the normalised values; `_MISSING` for a missing value."""
    encoded = column.dictionary_encode()
    hashes: npt.NDArray[np.uint64] = np.append(normalised_hashes(encoded.dictionary), _MISSING)
    places: Longs = pc.fill_null(encoded.indices, -1).to_numpy()
    return hashes[places]
