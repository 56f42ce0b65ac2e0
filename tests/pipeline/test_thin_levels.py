"""A level without enough texts is refused once the corpus is prepared, before anything trains, and can be left out."""

import csv

import pytest
from typer.testing import CliRunner

from raysweep.cli.app import app
from raysweep.errors import ConfigError, ThinLevelsError
from raysweep.pipeline.run_record import read_run
from raysweep.storage.run_folder import RunFolder
from tests.pipeline.conftest import TINY
from tests.pipeline.test_run import CountingExecutor

PLAN = {"plan": {"specialised": {"steps": 2}, "general": {"steps": 2}, "transfer": {"steps": 1}}}


def write_texts(path, counts):
    """Write a corpus with a given number of different texts of each level."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["writing_id", "l1", "cefr_level", "text"])
        for level, count in counts.items():
            for place in range(count):
                words = (
                    f"{level} text number {place} about the {place * 7}th garden of house {place * 13}. It was fine."
                )
                writer.writerow([f"{level}-{place}", "German", level, words])
    return path


@pytest.fixture
def corpus(tmp_path):
    """A corpus with enough texts of A1 and C1, two of C2, and none of B1."""
    return write_texts(tmp_path / "texts.csv", {"A1": 40, "C1": 40, "C2": 2})


@pytest.fixture
def settings_of(corpus):
    def make(levels, **data):
        return {"data": {"csv": str(corpus), "levels": levels, **data}, "trials": PLAN}

    return make


def test_levels_with_too_few_texts_are_refused_before_training(tiny_run, settings_of):
    """The message gives the numbers and both alternatives, instead of every trial on these levels failing."""
    executor = CountingExecutor()
    run = tiny_run(settings_of(["A1", "B1", "C1", "C2"]), executor=executor)
    for _ in range(2):  # when the corpus has just been prepared, and when it had been
        with pytest.raises(ThinLevelsError) as caught:
            run.do()
        assert list(caught.value.problems) == [
            "level B1: 0 texts; train and valid need one each",
            "level C2: 2 texts (train 2, valid 0, test 0); train and valid need one each",
            "leave out with --skip-empty, or set data: {levels: [A1, C1], leave_out: [B1, C2]}",
        ]
        assert executor.work == []


def test_prepare_alone_only_warns_about_levels_with_too_few_texts(tiny_run, settings_of):
    """The corpus may be inspected."""
    run = tiny_run(settings_of(["A1", "B1", "C1"], leave_out=["C2"]))
    assert run.do("prepare")
    assert "prepare: note: level B1: 0 texts; train and valid need one each" in run.listener.lines


def test_skip_empty_is_not_advised_if_one_level_would_remain(tiny_run, settings_of):
    """Then nothing can be left out."""
    with pytest.raises(ThinLevelsError, match="at least two need texts: add texts, or name the corpus"):
        tiny_run(settings_of(["A1", "B1"], leave_out=["C1", "C2"])).do()


def test_the_advised_setting_for_levels_with_too_few_texts_works(tiny_run, settings_of):
    """The advice is followed literally, without --force, since nothing rests on the corpus yet."""
    with pytest.raises(ThinLevelsError):
        tiny_run(settings_of(["A1", "B1", "C1", "C2"])).do()
    run = tiny_run(settings_of(["A1", "C1"], leave_out=["B1", "C2"]))
    assert run.do() == []
    assert "prepare: 2 rows set aside: level left out" in "\n".join(run.listener.lines)
    assert any(line.startswith("prepare: its settings changed (data.leave_out: absent") for line in run.listener.lines)


def test_texts_of_left_out_levels_are_not_bad_rows(tiny_run, settings_of, corpus):
    """Half of the corpus may be of other levels; its other rows must still be sound."""
    write_texts(corpus, {"A1": 40, "C1": 40, "C2": 100, "typo": 1})
    run = tiny_run(settings_of(["A1", "C1"], leave_out=["C2", "typo"]))
    run.do("prepare")
    assert "prepare: 80 documents of 181 rows (A1 40, C1 40)" in run.listener.lines
    with pytest.raises(Exception, match=r"1 of 181 rows are bad \(0\.6 %; data\.max_bad_fraction allows 0 %\)"):
        tiny_run(settings_of(["A1", "C1"], leave_out=["C2"], max_bad_fraction=0.0)).do("prepare")
    with pytest.raises(Exception, match="all 181 rows are of levels in data"):
        tiny_run(settings_of(["X", "Y"], leave_out=["A1", "C1", "C2", "typo"])).do("prepare")


@pytest.fixture
def command(tmp_path, monkeypatch, settings_of):
    import yaml

    values = {**TINY, **settings_of(["A1", "B1", "C1", "C2"])}
    (tmp_path / "experiments.yaml").write_text(yaml.safe_dump({"default": "tiny", "profiles": {"tiny": values}}))
    monkeypatch.chdir(tmp_path)
    return lambda *words: CliRunner().invoke(app, list(words), catch_exceptions=True)


def test_skip_empty_leaves_levels_out_in_one_command(command, tmp_path):
    """The second time there is nothing to do."""
    done = command("run", "--inline", "--skip-empty")
    assert done.exit_code == 0, (done.output, done.exception)
    assert "--skip-empty: without B1, C2, whose texts are too few; their texts are left out" in done.output
    folder = RunFolder(tmp_path / "runs" / "tiny")
    before = read_run(folder)
    assert not folder.trial("C2").record.exists()
    assert folder.trial("all-C1").record.exists()
    again = command("run", "--inline", "--skip-empty")
    assert again.exit_code == 0
    assert read_run(folder) == before
    shown = command("status", "--skip-empty").output
    assert "pending" not in shown
    assert "C2" not in shown


def test_skip_empty_is_refused_if_one_level_would_remain(command, corpus):
    """Nothing could be compared."""
    write_texts(corpus, {"A1": 40, "C2": 1})
    error = command("run", "--inline", "--skip-empty").exception
    assert isinstance(error, ConfigError)
    assert "--skip-empty: A1 would remain without B1, C1, C2; levels are compared" in str(error)


def test_a_left_out_level_may_not_also_be_a_level(tiny_run, settings_of):
    """It appears in only one of the two lists."""
    with pytest.raises(ConfigError, match="leave_out: 'A1' is one of the levels; remove it there or here"):
        tiny_run(settings_of(["A1", "C1"], leave_out=["A1"]))
