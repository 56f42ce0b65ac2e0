"""Settings of a corpus for commands that read no config: takes them from `--set`, and names the option in errors."""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from raysweep.config.data_settings import DataConfig
from raysweep.config.yaml_files import apply_overrides
from raysweep.errors import ConfigError, InputError


def data_overrides(overrides: Sequence[str], *, command: str) -> dict[str, Any]:
    """Return the `data` settings given with `--set`; raises ConfigError for any other setting."""
    values, paths = apply_overrides({"data": {}}, overrides)
    if wrong := [path for path in paths if not path.startswith("data.") or path in ("data.path", "data.csv")]:
        raise ConfigError(
            *(f"--set {path}: {command} takes settings of data alone, such as data.encoding" for path in wrong)
        )
    settings: dict[str, Any] = values["data"]
    return settings


@contextmanager
def options_named(columns: Mapping[str, str | None]) -> Iterator[None]:
    """Say in errors which option of the command gives the setting of `data` that they name.

    Args:
        columns: the command's own options for columns, with the columns that were given.
    """
    try:
        yield
    except InputError as error:
        if option := _find_option(str(error), columns):
            raise type(error)(f"{error} (here: {option})") from error
        raise


def _find_option(message: str, columns: Mapping[str, str | None]) -> str:
    if used := [option for option, column in columns.items() if column and f"no column {column!r}" in message]:
        return " and ".join(f"{option} COLUMN" for option in used)
    # A file may be called data.csv, and the commands take the files as their argument.
    settings = DataConfig.model_fields.keys() - {"csv", "path"}
    named = [name for name in re.findall(r"\bdata\.(\w+)", message) if name in settings]
    if not named or "--set" in message:
        return ""
    return f"--set data.{'columns.ROLE=COLUMN' if named[0] == 'columns' else f'{named[0]}=…'}"
