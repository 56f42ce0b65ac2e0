"""Reads texts that are only scored: any corpus that `init` reads, and tables that consist of texts only.

Columns are found as `init` finds them.  Level, learner, first language and prompt are kept if they are known.  Rows
without a text, and rows that repeat the id of an earlier row, are set aside.
"""

from collections.abc import Sequence
from pathlib import Path

from raysweep.config.data_settings import ColumnsConfig, DataConfig
from raysweep.corpus.column_guess import refuse_no_header
from raysweep.corpus.corpus_rows import Corpus, read_corpus
from raysweep.corpus.first_look import guess_columns, named_layout, read_header
from raysweep.corpus.layouts import LAYOUTS, recognise_layout


def read_new_texts(files: Sequence[Path], data: DataConfig) -> Corpus:
    """Read texts in file order, with the level '' unless it is one of `data.levels`; raises InputError on failure."""
    return read_corpus(files, settle_columns(files, data, needed=("text",)), needs_levels=False)


def settle_columns(files: Sequence[Path], data: DataConfig, *, needed: Sequence[str]) -> DataConfig:
    """Return the settings with the layout and columns that `init` would find, without a column of published splits.

    Args:
        needed: roles that must have a column.

    Raises:
        InputError: a file cannot be used, or a needed column is not found.
    """
    layout_name = data.layout or named_layout(files)
    header, kind = read_header(files, data, LAYOUTS[layout_name] if layout_name else None)
    layout_name = layout_name or recognise_layout(header)
    columns = {role: name for role, name in data.columns.model_dump().items() if name is not None}
    if layout_name is None:
        if "text" not in columns:
            refuse_no_header(files[0].name, header, kind)
            columns |= {"text": header[0]} if len(header) == 1 else {}
        columns |= guess_columns(files, data, header, columns, needed=needed)
    columns.pop("split", None)
    return data.model_copy(update={"layout": layout_name, "columns": ColumnsConfig.model_validate(columns)})
