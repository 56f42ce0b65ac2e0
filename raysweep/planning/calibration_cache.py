"""Keeps what calibrations measured, by machine, device, versions, model and batch: in the user's cache folder.

`RAYSWEEP_CALIBRATION` names another file.  An entry that cannot be read is as good as none: measuring
again costs a minute.
"""

import os
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

from raysweep import __version__
from raysweep.config.fingerprints import fingerprint
from raysweep.config.schema import Config
from raysweep.errors import InputError
from raysweep.planning.devices import Device
from raysweep.planning.forecast import DataSize
from raysweep.planning.model_size import model_shape
from raysweep.planning.rates import Overheads, Rates
from raysweep.storage.atomic_files import read_json, write_json


def cache_file() -> Path:
    """Where calibrations are kept."""
    if named := os.environ.get("RAYSWEEP_CALIBRATION"):
        return Path(named)
    root = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(root) / "raysweep" / "calibration.json"


def rates_key(config: Config, device: Device) -> str:
    """What the rates depend on."""
    shape = model_shape(config)
    first = next(iter(config.trials.values()))
    how = f"batch {first.batch_size}, {first.task}, {first.precision}{', compiled' if first.compile else ''}"
    model = f"{shape.parameters:,} parameters, {shape.layers} layers, {shape.positions} tokens"
    versions = f"raysweep {__version__}, torch {metadata.version('torch')}"
    return " | ".join([device.key, f"{config.resources.cpus_per_trial} threads", model, how, versions])


def data_key(config: Config) -> str:
    """What the data's size depends on: the CSV by its place, size and time, which a glance can tell."""
    fields = config.data.model_dump(mode="json", exclude={"export_ilm", "max_bad_fraction", "split"})
    if config.data.csv is not None and (csv := Path(config.data.csv).expanduser()).is_file():
        fields["csv"] = [str(csv.resolve()), csv.stat().st_size, csv.stat().st_mtime_ns]
    return fingerprint({"data": fields, "masking": config.masking.model_dump(mode="json")})


def read_rates(config: Config, device: Device) -> Rates | None:
    """The rates of an earlier calibration; None without one.  What Ray takes is kept apart, see `read_overheads`."""
    found = _read().get("rates", {}).get(rates_key(config, device))
    if found is None:
        return None
    try:
        return Rates.from_json(found)
    except InputError:
        return None


def read_data(config: Config) -> DataSize | None:
    """The data's size as an earlier calibration counted it; None without one."""
    found = _read().get("data", {}).get(data_key(config))
    return DataSize(**found) if found is not None else None


def read_overheads(device: Device) -> Overheads | None:
    """What Ray took around the trials of the last run on this machine; None before any."""
    found = _read().get("overheads", {}).get(device.key)
    try:
        return Overheads(**found) if found is not None else None
    except TypeError:
        return None


def keep_calibration(config: Config, device: Device, rates: Rates, data: DataSize) -> None:
    """Remember what was measured."""
    values = _read()
    values.setdefault("rates", {})[rates_key(config, device)] = rates.to_json()
    values.setdefault("data", {})[data_key(config)] = asdict(data)
    write_json(cache_file(), values)


def keep_overheads(device: Device, overheads: Overheads) -> None:
    """Remember what Ray took; the last run stands for the next."""
    values = _read()
    values.setdefault("overheads", {})[device.key] = asdict(overheads)
    write_json(cache_file(), values)


def _read() -> dict[str, Any]:
    path = cache_file()
    if not path.is_file():
        return {}
    try:
        values = read_json(path)
    except InputError:
        return {}
    return values if isinstance(values, dict) else {}
