"""Adds to an error about a corpus which option gives the setting, for commands that read no config."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from raysweep.config.data_settings import DataConfig
from raysweep.errors import InputError


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
    used = [option for option, column in columns.items() if column and f"no column {column!r}" in message]
    if used:
        return " and ".join(f"{option} COLUMN" for option in used)
    # A file may be called data.csv, and the commands take the files as their argument.
    settings = DataConfig.model_fields.keys() - {"csv", "path"}
    named = [name for name in re.findall(r"\bdata\.(\w+)", message) if name in settings]
    if not named or "--set" in message:
        return ""
    return f"--set data.{'columns.ROLE=COLUMN' if named[0] == 'columns' else f'{named[0]}=…'}"
