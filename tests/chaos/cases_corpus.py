"""A corpus that cannot be used, is odd, or holds rows that must not be read as something else."""

import csv
import gzip
import json

from tests.chaos.case import Case

HEAD = "writing_id,l1,cefr_level,text\n"
ROWS = [f"d{n},Thai,{('A1', 'C1')[n % 2]},I saw {n} birds and {n} fish by the sea.\n" for n in range(200)]
PREPARE = ("prepare", "--set", "data.csv=texts.csv", "--set", "data.max_bad_fraction=0.2")
LEARNERS = (*PREPARE, "--set", "data.columns.learner=who")


def _holds(content, name="texts.csv"):
    data = content if isinstance(content, bytes) else content.encode()

    def write(folder):
        (folder / name).write_bytes(data)

    return write


def _corpus(*rows):
    return HEAD + "".join(ROWS[:100]) + "".join(rows) + "".join(ROWS[100:])


def _splits(folder):
    return json.loads((folder / "runs" / "tiny" / "corpus" / "splits.json").read_text())


def _counts(documents, **bad_rows):
    """Check that every row is a document or set aside, for the reasons given (spaces as underscores)."""

    def check(folder):
        splits = _splits(folder)
        bad = {reason.replace(" ", "_"): count for reason, count in splits["bad_rows"].items()}
        assert (splits["documents"], bad) == (documents, bad_rows)
        assert splits["rows"] == documents + sum(bad_rows.values())
        with (folder / "runs" / "tiny" / "corpus" / "quarantine.csv").open(newline="", encoding="utf-8") as file:
            assert len(list(csv.DictReader(file))) == sum(bad_rows.values())

    return check


def _nothing_was_prepared(folder):
    assert not (folder / "runs" / "tiny" / "corpus" / "splits.json").exists()


def _refused(name, content, *words, command=PREPARE, file="texts.csv", **more):
    return Case(
        name=name, kind="corpus", make=_holds(content, file), command=command, exit_code=2, words=words,
        check=_nothing_was_prepared, **more,
    )  # fmt: skip


def _read(name, content, check, *words, command=PREPARE, **more):
    return Case(
        name=name, kind="corpus", make=_holds(content), command=command, exit_code=0, words=words, check=check, **more
    )


def _learners_are_whole(folder):
    leakage = json.loads((folder / "runs" / "tiny" / "corpus" / "leakage.json").read_text())
    assert (leakage["learners"], leakage["learners_in_two_splits"]) == (50, 0)


def _spelled(row):
    learner = f"Jos\u00e9 {row % 50}"
    return (learner, learner.upper(), f"Jose\u0301 {row % 50}", f"Jos\u00e9\u200b {row % 50}")[row // 50]


QUOTED = [row.replace("I saw", '"I saw, well,').replace(".\n", '."\n') for row in ROWS]
OTHER_LAYOUTS = (
    _refused(
        "JSON lines",
        '{"text": "My secret diary, which goes on and on.", "id": "1-0", "cefr": "A1"}\n' * 500,
        "no column 'cefr_level' (did you mean 'cefr'?). Found the columns 'text', 'id', 'cefr'",
        unprinted=("secret diary",),
        in_ci=True,
    ),
    _refused("JSON list", '[{"text": "Hi", "id": 1}]', "no column 'cefr_level'"),
    _refused("sep=; line and no rows", "sep=;\n" + HEAD.replace(",", ";"), "has a header and no rows"),
    _refused("comment above the header", "# release 2\n" + _corpus(), "Delete the lines that start with #"),
    _refused("semicolons and other names", "Id;Sprache;Niveau;Text\n1;de;A1;Hi\n", "no column 'cefr_level'"),
    _refused("bars", "Id|Sprache|Niveau|Text\n1|de|A1|Hi\n", "no column 'cefr_level'"),
    _refused("no header", "".join(ROWS), "has no header: its first line holds the level 'A1'"),
    _refused(
        "a very long first line",
        "x" * 100_000 + "\n1\n",
        "no column 'cefr_level'",
        "Name yours in data.columns",
        unprinted=("x" * 81,),
    ),
    _refused("UTF-16", _corpus().encode("utf-16"), "is UTF-16; must be UTF-8"),
    _refused("UTF-16 without a mark", _corpus().encode("utf-16-le"), "is UTF-16-LE; must be UTF-8"),
    _refused(
        "column twice", "writing_id,l1,cefr_level,text,text\n1,a,A1,b,c\n", "'text' appears 2 times in the header"
    ),
    _refused("level of no document", HEAD + "".join(ROWS).replace("C1", "B2"), "found 'B2'; known levels are A1, C1"),
)
GZIP = (
    _refused(
        "gzip bomb",
        gzip.compress(b"\0" * (200 << 20)),
        "at most 100 times their size and 16 GiB are read",
        command=(*PREPARE, "--set", "data.csv=texts.csv.gz"),
        file="texts.csv.gz",
        in_ci=True,
        within_s=20.0,
    ),
    _refused("gzip cut short", gzip.compress(_corpus().encode())[:-20], "gzip data is damaged or cut short"),
    _refused("rubbish after gzip", gzip.compress(_corpus().encode()) + b"junk", "gzip data is damaged or cut short"),
    _read(
        "gzip of two members",
        gzip.compress(_corpus().encode()[:1000]) + gzip.compress(_corpus().encode()[1000:]),
        _counts(200),
    ),
)
QUOTES = (
    _refused("quote open at the end", _corpus() + 'w9,es,A1,"this never closes', "row 201: a quote opens and never"),
    _refused("one quote at the end", _corpus() + 'w9,es,A1,"', "row 201: a quote opens and never closes"),
    _refused(
        "open quote in the header",
        'writing_id,l1,cefr_level,"text\n' + "".join(ROWS),
        "a quote in its header takes in the lines below",
    ),
    _read(
        "text after a closing quote",
        _corpus('e1,Thai,A1,"Hi" there\n'),
        _counts(200, misplaced_quotes=1),
        "1 rows set aside: misplaced quotes",
        in_ci=True,
    ),
    _read("quote in an unquoted field", _corpus('e1,Thai,A1,Hi "there"\n'), _counts(200, misplaced_quotes=1)),
    _read(
        "closing quote lost, the next row quoted",
        _corpus('e1,Thai,A1,"Hi, you\n', QUOTED[0].replace("d0", "e2")),
        _counts(200, misplaced_quotes=2),
    ),
    _read(
        "rows swallowed by a well-formed field",
        _corpus('e1,Thai,A1,"Hi, you\ne2,Thai,A1,Good morning\ne3,Thai,A1,"\n'),
        _counts(200, misplaced_quotes=3),
        in_ci=True,
    ),
    _read("backslash quotes", _corpus('e1,Thai,A1,"He said \\"Hi\\" to me"\n'), _counts(200, misplaced_quotes=1)),
)
ODD_ROWS = (
    _read("lone CR as line end", _corpus().replace("\n", "\r"), _counts(200)),
    _read(
        "mixed line ends",
        _corpus().replace("sea.\n", "sea.\r\n", 70) + "\r\n \r\n",
        _counts(200, wrong_number_of_fields=1),
    ),
    _read("NUL in an id", _corpus("e\0,Thai,A1,Hi there\n"), _counts(200, NUL_byte=1)),
    _read("NUL in a text", _corpus("e1,Thai,A1,Hi\0there\n"), _counts(200, NUL_byte=1)),
    _read("bad UTF-8", _corpus().encode() + b"e1,Thai,A1,caf\xe9\n", _counts(200, **{"not_UTF-8": 1})),
    _read("only invisible characters", _corpus("e1,Thai,A1,\u200b\u00ad\ufe0f\n"), _counts(200, empty_text=1)),
    _read("an id of invisible characters", _corpus("\u200b,Thai,A1,Hi there\n"), _counts(200, missing_value=1)),
    _read(
        "escapes in an id",
        _corpus("\x1b[31m,Thai,Z9,\x1b[2J\n"),
        _counts(200, unknown_level=1),
        unprinted=("\x1b[31m",),
    ),
)
NOTES = (
    _read(
        "nan",
        _corpus("e1,nan,A1,nan\ne2,N/A,C1,NA\n"),
        _counts(202),
        "note: 2 texts are 'nan'",
        "2 documents have 'nan'",
    ),
    _read(
        "mojibake", _corpus("e1,Thai,A1,In the cafÃ© again\n"), _counts(201), "note: 1 texts have characters such as"
    ),
    _read(
        "markup",
        _corpus("e1,Thai,A1,Hello<br> <br>you &amp; me\n"),
        _counts(201),
        "note: 1 texts have markup such as <br>",
        "note: 1 texts have entities such as &amp;",
        in_ci=True,
    ),
    _read(
        "cut by Excel",
        _corpus(f"e1,Thai,A1,{'x ' * 16_383}x\n"),
        _counts(201),
        "1 texts have exactly 32,767 characters",
    ),
    _read(
        "one learner with most texts",
        "who," + HEAD + "".join(f"{'w' if n < 60 else n},{row}" for n, row in enumerate(ROWS)),
        _counts(200),
        "note: 60 documents are by one learner, a tenth of all or more",
        command=LEARNERS,
    ),
    _read(
        "unused columns of one name",
        "x,x," + HEAD + "".join(f"1,2,{row}" for row in ROWS),
        _counts(200),
        "note: 1 columns share a name with another",
    ),
)
LEARNER_IDS = (
    _read(
        "learner ids in NFC, NFD, capitals and with zero-width spaces",
        "who," + HEAD + "".join(f"{_spelled(n)},{row}" for n, row in enumerate(ROWS)),
        _learners_are_whole,
        command=LEARNERS,
        in_ci=True,
    ),
)

CASES = (*OTHER_LAYOUTS, *GZIP, *QUOTES, *ODD_ROWS, *NOTES, *LEARNER_IDS)
