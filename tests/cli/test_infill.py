"""`infill` from the command line, with untrained models, whose answers hardly ever end."""

import csv
import json

import pytest

from raysweep.cli.infill_csv import _CsvFiller
from raysweep.cli.infill_models import choose_models
from raysweep.cli.settings import Settings
from raysweep.errors import ConfigError, DamagedError, InputError
from raysweep.evaluation.answer_words import FREE
from raysweep.readers.csv_files import fields_up_to
from raysweep.storage.run_folder import RunFolder
from tests.simulated_run import make_config
from tests.trained_run import add_models

FEW = ("--max-words", 2, "--samples", 1)


@pytest.fixture(scope="module")
def storage(tmp_path_factory):
    """Make a run of two levels and a general model; C1's model is not trained."""
    storage = tmp_path_factory.mktemp("trained") / "runs"
    add_models(RunFolder(storage / "pilot"), make_config(("A1", "C1", "C2"), transfer=False), without=["C1"])
    return storage


@pytest.fixture
def model_folder(storage):
    return storage / "pilot/trials/A1"


def test_infill_prints_the_requested_number_of_fillings(command, model_folder):
    """Answers are numbered, keep the text around the blanks, and are the same for the same seed."""
    words = ("infill", "--model", model_folder / "model", "--samples", 2, "--seed", 5, "I like [word] tea.")
    result = command(*words)
    assert result.exit_code == 0, result.exception
    assert result.stdout.startswith("1. I like")
    assert "\n2. I like" in result.stdout
    assert "(unfinished: the model did not end every answer)" in result.stdout
    assert command(*words).stdout == result.stdout


def test_infill_prompts_for_texts_until_an_empty_line(command, model_folder):
    """A mistake in a text is reported before the next prompt; each answer says how long it took."""
    typed = "nothing to fill\nI [wrod] it\nI like [word].\n\nnever read\n"
    result = command("infill", "--model", model_folder, *FEW, input=typed)
    assert result.exit_code == 0, result.exception
    assert "A text with blanks, such as: I like [word] because [sentence]." in result.stdout
    assert "did you mean '[word]'?" in result.stdout
    assert result.stdout.count("1. I like") == result.stdout.count("\nin ") == 1
    assert "never read" not in result.stdout


def test_infill_shows_the_level_models_side_by_side(command, storage):
    """Each trained model has a column; JSON is keyed by model name and has each answer's probability."""
    words = ("infill", "--name", "pilot", "--storage", storage, "--all-levels", *FEW, "I like [word] tea.")
    lines = command(*words).stdout.splitlines()
    assert lines[0].split() == ["A1", "C2"]
    assert lines[1].count("I like ") == 2
    answers = json.loads(command(*words, "--json", "--first-word", "green").stdout)
    assert list(answers) == ["A1", "C2"]
    (answer,) = answers["C2"][0]["answers"]
    assert answer["text"].startswith("green")
    assert 0.0 < answer["probability"] < 1.0
    assert answers["C2"][0]["text"][answer["start"] :].startswith(answer["text"])


def test_infill_finds_a_model_by_trial_name_or_folder(command, storage, model_folder):
    """It is found by the trial's name, its folder, or the model's folder."""
    text = ("--samples", 1, "--max-words", 1, "I like [word].", "--json")
    outputs = [
        command("infill", *words, *text).stdout
        for words in (
            ("--name", "pilot", "--storage", storage, "--model", "A1"),
            ("--model", model_folder),
            ("--model", model_folder / "model"),
        )
    ]
    assert outputs[0] == outputs[1] == outputs[2]
    assert json.loads(outputs[0])[0]["text"].startswith("I like ")


@pytest.mark.parametrize(
    ("name", "model", "all_levels", "kind", "message"),
    [
        ("pilot", "C1", False, InputError, "--model: found 'C1'; trained in 'pilot' are A1, C2, all"),
        ("pilot", None, False, InputError, "--model: give one, or --all-levels; trained in 'pilot' are A1"),
        (None, None, False, ConfigError, "infill: found no model; give --name RUN with --model TRIAL or --all-levels"),
        ("pilot", "A1", True, ConfigError, "--all-levels and --model: found both"),
        (None, None, True, ConfigError, "--all-levels: needs --name"),
        (None, "nowhere", False, InputError, "--model: found 'nowhere', which holds no model"),
        ("nobody", "A1", False, InputError, "is 'nobody' the name of a run"),
    ],
)
def test_options_that_name_no_model_are_refused(storage, name, model, all_levels, kind, message):
    """The message lists the available models."""
    settings = Settings(name=name, storage=str(storage), fetches="no checkpoints")
    with pytest.raises(kind, match=message), choose_models(settings, model, all_levels=all_levels):
        pass


def test_all_levels_requires_level_models(tmp_path):
    """A model whose weights were changed is not used, either."""
    add_models(RunFolder(tmp_path / "pilot"), make_config(("A1", "C1"), transfer=False), without=["A1", "C1"])
    settings = Settings(name="pilot", storage=str(tmp_path))
    with pytest.raises(InputError, match="no level has a model of its own; trained in 'pilot' are all"):  # noqa: SIM117
        with choose_models(settings, None, all_levels=True):
            pass
    with (tmp_path / "pilot/trials/all/model/model.safetensors").open("r+b") as file:
        file.write(b"x")
    with pytest.raises(DamagedError, match="train it again with --force all"):  # noqa: SIM117
        with choose_models(settings, "all", all_levels=False):
            pass


@pytest.fixture
def fill(command, storage, tmp_path):
    """Fill a CSV of these lines with the levels' models; return the result and the rows written."""

    def run(*lines, options=()):
        (tmp_path / "in.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
        out = tmp_path / "out.csv"
        where = ("--name", "pilot", "--storage", storage, "--csv", tmp_path / "in.csv", "--out", out, "--force")
        result = command("infill", *where, "--max-words", 2, *(options or ("--all-levels",)))
        if not (tmp_path / "out.csv").exists():
            return result, []
        with (tmp_path / "out.csv").open(encoding="utf-8", newline="") as file, fields_up_to(10**6):
            return result, list(csv.DictReader(file))

    return run


def test_every_text_of_a_csv_is_filled_and_scored(fill):
    """Rows stay in order; a row that cannot be filled says why and makes the command end with 1."""
    lines = [
        "id,text,said",
        '7,"I like [word], [ngram].","I like tea, it is good."',
        "8,nothing to fill,x",
        "9,We [ngram] today,went there",
        '10,We [word] it,"[""see""]"',
        "11,We [word] or [word] it,unlike",
    ]
    result, rows = fill(*lines, options=("--all-levels", "--samples", 2, "--reference", "said", "--json"))
    assert result.exit_code == 1
    answers = json.loads(result.stdout)
    assert (answers["texts"], answers["failed"]) == (5, 2)
    assert answers["errors"][0].startswith("line 3: text: found no blank")
    assert (
        "line 6: column 'said': found 'unlike', which does not fit the text with its 2 blanks" in answers["errors"][1]
    )
    assert [(row["id"], row["model"], row["sample"]) for row in rows] == [
        *(("7", model, sample) for model in ("A1", "C2") for sample in ("1", "2")),
        ("8", "", ""),
        *((number, model, sample) for number in ("9", "10") for model in ("A1", "C2") for sample in ("1", "2")),
        ("11", "", ""),
    ]
    first, second = json.loads(rows[0]["answers"])
    assert rows[0]["filled"] == f"I like {first}, {second}."
    assert "found no blank" in rows[4]["error"]
    assert [answers["metrics"]["A1"][name] for name in ("answers", "words", "longer_answers")] == [8, 4, 4]
    assert answers["metrics"]["reference"]["words_per_sentence"] == pytest.approx((1 + 3 + 2 + 1) / 4)
    assert answers["metrics"]["A1"]["exact_match"] == 0.0


def test_csv_answers_do_not_depend_on_the_batch_size(fill, monkeypatch):
    """A row's draws depend on its place in the file, not on the rows in its batch."""
    lines = ["text", *(f"{'a ' * number}[word] b" for number in range(5))]
    _, together = fill(*lines, options=("--model", "A1"))
    monkeypatch.setattr("raysweep.cli.infill_csv._ROWS", 2)
    result, apart = fill(*lines, options=("--model", "A1"))
    assert result.exit_code == 0
    assert [row["filled"] for row in apart] == [row["filled"] for row in together]
    assert len({row["answers"] for row in apart}) > 3
    assert "self_bleu" in result.stdout


def test_an_unnamed_csv_column_is_kept(fill):
    """pandas writes its row numbers as such a column."""
    result, rows = fill(",text", "7,a [word] b", options=("--model", "A1"))
    assert result.exit_code == 0, result.exception
    assert rows[0][""] == "7"


def test_an_overlong_text_fails_only_its_own_row(fill):
    """The other rows of its batch are filled; long cells are read."""
    result, rows = fill("text", "a [word] b", f"{'a ' * 70_000}[word]", "c [word] d", options=("--model", "A1"))
    assert [bool(row["error"]) for row in rows] == [False, True, False]
    assert "the model has 64 positions" in rows[1]["error"]
    assert "2 of 3 texts filled, 1 failed" in result.stdout


@pytest.mark.parametrize(
    ("lines", "options", "message"),
    [
        (["essay", "x"], (), "found no column 'text'; its columns are 'essay'"),
        ([""], (), "found no column 'text'"),
        (["text,model", "[word],x"], (), "found the column 'model', which the output has too"),
        (["text,id", "[word]"], (), "line 2: found another number of cells"),
        (["text", "[word],x"], (), "line 2: found another number of cells"),
        (["text,id,id", "[word],1,2"], (), "found the column 'id' more than once"),
        (["text", '"[word]" x'], (), "after line 1 it is no CSV"),
        (["text", "x"], ("--reference", "said", "--all-levels"), "found no column 'said'"),
    ],
)
def test_an_unreadable_csv_is_refused(fill, lines, options, message):
    """No output is written, not even in part."""
    result, rows = fill(*lines, options=options)
    assert message in str(result.exception)
    assert rows == []


def test_a_csv_in_another_encoding_is_refused(command, storage, tmp_path):
    """A missing file and options that do not fit together are refused, too."""
    (tmp_path / "in.csv").write_bytes("text\ncafé [word]\n".encode("cp1252"))
    (tmp_path / "there.csv").write_text("mine")
    (tmp_path / "good.csv").write_text("text\na [word] b\n")
    where = ("infill", "--name", "pilot", "--storage", storage, "--model", "A1")
    out = ("--out", tmp_path / "out.csv")
    for words, message in [
        (("--csv", tmp_path / "in.csv", *out), "is not UTF-8"),
        (("--csv", tmp_path / "none.csv", *out), "cannot be read (No such file"),
        (("--csv", tmp_path / "in.csv", "--out", tmp_path / "in.csv"), "in.csv, which is a file that is read"),
        (("--csv", tmp_path / "in.csv"), "--csv: needs --out FILE"),
        (out, "--out, --force, --reference and --learner-likeness: need --csv FILE"),
        (("--csv", tmp_path / "in.csv", "--out", tmp_path / "there.csv"), "there.csv is there already; give --force"),
        (
            ("--csv", tmp_path / "good.csv", *out, "--classifier", "x"),
            "--classifier: needs --learner-likeness",
        ),
        (
            ("--csv", tmp_path / "good.csv", *out, "--learner-likeness"),
            "has no classifier of its own; do `raysweep run",
        ),
        (("--json",), "--json: needs a text"),
    ]:
        assert message in str(command(*where, *words).exception)
    assert not (tmp_path / "out.csv").exists()
    assert (tmp_path / "there.csv").read_text() == "mine"
    nameless = command("infill", "--model", "m", "--csv", tmp_path / "good.csv", *out, "--learner-likeness")
    assert "--learner-likeness: needs --name" in str(nameless.exception)


def test_filled_texts_are_not_formulas_in_a_spreadsheet(fill):
    """An apostrophe precedes the text, as in the report's tables; the user's own columns are unchanged."""
    _, rows = fill("text", "=A1 [word]", options=("--model", "A1"))
    assert rows[0]["filled"].startswith("'=A1 ")
    assert rows[0]["text"] == "=A1 [word]"


@pytest.mark.parametrize(
    ("text", "written", "fits"),
    [
        ("We [ngram] today", "went there", True),
        ("We [ngram] today", "We went there today", True),
        ("We [ngram] today", "We went there yesterday", False),
        ("We [ngram] today", "They went there today", False),
        ("I [word] it", "see", True),
        ("I [word] it", "saw them", False),
        ("I [word] it", " ", False),
        ("[sentence]", "I see it. I know.", True),
    ],
)
def test_a_reference_that_does_not_match_gives_no_answer(text, written, fits):
    """Examples: a whole text that differs around the blank, several words for a [word], or nothing."""
    filler = _CsvFiller({}, "text", "said", {"constraints": FREE, "temperature": 1.0, "top_k": None, "top_p": None})
    if fits:
        assert filler._read({"text": text, "said": written})[1] in (["went there"], ["see"], ["I see it. I know."])
    else:
        with pytest.raises(InputError, match=r"column 'said': found .*, which does not fit the text with its 1 blanks"):
            filler._read({"text": text, "said": written})
