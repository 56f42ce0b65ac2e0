"""The prepare stage: the files of a corpus → documents.parquet, quarantine.csv, untied_texts.csv, leakage.json,
leaks.parquet and, last, splits.json.

Documents are sorted by writing_id and numbered in that order, so the order of the rows cannot change a byte of
documents.parquet, unless the row numbers serve as ids.  splits.json records that the stage is done: it is removed
before anything else is replaced, and written last.
"""

import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from raysweep.config.data_settings import ColumnsConfig, DataConfig
from raysweep.corpus.cleaning import CleanedTexts
from raysweep.corpus.corpus_notes import note_oddities
from raysweep.corpus.corpus_rows import RowReader, bad_repeats
from raysweep.corpus.document_facts import gather_facts
from raysweep.corpus.documents import DOCUMENTS_PER_ROW_GROUP, Progress, write_document_blocks
from raysweep.corpus.leakage import LeakSearch, log_leakage
from raysweep.corpus.near_duplicates import BLOCK_DOCUMENTS
from raysweep.corpus.published_splits import complete_splits
from raysweep.corpus.quarantine import (
    CROSSED,
    NEAR_DUPLICATE,
    SAME_TEXT,
    check_bad_rows,
    count_by_reason,
    write_quarantine,
)
from raysweep.corpus.row_checks import FILE_NUMBER, ROW
from raysweep.corpus.sample import SYNTHETIC_NOTICE
from raysweep.corpus.sorted_documents import SortedDocuments, spool_rows
from raysweep.corpus.split_units import check_unit, grouped_by, split_prompts, unit_shares
from raysweep.corpus.splits import SPLITS, count_codes, group_documents, split_documents
from raysweep.corpus.text_groups import TextGroups, find_divided, group_by_text
from raysweep.errors import InputError
from raysweep.readers.cpu_threads import MapBlocks, map_blocks_in_threads, map_in_threads, release_freed_memory
from raysweep.readers.raw_columns import show_cell
from raysweep.storage.atomic_files import atomic_file, csv_writer, read_json, write_json
from raysweep.storage.printable import spreadsheet_safe
from raysweep.storage.run_folder import RunFolder

logger = logging.getLogger(__name__)

PUBLISHED = "published splits"
JOINT = "\n\n\n"  # between documents in ILM's text files


@dataclass(frozen=True, kw_only=True, slots=True)
class CorpusSummary:
    """The content of splits.json for a prepared corpus."""

    rows: int  # data rows of the files: documents and bad rows
    documents: int
    bad_rows: dict[str, int]  # by reason
    notes: dict[str, int]  # note for a person → number of documents
    language: str  # ISO 639 code of the texts' language
    synthetic: bool
    notice: str | None  # a warning, shown with the results, that the corpus is synthetic
    seed: int
    levels: tuple[str, ...]  # as configured, lowest first
    counts: dict[str, dict[str, int]]  # level → split → documents
    first_languages: dict[str, dict[str, int]]  # L1 → split → documents
    asked: dict[str, float]  # split → share of documents, as configured
    reached: dict[str, dict[str, float]]  # level → split → share of the level's documents
    grouped_by: str  # what is kept in one split, see `split_units.grouped_by`, or `PUBLISHED`
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
    map_blocks: MapBlocks = map_blocks_in_threads,
) -> CorpusSummary:
    """Read the corpus, set bad rows aside, split the documents, write them, and check that nothing leaks.

    Args:
        columns: replaces `data.columns`; `SAMPLE_COLUMNS` for the sample corpus.
        map_blocks: where the blocks of texts are processed; it changes no byte.

    Raises:
        InputError: a file cannot be used, or more than `data.max_bad_fraction` of its rows are bad;
            quarantine.csv then lists them.
    """
    report = on_progress or (lambda _phase, _done, _total: None)
    report("read", 0, 1)
    reader = RowReader(files, data, columns)
    rows = spool_rows(reader, folder.corpus)
    name = reader.files[0] if len(reader.files) == 1 else f"{len(reader.files):,} files"
    report("read", reader.rows, reader.rows)
    folder.splits.unlink(missing_ok=True)
    write_quarantine(folder.quarantine, reader.bad_rows)
    sizes = {"rows": reader.rows, "documents": rows.documents}
    check_bad_rows(reader.bad_rows, **sizes, what=name, data=data, quarantine=folder.quarantine)
    documents = SortedDocuments(rows, folder.corpus, is_cleaned=reader.is_cleaned)
    del rows
    _write_cleaned_texts(folder.cleaned_texts, documents.cleaned)
    gathered, search = gather_facts(
        documents, data.levels, seed, folder=folder.corpus, report=report, map_blocks=map_blocks
    )
    unit, shares = data.split.unit, unit_shares(data.split)
    check_unit(gathered.missing, documents.count, unit)
    report("compare", 0, documents.count)
    near = search.find(data.near_duplicates.threshold)
    del search
    report("compare", documents.count, documents.count)

    facts, has_learners = gathered.columns(), gathered.missing["learner"] == 0
    text_codes, hashes = group_documents(facts["text"])
    groups, hashes = group_documents(facts["learner"]) if has_learners else (text_codes, hashes)
    is_near_grouped = data.near_duplicates.action == "group"
    grouped = group_by_text(groups, hashes, text_codes, near, is_near_grouped=is_near_grouped)
    groups = grouped.groups
    del hashes
    release_freed_memory()
    is_published = "split" in facts
    if is_published:
        splits = complete_splits(facts["split"], facts.strata, groups, grouped.hashes, data.split)
        same_text = almost = crossed = np.zeros(len(splits), dtype=bool)
    else:
        by_learner = split_documents(facts.strata, groups, grouped.hashes, shares)
        by_prompt = by_learner
        if unit != "learner":
            by_prompt = split_prompts(facts.prompts, facts.strata.levels, data.levels, shares, seed)
        splits, crossed = by_prompt, (by_learner != by_prompt) & (unit == "both")
        same_text, almost = find_divided(near, splits, text_codes, is_near_grouped=is_near_grouped)
        same_text, almost = same_text & ~crossed, almost & ~crossed
    _write_untied_texts(folder.untied_texts, documents, grouped, text_codes, same_text)
    bad_rows = reader.bad_rows
    kept = ~(same_text | almost | crossed)
    if not kept.all():
        for which, reason in ((same_text, SAME_TEXT), (almost, NEAR_DUPLICATE), (crossed, CROSSED)):
            chosen = documents.take(np.flatnonzero(which), ["writing_id", "text", FILE_NUMBER, ROW])
            bad_rows += tuple(bad_repeats(chosen, reader.files, reader.roles["text"], reason))
        place = {file: number for number, file in enumerate(reader.files)}
        bad_rows = tuple(sorted(bad_rows, key=lambda bad: (place[bad.file], bad.row)))
        write_quarantine(folder.quarantine, bad_rows)
        facts, splits, groups, near = facts.filtered(kept), splits[kept], groups[kept], near.filtered(kept)
    largest_group, group_count = int(count_codes(groups).max()), len(grouped.hashes)
    not_tied = grouped.equal_not_tied, grouped.near_not_tied
    del groups, grouped, text_codes, same_text, almost, crossed
    synthetic = bool(facts["synthetic"].all())
    counts = _cross_count(facts["level"], splits, data.levels)
    first_languages = _cross_count(facts["l1"], splits, facts.names["l1"])
    characters, codes = facts["characters"], facts["level"]
    lengths = {level: _length_figures(characters[codes == code]) for code, level in enumerate(data.levels)}
    del characters, codes
    release_freed_memory()
    write_document_blocks(folder.documents, _kept_blocks(documents, kept), splits, report)

    report("check", 0, len(splits))
    search_leaks = LeakSearch(folder.documents, near, unit=unit)
    leakage = search_leaks.summary(texts_not_tied=not_tied[0], links_not_followed=not_tied[1])
    if not is_published:
        leakage.raise_if_any(near=is_near_grouped, unit=unit)
    log_leakage(leakage)
    search_leaks.write_leaks(folder.leaks)
    del search_leaks, near
    write_json(folder.leakage, asdict(leakage))
    report("check", len(splits), len(splits))

    corpus_notes = reader.notes(documents.count, without_language=documents.without_language, cleaned=documents.cleaned)
    learners = group_documents(facts["learner"])[0] if has_learners else None
    summary = CorpusSummary(
        rows=reader.rows,
        documents=len(splits),
        bad_rows=count_by_reason(bad_rows),
        notes=corpus_notes | note_oddities(facts["oddities"], learners, leakage.most_documents_with_one_text),
        language=data.language,
        synthetic=synthetic,
        notice=SYNTHETIC_NOTICE if synthetic else None,
        seed=seed,
        levels=data.levels,
        counts=counts,
        first_languages=first_languages,
        asked={"train": data.split.train, "valid": data.split.valid, "test": data.split.test},
        reached={level: _shares(by_split) for level, by_split in counts.items()},
        grouped_by=PUBLISHED if is_published else grouped_by(unit, has_learners=has_learners),
        groups=group_count,
        largest_group=largest_group,
        lengths=lengths,
    )
    _log(name, summary)
    write_json(folder.splits, asdict(summary))
    return summary


def read_summary(folder: RunFolder) -> CorpusSummary:
    """Read the summary of `prepare_corpus`; raises InputError if there is none, or one of another version."""
    if not folder.splits.exists():
        raise InputError(f"{folder.splits}: no such file; the corpus is not prepared. Run the prepare stage")
    fields: dict[str, Any] = read_json(folder.splits)
    try:
        return CorpusSummary(**{**fields, "levels": tuple(fields["levels"])})
    except (TypeError, KeyError) as error:
        raise InputError(f"{folder.splits}: not a record of this version ({error}); delete it") from error


def export_ilm_texts(folder: RunFolder, models: Mapping[str, tuple[str, ...]]) -> int:
    """Write every model's documents in the format of the original ILM code, a file per split.

    Documents are separated by three newlines, in the order of documents.parquet.  A document that contains three
    newlines would be read as two, and a newline at the start or end of a document would be read as part of the
    separator, so the line breaks of such documents are changed.

    Args:
        models: model → levels of its documents.

    Returns:
        The number of documents whose line breaks were changed.
    """
    changed = 0
    with ExitStack() as stack:
        files = {}
        for model, split in product(models, SPLITS):
            path = stack.enter_context(atomic_file(folder.ilm_text(model, split)))
            files[model, split] = stack.enter_context(path.open("w", encoding="utf-8", newline="\n"))
        joints = dict.fromkeys(files, "")
        file = stack.enter_context(pq.ParquetFile(folder.documents, page_checksum_verification=True))
        for batch in file.iter_batches(batch_size=DOCUMENTS_PER_ROW_GROUP, columns=["level", "split", "text"]):
            for level, split, text in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                joinable = _without_joints(text)
                changed += joinable != text
                for model in (model for model, levels in models.items() if level in levels):
                    files[model, split].write(joints[model, split] + joinable)
                    joints[model, split] = JOINT
    logger.info("prepare: %s documents had line breaks changed for ILM's text format", f"{changed:,}")
    return changed


def _kept_blocks(documents: SortedDocuments, kept: np.ndarray) -> Iterator[pa.Table]:
    """Yield the documents that are not set aside, a block at a time."""

    def read(block: int) -> pa.Table:
        return documents.read(block).filter(pa.array(kept[block * BLOCK_DOCUMENTS : (block + 1) * BLOCK_DOCUMENTS]))

    return map_in_threads(read, documents.blocks)


def _write_untied_texts(
    path: Path, documents: SortedDocuments, grouped: TextGroups, texts: np.ndarray, set_aside: np.ndarray
) -> None:
    """List the texts that several groups share without being joined by them; the file is never published."""
    codes, firsts, counts = np.unique(texts[grouped.untied], return_index=True, return_counts=True)
    aside = np.bincount(texts[grouped.untied & set_aside], minlength=int(texts.max(initial=0)) + 1)[codes]
    shown = documents.take(np.flatnonzero(grouped.untied)[firsts], ["text"])["text"].to_pylist()
    with csv_writer(path, ["documents", "set_aside", "text"]) as writer:
        for place in np.argsort(-counts, kind="stable").tolist():
            writer.writerow([counts[place], aside[place], show_cell(shown[place].encode())])


def _write_cleaned_texts(path: Path, cleaned: CleanedTexts) -> None:
    """List the first texts from which markup was removed, before and after; the file is never published."""
    if not cleaned.samples:
        path.unlink(missing_ok=True)
        return
    with csv_writer(path, ["writing_id", "before", "after"]) as writer:
        writer.writerows([spreadsheet_safe(cell) for cell in sample] for sample in cleaned.samples)


def _cross_count(codes: np.ndarray, splits: np.ndarray, names: Sequence[str]) -> dict[str, dict[str, int]]:
    counts = np.bincount(codes.astype(np.int64) * len(SPLITS) + splits, minlength=len(names) * len(SPLITS))
    rows = counts.reshape(len(names), len(SPLITS)).tolist()
    return {name: dict(zip(SPLITS, row, strict=True)) for name, row in zip(names, rows, strict=True)}


def _shares(counts: dict[str, int]) -> dict[str, float]:
    total = sum(counts.values())
    return {split: round(count / total, 6) if total else 0.0 for split, count in counts.items()}


def _length_figures(characters: np.ndarray) -> dict[str, float]:
    return {
        "documents": len(characters),
        "characters": int(characters.sum(dtype=np.int64)),
        "mean": round(float(characters.mean()), 2) if len(characters) else 0.0,
        "median": float(np.median(characters)) if len(characters) else 0.0,
        "longest": int(characters.max(initial=0)),
    }


def _log(name: str, summary: CorpusSummary) -> None:
    logger.info(
        "prepare: %s: %s rows → %s documents, %s set aside", name, f"{summary.rows:,}", f"{summary.documents:,}",
        f"{sum(summary.bad_rows.values()):,}",
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


def _without_joints(text: str) -> str:
    """Change line breaks that ILM would read as a separator; its reader treats every kind of line end as a newline."""
    if "\n" not in text and "\r" not in text:
        return text
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    return re.sub(r"\n{3,}", "\n\n", text).strip("\n")
