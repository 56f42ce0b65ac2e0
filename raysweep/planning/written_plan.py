"""Reads `plan.json`, which `plan_file` writes, without importing what makes a forecast."""

from typing import Any

from raysweep.errors import EarlierVersionError
from raysweep.storage.digests import read_sealed
from raysweep.storage.run_folder import RunFolder


def read_plan(folder: RunFolder) -> dict[str, Any] | None:
    """Read plan.json; None if there is none, or an earlier version wrote it.

    Raises:
        DamagedError: it was changed since it was written.
    """
    try:
        return read_sealed(folder.plan, fix="delete it and run again") if folder.plan.exists() else None
    except EarlierVersionError:
        return None  # the next training writes a new one
