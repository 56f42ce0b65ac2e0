"""The prepare stage: a CSV → documents.parquet, quarantine.csv, leakage.json and, last, splits.json.

Documents are sorted by writing_id and numbered in that order, so the CSV's row order cannot change a
byte of documents.parquet.  Its row groups hold 8,192 documents, to be read one by one.  splits.json is
the record that the stage is done: it is removed before anything else is replaced, and written last.
"""

import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from raysweep.config.schema import ColumnsConfig, DataConfig
from raysweep.corpus.leakage import find_leakage
from raysweep.corpus.reading import Corpus, check_bad_rows, read_corpus, write_quarantine
from raysweep.corpus.sample import SYNTHETIC_NOTICE, SYNTHETIC_PREFIX
from raysweep.corpus.splits import SPLITS, Strata, group_documents, hash_texts, split_documents
from raysweep.errors import InputError
from raysweep.store import RunFolder, read_json, write_json, written_beside

logger = logging.getLogger(__name__)

DOCUMENTS_PER_ROW_GROUP = 8192
SCHEMA = pa.schema(
    [
        pa.field("document", pa.int64(), nullable=False),
        pa.field("writing_id", pa.string(), nullable=False),
        pa.field("l1", pa.string(), nullable=False),
        pa.field("level", pa.string(), nullable=False),
        pa.field("split", pa.string(), nullable=False),
        pa.field("learner", pa.string()),
        pa.field("prompt", pa.string()),
        pa.field("text", pa.string(), nullable=False),
    ]
)

Progress = Callable[[str, int, int], None]
"""Called with a phase (read, split, write, check), what is done and what there is, in documents or rows."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CorpusSummary:
    """What splits.json says about a prepared corpus."""

    rows: int  # data rows of the CSV: documents and bad rows
    documents: int
    bad_rows: dict[str, int]  # by reason
    synthetic: bool
    notice: str | None  # what a reader must know about a synthetic corpus
    seed: int
    levels: tuple[str, ...]  # as configured, lowest first
    counts: dict[str, dict[str, int]]  # level → split → documents
    first_languages: dict[str, dict[str, int]]  # L1 → split → documents
    asked: dict[str, float]  # split → share of documents
    reached: dict[str, dict[str, float]]  # level → split → share of the level's documents
    grouped_by: str  # what is not divided: "learner and text", or "text"
    groups: int
    largest_group: int  # documents
    lengths: dict[str, dict[str, float]]  # level → documents, characters, mean, median, longest


def prepare_corpus(
    csv: Path,
    folder: RunFolder,
    data: DataConfig,
    *,
    seed: int,
    columns: ColumnsConfig | None = None,
    on_progress: Progress | None = None,
) -> CorpusSummary:
    """Read, set bad rows aside, split, write, and prove that nothing leaks.

    Args:
        columns: instead of `data.columns`; `SAMPLE_COLUMNS` for the sample corpus.

    Raises:
        InputError: the CSV cannot be used, or more than `data.max_bad_fraction` of its rows are bad;
            quarantine.csv then lists them.
    """
    report = on_progress or _stay_silent
    report("read", 0, 1)
    corpus = read_corpus(csv, data, columns)
    report("read", corpus.rows, corpus.rows)
    folder.splits.unlink(missing_ok=True)
    write_quarantine(folder.quarantine, corpus.bad_rows)
    check_bad_rows(corpus, csv, data, folder.quarantine)

    documents = _sort_documents(corpus.documents)
    texts = _hash_all(documents["text"], seed, report)
    has_learners = documents["learner"].null_count == 0
    learners = documents["learner"].combine_chunks() if has_learners else None
    groups, hashes = group_documents(texts, learners, seed)
    strata, names = _stratify(documents, data.levels)
    splits = split_documents(strata, groups, hashes, data.split)
    _write_documents(folder.documents, documents, splits, report)

    report("check", 0, len(splits))
    leakage = find_leakage(folder.documents)
    leakage.raise_if_any()
    write_json(folder.leakage, asdict(leakage))
    report("check", len(splits), len(splits))

    synthetic = bool(pc.all(pc.starts_with(documents["writing_id"], SYNTHETIC_PREFIX)).as_py())
    counts = _cross_count(strata.levels, splits, data.levels)
    summary = CorpusSummary(
        rows=corpus.rows,
        documents=len(splits),
        bad_rows=corpus.bad_by_reason(),
        synthetic=synthetic,
        notice=SYNTHETIC_NOTICE if synthetic else None,
        seed=seed,
        levels=data.levels,
        counts=counts,
        first_languages=_cross_count(strata.first_languages, splits, names),
        asked={"train": data.split.train, "valid": data.split.valid, "test": data.split.test},
        reached={level: _shares(each) for level, each in counts.items()},
        grouped_by="learner and text" if has_learners else "text",
        groups=len(hashes),
        largest_group=int(np.bincount(groups).max()),
        lengths=_lengths(documents["text"], strata.levels, data.levels),
    )
    _log(csv, summary, corpus)
    write_json(folder.splits, asdict(summary))
    return summary


def read_summary(folder: RunFolder) -> CorpusSummary:
    """Read back what `prepare_corpus` returned.

    Raises:
        InputError: the corpus is not prepared, or splits.json is not one of ours.
    """
    if not folder.splits.exists():
        raise InputError(f"{folder.splits}: no such file; the corpus is not prepared. Run the prepare stage")
    fields: dict[str, Any] = read_json(folder.splits)
    try:
        return CorpusSummary(**{**fields, "levels": tuple(fields["levels"])})
    except (TypeError, KeyError) as error:
        raise InputError(f"{folder.splits}: not a record of this version ({error}); delete it") from error


def _stay_silent(_phase: str, _done: int, _total: int) -> None:
    pass


def _sort_documents(documents: pa.Table) -> pa.Table:
    order = pc.sort_indices(documents["writing_id"].combine_chunks())
    return pa.table({name: documents[name].combine_chunks().take(order) for name in documents.column_names})


def _hash_all(texts: pa.ChunkedArray, seed: int, report: Progress) -> np.ndarray:
    hashes = np.empty(len(texts), dtype=np.uint64)
    for start in range(0, len(texts), DOCUMENTS_PER_ROW_GROUP):
        report("split", start, len(texts))
        part = texts.slice(start, DOCUMENTS_PER_ROW_GROUP).to_pylist()
        hashes[start : start + len(part)] = hash_texts(part, seed)
    report("split", len(texts), len(texts))
    return hashes


def _stratify(documents: pa.Table, levels: tuple[str, ...]) -> tuple[Strata, list[str]]:
    """Codes of levels (in the configured order) and first languages (in that of their names, returned too)."""
    names = sorted(pc.unique(documents["l1"]).to_pylist())
    level_codes = pc.index_in(documents["level"], pa.array(levels, pa.large_string())).to_numpy()
    language_codes = pc.index_in(documents["l1"], pa.array(names, pa.large_string())).to_numpy()
    return Strata(levels=level_codes, first_languages=language_codes), names


def _write_documents(path: Path, documents: pa.Table, splits: np.ndarray, report: Progress) -> None:
    split_names = pa.array(SPLITS).take(pa.array(splits))
    with written_beside(path) as beside:
        options = {"compression": "zstd", "use_dictionary": ["l1", "level", "split", "learner", "prompt"]}
        with pq.ParquetWriter(beside, SCHEMA, **options) as writer:
            for start in range(0, len(splits), DOCUMENTS_PER_ROW_GROUP):
                report("write", start, len(splits))
                part = documents.slice(start, DOCUMENTS_PER_ROW_GROUP)
                columns = {name: part[name].cast(pa.string()) for name in part.column_names}
                columns["document"] = pa.array(np.arange(start, start + part.num_rows, dtype=np.int64))
                columns["split"] = split_names.slice(start, DOCUMENTS_PER_ROW_GROUP)
                writer.write_table(pa.table([columns[name] for name in SCHEMA.names], schema=SCHEMA))
    report("write", len(splits), len(splits))


def _cross_count(
    codes: np.ndarray, splits: np.ndarray, names: list[str] | tuple[str, ...]
) -> dict[str, dict[str, int]]:
    counts = np.bincount(codes.astype(np.int64) * len(SPLITS) + splits, minlength=len(names) * len(SPLITS))
    rows = counts.reshape(len(names), len(SPLITS)).tolist()
    return {name: dict(zip(SPLITS, row, strict=True)) for name, row in zip(names, rows, strict=True)}


def _shares(counts: dict[str, int]) -> dict[str, float]:
    total = sum(counts.values())
    return {split: round(count / total, 6) if total else 0.0 for split, count in counts.items()}


def _lengths(texts: pa.ChunkedArray, codes: np.ndarray, levels: tuple[str, ...]) -> dict[str, dict[str, float]]:
    characters = pc.utf8_length(texts).to_numpy()
    return {level: _length_figures(characters[codes == code]) for code, level in enumerate(levels)}


def _length_figures(characters: np.ndarray) -> dict[str, float]:
    some = len(characters) > 0
    return {
        "documents": len(characters),
        "characters": int(characters.sum()),
        "mean": round(float(characters.mean()), 2) if some else 0.0,
        "median": float(np.median(characters)) if some else 0.0,
        "longest": int(characters.max()) if some else 0,
    }


def _log(csv: Path, summary: CorpusSummary, corpus: Corpus) -> None:
    logger.info(
        "prepare: %s: %s rows → %s documents, %s set aside", csv.name, f"{summary.rows:,}", f"{summary.documents:,}",
        f"{len(corpus.bad_rows):,}",
    )  # fmt: skip
    for level, counts in summary.counts.items():
        empty = [split for split, count in counts.items() if count == 0]
        if empty:
            logger.warning("prepare: level %s has no documents in %s", level, ", ".join(empty))
