"""Prepares a further corpus, on which the models of a run are only scored, and sets aside texts that they have seen.

Its files are read like those of the run's corpus, with columns and layouts found as `init` finds them.  All its
documents are test documents.  Documents that equal or almost equal a text of the run's train or valid split are set
aside, because models were trained or selected on these texts, and so are documents of CEFR levels that the run does not
study.  `quarantine.csv` lists them together with the rows that cannot be used.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from raysweep.config.data_settings import DataConfig
from raysweep.corpus.corpus_rows import Corpus, bad_repeats, read_corpus
from raysweep.corpus.documents import Progress, sort_documents, write_documents
from raysweep.corpus.layouts import SUB_LEVELS
from raysweep.corpus.near_duplicates import find_near_duplicates
from raysweep.corpus.new_texts import settle_columns
from raysweep.corpus.quarantine import NEAR_TRAINING, check_bad_rows, count_by_reason, write_quarantine
from raysweep.corpus.row_checks import FILE_NUMBER, ROW
from raysweep.corpus.splits import SPLITS
from raysweep.errors import InputError
from raysweep.storage.atomic_files import write_json
from raysweep.storage.run_folder import RunFolder

_TEST = SPLITS.index("test")


@dataclass(frozen=True, kw_only=True, slots=True)
class FurtherSummary:
    """The content of splits.json for a further corpus."""

    rows: int
    """Data rows of the files: documents and rows set aside."""
    documents: int
    bad_rows: dict[str, int]
    """Rows set aside, by reason."""
    notes: dict[str, int]
    levels: tuple[str, ...]
    """The levels of the run, lowest first."""
    counts: dict[str, dict[str, int]]
    """Level → {"test": documents}."""


def prepare_further_corpus(
    files: Sequence[Path], folder: RunFolder, data: DataConfig, *, known: Path, on_progress: Progress
) -> FurtherSummary:
    """Read a further corpus, set aside what cannot be used or is known to the models, and write its documents.

    Args:
        folder: where documents.parquet, quarantine.csv and, last, splits.json are written.
        data: the settings for reading it, with the levels of the run.
        known: documents.parquet of the run.

    Raises:
        InputError: a file cannot be used, too many rows are bad, or no document is left.
    """
    on_progress("read", 0, 1)
    corpus = _read(files, data)
    on_progress("read", corpus.rows, corpus.rows)
    folder.splits.unlink(missing_ok=True)
    write_quarantine(folder.quarantine, corpus.bad_rows)
    _check(corpus, data, folder.quarantine)
    on_progress("compare", 0, corpus.documents.num_rows)
    is_known = find_known(corpus.documents["text"], known, threshold=data.near_duplicates.threshold)
    on_progress("compare", len(is_known), len(is_known))
    if is_known.all():
        raise InputError(
            f"{_name_files(corpus)}: all {len(is_known):,} texts are (almost) those of train or valid; name other files"
        )
    rows = corpus.documents.append_column(FILE_NUMBER, pa.array(corpus.file_of))
    known_rows = rows.append_column(ROW, pa.array(corpus.row_of)).filter(pa.array(is_known))
    bad_rows = [*corpus.bad_rows, *bad_repeats(known_rows, corpus.files, corpus.roles["text"], NEAR_TRAINING)]
    place = {file: number for number, file in enumerate(corpus.files)}
    bad_rows.sort(key=lambda bad: (place[bad.file], bad.row))
    write_quarantine(folder.quarantine, bad_rows)
    documents = sort_documents(corpus.documents.filter(pa.array(~is_known)))
    write_documents(folder.documents, documents, np.full(documents.num_rows, _TEST, dtype=np.int8), on_progress)
    counts = {level["values"]: int(level["counts"]) for level in pc.value_counts(documents["level"]).to_pylist()}
    summary = FurtherSummary(
        rows=corpus.rows,
        documents=documents.num_rows,
        bad_rows=count_by_reason(bad_rows),
        notes=dict(corpus.notes),
        levels=data.levels,
        counts={level: {"test": counts.get(level, 0)} for level in data.levels},
    )
    write_json(folder.splits, asdict(summary))
    return summary


def survey_further_corpus(files: Sequence[Path], data: DataConfig) -> None:
    """Read a further corpus and make the checks of `prepare_further_corpus`, except the one for known texts.

    Raises:
        InputError: a file cannot be used, too many rows are bad, or no document is left.
    """
    _check(_read(files, data), data, None)


def find_known(texts: pa.ChunkedArray, known: Path, *, threshold: float) -> npt.NDArray[np.bool_]:
    """Tell which texts equal or almost equal a text of train or valid, as booleans.

    Args:
        known: documents.parquet of the run.
        threshold: `data.near_duplicates.threshold`.
    """
    trained = pq.read_table(
        known, columns=["text"], filters=pc.field("split").isin(["train", "valid"]), page_checksum_verification=True
    )["text"].cast(pa.large_string())
    near = find_near_duplicates(pa.chunked_array([*trained.chunks, *texts.chunks]), threshold=threshold)
    of_train, own = near.words[: len(trained)], near.words[len(trained) :]
    alike = near.pairs[np.isin(near.pairs, of_train).any(axis=1)]
    return np.isin(own, np.concatenate([of_train, alike.ravel()]))


def _read(files: Sequence[Path], data: DataConfig) -> Corpus:
    return read_corpus(files, settle_columns(files, _without_other_levels(data), needed=("level", "text")))


def _check(corpus: Corpus, data: DataConfig, quarantine: Path | None) -> None:
    counts = {"rows": corpus.rows, "documents": corpus.documents.num_rows}
    check_bad_rows(corpus.bad_rows, **counts, what=_name_files(corpus), data=data, quarantine=quarantine)


def _name_files(corpus: Corpus) -> str:
    return corpus.files[0] if len(corpus.files) == 1 else f"{len(corpus.files):,} files"


def _without_other_levels(data: DataConfig) -> DataConfig:
    """Return the settings with the CEFR levels that the run does not study added to `leave_out`."""
    settled = {*data.levels, *data.level_aliases, *data.leave_out}
    others = (name for name, level in SUB_LEVELS.items() if level not in data.levels and name not in settled)
    return data.model_copy(update={"leave_out": (*data.leave_out, *others)})
