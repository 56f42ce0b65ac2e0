"""`raysweep init FILE --yes`, then `raysweep run`, work for any corpus."""

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from raysweep.cli.app import app
from raysweep.cli.data_options import options_named
from raysweep.config.loading import check_file, load_config
from raysweep.errors import InputError
from tests.corpus.layout_files import MAKERS, made_up_rows
from tests.readers.small_files import delimited, json_lines

SMALL = {
    "masking": {"examples_per_document": 2, "max_tokens": 64},
    "training": {"batch_size": 4, "warmup_steps": 0, "evaluate_every": 1, "checkpoint_every": 1, "valid_examples": 24},
    "trials.plan": {"specialised": {"steps": 1}, "general": {"steps": 1}},
    "evaluation": {"examples_per_document": 1, "generation_documents": 0, "speed_repeats": 0},
    "report.resamples": 100,
}
"""The profile `quick` with a step a trial, and no fine-tunes."""


@pytest.fixture
def command(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def run(*words, **more):
        return CliRunner().invoke(app, [str(word) for word in words], **more)

    return run


def rows_of(levels, per_level=40):
    return [(f"w{number}", "Thai", level, text) for number, level, text in made_up_rows(levels, per_level)]


def few_texts(path):
    path.write_bytes(json_lines(rows_of(("A1.i", "A2.ii"), 8), ("id", "who", "cefr", "text")))


def write(path, levels, columns=("Code", "Muttersprache", "Niveau", "Aufsatz"), per_level=40, delimiter=";"):
    path.write_bytes(delimited(delimiter, rows_of(levels, per_level), columns))


GERMAN = (
    "Ich gehe heute mit meiner Mutter in die Stadt.", "Wir kaufen z. B. Brot und Käse für das Frühstück.",
    "Das Wetter ist nicht sehr gut, aber wir haben Spaß.", "Am 3. Oktober fahren wir zu Dr. Müller nach Köln.",
)  # fmt: skip


def german(path):
    rng = random.Random(0)
    rows = [
        (f"w{n}", "Polish", ("A2", "B1")[n % 2], " ".join(rng.choices(GERMAN, k=4)) + f" Nr. {n}!") for n in range(120)
    ]
    path.write_bytes(delimited(",", rows, ("id", "l1", "level", "text")))


def no_id_no_l1(path):
    path.write_bytes(delimited(",", [row[2:] for row in rows_of(("A1", "B1"))], ("label", "text")))


def with_splits(path):
    names = ("train", "train", "train", "dev", "test")
    rows = [(*row, names[n // 2 % 5]) for n, row in enumerate(rows_of(("A1", "B1"), 60))]
    path.write_bytes(delimited("\t", rows, ("id", "l1", "cefr", "essay", "set")))


CORPORA = {
    "A2–C2 in own columns": lambda path: write(path, ("A2", "B1", "B2", "C1", "C2")),
    "three own level names": lambda path: write(path, ("Beginner", "intermediate", "Advanced")),
    "two levels": lambda path: write(path, ("B1", "B2"), delimiter=","),
    "a split column": with_splits,
    "no id and no first language": no_id_no_l1,
    "German": german,
    "eight texts a level": few_texts,
}
LEVELS = {
    "A2–C2 in own columns": ["A2", "B1", "B2", "C1", "C2"],
    "three own level names": ["Beginner", "intermediate", "Advanced"],
    "two levels": ["B1", "B2"],
    "a split column": ["A1", "B1"],
    "no id and no first language": ["A1", "B1"],
    "German": ["A2", "B1"],
    "eight texts a level": ["A1", "A2"],
}


def run_quick(command):
    sets = [word for key, value in SMALL.items() for word in ("--set", f"{key}={json.dumps(value)}")]
    return command("run", "--profile", "quick", "--inline", *sets)


def check_init(command, folder, corpus, levels):
    """Check the first command and the profiles that it wrote."""
    result = command("init", corpus, "--yes")
    assert result.exit_code == 0, result.output
    assert result.output.splitlines()[-1] == "next: `raysweep run --profile quick`"
    configs = check_file(folder / "experiments.yaml")
    assert set(configs) == {"quick", "paper"}
    for config in configs.values():
        assert list(config.data.levels) == levels
        assert len(config.trials) == 2 * len(levels) + 1
    return configs


def check_two_commands(command, folder, corpus, levels):
    """Check init, run, and that there is a report."""
    configs = check_init(command, folder, corpus, levels)
    done = run_quick(command)
    assert done.exit_code == 0, done.output
    assert ("bytes of text per token" in done.output) == (configs["quick"].data.language != "en")
    assert (folder / "runs" / "quick" / "report" / "report.html").exists()


RUN_IN_CI = {"three own level names", "a split column", "German", "wi_locness"}
"""The others are run in slow tests; in CI their first command and their splits are looked at.

All known corpora are read in tests/corpus/test_layouts.py.
"""


def slow_but(in_ci, names):
    return [name if name in in_ci else pytest.param(name, marks=pytest.mark.slow) for name in names]


@pytest.mark.parametrize("name", slow_but(RUN_IN_CI, CORPORA))
def test_a_custom_corpus_needs_only_two_commands(command, tmp_path, name):
    """No editing and no --set is needed, whatever the columns and levels are called."""
    CORPORA[name](tmp_path / "my texts.csv")
    check_two_commands(command, tmp_path, "my texts.csv", LEVELS[name])
    splits = json.loads((tmp_path / "runs" / "quick" / "corpus" / "splits.json").read_text())
    assert splits["language"] == ("de" if name == "German" else "en")
    report = (tmp_path / "runs" / "quick" / "report" / "report.html").read_text()
    assert f"Language of the texts: <code>{splits['language']}</code>" in report
    assert f"language: {splits['language']}\n" in (tmp_path / "runs/quick/trials/all/model/README.md").read_text()
    assert (splits["grouped_by"] == "published splits") == (name == "a split column")


@pytest.mark.parametrize("name", [name for name in CORPORA if name not in RUN_IN_CI])
def test_init_writes_a_config_that_prepares_a_custom_corpus(command, tmp_path, name):
    """This is the cheap part of the two commands: every level has texts to train and to test on."""
    CORPORA[name](tmp_path / "my texts.csv")
    check_init(command, tmp_path, "my texts.csv", LEVELS[name])
    assert command("prepare", "--profile", "quick").exit_code == 0
    counts = json.loads((tmp_path / "runs" / "quick" / "corpus" / "splits.json").read_text())["counts"]
    assert list(counts) == LEVELS[name]
    assert all(count["train"] and count["test"] for count in counts.values())


LAYOUT_LEVELS = {
    "efcamdat": ["A1", "B1", "C1"], "efcamdat_xml": ["A1", "B1", "C1"], "write_and_improve": ["A2", "B1"],
    "wi_locness": ["A1", "A2", "B1"], "icnale": ["A2", "B1"], "asag": ["A2", "B1", "B2"],
    "universal_cefr": ["A1", "A2", "B1"], "ellipse": ["S1", "S2", "S3", "S4"], "cefr_sp": ["A1", "B1", "B2"],
    "level_folders": ["A1", "B1", "B2"],
}  # fmt: skip


@pytest.mark.parametrize("name", slow_but(RUN_IN_CI, LAYOUT_LEVELS))
def test_a_published_corpus_needs_only_two_commands(command, tmp_path, name):
    """The corpus is used as it is downloaded."""
    corpus = MAKERS[name](tmp_path, 50)
    check_two_commands(command, tmp_path, corpus.name, LAYOUT_LEVELS[name])
    assert load_config(tmp_path / "experiments.yaml", "paper")[1].data.layout == name


@pytest.mark.parametrize("name", ["efcamdat", "icnale", "level_folders"])
def test_init_recognises_a_published_corpus(command, tmp_path, name):
    """Only the first of the two commands is run."""
    corpus = MAKERS[name](tmp_path, 50)
    configs = check_init(command, tmp_path, corpus.name, LAYOUT_LEVELS[name])
    assert {config.data.layout for config in configs.values()} == {name}


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("name", ["efcamdat", "icnale", "wi_locness", "universal_cefr"])
def test_the_quick_profile_produces_a_report_unchanged(tmp_path, name):
    """The profile runs with Ray and all its steps, by the two commands alone."""
    corpus = MAKERS[name](tmp_path, 150)
    variables = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    for words in (["init", corpus.name, "--yes"], ["run", "--profile", "quick"]):
        command = [sys.executable, "-m", "raysweep", *words]
        done = subprocess.run(command, cwd=tmp_path, env=variables, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "runs" / "quick" / "report" / "report.html").exists()


def test_init_prints_its_findings_and_the_next_command_in_ten_lines(command, tmp_path):
    """The lines have the numbers by which a person can judge it."""
    rows = [(*row, "x") for row in rows_of(("A1.i", "A2.ii", "B1"))]
    rows += [(f"r{n}", "Thai", "C1", f"Rare text number {n}.", "x") for n in range(5)]
    rows += [("u1", "Thai", "native", "A text &amp; markup.", "x")]
    (tmp_path / "a.csv").write_bytes(delimited(",", rows, ("id", "l1", "cefr", "text", "extra")))
    result = command("init", "a.csv")
    assert result.exit_code == 0
    assert result.output.splitlines() == [
        "a.csv: csv, 126 rows, 125 texts",
        "columns: id = id, l1 = l1, level = cefr, text = text",
        "not used: extra",
        "levels, lowest first: A1 40, A2 40, B1 40",
        "counted as: 'A1.i' as A1, 'A2.ii' as A2",
        "left out, because too few texts, or none to test on: C1 (5)",
        "left out, because it is no level: 'native' (1)",
        "writers: no learners known, 1 first languages, no prompts known (so one writer's texts may be in two splits, "
        "and intervals count texts)",
        "splits: none published, so 65, 10 and 25 % of each level, whole by text",
        result.output.splitlines()[9],
        "experiments.yaml: written, with the profiles quick (minutes, small models from scratch) and paper (GPT-2, on "
        "GPUs)",
        "next: `raysweep run --profile quick`",
    ]
    assert result.output.splitlines()[9].startswith("texts: language en, ")
    data = yaml.safe_load((tmp_path / "experiments.yaml").read_text())["profiles"]["quick"]["data"]
    assert data["level_aliases"] == {"A1.i": "A1", "A2.ii": "A2"}
    assert data["leave_out"] == ["native", "C1"]
    assert command("prepare", "--profile", "quick").exit_code == 0
    splits = json.loads((tmp_path / "runs" / "quick" / "corpus" / "splits.json").read_text())
    assert (splits["documents"], splits["bad_rows"]) == (120, {"level left out": 6})


def test_an_existing_config_is_not_overwritten_without_force(command, tmp_path):
    """It may contain a week of work."""
    write(tmp_path / "a.csv", ("A1", "B1"))
    (tmp_path / "experiments.yaml").write_text("mine")
    result = command("init", "a.csv", "--yes")
    assert "experiments.yaml: is there already; give --force" in str(result.exception)
    assert (tmp_path / "experiments.yaml").read_text() == "mine"
    assert command("init", "a.csv", "--yes", "--out", "other.yaml").output.endswith("--config other.yaml`\n")
    assert command("init", "a.csv", "--yes", "--force").exit_code == 0
    check_file(tmp_path / "experiments.yaml")


def test_init_asks_for_the_order_of_unknown_levels_or_states_it(command, tmp_path, monkeypatch):
    """Alphabetical order is a guess that only a person can confirm."""
    write(tmp_path / "a.csv", ("Gelb", "Blau", "Rot"))
    result = command("init", "a.csv")
    assert "the order of the levels is not known (Blau, Gelb, Rot?). Confirm it with --yes" in str(result.exception)
    assert "taken, lowest first: Blau, Gelb, Rot" in command("init", "a.csv", "--yes").output
    result_with_order = command("init", "a.csv", "--force", "--set", "data.levels=[Rot, Gelb, Blau]")
    assert result_with_order.exit_code == 0, result_with_order.output
    assert load_config(tmp_path / "experiments.yaml")[1].data.levels == ("Rot", "Gelb", "Blau")
    monkeypatch.setattr("raysweep.cli.init_corpus._is_asked", lambda: True)
    asked = command("init", "a.csv", "--force", input="Rot, Blau\nGelb, Rot, Blau\n")
    assert "must name each of Blau, Gelb, Rot once" in asked.output
    assert load_config(tmp_path / "experiments.yaml")[1].data.levels == ("Gelb", "Rot", "Blau")


@pytest.mark.parametrize(
    ("spellings", "line"),
    [
        (("Pre-A1", "A1", "A2"), "Pre-A1 40, A1 40, A2 40"),  # the Companion Volume's level below A1
        (("\u0410\u0031", "\u0410\u0032", "\u0412\u0031"), "A1 40, A2 40, B1 40"),  # typed on a Cyrillic keyboard
        (("\uff21\uff11", "\uff22\uff11"), "A1 40, B1 40"),  # full-width
        (("b 1", "B2", "C1 "), "B1 40, B2 40, C1 40"),
        (("A1", "?", "n/a", "-", "B1"), "A1 40, B1 40"),  # no values, however many they are
        (("Low", "low", "High", "HIGH"), "Low 80, High 80"),
        (("1,0", "1,5", "2,0"), "1.0 40, 1.5 40, 2.0 40"),
        (("\u4e0a\u7ea7", "\u4e2d\u7ea7", "\u521d\u7ea7"), "level1 40, level2 40, level3 40"),
    ],
)  # fmt: skip
def test_init_recognises_levels_in_common_spellings(command, tmp_path, spellings, line):
    """A level that is taken for none, or for two, costs its texts in silence."""
    texts = [text for _, _, text in made_up_rows(("A1",), 40 * len(spellings))]
    rows = [(f"w{n}", "Thai", spellings[n % len(spellings)], text) for n, text in enumerate(texts)]
    (tmp_path / "a.csv").write_bytes(delimited(",", rows, ("id", "l1", "level", "text")))
    result = command("init", "a.csv", "--yes")
    assert result.exit_code == 0, result.exception
    assert f"levels, lowest first: {line}" in result.output.splitlines()
    assert command("prepare", "--profile", "quick").exit_code == 0


def test_init_recognises_column_names_in_other_languages(command, tmp_path):
    """A column of writers that is not recognised lets their texts into two splits."""
    rows = [(n, f"S{n // 2}", level, text) for n, (_, _, level, text) in enumerate(rows_of(("A1", "B1"), 60))]
    (tmp_path / "a.csv").write_bytes(delimited(";", rows, ("Nr", "Schüler", "Niveau", "Antwort")))
    assert "columns: id = Nr, level = Niveau, text = Antwort, learner = Schüler\n" in command("init", "a.csv").output
    names = ("train", "dev", "test", "", "extra")
    rows = [(n // 9, names[n % 5], *row[2:]) for n, row in enumerate(rows)]
    (tmp_path / "b.csv").write_bytes(delimited(",", rows, ("id", "split", "level", "text")))
    output = command("init", "b.csv", "--force").output
    assert (
        "not used: id (its values repeat; if it names the writer: --set data.columns.learner=id), split (48 rows have "
        "no known split ('', 'extra'); say what 'extra' is in data.split_names, or leave the column out)"
    ) in output
    asked = command("init", "b.csv", "--force", "--set", "data.columns.split=split")
    assert "say what 'extra' is in data.split_names, or leave out data.columns.split" in str(asked.exception)
    rows = [(n, "" if n == 5 else names[n % 3], *row[2:]) for n, row in enumerate(rows)]
    (tmp_path / "b.csv").write_bytes(delimited(",", rows, ("id", "split", "level", "text")))
    output = command("init", "b.csv", "--force").output
    assert "split (1 row has no known split (''); fill it in, or leave the column out)" in output
    asked = command("init", "b.csv", "--force", "--set", "data.columns.split=split")
    assert str(asked.exception).endswith(
        "fill it in, or leave out data.columns.split (here: --set data.columns.ROLE=COLUMN)"
    )


@pytest.mark.parametrize(
    ("column", "values", "sets", "message"),
    [
        ("id", lambda n: n // 2, (), "id (its values repeat; if it names the writer: --set data.columns.learner=id)"),
        ("id", lambda n: n % 9, (), "not used: id (its values repeat), uid\n"),
        ("no", lambda n: "yes" if n % 2 else "no", (), "not used: no\n"),
        ("id", lambda n: n, ("--set", "data.columns.id=uid"), "not used: id\n"),
        ("id", lambda n: n // 2, ("--set", "data.columns.id=uid"), "not used: id\n"),
    ],
)
def test_init_proposes_a_learner_column_only_if_plausible(command, tmp_path, column, values, sets, message):
    """A wrong proposal puts all texts into two groups."""
    rows = [(values(n), n, level, text) for n, (_, _, level, text) in enumerate(rows_of(("A1", "B1")))]
    (tmp_path / "a.csv").write_bytes(delimited(",", rows, (column, "uid", "level", "text")))
    assert message in command("init", "a.csv", *sets).output


def test_a_guessed_column_can_be_disabled(command, tmp_path):
    """A third of the learners are not known."""
    rows = [(n, f"w{n}" if n % 3 else "", level, text) for n, (_, _, level, text) in enumerate(rows_of(("A1", "B1")))]
    (tmp_path / "a.csv").write_bytes(delimited(",", rows, ("id", "author", "level", "text")))
    result = str(command("init", "a.csv").exception)
    assert "column 'author': found no value" in result
    assert "or do without it: --set data.columns.learner=null" in result
    assert "data.columns.text" not in result
    result = command("init", "a.csv", "--set", "data.columns.learner=null")
    assert "not used: author\n" in result.output
    assert command("prepare", "--profile", "quick").exit_code == 0


def test_the_header_of_a_form_is_a_header(command, tmp_path):
    """It has questions; the first row of a file without a header has a level or a number too."""
    rows = [(level, text) for _, _, level, text in rows_of(("A1", "B1"))]
    (tmp_path / "a.csv").write_bytes(delimited(",", rows, ("Which one?", "Your words.")))
    assert "columns: level = Which one?, text = Your words.\n" in command("init", "a.csv", "--force").output
    (tmp_path / "a.csv").write_bytes(delimited(",", rows, ("1", "My cat.")))
    assert "has no header" in str(command("init", "a.csv", "--force").exception)
    sets = ("--set", "data.columns.level='1'", "--set", "data.columns.text=My cat.")
    assert command("init", "a.csv", "--force", *sets).exit_code == 0


@pytest.mark.parametrize(
    ("columns", "refused", "sets", "shown"),
    [
        (("self", "rated", "essay", "x"), "the columns 'self', 'rated' may hold the levels. To take one: --set "
         "data.columns.level=self", "data.columns.level=rated", "columns: level = rated, text = essay\n"),
        (("level", "rated", "essay", "x"), None, "data.language=en",
         "not used: rated (holds levels too; to take them: --set data.columns.level=rated), x\n"),
        (("level", "x", "written", "corrected"), "the columns 'written', 'corrected' may hold the texts. To take one: "
         "--set data.columns.text=written", "data.columns.text=written", "columns: level = level, text = written\n"),
        (("level", "x", "written", "instructions"), None, "data.language=en", "columns: level = level, text = written"),
    ],
)  # fmt: skip
def test_a_level_or_a_text_of_two_columns_is_not_chosen_in_silence(command, tmp_path, columns, refused, sets, shown):
    """A study of self-assessed levels, or of corrected texts, would look like the one that was meant."""
    other = {
        "rated": "A1",
        "x": "yes",
        "corrected": "",
        "instructions": "Write a hundred words about your family. " * 9,
    }
    rows = [
        [{"self": level, "level": level, "essay": text, "written": text, "corrected": f"{text} It is.",
          "rated": "B1" if n % 3 else "A1"}.get(column, other.get(column)) for column in columns]
        for n, (_, _, level, text) in enumerate(rows_of(("A1", "B1")))
    ]  # fmt: skip
    (tmp_path / "a.csv").write_bytes(delimited(",", rows, columns))
    told = command("init", "a.csv", "--force")
    assert refused is None or str(told.exception) == f"{tmp_path / 'a.csv'}: {refused}"
    assert shown in command("init", "a.csv", "--force", "--set", sets).output


def test_many_bad_rows_are_explained_when_the_config_lets_them_pass(command, tmp_path):
    """The limit is raised for them, so that nothing else would say it before the end of the run."""
    rows = [(n, f"w{n}" if n % 10 else "", level, text) for n, (_, _, level, text) in enumerate(rows_of(("A1", "B1")))]
    (tmp_path / "a.csv").write_bytes(delimited(",", rows, ("id", "author", "level", "text")))
    told = command("init", "a.csv").output
    assert "set aside: 8 missing value\nthat is 10% of all rows, which data.max_bad_fraction lets pass" in told
    assert "column 'author': found no value" in told
    assert "--set data.columns.learner=null" in told


def test_files_named_like_levels_and_invisible_characters_around_levels_are_read(command, tmp_path):
    """A byte order mark in a cell, as Excel makes of joined files, is no other level."""
    for level in ("A1", "B1"):
        rows = [(f"{level}{n}", row[3]) for n, row in enumerate(rows_of((level,)))]
        (tmp_path / f"{level}.csv").write_bytes(delimited(",", rows, ("id", "text")))
    assert """If the files are named like their levels (A1.csv): --set 'data.columns.level="@file"'""" in str(
        command("init", "A1.csv", "B1.csv").exception
    )
    told = command("init", "A1.csv", "B1.csv", "--set", 'data.columns.level="@file"')
    assert "levels, lowest first: A1 40, B1 40\n" in told.output
    rows = [(id_, l1, f"\ufeff{level}\u200b" if n % 3 else level, text)
            for n, (id_, l1, level, text) in enumerate(rows_of(("A1", "B1")))]  # fmt: skip
    (tmp_path / "a.csv").write_bytes(delimited(",", rows))
    assert "levels, lowest first: A1 40, B1 40\n" in command("init", "a.csv", "--force").output
    assert "80 documents of 80 rows (A1 40, B1 40)" in command("prepare", "--profile", "quick").output


@pytest.mark.parametrize("content", ["I like my cat.", "I like my cat.\nMy cat, too."])
def test_a_folder_of_texts_is_told_how_to_be_sorted(command, tmp_path, content):
    """Its texts were taken for tables without a header."""
    (tmp_path / "low").mkdir()
    (tmp_path / "low" / "1.txt").write_text(content)
    told = str(command("init", "low").exception)
    assert "if each file is one text, put it into a folder that is named like its level (A1/anna.txt)" in told


def test_a_word_for_no_learner_and_a_single_learner_are_told(command, tmp_path):
    """R writes NA, which would be one writer of many texts; all texts of one writer go to one split."""
    rows = [(f"w{n}" if n % 10 else "NA", level, text) for n, (_, _, level, text) in enumerate(rows_of(("A1", "B1")))]
    (tmp_path / "a.csv").write_bytes(delimited(",", rows, ("author", "level", "text")))
    told = command("init", "a.csv", "--force").output
    assert "no writer: 8 texts have 'NA' or the like, and each such word counts as one writer" in told
    noted = command("prepare", "--profile", "quick").output
    assert (
        "note: 8 documents have 'nan', 'NA', 'N/A', 'null' or 'none' as learner: each such word counts as one writer"
        in noted
    )
    (tmp_path / "a.csv").write_bytes(delimited(",", [("me", *row[1:]) for row in rows], ("author", "level", "text")))
    told = command("init", "a.csv", "--force").output
    assert "too few writers: level A1 has texts of one or two" in told
    assert "no writer" not in told


def test_levels_of_japanese_texts_are_those_of_the_jlpt(command, tmp_path):
    """N5 is its lowest level."""
    text = (
        "\u308f\u305f\u3057\u306f\u304d\u3087\u3046{}\u304c\u3063\u3053\u3046\u3078\u3044\u304d\u307e\u3057\u305f\u3002"
    )
    rows = [(n, ("N1", "N5")[n % 2], text.format(n) * 2) for n in range(80)]
    (tmp_path / "a.csv").write_bytes(delimited(",", rows, ("id", "level", "text")))
    assert "levels, lowest first: N5 40, N1 40\n" in command("init", "a.csv").output


def test_native_script_levels_and_sub_levels_are_kept_by_init(command, tmp_path):
    """The alphabet is said, and levels that were named stay apart."""
    rows = [(n, "\u0410\u0411\u0412"[n % 3] + "1", row[3]) for n, row in enumerate(rows_of(("A1", "B1", "C1")))]
    (tmp_path / "a.csv").write_bytes(delimited(",", rows, ("id", "level", "text")))
    result = command("init", "a.csv").output
    assert "levels, lowest first: A1 40, B1 40, C1 40\n" in result
    assert "\u0412\u0031' as C1 (Cyrillic letters)\n" in result
    rows = [(n, ("A1", "A1+", "A2", "A2+")[n % 4], text) for n, _, text in rows]
    (tmp_path / "a.csv").write_bytes(delimited(",", rows, ("id", "level", "text")))
    result = command("init", "a.csv", "--force", "--set", "data.levels=[A1,A1+,A2,A2+]")
    assert "levels, lowest first: A1 30, A1+ 30, A2 30, A2+ 30\n" in result.output
    assert command("prepare", "--profile", "quick").exit_code == 0
    rows = [(n, "\u0410\u0412\u0413"[n % 3] + "1", text) for n, _, text in rows]
    (tmp_path / "a.csv").write_bytes(delimited(",", rows, ("id", "level", "text")))
    result = command("init", "a.csv", "--force", "--set", "data.level_aliases={\u0413\u0031: C1}")
    assert "levels, lowest first: A1 40, B1 40, C1 40\n" in result.output
    result = command("init", "a.csv", "--force", "--set", "data.leave_out=[\u0413\u0031]")
    assert "levels, lowest first: A1 40, B1 40\n" in result.output


def test_few_learners_increase_the_test_share_with_a_note(command, tmp_path):
    """Intervals count writers where they are known: ten of each level are needed, however many texts they wrote."""
    rows = [(n, f"w{n // 2 % 45}", level, text) for n, (_, _, level, text) in enumerate(rows_of(("A1", "B1"), 180))]
    (tmp_path / "a.csv").write_bytes(delimited(",", rows, ("id", "learner", "level", "text")))
    output = command("init", "a.csv").output
    assert "splits: none published, so 65, 10 and 25 % of each level" in output
    assert "few writers" not in output
    rows = [(number, f"w{number // 2 % 30}", *row) for number, _, *row in rows]
    (tmp_path / "a.csv").write_bytes(delimited(",", rows, ("id", "learner", "level", "text")))
    output = command("init", "a.csv", "--force").output
    assert "few writers: level A1 has about 8 to test on; with fewer than 10 a run shows how it works" in output


def test_a_json_object_with_a_list_of_records_is_read(command, tmp_path):
    """So `json.dump` writes it, without line breaks."""
    records = [{"cefr": level, "text": text} for _, _, level, text in rows_of(("A1", "B1"))]
    (tmp_path / "a.json").write_text(json.dumps({"version": 1, "documents": records}))
    assert "a.json: json, 80 rows, 80 texts" in command("init", "a.json").output


def test_steps_of_the_paper_profile_scale_with_the_corpus(command, tmp_path):
    """They are three passes over each level's examples, within bounds."""
    rows = rows_of(("A1",), 2000) + [
        (f"x{n}", "Thai", "B1", text) for n, (_, _, _, text) in enumerate(rows_of(("B1",), 60))
    ]
    (tmp_path / "a.csv").write_bytes(delimited(",", rows, ("id", "l1", "cefr", "text")))
    assert command("init", "a.csv", "--yes").exit_code == 0
    trials = load_config(tmp_path / "experiments.yaml", "paper")[1].trials
    assert {name: trial.steps for name, trial in trials.items()} == {
        "A1": 8400, "B1": 500, "all": 8700, "all-A1": 840, "all-B1": 100,
    }  # fmt: skip


def test_a_file_named_data_csv_is_not_taken_for_a_setting(command, tmp_path):
    """The option in the message was --set data.csv=… instead of that of the encoding."""
    (tmp_path / "data.csv").write_bytes("id,level,text\n".encode("utf-16"))
    output = str(command("init", "data.csv", "--yes").exception)
    assert "data.csv: is UTF-16" in output
    assert output.endswith("(here: --set data.encoding=…)")


@pytest.mark.parametrize(
    ("message", "option"),
    [
        ("data.csv: has no levels", ""),
        ("data.path: no such file", ""),
        ("data.csv: found A9. Add it to data.levels", " (here: --set data.levels=…)"),
        ("data.path: no file of the layout; see data.layout", " (here: --set data.layout=…)"),
    ],
)
def test_init_does_not_advise_setting_data_path(message, option):
    """They are the command's argument; `--set data.path=…`, which these commands refuse, was the advice."""
    with pytest.raises(InputError) as raised, options_named({}):
        raise InputError(message)
    assert str(raised.value) == message + option


@pytest.mark.parametrize(
    ("content", "sets", "message"),
    [
        (delimited(",", rows_of(("A1", "B1"), 7)), (), "fewer than two levels have 8 texts"),
        (delimited(",", rows_of(("A1", "B1"))).partition(b"\n")[2], (), "has no header: its first line is a row. Put"),
        (b"# My corpus, release 2\n" + delimited(",", rows_of(("A1", "B1"))), (), "its first line is a comment"),
        (delimited(",", [("a", "b", f"x{n}", "Some long text of a learner here.") for n in range(90)]), (),
         "the column 'cefr_level' has 90 different values, which are no levels"),
        (delimited(",", [(*row[:2], "" if n > 1 else row[2], row[3]) for n, row in enumerate(rows_of(("A1", "B1")))]),
         (), "levels have 8 texts, some to train and some to test on (A1 1, B1 1; 78 rows without a level); "),
        (delimited(",", [(*row[:2], "", row[3]) for row in rows_of(("A1", "B1"))]), (),
         "the column 'cefr_level' has no value in any row; must hold levels (the result of a formula counts once"),
        (delimited("^", rows_of(("A1", "B1"))), (), "delete it; columns are divided by commas, semicolons, tabs"),
        (b"I like my cat, and my dog.\nIt is nice.\n", (), "such as --set data.columns.level=COLUMN. If the file has "
         "no header: Put a line above it that names the columns"),
        (b"My dog is big.\tI read a book.\nIt is nice and warm in here.\tWe see a cat there today, too.\n", (),
         "a.csv: 2 columns may hold the texts. To take one: --set "
         "data.columns.text=COLUMN. If the file has no header: "),
        (b'"id" "level" "text"\n"1" "7" "A1" "Hi."\n', (), "its header has a quote in the wrong place. Remove the "
         "quotes from it, or, if spaces divide the columns, divide them by commas (in R: write.csv)"),
        (b"a,b\n1,2\n", (),
         "no column is recognised as the level and as the text. Found the columns 'a', 'b'. Name yours in "
         "data.columns, such as --set data.columns.level=COLUMN"),
        (delimited(",", rows_of(("A1", "B1"))), ("--set", "seed=1"), "--set seed: init takes settings of data alone"),
        (delimited(",", rows_of(("A1", "B1"))).replace(b"w1,", b"w1,caf\xe9"), ("--set", "data.encoding=ascii"),
         "found the byte 0xE9, which is not ascii"),
        (delimited(",", rows_of(("A1", "B1"))).replace(b"a", b"\xe9").replace(b"l\xe9v\xe9l", b"level"), (),
         "is not UTF-8. If the whole file has another encoding, say so in data.encoding, such as cp1252\n100% of all "
         "rows are set aside: 80 not UTF-8 (here: --set data.encoding=…)"),
        (delimited(",", [("My corpus", "", "", ""), *rows_of(("A1", "B1"))], ("Texts of 2024", "", "", "")), (),
         "Found the columns 'Texts of 2024'. Name yours in data.columns, such as --set "
         "data.columns.level=COLUMN, or, if a title stands above the row of names, "
         "delete it"),
        (json_lines([({"l1": "Thai"}, "A1", {"text": row[3]}) for row in rows_of(("A1",))], ("meta", "cefr", "essay")),
         (), "column 'essay': found an object; must be text or a number. Flatten the records"),
        (json_lines([(n, {"cefr": "A1"}, {"x": row[3]}) for n, row in enumerate(rows_of(("A1",)))], ("i", "m", "c")),
         (), "Found the columns 'i', 'm', 'c'. Name yours in data.columns, such as --set "
         "data.columns.level=COLUMN; 'm', 'c' hold lists or objects, so flatten"),
        (delimited(",", rows_of(("A1", "B1"))), ("--set", "data.columns.writing_id=id"),
         "--set data.columns.writing_id: unknown field 'writing_id'; known are id, l1, level"),
        (delimited(",", rows_of(("A1", "B1"))), ("--set", "data.level_aliases={x: C9}"),
         "--set data: level_aliases.x: 'C9' is not one of the levels A1, A2, B1, B2, C1"),
        (b'[1, "A1", "A text."]\n[2, "B1", "A text."]\n', (), "its list holds no records; must be a list of objects"),
    ],
)  # fmt: skip
def test_an_unsuitable_corpus_is_refused_before_anything_is_written(command, tmp_path, content, sets, message):
    """The message has the numbers and says what to do."""
    (tmp_path / "a.csv").write_bytes(content)
    result = command("init", "a.csv", "--yes", *sets)
    assert message in str(result.exception)
    assert not (tmp_path / "experiments.yaml").exists()
