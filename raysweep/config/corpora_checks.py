"""Checks the other corpora of a config: their names must be valid folder names, and their settings fit the levels."""

from collections.abc import Callable, Iterator

from pydantic import ValidationError

from raysweep.config.corpora_settings import Corpora
from raysweep.config.data_settings import DataConfig
from raysweep.config.error_messages import error_messages
from raysweep.config.section import NAME
from raysweep.storage.printable import shown

LONGEST_NAME = 40


def find_corpus_problems(
    corpora: Corpora, data: DataConfig, is_taken: Callable[[str], bool]
) -> Iterator[tuple[str, str]]:
    """Find invalid names and settings of other corpora; yields paths and messages.

    Args:
        is_taken: tells whether a name is already used by `--force`.
    """
    seen: dict[str, str] = {}
    for name, corpus in corpora.items():
        place = f"corpora.{name:.{LONGEST_NAME}}"
        if not NAME.match(name) or len(name) > LONGEST_NAME:
            must = f"must start with a letter or digit and hold at most {LONGEST_NAME} letters, digits, . _ + -"
            yield "corpora", f"found the name {shown(name)}; {must}"
        elif is_taken(name):
            yield place, "the name is that of a trial or a stage; choose another"
        elif name.casefold() == "data":
            yield place, "the name stands for the run's own corpus; choose another"
        elif (first := seen.setdefault(name.casefold(), name)) != name:
            yield place, f"{first!r} is the same on disks that ignore case; choose another"
        if corpus.columns.split is not None:
            yield f"{place}.columns.split", f"found {shown(corpus.columns.split)}; all documents are scored: remove it"
        try:
            corpus.as_data(data)
        except ValidationError as error:
            yield from ((f"{place}.{path}".rstrip("."), message) for path, message in error_messages(error.errors()))
