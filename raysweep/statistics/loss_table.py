"""Reads `evaluation/losses.parquet` and sums it: nats and tokens per document and model.

Nats and tokens of all masks of a document are summed, and divided only at the end.  All models must
have answered the same masks of the same documents, or their comparison would not be paired; this is
checked here for every document.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
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
_NAMES = ["model", "level", "kind", "part"]


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
    """All losses.  K pairs of a kind of mask and a part, D documents (level after level), M models.

    What a document has no row of is 0.
    """

    models: tuple[str, ...]
    levels: tuple[str, ...]
    place: str
    """The file, for error messages."""
    kinds: npt.NDArray[np.str_]
    """(K,) in the order of `KINDS`."""
    parts: npt.NDArray[np.str_]
    """(K,)"""
    documents: Ints
    """(D,) document numbers."""
    level_codes: Ints
    """(D,) the level of each, as an index into `levels`; ascending."""
    nats: Floats
    """(K, D, M) summed negative log-likelihoods."""
    tokens: Floats
    """(K, D, M), or (K, D, 1) if all models answered the same tokens."""
    bytes: Floats | None
    """(K, D) of the first model; None in scores of an earlier version."""

    def select(self, metric: str, kind: str | None = None) -> dict[str, LevelLosses]:
        """Losses per level under a metric, of all kinds of mask or of one.

        A level without a test document that has tokens of the metric is absent.

        Raises:
            InputError: two models did not answer the same masks, or a loss is not finite.
        """
        wanted = np.isin(self.parts, _PARTS[metric])
        if kind is not None:
            wanted &= self.kinds == kind
        nats_DM, tokens_DM = _added_up(self.nats, wanted), _added_up(self.tokens, wanted)
        self._check(nats_DM, tokens_DM)
        tokens_D = tokens_DM[:, 0].astype(np.int64)
        bytes_D = None if self.bytes is None else _added_up(self.bytes, wanted).astype(np.int64)
        chosen: dict[str, LevelLosses] = {}
        for code, level in enumerate(self.levels):
            first, last = np.searchsorted(self.level_codes, (code, code + 1))
            rows: Any = slice(first, last)
            if not tokens_D[rows].all():
                rows = first + np.flatnonzero(tokens_D[rows])
            if len(documents := self.documents[rows]):
                chosen[level] = LevelLosses(
                    level=level,
                    documents=documents,
                    tokens=tokens_D[rows],
                    nats=nats_DM[rows],
                    bytes=None if bytes_D is None else bytes_D[rows],
                )
        return chosen

    def _check(self, nats_DM: Floats, tokens_DM: Floats) -> None:
        if not np.isfinite(nats_DM).all():
            document, model = (int(axis[0]) for axis in np.nonzero(~np.isfinite(nats_DM)))
            raise InputError(
                f"{self.place}: model '{self.models[model]}', document {self.documents[document]}: found a loss of "
                f"{nats_DM[document, model]:g} nats; must be a finite number. Delete the file and evaluate again"
            )
        if (tokens_DM != tokens_DM[:, :1]).any():
            document, model = (int(axis[0]) for axis in np.nonzero(tokens_DM != tokens_DM[:, :1]))
            raise InputError(
                f"{self.place}: document {self.documents[document]}: model '{self.models[model]}' was scored on "
                f"{tokens_DM[document, model]:g} tokens, model '{self.models[0]}' on {tokens_DM[document, 0]:g}; "
                "all models must answer the same masks. Delete the file and evaluate again"
            )


def read_losses(path: Path, levels: Sequence[str], *, only: str | None = None) -> LossTable:
    """Read the table of losses.

    Args:
        levels: the known levels, in the order of the report; those that the file lacks are left out.
        only: the one level whose rows are read; by default all are.

    Raises:
        InputError: the file is missing, lacks a column or a name, is empty, or names a level that is not known.
    """
    if not path.exists():
        raise InputError(f"{path}: not there; run the evaluate stage first")
    columns = pq.read_schema(path).names
    if missing := [name for name in _COLUMNS if name not in columns]:
        raise InputError(f"{path}: column '{missing[0]}' is missing (found {', '.join(columns)}); evaluate again")
    # A name is read once, and not once a row.  `read_table` would import pandas.
    with pq.ParquetFile(path, read_dictionary=_NAMES, page_checksum_verification=True) as file:
        table = file.read(columns=[*_COLUMNS, *(["bytes"] if "bytes" in columns else [])]).unify_dictionaries()
    if only is not None:
        table = table.filter(pc.equal(table.column("level").cast(pa.string()), only))
    if not table.num_rows:
        raise InputError(f"{path}: has no rows; delete it and evaluate again")
    if empty := [name for name in _NAMES if table.column(name).null_count]:
        raise InputError(f"{path}: column '{empty[0]}' has rows without a value; delete it and evaluate again")
    models, model_codes = _codes(table, "model")
    level_names, level_codes = _codes(table, "level")
    if unknown := [level for level in level_names if level not in levels]:
        raise InputError(f"{path}: found level '{unknown[0]}'; known levels are {', '.join(levels)}")
    ordered = tuple(level for level in levels if level in level_names)
    pairs, pair_codes = _pairs(table)
    documents, document_codes = _codes(table, "document")
    level_of = np.zeros(len(documents), dtype=np.int64)
    level_of[document_codes] = np.array([ordered.index(level) for level in level_names])[level_codes]
    order = np.lexsort((np.array(documents), level_of))
    rows, pair_rows = np.argsort(order)[document_codes], pair_codes * len(documents)
    shape = (len(pairs), len(documents), len(models))
    cells = (pair_rows + rows) * len(models) + model_codes
    tokens_KDM = _sums(cells, _numbers(table, "tokens"), shape)
    of_first = model_codes == 0
    return LossTable(
        models=tuple(models),
        levels=ordered,
        place=str(path),
        kinds=np.array([kind for kind, _ in pairs]),
        parts=np.array([part for _, part in pairs]),
        documents=np.array(documents)[order],
        level_codes=level_of[order],
        nats=_sums(cells, _numbers(table, "nats"), shape),
        tokens=tokens_KDM[:, :, :1] if (tokens_KDM == tokens_KDM[:, :, :1]).all() else tokens_KDM,
        bytes=_sums((pair_rows + rows)[of_first], _numbers(table, "bytes")[of_first], shape[:2])
        if "bytes" in columns
        else None,
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


def _sums(cells: Ints, values: Floats | Ints, shape: tuple[int, ...]) -> Floats:
    # Without a row they would be integers.
    return np.bincount(cells, values, prod(shape)).astype(np.float64, copy=False).reshape(shape)


def _added_up(values: Floats, wanted: npt.NDArray[np.bool_]) -> Floats:
    """The sum over the wanted pairs, one after the other."""
    total = np.zeros(values.shape[1:])
    for pair in np.flatnonzero(wanted):
        total += values[pair]
    return total


def _pairs(table: Any) -> tuple[list[tuple[str, str]], Ints]:
    """The kinds of mask with their parts that there are, in the order of `KINDS`, and the pair of each row."""
    kinds, kind_codes = _codes(table, "kind")
    parts, part_codes = _codes(table, "part")
    codes = kind_codes * len(parts) + part_codes
    met = np.flatnonzero(np.bincount(codes))
    pairs = {code: (kinds[code // len(parts)], parts[code % len(parts)]) for code in met.tolist()}
    in_order = sorted(pairs, key=lambda code: ((*KINDS, pairs[code][0]).index(pairs[code][0]), pairs[code]))
    place_of = np.zeros(len(kinds) * len(parts), dtype=np.int64)
    place_of[in_order] = np.arange(len(in_order))
    return [pairs[code] for code in in_order], place_of[codes]


def _codes(table: Any, column: str) -> tuple[list[Any], Ints]:
    """The distinct values of a column, in the order of its dictionary, and the index of each row's."""
    encoded = table.column(column).combine_chunks()
    if isinstance(encoded, pa.ChunkedArray):
        encoded = encoded.combine_chunks()
    if not pa.types.is_dictionary(encoded.type):
        encoded = encoded.dictionary_encode()
    codes = encoded.indices.to_numpy().astype(np.int64)
    # Names of rows that were filtered out stay in the dictionary.
    met = np.flatnonzero(np.bincount(codes, minlength=len(encoded.dictionary)))
    if len(met) == len(encoded.dictionary):
        return encoded.dictionary.to_pylist(), codes
    place_of = np.zeros(len(encoded.dictionary), dtype=np.int64)
    place_of[met] = np.arange(len(met))
    return encoded.dictionary.take(pa.array(met)).to_pylist(), place_of[codes]


def _numbers(table: Any, column: str) -> Any:
    return table.column(column).to_numpy()
