"""The prepare stage: the files of a corpus → documents.parquet, quarantine.csv, untied_texts.csv, leakage.json,
leaks.parquet and, last, splits.json.

Documents are sorted by writing_id and numbered in that order, so the order of the rows cannot change a byte of
documents.parquet, unless their numbers are the ids.  splits.json records that the stage is done: it is removed
before anything else is replaced, and written last.
"""

import csv as csv_module
import logging
import re
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from raysweep.config.data_settings import ColumnsConfig, DataConfig
from raysweep.corpus.corpus_notes import note_oddities
from raysweep.corpus.corpus_rows import Corpus, bad_repeats, read_corpus
from raysweep.corpus.documents import DOCUMENTS_PER_ROW_GROUP, Progress, sort_documents, sort_order, write_documents
from raysweep.corpus.leakage import LeakSearch, log_leakage
from raysweep.corpus.near_duplicates import blocks_of, find_near_duplicates
from raysweep.corpus.published_splits import complete_splits
from raysweep.corpus.quarantine import (
    CROSSED,
    NEAR_DUPLICATE,
    SAME_TEXT,
    check_bad_rows,
    count_by_reason,
    write_quarantine,
)
from raysweep.corpus.sample import SYNTHETIC_NOTICE, SYNTHETIC_PREFIX
from raysweep.corpus.split_units import check_unit, grouped_by, split_prompts, unit_shares
from raysweep.corpus.splits import SPLITS, Strata, group_documents, hash_texts, split_documents
from raysweep.corpus.text_groups import TextGroups, find_divided, group_by_text
from raysweep.errors import InputError
from raysweep.readers.cpu_threads import map_in_threads
from raysweep.readers.raw_columns import show_cell
from raysweep.storage.atomic_files import atomic_file, read_json, write_json
from raysweep.storage.printable import spreadsheet_safe
from raysweep.storage.run_folder import RunFolder

logger = logging.getLogger(__name__)

PUBLISHED = "published splits"
JOINT = "\n\n\n"  # between documents in ILM's text files


@dataclass(frozen=True, kw_only=True, slots=True)
class CorpusSummary:
    """What splits.json says about a prepared corpus."""

    rows: int  # data rows of the files: documents and bad rows
    documents: int
    bad_rows: dict[str, int]  # by reason
    notes: dict[str, int]  # what a person should look at → documents
    language: str  # of the texts, as an ISO 639 code
    synthetic: bool
    notice: str | None  # what a reader must know about a synthetic corpus
    seed: int
    levels: tuple[str, ...]  # as configured, lowest first
    counts: dict[str, dict[str, int]]  # level → split → documents
    first_languages: dict[str, dict[str, int]]  # L1 → split → documents
    asked: dict[str, float]  # split → share of documents, as configured
    reached: dict[str, dict[str, float]]  # level → split → share of the level's documents
    grouped_by: str  # what stays in one split: "learner and text", "text" or `PUBLISHED`
    groups: int
    largest_group: int  # documents
    lengths: dict[str, dict[str, float]]  # level → documents, characters, mean, median, longest


def prepare_corpus(
    files: Path | Sequence[Path],
    folder: RunFolder,
    data: DataConfig,
    *,
    seed: int,
    columns: ColumnsConfig | None = None,
    on_progress: Progress | None = None,
) -> CorpusSummary:
    """Read, set bad rows aside, split, write, and check that nothing leaks.

    Args:
        columns: instead of `data.columns`; `SAMPLE_COLUMNS` for the sample corpus.

    Raises:
        InputError: a file cannot be used, or more than `data.max_bad_fraction` of its rows are bad;
            quarantine.csv then lists them.
    """
    report = on_progress or (lambda _phase, _done, _total: None)
    report("read", 0, 1)
    corpus = read_corpus(files, data, columns)
    name = corpus.files[0] if len(corpus.files) == 1 else f"{len(corpus.files):,} files"
    report("read", corpus.rows, corpus.rows)
    folder.splits.unlink(missing_ok=True)
    write_quarantine(folder.quarantine, corpus.bad_rows)
    check_bad_rows(
        corpus.bad_rows,
        rows=corpus.rows,
        documents=corpus.documents.num_rows,
        what=name,
        data=data,
        quarantine=folder.quarantine,
    )
    _write_cleaned_texts(folder.cleaned_texts, corpus)

    order, documents = sort_order(corpus.documents), sort_documents(corpus.documents)
    texts = _hash_all(documents["text"], seed, report)
    unit, shares = data.split.unit, unit_shares(data.split)
    check_unit(documents, unit)
    has_learners = documents["learner"].null_count == 0
    groups, hashes = group_documents(texts, documents["learner"] if has_learners else None, seed)
    report("compare", 0, len(texts))
    near = find_near_duplicates(documents["text"], threshold=data.near_duplicates.threshold)
    report("compare", len(texts), len(texts))
    is_near_grouped = data.near_duplicates.action == "group"
    text_codes = np.unique(texts, return_inverse=True)[1]
    grouped = group_by_text(groups, hashes, text_codes, near, is_near_grouped=is_near_grouped)
    groups = grouped.groups
    strata, names = _stratify(documents, data.levels)
    is_published = corpus.splits is not None
    if corpus.splits is not None:
        splits = complete_splits(corpus.splits[order], strata, groups, grouped.hashes, data.split)
        same_text = almost = crossed = np.zeros(len(splits), dtype=bool)
    else:
        by_learner = split_documents(strata, groups, grouped.hashes, shares)
        by_prompt = by_learner
        if unit != "learner":
            by_prompt = split_prompts(documents["prompt"], strata.levels, data.levels, shares, seed)
        splits, crossed = by_prompt, (by_learner != by_prompt) & (unit == "both")
        same_text, almost = find_divided(near, splits, text_codes, is_near_grouped=is_near_grouped)
        same_text, almost = same_text & ~crossed, almost & ~crossed
    _write_untied_texts(folder.untied_texts, documents, grouped, text_codes, same_text)
    if (divided := same_text | almost | crossed).any():
        bad = bad_repeats(corpus, order[same_text], SAME_TEXT) + bad_repeats(corpus, order[almost], NEAR_DUPLICATE)
        bad += bad_repeats(corpus, order[crossed], CROSSED)
        place = {file: number for number, file in enumerate(corpus.files)}
        in_order = sorted([*corpus.bad_rows, *bad], key=lambda bad: (place[bad.file], bad.row))
        corpus = replace(corpus, bad_rows=tuple(in_order))
        write_quarantine(folder.quarantine, corpus.bad_rows)
        documents, splits, groups = documents.filter(pa.array(~divided)), splits[~divided], groups[~divided]
        near, strata = near.filtered(~divided), _stratify(documents, data.levels)[0]
    write_documents(folder.documents, documents, splits, report)

    report("check", 0, len(splits))
    search = LeakSearch(folder.documents, near, unit=unit)
    leakage = search.summary(grouped)
    if not is_published:
        leakage.raise_if_any(near=is_near_grouped, unit=unit)
    log_leakage(leakage)
    search.write_leaks(folder.leaks)
    write_json(folder.leakage, asdict(leakage))
    report("check", len(splits), len(splits))

    synthetic = bool(pc.all(pc.starts_with(documents["writing_id"], SYNTHETIC_PREFIX)).as_py())
    counts = _cross_count(strata.levels, splits, data.levels)
    summary = CorpusSummary(
        rows=corpus.rows,
        documents=len(splits),
        bad_rows=count_by_reason(corpus.bad_rows),
        notes={**corpus.notes, **note_oddities(documents, leakage.most_documents_with_one_text)},
        language=data.language,
        synthetic=synthetic,
        notice=SYNTHETIC_NOTICE if synthetic else None,
        seed=seed,
        levels=data.levels,
        counts=counts,
        first_languages=_cross_count(strata.first_languages, splits, names),
        asked={"train": data.split.train, "valid": data.split.valid, "test": data.split.test},
        reached={level: _shares(by_split) for level, by_split in counts.items()},
        grouped_by=PUBLISHED if is_published else grouped_by(unit, has_learners=has_learners),
        groups=len(grouped.hashes),
        largest_group=int(np.bincount(groups).max()),
        lengths=_lengths(documents["text"], strata.levels, data.levels),
    )
    _log(name, summary, corpus)
    write_json(folder.splits, asdict(summary))
    return summary


def read_summary(folder: RunFolder) -> CorpusSummary:
    """Read what `prepare_corpus` returned.

    Raises:
        InputError: the corpus is not prepared, or splits.json has another format.
    """
    if not folder.splits.exists():
        raise InputError(f"{folder.splits}: no such file; the corpus is not prepared. Run the prepare stage")
    fields: dict[str, Any] = read_json(folder.splits)
    try:
        return CorpusSummary(**{**fields, "levels": tuple(fields["levels"])})
    except (TypeError, KeyError) as error:
        raise InputError(f"{folder.splits}: not a record of this version ({error}); delete it") from error


def export_ilm_texts(folder: RunFolder, models: Mapping[str, tuple[str, ...]]) -> int:
    """Write every model's documents in the format of the original ILM code, a file per split.

    Documents are joined by three newlines, in the order of documents.parquet.  A document that holds three
    newlines would be split in two, and one that begins or ends with a newline would blur the joint, so line
    breaks of such documents are changed.

    Args:
        models: the levels whose documents each model sees.

    Returns:
        Documents whose line breaks were changed.
    """
    changed = 0
    with ExitStack() as stack:
        files = {}
        for place in product(models, SPLITS):
            path = stack.enter_context(atomic_file(folder.ilm_text(*place)))
            files[place] = stack.enter_context(path.open("w", encoding="utf-8", newline="\n"))
        joints = dict.fromkeys(files, "")
        file = stack.enter_context(pq.ParquetFile(folder.documents, page_checksum_verification=True))
        for batch in file.iter_batches(batch_size=DOCUMENTS_PER_ROW_GROUP, columns=["level", "split", "text"]):
            for level, split, text in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                whole = _keep_whole(text)
                changed += whole != text
                for model in (model for model, levels in models.items() if level in levels):
                    files[model, split].write(joints[model, split] + whole)
                    joints[model, split] = JOINT
    logger.info("prepare: %s documents had line breaks changed for ILM's text format", f"{changed:,}")
    return changed


def _hash_all(texts: pa.ChunkedArray, seed: int, report: Progress) -> np.ndarray:
    parts, done = [np.zeros(0, dtype=np.uint64)], 0
    report("split", 0, len(texts))
    for hashes in map_in_threads(lambda block: hash_texts(block, seed), blocks_of(texts)):
        parts.append(hashes)
        done += len(hashes)
        report("split", done, len(texts))
    return np.concatenate(parts)


def _write_untied_texts(
    path: Path, documents: pa.Table, grouped: TextGroups, texts: np.ndarray, set_aside: np.ndarray
) -> None:
    """List the texts that several groups share and that do not tie them; the file is never published."""
    codes, firsts, counts = np.unique(texts[grouped.untied], return_index=True, return_counts=True)
    aside = np.bincount(texts[grouped.untied & set_aside], minlength=int(texts.max(initial=0)) + 1)[codes]
    shown = documents["text"].take(pa.array(np.flatnonzero(grouped.untied)[firsts])).to_pylist()
    with atomic_file(path) as beside, beside.open("w", newline="", encoding="utf-8") as file:
        writer = csv_module.writer(file, lineterminator="\n")
        writer.writerow(["documents", "set_aside", "text"])
        for place in np.argsort(-counts, kind="stable").tolist():
            writer.writerow([counts[place], aside[place], show_cell(shown[place].encode())])


def _write_cleaned_texts(path: Path, corpus: Corpus) -> None:
    """List the first texts that lost their markup, before and after; the file is never published."""
    if not corpus.cleaned.samples:
        path.unlink(missing_ok=True)
        return
    with atomic_file(path) as beside, beside.open("w", newline="", encoding="utf-8") as file:
        writer = csv_module.writer(file, lineterminator="\n")
        writer.writerow(["writing_id", "before", "after"])
        writer.writerows([spreadsheet_safe(cell) for cell in sample] for sample in corpus.cleaned.samples)


def _stratify(documents: pa.Table, levels: tuple[str, ...]) -> tuple[Strata, list[str]]:
    """Number the levels in the configured order, and the first languages by name; returns the latter names too."""
    names = sorted(pc.unique(documents["l1"]).to_pylist())
    level_codes = pc.index_in(documents["level"], pa.array(levels, pa.large_string())).to_numpy()
    language_codes = pc.index_in(documents["l1"], pa.array(names, pa.large_string())).to_numpy()
    return Strata(levels=level_codes, first_languages=language_codes), names


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


def _log(name: str, summary: CorpusSummary, corpus: Corpus) -> None:
    logger.info(
        "prepare: %s: %s rows → %s documents, %s set aside", name, f"{summary.rows:,}", f"{summary.documents:,}",
        f"{len(corpus.bad_rows):,}",
    )  # fmt: skip
    for level, counts in {} if summary.grouped_by == PUBLISHED else summary.counts.items():
        documents = sum(counts.values())
        asked = {split: share * documents for split, share in summary.asked.items()}
        if any(n == 0 or abs(n - asked[split]) > max(1.0, 0.001 * documents) for split, n in counts.items()):
            reached = ", ".join(f"{split} {n:,} (asked {asked[split]:,.0f})" for split, n in counts.items())
            logger.warning(
                "prepare: level %s: %s; groups by %s stay in one split, the largest has %s documents",
                level, reached, summary.grouped_by, f"{summary.largest_group:,}",
            )  # fmt: skip


def _keep_whole(text: str) -> str:
    """The text without anything that ILM reads as a joint; its reader treats every kind of line end as a newline."""
    if "\n" not in text and "\r" not in text:
        return text
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    return re.sub(r"\n{3,}", "\n\n", text).strip("\n")
