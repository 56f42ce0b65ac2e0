"""Stores measurements by machine, device, versions, model and batch, in the user's cache folder.

`RAYSWEEP_CALIBRATION` names another file.  An entry that cannot be read counts as missing, because measuring
again takes only a minute.
"""

import os
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from raysweep import __version__
from raysweep.config.fingerprints import fingerprint
from raysweep.config.schema import Config
from raysweep.errors import InputError
from raysweep.planning.devices import Device
from raysweep.planning.model_size import model_shape
from raysweep.planning.rates import DataSize, Overheads, Rates
from raysweep.readers.locations import local_files
from raysweep.storage.atomic_files import read_json, write_json
from raysweep.storage.user_cache import user_cache

Record = TypeVar("Record", Rates, DataSize, Overheads)


def cache_file() -> Path:
    """Return the file that holds the measurements."""
    if named := os.environ.get("RAYSWEEP_CALIBRATION"):
        return Path(named)
    return user_cache() / "calibration.json"


def read_rates(config: Config, device: Device) -> Rates | None:
    """Read the rates of an earlier calibration; overheads are stored separately, see `read_overheads`."""
    return _read("rates", _rates_key(config, device), Rates)


def read_data(config: Config) -> DataSize | None:
    """Read the data's size as counted by an earlier calibration."""
    return _read("data", _data_key(config), DataSize)


def read_overheads(device: Device) -> Overheads | None:
    """Read the time that Ray took around the trials of the last run on this machine."""
    return _read("overheads", device.key, Overheads)


def keep_calibration(config: Config, device: Device, rates: Rates, data: DataSize) -> None:
    """Store the results of a calibration."""
    _keep("rates", _rates_key(config, device), rates)
    _keep("data", _data_key(config), data)


def keep_overheads(device: Device, overheads: Overheads) -> None:
    """Store the time that Ray took; the last run replaces earlier ones."""
    _keep("overheads", device.key, overheads)


def _rates_key(config: Config, device: Device) -> str:
    shape = model_shape(config)
    first = next(iter(config.trials.values()))
    how = f"batch {first.batch_size}, {first.task}, {first.precision}{', compiled' if first.compile else ''}"
    how += f", micro-batch {first.micro_batch}, packing {first.packing}, CUDA graphs {first.cuda_graphs}"
    model = f"{shape.parameters:,} parameters, {shape.layers} layers, {shape.positions} tokens"
    versions = f"raysweep {__version__}, torch {metadata.version('torch')}"
    return " | ".join([device.key, f"{config.resources.cpus_per_trial} threads", model, how, versions])


def _data_key(config: Config) -> str:
    """Hash the settings of data and masks, with local files by path, size and time, so that none has to be read."""
    fields = config.data.model_dump(mode="json", exclude={"export_ilm", "max_bad_fraction", "split"})
    fields["files"] = [
        [str(file), file.stat().st_size, file.stat().st_mtime_ns] for file in local_files(config.data.path)
    ]
    tokenizer = [config.model.tokenizer, config.model.start]
    for file in (Path(config.model.tokenizer) / name for name in ("tokenizer.json", "vocab.json")):
        if file.is_file():
            tokenizer += [str(file.stat().st_size), str(file.stat().st_mtime_ns)]
    return fingerprint({"data": fields, "masking": config.masking.model_dump(mode="json"), "tokenizer": tokenizer})


def _read(kind: str, key: str, record: type[Record]) -> Record | None:
    try:
        return TypeAdapter(record).validate_python(_entries()[kind][key])
    except (KeyError, TypeError, ValidationError):
        return None


def _keep(kind: str, key: str, record: Rates | DataSize | Overheads) -> None:
    entries = _entries()
    entries.setdefault(kind, {})[key] = asdict(record)
    write_json(cache_file(), entries)


def _entries() -> dict[str, Any]:
    try:
        entries = read_json(cache_file()) if cache_file().is_file() else {}
    except InputError:
        return {}
    return entries if isinstance(entries, dict) else {}
