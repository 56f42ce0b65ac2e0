"""Reads `evaluation/losses.parquet` and sums it: nats and tokens per document and model.

Nats and tokens of all masks of a document are summed, and divided only at the end.  All models must
have answered the same masks of the same documents, or their comparison would not be paired; this is
checked here for every document.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from raysweep.config.scored_metrics import METRIC_PARTS
from raysweep.errors import InputError

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_PARTS = {
    **METRIC_PARTS,
    # The same of a document's first mask alone:
    "first_infill": ("first_answer", "first_end"),
    "first_context": ("first_context",),
}
KINDS = ("document", "paragraph", "sentence", "ngram", "word")
_COLUMNS = ("model", "level", "document", "kind", "part", "nats", "tokens")


@dataclass(frozen=True, kw_only=True, slots=True)
class LevelLosses:
    """One level's test documents under one metric.  D documents, M models."""

    level: str
    documents: Ints
    """(D,) document numbers, as in the table; documents without a token of the metric are left out."""
    tokens: Ints
    """(D,) equal for all models."""
    nats: Floats
    """(D, M) summed negative log-likelihoods."""
    bytes: Ints | None = None
    """(D,) bytes that the tokens spell; None if an earlier version scored the models and did not count them."""

    def pick(self, rows: npt.NDArray[np.bool_] | Ints, level: str | None = None) -> "LevelLosses":
        """Keep some documents (a mask, or row numbers), under the name of another level if one is given."""
        return replace(
            self,
            level=level or self.level,
            documents=self.documents[rows],
            tokens=self.tokens[rows],
            nats=self.nats[rows],
            bytes=None if self.bytes is None else self.bytes[rows],
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class LossTable:
    """All losses, with names as codes into short lists.  One entry per row of the file."""

    models: tuple[str, ...]
    levels: tuple[str, ...]
    place: str
    """The file, for error messages."""
    model_codes: Ints
    level_codes: Ints
    kinds: npt.NDArray[np.str_]
    """Names that `kind_codes` index."""
    kind_codes: Ints
    parts: npt.NDArray[np.str_]
    part_codes: Ints
    documents: Ints
    """(D,) the distinct document numbers."""
    document_codes: Ints
    nats: Floats
    tokens: Ints
    bytes: Ints | None
    """None in scores of an earlier version."""

    def select(self, metric: str, kind: str | None = None) -> dict[str, LevelLosses]:
        """Losses per level under a metric, of all kinds of mask or of one.

        A level without a test document that has tokens of the metric is absent.

        Raises:
            InputError: two models did not answer the same masks, or a loss is not finite.
        """
        wanted = np.isin(self.parts, _PARTS[metric])[self.part_codes]
        if kind is not None:
            wanted &= (self.kinds == kind)[self.kind_codes]
        count_m, count_d = len(self.models), len(self.documents)
        cells = self.model_codes[wanted] * count_d + self.document_codes[wanted]
        nats_MD = _sums(cells, self.nats[wanted], count_m * count_d).reshape(count_m, count_d)
        tokens_MD = _sums(cells, self.tokens[wanted], count_m * count_d).reshape(count_m, count_d)
        self._check(nats_MD, tokens_MD)
        first = wanted & (self.model_codes == 0)
        bytes_D = None if self.bytes is None else _sums(self.document_codes[first], self.bytes[first], count_d)
        level_of = np.zeros(count_d, dtype=np.int64)
        level_of[self.document_codes] = self.level_codes
        chosen: dict[str, LevelLosses] = {}
        for code, level in enumerate(self.levels):
            rows = np.flatnonzero((level_of == code) & (tokens_MD[0] > 0))
            if len(rows):
                chosen[level] = LevelLosses(
                    level=level,
                    documents=self.documents[rows],
                    tokens=tokens_MD[0, rows].astype(np.int64),
                    nats=np.ascontiguousarray(nats_MD[:, rows].T),
                    bytes=None if bytes_D is None else bytes_D[rows].astype(np.int64),
                )
        return chosen

    def _check(self, nats_MD: Floats, tokens_MD: Floats) -> None:
        if not np.isfinite(nats_MD).all():
            model, document = (int(axis[0]) for axis in np.nonzero(~np.isfinite(nats_MD)))
            raise InputError(
                f"{self.place}: model '{self.models[model]}', document {self.documents[document]}: found a loss of "
                f"{nats_MD[model, document]:g} nats; must be a finite number. Delete the file and evaluate again"
            )
        if (tokens_MD != tokens_MD[0]).any():
            model, document = (int(axis[0]) for axis in np.nonzero(tokens_MD != tokens_MD[0]))
            raise InputError(
                f"{self.place}: document {self.documents[document]}: model '{self.models[model]}' was scored on "
                f"{tokens_MD[model, document]:g} tokens, model '{self.models[0]}' on {tokens_MD[0, document]:g}; "
                "all models must answer the same masks. Delete the file and evaluate again"
            )


def read_losses(path: Path, levels: Sequence[str], *, only: str | None = None) -> LossTable:
    """Read the table of losses.

    Args:
        levels: the known levels, in the order of the report; those that the file lacks are left out.
        only: the one level whose rows are read; by default all are.

    Raises:
        InputError: the file is missing, lacks a column, is empty, or names a level that is not known.
    """
    if not path.exists():
        raise InputError(f"{path}: not there; run the evaluate stage first")
    columns = pq.read_schema(path).names
    if missing := [name for name in _COLUMNS if name not in columns]:
        raise InputError(f"{path}: column '{missing[0]}' is missing (found {', '.join(columns)}); evaluate again")
    table = pq.read_table(
        path,
        columns=[*_COLUMNS, *(["bytes"] if "bytes" in columns else [])],
        filters=None if only is None else pc.field("level") == only,
        # A name is then read once, and not once a row.
        read_dictionary=["model", "level", "kind", "part"],
        page_checksum_verification=True,
    ).unify_dictionaries()
    if not table.num_rows:
        raise InputError(f"{path}: has no rows; delete it and evaluate again")
    models, model_codes = _codes(table, "model")
    level_names, level_codes = _codes(table, "level")
    if unknown := [level for level in level_names if level not in levels]:
        raise InputError(f"{path}: found level '{unknown[0]}'; known levels are {', '.join(levels)}")
    ordered = tuple(level for level in levels if level in level_names)
    renumbered = np.array([ordered.index(level) for level in level_names], dtype=np.int64)
    kinds, kind_codes = _codes(table, "kind")
    parts, part_codes = _codes(table, "part")
    documents, document_codes = np.unique(_numbers(table, "document"), return_inverse=True)
    return LossTable(
        models=tuple(models),
        levels=ordered,
        place=str(path),
        model_codes=model_codes,
        level_codes=renumbered[level_codes],
        kinds=np.array(kinds),
        kind_codes=kind_codes,
        parts=np.array(parts),
        part_codes=part_codes,
        documents=documents,
        document_codes=document_codes.astype(np.int64),
        nats=_numbers(table, "nats"),
        tokens=_numbers(table, "tokens"),
        bytes=_numbers(table, "bytes") if "bytes" in columns else None,
    )


def document_values(losses: Mapping[str, LevelLosses], value_of: Mapping[int, Any]) -> dict[str, npt.NDArray[Any]]:
    """(D,) a value for each document of each level."""
    return {
        level: np.array([value_of[document] for document in of_level.documents.tolist()])
        for level, of_level in losses.items()
    }


def count_values(values: Mapping[str, npt.NDArray[Any]]) -> dict[str, int]:
    """Documents with each value, all levels together; the most frequent value first."""
    if not values:
        return {}
    names, counts = np.unique(np.concatenate(list(values.values())), return_counts=True)
    return {str(names[index]): int(counts[index]) for index in np.argsort(-counts, kind="stable")}


def _sums(cells: Ints, values: Floats | Ints, count: int) -> Floats:
    return np.bincount(cells, values, count).astype(np.float64)  # an empty selection gives integers


def _codes(table: Any, column: str) -> tuple[list[str], Ints]:
    encoded = table.column(column).combine_chunks()
    if isinstance(encoded, pa.ChunkedArray):
        encoded = encoded.combine_chunks()
    if not pa.types.is_dictionary(encoded.type):
        encoded = encoded.dictionary_encode()
    # Names of rows that were filtered out stay in the dictionary.
    met = pc.unique(encoded.indices)
    codes = pc.index_in(encoded.indices, met).to_numpy(zero_copy_only=False)
    return encoded.dictionary.take(met).to_pylist(), codes.astype(np.int64)


def _numbers(table: Any, column: str) -> Any:
    return table.column(column).to_numpy()
