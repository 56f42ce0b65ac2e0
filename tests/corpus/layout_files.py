"""Small made-up corpora in the shape of every layout; no text of any real corpus."""

import gzip
import json
import random
from pathlib import Path
from xml.sax.saxutils import escape

from tests.readers.small_files import delimited, workbook, zipped

_SUBJECTS = (
    "my aunt",
    "the old baker",
    "our team",
    "a tall nurse",
    "this pupil",
    "the manager",
    "my cousin",
    "a green bus",
)
_VERBS = ("paints", "carries", "repairs", "collects", "borrows", "measures", "forgets", "describes")
_OBJECTS = (
    "two ladders",
    "old maps",
    "the kitchen",
    "a letter",
    "some lemons",
    "his bicycle",
    "a heavy coat",
    "their plan",
)
_ENDS = ("in winter", "on mondays", "with great care", "before lunch", "near the harbour", "without help")


def made_up_text(rng: random.Random, sentences: int) -> str:
    """Sentences from a word list."""
    parts = [
        f"{rng.choice(_SUBJECTS)} {rng.choice(_VERBS)} {rng.choice(_OBJECTS)} {rng.choice(_ENDS)}"
        for _ in range(sentences)
    ]
    return " ".join(f"{part[0].upper()}{part[1:]}." for part in parts)


def made_up_rows(levels, per_level: int, seed: int = 0):
    """(number, level, text), the levels in turn."""
    rng = random.Random(seed)
    return [
        (number, level, made_up_text(rng, 3 + rng.randrange(3)))
        for number, level in enumerate(level for _ in range(per_level) for level in levels)
    ]


def efcamdat(folder: Path, per_level: int) -> Path:
    columns = ("writing_id", "learner_id", "l1", "cefr", "text", "cefr_numeric", "wordcount", "topic", "grade", "date")
    rows = [
        (
            number, f"u{number // 3}", "Thai", level, text.replace(". ", ".<br> <br>", 1), 1, 20, "Taking &amp; giving",
            90, "2012-01-01",
        )
        for number, level, text in made_up_rows(("A1", "B1", "C1"), per_level)
    ]  # fmt: skip
    path = folder / "Final database (main prompts).xlsx"
    path.write_bytes(workbook({"Sheet 1": [columns, *rows]}))
    return path


def efcamdat_xml(folder: Path, per_level: int) -> Path:
    writings = "".join(
        f'<writing id="C{number}" level="{level}" unit="4"><learner id="{number // 3}" nationality="cn"/>'
        f'<topic id="17">A made-up topic</topic><date>2011-10-22 11:14:04.960</date><grade>95</grade>'
        f"<text>{escape(text)}<br/>I <change><selection>has</selection><tag><symbol>AG</symbol>"
        f"<correct>have</correct></tag></change> it &amp; you.</text></writing>"
        for number, level, text in made_up_rows(("2", "8", "15"), per_level)
    )
    path = folder / "EFCAMDAT_Database.xml"
    path.write_text(f'<?xml version="1.0"?><selection id="x"><meta/><writings>{writings}</writings></selection>')
    return path


def write_and_improve(folder: Path, per_level: int) -> Path:
    columns = (
        "public_essay_id", "created_timestamp", "public_prompt_id", "public_user_id", "is_final_version", "language",
        "text", "automarker_cefr_level", "humannotator_cefr_level", "split",
    )  # fmt: skip
    rows = [
        (
            f"e{number}", "2024-01-01", "p1", f"u{number}", "TRUE", "Thai", text, "B1", level,
            ("train", "dev", "test")[min(2, number % 5)],
        )
        for number, level, text in made_up_rows(("A2", "A2+", "B1", "B1+", "", "pre-A1"), per_level)
    ]  # fmt: skip
    path = folder / "en-writeandimprove2024-corpus.tsv"
    path.write_bytes(delimited("\t", rows, columns))
    return path


def wi_locness(folder: Path, per_level: int) -> Path:
    lines: dict[str, list[str]] = {"A.train": [], "B.train": [], "ABCN.dev": [], "N.dev": []}
    for number, level, text in made_up_rows(("A1.i", "A2.ii", "B1.i", "N"), per_level):
        record = {
            "text": text,
            "userid": f"{number}",
            "id": f"1-{number}",
            "cefr": level,
            "edits": [[0, [[3, 3, ","]]]],
        }
        name = "ABCN.dev" if number // 4 % 4 == 0 else "N.dev" if level == "N" else f"{level[0]}.train"
        lines[name].append(json.dumps(record))
    members = {f"wi+locness/json/{name}.json": "\n".join(rows).encode() for name, rows in lines.items()}
    path = folder / "wi+locness.zip"
    path.write_bytes(zipped({**members, "wi+locness/readme.txt": b"Read me."}))
    return path


def icnale(folder: Path, per_level: int) -> Path:
    root = folder / "ICNALE_WE"
    root.mkdir()
    for number, level, text in made_up_rows(("A2_0", "B1_1", "B1_2", "XX_1"), per_level):
        country, topic = ("CHN", "JPN", "ENS")[number % 2 if level != "XX_1" else 2], ("PTJ", "SMK")[number % 3 % 2]
        (root / f"W_{country}_{topic}0_{number:03}_{level}.txt").write_bytes(b"\xef\xbb\xbf" + text.encode())
    return root


def asag(folder: Path, per_level: int) -> Path:
    def tei(level, text):
        return (
            '<?xml version="1.0" encoding="utf-8"?><TEI><teiHeader><profileDesc><particDesc><person age="18" '
            'role="participant"><langKnowledge><langKnown level="native" tag="fr"/></langKnowledge></person>'
            '</particDesc></profileDesc></teiHeader><text><body><div type="question"><p>Describe your day.</p>'
            f'<label type="level"><span>A1</span></label></div><div type="answer"><p>{text}</p><p>Bye.</p></div>'
            '<div type="grading"><label corresp="#examiner.1" type="level"><span>C2</span></label>'
            f'<label subtype="majority-vote" type="level"><span>{level}</span></label></div></body></text></TEI>'
        )

    rows = made_up_rows(("A2", "B1", "B2"), per_level)
    path = folder / "cefr-asag-corpus.zip"
    path.write_bytes(
        zipped({f"corpus/labelled/{number:04}.xml": tei(level, text).encode() for number, level, text in rows})
    )
    return path


def universal_cefr(folder: Path, per_level: int) -> Path:
    records = [
        (f"Title {number}", "en", "made-up", "document-level", "learner", level, "none", text)
        for number, level, text in made_up_rows(("A1", "A2+", "B1", "NA"), per_level)
    ]
    columns = ("title", "lang", "source_name", "format", "category", "cefr_level", "license", "text")
    path = folder / "made_up_en.json"
    path.write_text(json.dumps([dict(zip(columns, record, strict=True)) for record in records], indent=2))
    return path


def ellipse(folder: Path, per_level: int) -> Path:
    columns = ("text_id_kaggle", "full_text", "gender", "grade", "prompt", "set", "Overall", "Cohesion", "Syntax")
    rows = [
        (f"K{number:X}", text, "F", 9, "Being positive", "train" if number // 5 % 5 else "test", level, level, level)
        for number, level, text in made_up_rows(("1.5", "2.0", "3.0", "3.5", "5.0"), per_level)
    ]
    path = folder / "ELLIPSE_Final_github.csv.gz"
    path.write_bytes(gzip.compress(delimited(",", rows, columns)))
    return path


def cefr_sp(folder: Path, per_level: int) -> Path:
    root = folder / "SCoRE"
    root.mkdir()
    lines: dict[str, list[str]] = {"train": [], "dev": [], "test": []}
    for number, level, text in made_up_rows(("1", "3", "4"), per_level):
        split = ("train", "train", "train", "dev", "test")[number // 3 % 5]
        lines[split].append(f'{text.partition(". ")[0]} "{number}".\t{level}\t{min(6, int(level) + 1)}\n')
    for split, rows in lines.items():
        (root / f"CEFR-SP_SCoRE_{split}.txt").write_text("".join(rows))
    return root


def level_folders(folder: Path, per_level: int) -> Path:
    root = folder / "my texts"
    for number, level, text in made_up_rows(("A1", "b1.2", "B2+"), per_level):
        (root / level / f"u{number % 3}").mkdir(parents=True, exist_ok=True)
        (root / level / f"u{number % 3}" / f"{number}.txt").write_text(text)
    return root


MAKERS = {
    "efcamdat": efcamdat, "efcamdat_xml": efcamdat_xml, "write_and_improve": write_and_improve,
    "wi_locness": wi_locness, "icnale": icnale, "asag": asag, "universal_cefr": universal_cefr, "ellipse": ellipse,
    "cefr_sp": cefr_sp, "level_folders": level_folders,
}  # fmt: skip
