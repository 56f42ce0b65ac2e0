"""Chooses which columns of a file hold the id, the level, the text and so on.

Columns named in the config must exist.  The other columns are found by the names of the layout or, without a layout,
by the usual names.  Only a level and a text are required, and no level for texts that are only scored.
"""

from collections.abc import Sequence

from raysweep.config.data_settings import ColumnsConfig, DataConfig
from raysweep.corpus.layouts import CorpusLayout
from raysweep.readers.raw_columns import FILE, ReadOptions, check_columns

USUAL_NAMES = {"writing_id": "writing_id", "l1": "l1", "level": "cefr_level", "text": "text"}
NEEDED = ("level", "text")
CARRIED = ("learner", "prompt", "date", "score")


def read_options(data: DataConfig, layout: CorpusLayout | None, choose: "ColumnChooser") -> ReadOptions:
    """Combine what the config and the layout say about the files."""
    levels = {*data.levels, *data.level_aliases, *(layout.levels if layout else ())}
    return ReadOptions(
        choose=choose,
        levels=frozenset(levels | {level.lower() for level in levels}),
        format=data.format or (layout.format if layout else None),
        encoding=data.encoding,
        sheet=data.sheet,
        has_quotes=data.quotes == "double" and (layout is None or layout.has_quotes),
        header=layout.header if layout else None,
        xml=layout.xml if layout else None,
        name_columns=layout.name_columns if layout else None,
    )


class ColumnChooser:
    """Chooses the columns of the first file; the other files must have the same."""

    def __init__(self, columns: ColumnsConfig, layout: CorpusLayout | None, *, needed: Sequence[str] = NEEDED) -> None:
        self._needed = needed
        asked = columns.model_dump()
        self._asked = {("writing_id" if role == "id" else role): name for role, name in asked.items() if name}
        self._layout = layout
        self.roles: dict[str, str] = {}

    def __call__(self, name: str, header: Sequence[str]) -> dict[str, str]:
        if self.roles:
            return self.roles
        roles, missing = dict(self._asked), []
        for role in ("writing_id", "l1", "level", "text", *CARRIED):
            if role in roles:
                continue
            known = self._layout.columns.get(role, ()) if self._layout else ()
            known = known or ((USUAL_NAMES[role],) if role in USUAL_NAMES and not self._layout else ())
            column = next((name for name in known if name in header or name == FILE), None)
            if column is not None:
                roles[role] = column
            elif role in self._needed:
                missing.append(known[0])
        check_columns(name, header, [*missing, *(name for name in roles.values() if name != FILE)])
        self.roles = {
            role: roles[role] for role in ("writing_id", "l1", "level", "text", *CARRIED, "split") if role in roles
        }
        return self.roles
