"""Known corpora: their columns, their spellings of levels, their markup, and the position of texts in their files.

`data.layout: NAME` sets all of these; `data.columns`, `data.level_aliases`, `data.leave_out` and `data.clean` override
single settings.  A role may have several column names, because releases differ: the first one in the file is used.  A
sub-level counts as its level (`B1_2`, `B1+`, `B1.ii` → B1), a level between two as the lower one (`C1/C2`, `A2-B1`).
"""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise

from raysweep.config.data_settings import Format, LayoutName, SplitName
from raysweep.readers.raw_columns import FILE, NameColumns, XmlShape, name_parts, short_name

CEFR = ("A1", "A2", "B1", "B2", "C1", "C2")
BELOW_A1 = "Pre-A1"
"""The level below A1 of the CEFR's Companion Volume; known corpora have no texts of it."""
_PARTS = ("", "+", "-", ".i", ".ii", ".iii", "_0", "_1", "_2", "_3", ".1", ".2", ".3")
SUB_LEVELS = {f"{level}{part}": level for level in CEFR for part in _PARTS} | {
    f"{lower}{mark}{upper}": lower for lower, upper in pairwise(CEFR) for mark in "/-"
}
"""Spellings of levels and sub-levels, and the level that each counts as."""
_NO_LEVEL = ("", "NA", "N/A", "nan", "None")


@dataclass(frozen=True, kw_only=True, slots=True)
class CorpusLayout:
    """What is known about a corpus before it is read."""

    about: str
    columns: Mapping[str, tuple[str, ...]]  # role → names; the first one in the file is used
    signature: frozenset[str]  # columns by which it is recognised
    levels: Mapping[str, str] = field(default_factory=lambda: SUB_LEVELS)  # spelling → level
    level_names: tuple[str, ...] = CEFR  # lowest first
    leave_out: tuple[str, ...] = _NO_LEVEL
    clean: bool = False
    splits: str | None = None  # the column of published splits; used if data.columns.split names it
    split_names: Mapping[str, SplitName] = field(default_factory=dict)
    format: Format | None = None
    files: str | None = None  # which files of a folder or an archive are read
    header: tuple[str, ...] | None = None  # of delimited files without one
    has_quotes: bool = True
    xml: XmlShape | None = None
    name_columns: NameColumns | None = None  # reads columns from a file's name


def _icnale_name(name: str) -> dict[str, str] | None:
    """`W_CHN_PTJ0_001_B1_2.txt`: module, country, topic, participant and level; a participant writes on both topics."""
    pattern = r"(?P<module>[A-Z]+)_(?P<country>[A-Z]{3})_(?P<topic>[A-Z]+)\d*_(?P<number>\d+)_(?P<level>[A-Z]\w_\d)"
    match = re.match(pattern, short_name(name))
    return {**match.groupdict(), "participant": f"{match['country']}-{match['number']}"} if match else None


_FOLDERS = {spelling.casefold() for spelling in SUB_LEVELS}


def _level_place(folders: Sequence[str]) -> int | None:
    return max((place for place, folder in enumerate(folders) if folder.casefold() in _FOLDERS), default=None)


def _level_folder(name: str, start: int | None = None) -> dict[str, str] | None:
    """`…/A1/anna/1.txt`: the innermost folder that is named like a level, and as id the path from there or `start`."""
    parts = name_parts(name)
    place = _level_place(parts[:-1])
    if place is None or place < (start or 0):
        return None
    return {"id": "/".join(parts[place if start is None else start :]), "level": parts[place]}


_EF_LEVELS = {str(number): CEFR[(number - 1) // 3] for number in range(1, 17)}
_BANDS = {spelling: f"S{max(1, half // 2)}" for half in range(2, 9) for spelling in {f"{half / 2}", f"{half / 2:g}"}}

LAYOUTS: dict[LayoutName, CorpusLayout] = {
    "efcamdat": CorpusLayout(
        about="EFCAMDAT, the cleaned subcorpus: workbooks of main and of alternative prompts",
        columns={
            "writing_id": ("writing_id", "writingID", "id"),
            "learner": ("learner_id", "learnerID"),
            "l1": ("l1", "nationality"),
            "level": ("cefr", "cefr_level"),
            "text": ("text",),
            "prompt": ("topic",),
            "date": ("date",),
            "score": ("grade",),
        },
        signature=frozenset({"cefr", "cefr_numeric", "text", "l1"}),
        clean=True,
    ),
    "efcamdat_xml": CorpusLayout(
        about="EFCAMDAT, the second release as XML: EF levels 1–16, three to a CEFR level",
        columns={
            "writing_id": ("id",),
            "learner": ("learner",),
            "l1": ("nationality",),
            "level": ("level",),
            "text": ("text",),
            "prompt": ("topic",),
            "date": ("date",),
            "score": ("grade",),
        },
        signature=frozenset({"id", "level", "unit", "learner", "nationality", "topic", "date", "grade", "text"}),
        levels=_EF_LEVELS,
        clean=True,
        format="xml",
        files="*.xml*",
        xml=XmlShape(
            record="writing",
            columns={
                "id": "@id",
                "level": "@level",
                "unit": "@unit",
                "learner": "learner/@id",
                "nationality": "learner/@nationality",
                "topic": "topic",
                "date": "date",
                "grade": "grade",
                "text": "text",
            },
        ),
    ),
    "write_and_improve": CorpusLayout(
        about="Write & Improve 2024: the table of the whole corpus; rows without a human level are left out",
        columns={
            "writing_id": ("public_essay_id",),
            "learner": ("public_user_id",),
            "l1": ("language",),
            "level": ("humannotator_cefr_level",),
            "text": ("text",),
            "prompt": ("public_prompt_id",),
            "date": ("created_timestamp",),
        },
        signature=frozenset({"public_essay_id", "humannotator_cefr_level", "text"}),
        leave_out=(*_NO_LEVEL, "pre-A1"),
        splits="split",
    ),
    "wi_locness": CorpusLayout(
        about="W&I+LOCNESS (BEA 2019), JSON: A.train.json … ABCN.dev.json; native speakers are left out",
        columns={
            "writing_id": ("id",),
            "learner": ("userid",),
            "level": ("cefr",),
            "text": ("text",),
        },
        signature=frozenset({"text", "userid", "cefr", "edits"}),
        leave_out=(*_NO_LEVEL, "N"),
        splits=FILE,
        split_names={"dev": "test"},
        files="*.json*",
    ),
    "icnale": CorpusLayout(
        about="ICNALE Written Essays: a text file per essay, W_CHN_PTJ0_001_B1_2.txt; native speakers are left out",
        columns={
            "writing_id": (FILE,),
            "learner": ("participant",),
            "l1": ("country",),
            "level": ("level",),
            "text": ("text",),
            "prompt": ("topic",),
        },
        signature=frozenset(),
        leave_out=(*_NO_LEVEL, *(f"XX_{number}" for number in range(4))),
        format="text",
        files="*_*_*_*_*.txt",
        name_columns=_icnale_name,
    ),
    "asag": CorpusLayout(
        about="CEFR-ASAG: a TEI file per answer, with the level that most examiners gave",
        columns={
            "writing_id": (FILE,),
            "l1": ("l1",),
            "level": ("majority",),
            "text": ("answer",),
            "prompt": ("question",),
        },
        signature=frozenset({"l1", "question", "answer", "majority"}),
        format="xml",
        files="*.xml",
        xml=XmlShape(
            record="TEI",
            columns={
                "l1": ".//langKnown[@level='native']/@tag",
                "question": ".//div[@type='question']/p",
                "answer": ".//div[@type='answer']/p",
                "majority": ".//label[@subtype='majority-vote']/span",
            },
        ),
    ),
    "universal_cefr": CorpusLayout(
        about="UniversalCEFR: a JSON list of texts in one of 13 languages",
        columns={"level": ("cefr_level",), "text": ("text",)},
        signature=frozenset({"lang", "source_name", "format", "category", "cefr_level", "text"}),
        leave_out=(*_NO_LEVEL, "unrated"),
    ),
    "ellipse": CorpusLayout(
        about="ELLIPSE: scores 1.0–5.0 instead of CEFR levels; S1 is 1.0 and 1.5 …, S4 is 4.0 and above",
        columns={
            "writing_id": ("text_id_kaggle", "text_id", "filename"),
            "level": ("Overall", "overall"),
            "text": ("full_text", "text"),
            "prompt": ("prompt",),
            "score": ("Overall", "overall"),
        },
        signature=frozenset({"full_text", "Overall", "Cohesion", "Syntax"}),
        levels=_BANDS | {"4.5": "S4", "5.0": "S4", "5": "S4"},
        level_names=("S1", "S2", "S3", "S4"),
        splits="set",
    ),
    "cefr_sp": CorpusLayout(
        about="CEFR-SP: a sentence a line, and the levels 1–6 of two annotators; the first one's counts",
        columns={"level": ("level_a",), "text": ("text",)},
        signature=frozenset({"level_a", "level_b", "text"}),
        levels={str(number): level for number, level in enumerate(CEFR, start=1)},
        splits=FILE,
        format="tsv",
        files="*.txt",
        header=("text", "level_a", "level_b"),
        has_quotes=False,
    ),
    "level_folders": CorpusLayout(
        about="a folder per level, with a text file per text: A1/anna.txt",
        columns={"writing_id": ("id",), "level": ("level",), "text": ("text",)},
        signature=frozenset(),
        format="text",
        files="*.txt",
        name_columns=_level_folder,
    ),
}


def has_level_folders(names: Sequence[str]) -> bool:
    """Tell whether most files are in folders of at least two levels, below the folder that all of them share."""
    folders = [name_parts(name)[:-1] for name in names]
    shared = _count_shared(folders)
    below = [parts[shared:] for parts in folders]
    levels = [parts[place].casefold() for parts in below if (place := _level_place(parts)) is not None]
    return 2 * len(levels) > len(names) and len(set(levels)) > 1


def level_and_path(names: Sequence[str]) -> NameColumns:
    """Return a reader of the level and the id of these files: the path below the folder that all of them share.

    If that folder is named like a level, the ids begin with it.  Folders above it count only if no other does, as for
    texts of one level.
    """
    folders = [name_parts(name)[:-1] for name in names]
    shared = _count_shared(folders)
    levels = [place for parts in folders if (place := _level_place(parts)) is not None]
    return partial(_level_folder, start=min([shared, *([each for each in levels if each >= shared - 1] or levels)]))


def _count_shared(folders: Sequence[list[str]]) -> int:
    return len(os.path.commonprefix(folders))  # noqa: RUF071 - lists of names are compared, name by name


def recognise_layout(header: tuple[str, ...]) -> LayoutName | None:
    """Return the layout whose columns the header has; the one with the most columns if there are several."""
    fits = [name for name, layout in LAYOUTS.items() if layout.signature and layout.signature <= set(header)]
    return max(fits, key=lambda name: len(LAYOUTS[name].signature), default=None)
