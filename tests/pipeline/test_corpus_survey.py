"""`check`, `doctor` and `plan` read the corpus, and say what a run would refuse before it is started."""

import pytest
import yaml
from typer.testing import CliRunner

from raysweep.cli import doctor
from raysweep.cli.app import app
from raysweep.config.loading import parse_config
from raysweep.errors import ConfigError, InputError
from raysweep.pipeline.corpus_survey import survey_corpus
from tests.pipeline.conftest import TINY
from tests.pipeline.test_thin_levels import PLAN, write_texts


@pytest.fixture
def corpus(tmp_path):
    return write_texts(tmp_path / "texts.csv", {"A1": 40, "C1": 30})


def config_of(corpus, **data):
    return parse_config({"data": {"path": str(corpus), "levels": ["A1", "C1"], **data}, "trials": PLAN})


def test_a_survey_counts_documents_by_level(corpus):
    """Rows that are set aside are counted too."""
    assert str(survey_corpus(config_of(corpus))) == "70 rows (A1 40, C1 30)"
    write_texts(corpus, {"A1": 40, "C1": 30, "C2": 7})
    survey = survey_corpus(config_of(corpus, leave_out=["C2"], max_bad_fraction=0.0))
    assert str(survey) == "77 rows (A1 40, C1 30); 7 rows set aside: level left out"


def test_a_survey_of_the_sample_reads_no_file():
    """The sample does not exist yet."""
    assert survey_corpus(parse_config(TINY)) is None


PROBLEMS = {
    "column": ({"columns": {"text": "essay"}}, InputError, "essay"),
    "levels": ({"levels": ["A1", "B1", "C1"]}, ConfigError, "level B1: 0 texts; train and valid need one each"),
    "bad rows": ({"levels": ["A1", "B1"]}, ConfigError, "30 of 70 rows are bad (data.max_bad_fraction allows 1 %)"),
    "no file": (
        {"path": "none.csv"},
        InputError,
        "data.path: found 'none.csv', no such file; must be a file, a glob or an address",
    ),
}


@pytest.mark.parametrize("case", PROBLEMS)
def test_a_survey_refuses_what_prepare_would_refuse(corpus, case):
    """The refusal is the same for every command."""
    changes, kind, words = PROBLEMS[case]
    with pytest.raises(kind) as caught:
        survey_corpus(config_of(corpus, **changes))
    assert words in str(caught.value)


@pytest.fixture
def command(tmp_path, monkeypatch, corpus):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.delitem(doctor.CHECKS, "Ray")
    values = {**TINY, "data": {"csv": "texts.csv", "levels": ["A1", "C1"]}, "trials": PLAN}
    (tmp_path / "experiments.yaml").write_text(yaml.safe_dump({"default": "tiny", "profiles": {"tiny": values}}))
    return lambda *words: CliRunner().invoke(app, list(words))


def test_check_doctor_and_plan_report_the_counts_of_the_corpus(command):
    """All three report the same counts."""
    assert "fine, 5 trials; corpus: 70 rows (A1 40, C1 30)" in command("check").output
    assert "texts.csv: 70 rows (A1 40, C1 30)" in command("doctor").output
    assert command("plan").exit_code == 0


def test_check_states_that_a_missing_corpus_was_not_read(command, tmp_path):
    """A path with a mistake in it was reported as fine; the other profiles of the file are checked all the same."""
    (tmp_path / "texts.csv").rename(tmp_path / "elsewhere.csv")
    told = command("check")
    assert told.exit_code == 0
    assert "fine, 5 trials; corpus: not read, there is no 'texts.csv'" in told.output


def test_check_doctor_and_plan_report_a_level_without_texts(command):
    """They report it before prepare has run."""
    wrong = ("--set", "data.levels=[A1, B1, C1]")
    problem = "level B1: 0 texts; train and valid need one each"
    assert problem in str(command("check", *wrong).exception)
    result = command("doctor", *wrong)
    assert problem in result.output
    assert result.exit_code == 1
    plan = command("plan", *wrong)
    assert problem in plan.output
    assert plan.exit_code == 2


def test_doctor_checks_that_the_hub_has_an_uncached_start(command, monkeypatch):
    """An hour into a run is too late; the message says what to do without a network."""
    import huggingface_hub

    def unreachable(*_, **__):
        raise OSError("Name or service not known")

    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", unreachable)
    result = command("doctor", "--set", "model.start=someone/some-gpt2")
    assert result.exit_code == 1
    assert "not in the local cache, and the hub does not answer (OSError)" in result.output
    assert "hf download someone/some-gpt2 --local-dir some-gpt2" in result.output
    assert "--set model.start=./some-gpt2" in result.output
    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", lambda *_, **__: None)
    assert (
        "to be downloaded at the start (the hub can be reached)"
        in command("doctor", "--set", "model.start=someone/some-gpt2").output
    )
