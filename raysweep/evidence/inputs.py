"""Lists, copies and digests the inputs of the report: the files of a run folder that a bundle contains.

The evidence is collected from these files only, and none of their copies in a bundle holds a learner's
text.  So a bundle can be laid out as a run folder anywhere, and the evidence collected again.  Some
files are changed for a bundle; changing them twice makes no further difference:

    corpus/documents.parquet      lengths instead of texts, no ids; learners and prompts are numbered
    evaluation/*losses.parquet    no ids; the documents' numbers stay
    classification/features.parquet  learners are numbered
    corpora/NAME/…                the same of a further corpus
    run.json                      no report stage, which is recorded after the report is written
    run.json, config.yaml, trial.json   what `published.py` lists

A bundle has no weights, only their size in `model.json`.  The evidence holds a digest of every file (of
a table's values, not of its Parquet encoding), so that a change to the last digit of a loss is detected
even if no printed number changes.
"""

import hashlib
import json
import os
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import yaml

from raysweep.config.loading import read_resolved_config
from raysweep.errors import DamagedError
from raysweep.evidence.published import published_config, published_run, published_trial
from raysweep.evidence.run_schema import Inputs
from raysweep.scheduling.trials import START_MODEL
from raysweep.staging.run_command import place_options
from raysweep.storage.arrow_arrays import as_array, as_arrays, text_scalar, with_code
from raysweep.storage.atomic_files import atomic_file, read_json, write_json, write_text
from raysweep.storage.classification_files import ClassificationFolder
from raysweep.storage.digests import write_sealed
from raysweep.storage.run_folder import RunFolder, TrialFolder

Values = dict[str, Any]
PSEUDONYMISED = ("learner", "prompt")
"""Columns whose values are replaced by numbers, in order of first appearance."""
LEFT_OUT = ("text", "writing_id", "date", "score")
"""Columns left out of a bundle."""
_HIDDEN_STAGE = "report"
_TABLE = ".parquet"
_ROWS_PER_BLOCK = 1 << 17
"""Number of rows compared at a time, which fit in a core's cache."""


def list_inputs(folder: RunFolder, trials: Collection[str], corpora: Collection[str] = ()) -> list[str]:
    """List the sorted paths of all inputs, relative to the run folder; files that no stage wrote are left out."""
    return list(_find(folder, trials, corpora))


@contextmanager
def digesting_tables(folder: RunFolder, corpora: Collection[str] = ()) -> Iterator[Future[dict[str, str]]]:
    """Digest the tables in a thread during the block, mostly without holding Python's lock."""
    tables = {name: source.path for name, source in _find(folder, (), corpora).items() if source.path.suffix == _TABLE}
    with ThreadPoolExecutor(1, thread_name_prefix="digests") as pool:
        yield pool.submit(lambda: {name: _table_digest(path) for name, path in tables.items()})


def describe_inputs(
    folder: RunFolder,
    trials: Collection[str],
    corpora: Collection[str] = (),
    tables: Future[dict[str, str]] | None = None,
) -> Inputs:
    """Return a digest of every input, and one over all; `tables` is the future of `digesting_tables`."""
    inputs = _find(folder, trials, corpora)
    known = tables.result() if tables is not None else {}
    files = {name: known.get(name) or _digest(source, folder) for name, source in inputs.items()}
    lines = "".join(f"{name} {digest}\n" for name, digest in files.items())
    return Inputs(files=files, digest=hashlib.sha256(lines.encode()).hexdigest())


def read_documents(folder: RunFolder, split: str) -> pa.Table:
    """Read the documents of a split, with `characters` instead of their texts; learners are not renamed."""
    wanted = text_scalar(split)
    with pq.ParquetFile(folder.documents, page_checksum_verification=True) as file:
        batches = [batch.filter(pc.equal(batch["split"], wanted)) for batch in file.iter_batches()]
        return _measured(pa.Table.from_batches(batches, file.schema_arrow))


def read_if_there(path: Path) -> Any:
    """Read a JSON record; None if its stage did not write one."""
    return read_json(path) if path.exists() else None


def copy_inputs(folder: RunFolder, trials: Collection[str], target: RunFolder, corpora: Collection[str] = ()) -> None:
    """Copy the inputs to another run folder, in the form that a bundle contains."""
    for name, source in _find(folder, trials, corpora).items():
        path = target.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        content = _content(source, folder)
        if isinstance(content, pa.Table):
            with atomic_file(path) as temporary:
                pq.write_table(content, temporary, compression="zstd")
        elif isinstance(content, Path):
            path.write_bytes(content.read_bytes())
        elif isinstance(content, str):
            write_text(path, content)
        elif path == TrialFolder(path.parent).record:
            write_sealed(path, content)
        else:
            write_json(path, content)


def model_bytes(folder: TrialFolder) -> int | None:
    """Return the total size of a trained model's files; None if there is no model."""
    return sum(_inventory(folder).values()) or None


class _Input(NamedTuple):
    path: Path
    publish: Callable[[Path], Values | str] | None = None
    """Makes the bundle's version of the file; None for a table, and for a file that is copied unchanged."""
    sizes: dict[str, int] | None = None
    """Sizes of a model's files, which a bundle contains instead of them; the path need not exist."""


def _find(folder: RunFolder, trials: Collection[str], corpora: Collection[str]) -> dict[str, _Input]:
    """Find all existing inputs, by their paths relative to the run folder, in order."""
    places = [folder.further(name) for name in corpora]
    candidates = (
        *_candidates(folder, trials),
        *(_Input(path) for place in places for path in (place.documents, place.splits, place.losses)),
    )
    existing = (source for source in candidates if source.sizes or os.path.exists(source.path))  # noqa: PTH110 - of thousands of files
    # `relative_to` would take as long as everything else.
    start = len((folder.root / "x").as_posix()) - 1
    return dict(sorted((source.path.as_posix()[start:], source) for source in existing))


def _candidates(folder: RunFolder, trials: Collection[str]) -> Iterator[_Input]:
    """Yield all inputs that may exist, except those of further corpora."""
    yield _Input(folder.record, lambda path: published_run(_without_report(read_json(path))))
    yield _Input(folder.config, lambda _: _published_settings(folder))
    for path in (folder.manifest, folder.documents, folder.losses, folder.speed, folder.splits, folder.leakage):
        yield _Input(path)
    for path in (folder.leaks, folder.plan, folder.ledger, folder.valid_losses, folder.interpolated_losses):
        yield _Input(path)
    if folder.config.exists() and read_resolved_config(folder).classification is not None:
        classified = ClassificationFolder.of(folder)
        yield from (_Input(classified.features), _Input(classified.predictions))
    for name in trials:
        trial = folder.trial(name)
        yield _Input(trial.record, lambda path: published_trial(read_json(path)))
        yield _Input(trial.metrics)
        yield _Input(trial.inventory, sizes=_inventory(trial))
    for model in (START_MODEL, *trials):
        yield _Input(folder.cells_record(model))


def _published_settings(folder: RunFolder) -> str:
    return yaml.safe_dump(published_config(read_resolved_config(folder)), sort_keys=False, allow_unicode=True)


def _content(source: _Input, folder: RunFolder) -> pa.Table | Path | Values | str:
    """Return an input in the form that a bundle contains: a table, JSON values, a text, or the file unchanged."""
    if source.path.suffix == _TABLE:
        return _without_text(_read_table(source.path, folder))
    if source.sizes:
        return source.sizes
    return source.path if source.publish is None else source.publish(source.path)


def _read_table(path: Path, folder: RunFolder) -> pa.Table:
    try:
        return pq.read_table(path, page_checksum_verification=True)
    except (pa.ArrowException, OSError) as error:
        raise DamagedError(
            f"{path}: is damaged, and cannot be read as Parquet. `raysweep check-run {place_options(folder)}` lists "
            "what is damaged, and the run's command names what makes it again"
        ) from error


def _digest(source: _Input, folder: RunFolder) -> str:
    if source.path.suffix == _TABLE:
        return _table_digest(source.path)
    if isinstance(content := _content(source, folder), Path):
        return hashlib.sha256(content.read_bytes()).hexdigest()
    assert not isinstance(content, pa.Table)
    text = content if isinstance(content, str) else json.dumps(content, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _inventory(folder: TrialFolder) -> dict[str, int]:
    """Return names and sizes of a model's files, from the files or from a bundle's `model.json`."""
    sizes = dict(_sizes(str(folder.model)))
    if not sizes and folder.inventory.exists():
        sizes = {str(name): int(size) for name, size in read_json(folder.inventory).items()}
    return sizes


def _sizes(place: str, inside: str = "") -> Iterator[tuple[str, int]]:
    """Yield names and sizes of all files in a folder, without `Path`, which is slow for a thousand trials."""
    if not os.path.isdir(place):  # noqa: PTH112 - see above
        return
    with os.scandir(place) as entries:
        for entry in entries:
            if entry.is_file():
                yield f"{inside}{entry.name}", entry.stat().st_size
            elif entry.is_dir(follow_symlinks=False):
                yield from _sizes(entry.path, f"{inside}{entry.name}/")


def _without_report(record: Values) -> Values:
    stages = {name: stage for name, stage in record["stages"].items() if name != _HIDDEN_STAGE}
    return {**record, "stages": stages}


def _without_text(table: pa.Table) -> pa.Table:
    """Return the table with lengths instead of texts, without ids, and with numbers for learners and prompts."""
    table = _measured(table)
    for index, name in enumerate(table.column_names):
        if name in PSEUDONYMISED:
            table = table.set_column(index, name, _numbered(table[name], name))
    return table.replace_schema_metadata(None)


def _measured(table: pa.Table) -> pa.Table:
    """Return the table with each text's length instead of the text, and without ids."""
    columns = _published_columns(table.column_names)
    if "text" in columns.values():
        table = table.append_column("characters", pc.utf8_length(table["text"]).cast(pa.int64()))
    return table.select([*columns])


def _published_columns(names: Sequence[str]) -> dict[str, str]:
    """Return the columns of a table in a bundle, each with the column that it is made from."""
    kept = {name: name for name in names if name not in LEFT_OUT}
    return {**kept, "characters": "text"} if "text" in names else kept


def _numbered(column: pa.ChunkedArray, name: str) -> pa.Array:
    """Return `learner-1`, `learner-2`, … in order of first appearance; missing values stay missing."""
    if column.null_count == len(column):
        return pa.nulls(len(column), pa.string())
    encoded = _encode(column)
    names = pa.array([_pseudonym(name, number) for number in range(1, len(encoded.dictionary) + 1)])
    return names.take(encoded.indices)


def _table_digest(path: Path) -> str:
    """Digest a table's values as a bundle contains them, whatever its chunks, encoding and version of Parquet.

    Columns are processed one at a time: all columns of millions of rows would take most of the process's memory.
    """
    digest = hashlib.sha256()
    # All columns come from one open file, even if the file is replaced meanwhile.
    with pa.OSFile(str(path)) as opened:
        schema = pq.read_schema(opened)
        texts = [field.name for field in schema if pa.types.is_string(field.type) and field.name != "text"]
        # A name is decoded once, not once per row.  `read_table` would import pandas.
        file = pq.ParquetFile(opened, read_dictionary=texts, page_checksum_verification=True)
        for name, source in sorted(_published_columns(schema.names).items()):
            column = _measured(file.read(columns=[source])).column(0)
            if pa.types.is_floating(column.type) or pa.types.is_integer(column.type):
                kind, names, values = str(column.type), [], column
            else:
                encoded = _encode(column)
                names = encoded.dictionary.to_pylist()
                if name in PSEUDONYMISED:
                    names = [_pseudonym(name, number) for number in range(1, len(names) + 1)]
                kind, values = "text", with_code(encoded.indices, -1)
            digest.update(json.dumps([name, kind, len(column), column.null_count, names]).encode())
            for numbers in as_arrays(values):
                digest.update(numbers.astype(numbers.dtype.newbyteorder("<"), copy=False))
    return digest.hexdigest()


def _pseudonym(name: str, number: int) -> str:
    return f"{name}-{number}"


def _encode(column: pa.ChunkedArray) -> pa.DictionaryArray:
    """Encode text as codes into its distinct values, in order of first appearance, whatever the file's encoding."""
    if pa.types.is_dictionary(column.type):
        encoded = column.unify_dictionaries().combine_chunks()
        if _is_in_order(encoded):
            return encoded
        used = pc.unique(encoded.indices).drop_null()
        codes = pc.index_in(encoded.indices, used)
        return pa.DictionaryArray.from_arrays(codes, encoded.dictionary.cast(pa.string()).take(used))
    plain = column.cast(pa.string()).combine_chunks()
    if isinstance(plain, pa.ChunkedArray):
        plain = pa.concat_arrays(plain.chunks) if plain.num_chunks else pa.array([], pa.string())
    return plain.dictionary_encode()


def _is_in_order(encoded: pa.DictionaryArray) -> bool:
    """Return whether every name of the dictionary occurs, in its order, as writers leave it."""
    if encoded.null_count or encoded.type != pa.dictionary(pa.int32(), pa.string()):
        return False
    codes, highest = as_array(encoded.indices), -1
    for first in range(0, len(codes), _ROWS_PER_BLOCK):
        block = codes[first : first + _ROWS_PER_BLOCK]
        highest_C = np.maximum(np.maximum.accumulate(block), highest)
        if block[0] > highest + 1 or (block[1:] > highest_C[:-1] + 1).any():
            return False
        highest = highest_C[-1]
    return bool(highest == len(encoded.dictionary) - 1)
