"""Reads `evaluation/losses.parquet` and sums it: nats and tokens per document and model.

Nats and tokens of all masks of a document are summed, and divided only at the end.  All models must
have answered the same masks of the same documents, or their comparison would not be paired; this is
checked here for every document.
"""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from raysweep.config.scored_metrics import METRIC_PARTS
from raysweep.errors import InputError
from raysweep.storage.arrow_arrays import as_array, text_scalar

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
_IN_PASS = ("model", "kind", "part", "document", "level")
_ROWS_PER_BATCH = 1 << 17
"""Number of rows read at a time, so that intermediate results fit in a core's cache."""


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
    """(D,) bytes that the tokens spell; None if an earlier version scored the models without counting them."""

    def pick(self, rows: npt.NDArray[np.bool_] | Ints, level: str | None = None) -> "LevelLosses":
        """Select documents by a mask or by row numbers, optionally under the name of another level."""
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

    Missing rows of a document count as 0.
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
    """(D,) level of each document, as an index into `levels`; ascending."""
    nats: Floats
    """(K, D, M) summed negative log-likelihoods."""
    tokens: Floats
    """(K, D, M), or (K, D, 1) if all models answered the same tokens."""
    bytes: Floats | None
    """(K, D) of the first model; None in scores of an earlier version."""

    def select(self, metric: str, kind: str | None = None) -> dict[str, LevelLosses]:
        """Sum the losses per level under a metric, over all kinds of mask or for one kind.

        Levels without a test document that has tokens of the metric are left out.

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

    The file is read twice, in parts, since all rows of a thousand models would take most of the process's memory.

    Args:
        levels: the known levels, in the order of the report; those that the file lacks are left out.
        only: the one level whose rows are read; None for all.

    Raises:
        InputError: the file is missing, lacks a column or a value, has no such rows, names a level that is not known,
            or has a document of two levels.
    """
    if not path.exists():
        raise InputError(f"{path}: not there; run the evaluate stage first")
    # Both passes read the same open file, even if it is replaced meanwhile.
    with pa.OSFile(str(path)) as source:
        columns = pq.read_schema(source).names
        if missing := [name for name in _COLUMNS if name not in columns]:
            raise InputError(f"{path}: column '{missing[0]}' is missing (found {', '.join(columns)}); evaluate again")
        # A name is decoded once, not once per row.
        with pq.ParquetFile(source, read_dictionary=_NAMES, page_checksum_verification=True) as file:
            return _sum_up(_Rows(file=file, path=path, only=only), levels)


def document_values(losses: Mapping[str, LevelLosses], value_of: Mapping[int, Any]) -> dict[str, npt.NDArray[Any]]:
    """Return (D,) values, one for each document of each level."""
    return {
        level: np.array([value_of[document] for document in of_level.documents.tolist()])
        for level, of_level in losses.items()
    }


def count_values(values: Mapping[str, npt.NDArray[Any]]) -> dict[str, int]:
    """Count the documents with each value over all levels, the most frequent value first."""
    if not values:
        return {}
    names, counts = np.unique(np.concatenate(list(values.values())), return_counts=True)
    return {str(names[index]): int(counts[index]) for index in np.argsort(-counts, kind="stable")}


def _added_up(values: Floats, wanted: npt.NDArray[np.bool_]) -> Floats:
    total = np.zeros(values.shape[1:])
    for pair in np.flatnonzero(wanted):
        total += values[pair]
    return total


@dataclass(frozen=True, kw_only=True, slots=True)
class _Rows:
    """The rows of one level, or all rows."""

    file: pq.ParquetFile
    path: Path
    only: str | None

    def read(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Yield the rows in batches; raises InputError if a row lacks a value."""
        groups = [group for group in range(self.file.num_row_groups) if self._may_have(group)]
        batches = self.file.iter_batches(batch_size=_ROWS_PER_BATCH, row_groups=groups, columns=columns)
        for batch in _read_ahead(batches):
            if empty := [name for name in columns if batch[name].null_count]:
                raise InputError(
                    f"{self.path}: column '{empty[0]}' has rows without a value; delete it and evaluate again"
                )
            if self.only is None:
                yield batch
            else:
                yield batch.filter(pc.equal(batch["level"].cast(pa.string()), text_scalar(self.only)))

    def _may_have(self, group: int) -> bool:
        """Return whether the row group may contain rows of the level."""
        if self.only is None:
            return True
        described = self.file.metadata.row_group(group)
        names = [described.column(index).path_in_schema for index in range(described.num_columns)]
        statistics = described.column(names.index("level")).statistics
        return statistics is None or not statistics.has_min_max or bool(statistics.min <= self.only <= statistics.max)


def _read_ahead(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Decode the next part in a thread, outside of Python's lock, while the last one is added up."""
    with ThreadPoolExecutor(1, thread_name_prefix="losses") as pool:
        ahead = pool.submit(next, batches, None)
        while (batch := ahead.result()) is not None:
            ahead = pool.submit(next, batches, None)
            yield batch


def _sum_up(rows: _Rows, levels: Sequence[str]) -> LossTable:
    path, columns = rows.path, rows.file.schema_arrow.names
    models, met_pairs, level_of = _read_names(rows)
    if not level_of:
        others = set(_read_names(replace(rows, only=None))[2].values())
        if others:
            raise InputError(
                f"{path}: has no rows of level '{rows.only}' (it has {', '.join(sorted(others))}); evaluate again"
            )
        raise InputError(f"{path}: has no rows; delete it and evaluate again")
    if unknown := [level for level in level_of.values() if level not in levels]:
        raise InputError(f"{path}: found level '{unknown[0]}'; known levels are {', '.join(levels)}")
    met_levels = set(level_of.values())
    ordered = tuple(level for level in levels if level in met_levels)
    documents, level_codes = np.array(list(level_of)), np.array([ordered.index(level) for level in level_of.values()])
    order = np.lexsort((documents, level_codes))
    pairs = sorted(met_pairs, key=lambda pair: ((*KINDS, pair[0]).index(pair[0]), pair))
    # Rows come model by model, so they are summed in that order, which keeps memory accesses sequential.
    shape = (len(models), len(pairs), len(documents))
    of_model = prod(shape[1:])
    places: tuple[dict[Any, int], ...] = (
        {model: number * of_model for number, model in enumerate(models)},
        {pair: number * len(documents) for number, pair in enumerate(pairs)},
        {document: number for number, document in enumerate(documents[order].tolist())},
    )
    nats, tokens, sizes = np.zeros(prod(shape)), np.zeros(prod(shape)), np.zeros(of_model)
    for batch in rows.read([*_COLUMNS, *(["bytes"] if "bytes" in columns else [])]):
        entry_of_row = _look_up(places[0], batch["model"])
        entry_of_row += _look_up(places[1], batch["kind"], batch["part"])
        entry_of_row += _look_up(places[2], batch["document"])
        # Adding numbers of a type other than the sums' would be twenty times slower.
        np.add.at(nats, entry_of_row, _floats(batch["nats"]))
        np.add.at(tokens, entry_of_row, _floats(batch["tokens"]))
        if "bytes" in columns and (of_first := np.flatnonzero(entry_of_row < of_model)).size:
            np.add.at(sizes, entry_of_row[of_first], _floats(batch["bytes"])[of_first])
    tokens_MKD = tokens.reshape(shape)
    if (tokens_MKD == tokens_MKD[:1]).all():
        tokens_MKD = tokens_MKD[:1].copy()
    del tokens
    return LossTable(
        models=tuple(models),
        levels=ordered,
        place=str(path),
        kinds=np.array([kind for kind, _ in pairs]),
        parts=np.array([part for _, part in pairs]),
        documents=documents[order],
        level_codes=level_codes[order],
        nats=np.ascontiguousarray(np.moveaxis(nats.reshape(shape), 0, -1)),
        tokens=np.ascontiguousarray(np.moveaxis(tokens_MKD, 0, -1)),
        bytes=sizes.reshape(shape[1:]) if "bytes" in columns else None,
    )


def _read_names(rows: _Rows) -> tuple[list[str], set[tuple[str, str]], dict[int, str]]:
    """Read the models in the order of the file, the pairs of kind and part, and each document's level."""
    models: dict[str, None] = {}
    pairs: set[tuple[str, str]] = set()
    level_of: dict[int, str] = {}
    for batch in rows.read([*_NAMES, "document"]):
        model, kind, part, document, level = map(_encoded, (batch[name] for name in _IN_PASS))
        # A dictionary may hold names of rows that were left out.
        models |= dict.fromkeys(model.names[code] for code in np.flatnonzero(np.bincount(model.codes)).tolist())
        is_met = np.zeros(len(kind.names) * len(part.names), dtype=bool)
        is_met[_codes_of_pairs(kind, part)] = True
        pairs_of_codes = (divmod(code, len(part.names)) for code in np.flatnonzero(is_met).tolist())
        pairs |= {(kind.names[of_kind], part.names[of_part]) for of_kind, of_part in pairs_of_codes}
        # If a document's rows name several levels, the last one is kept here, and the mismatch is noticed below.
        level_codes = np.full(len(document.names), -1)
        level_codes[document.codes] = level.codes
        if (differs := level_codes[document.codes] != level.codes).any():
            row = int(np.argmax(differs))
            names = level.names[level.codes[row]], level.names[level_codes[document.codes[row]]]
            raise _two_levels(rows.path, document.names[document.codes[row]], *names)
        for name, code in zip(document.names, level_codes.tolist(), strict=True):
            if code >= 0 and (before := level_of.setdefault(name, level.names[code])) != level.names[code]:
                raise _two_levels(rows.path, name, before, level.names[code])
    return list(models), pairs, level_of


def _two_levels(path: Path, document: int, first: str, second: str) -> InputError:
    return InputError(
        f"{path}: document {document}: has rows of level '{first}' and of level '{second}'; "
        "delete the file and evaluate again"
    )


class _Encoded(NamedTuple):
    codes: Any
    """(rows,) indices into `names`."""
    names: list[Any]


def _encoded(column: pa.Array) -> _Encoded:
    encoded = column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
    return _Encoded(as_array(encoded.indices), encoded.dictionary.to_pylist())


def _codes_of_pairs(first: _Encoded, second: _Encoded) -> Any:
    return first.codes * len(second.names) + second.codes


def _look_up(place_of: Mapping[Any, int], column: pa.Array, second: pa.Array | None = None) -> Ints:
    """Look up the index of each row's value, or pair of values."""
    encoded = _encoded(column)
    if second is not None:
        other = _encoded(second)
        names = [(name, of_other) for name in encoded.names for of_other in other.names]
        encoded = _Encoded(_codes_of_pairs(encoded, other), names)
    places: Ints = np.array([place_of.get(name, 0) for name in encoded.names], dtype=np.int64)
    of_rows: Ints = places.take(encoded.codes)
    return of_rows


def _floats(column: pa.Array) -> Floats:
    values: Floats = as_array(column).astype(np.float64, copy=False)
    return values
