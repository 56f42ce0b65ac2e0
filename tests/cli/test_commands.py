"""The commands as users see them: immediate help, and exit codes that scripts can rely on."""

import csv
import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from raysweep.cli.app import app
from raysweep.config.loading import dump_config, parse_config
from raysweep.errors import ConfigError
from raysweep.storage.atomic_files import write_json
from raysweep.storage.run_folder import RunFolder

ROOT = Path(__file__).parents[2]
COMMANDS = [
    "run", "plan", "check", "sample", "prepare", "mask", "train", "evaluate", "report", "infill", "status", "doctor",
    "runs", "preview", "logs", "diff", "clean", "check-run", "bench", "cluster", "ilm-export", "ilm-import",
    "bundle", "verify",
]  # fmt: skip


def raysweep(*words, cwd=ROOT):
    return subprocess.run([sys.executable, "-m", "raysweep", *words], capture_output=True, text=True, cwd=cwd)


def test_help_lists_every_command():
    """Scripts rely on the names."""
    done = raysweep("--help")
    assert done.returncode == 0
    for command in COMMANDS:
        assert f"  {command} " in done.stdout


@pytest.mark.parametrize("words", [["--help"], ["plan"], ["check", "--set", "seed=-1"], ["status"]])
def test_help_plan_and_config_errors_import_no_heavy_package(words, tmp_path):
    """They must answer in under half a second; importing the Ray stack alone takes four times as long."""
    code = "\n".join(
        (
            "import atexit, sys",
            "from raysweep.cli.app import main",
            "heavy = ('ray', 'torch', 'transformers', 'pyarrow', 'numba', 'optuna', 'pandas')",
            "atexit.register(lambda: print('loaded', [name for name in heavy if name in sys.modules]))",
            "main()",
        )
    )
    storage = ["--storage", str(tmp_path)] if words[0] in {"plan", "status"} else []
    done = subprocess.run([sys.executable, "-c", code, *words, *storage], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.splitlines()[-1] == "loaded []"


def test_an_invalid_config_exits_with_2_and_one_line_per_mistake():
    """No traceback is printed, since the mistake is in the file and not in the program."""
    done = raysweep("check", "--set", "seed=-1", "--set", "training.steps=0")
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.splitlines() == [
        "error: --set seed: found -1; must be at least 0 (seed of splits, masks and statistics)",
        "--set training.steps: found 0; must be at least 1 (optimiser steps)",
    ]


def test_an_invalid_input_exits_with_2(tmp_path):
    """The message names a CSV that lacks the columns, and the columns that it has."""
    (tmp_path / "texts.csv").write_text("id,text\n1,Hello.\n")
    done = raysweep("prepare", "--storage", str(tmp_path), "--set", f"data.csv={tmp_path}/texts.csv")
    assert done.returncode == 2
    assert "no column 'cefr_level'" in done.stderr
    assert "Traceback" not in done.stderr


def test_plan_json_names_every_trial_and_its_parent(tmp_path):
    """Scripts that schedule raysweep's work need both."""
    done = raysweep("plan", "--json", "--profile", "efcamdat", "--storage", str(tmp_path))
    rows = {row["trial"]: row for row in json.loads(done.stdout)["trials"]}
    assert len(rows) == 11
    assert rows["all-C1"]["from"] == "all"
    assert rows["A1"]["examples_seen"] == 400_000


def test_status_of_a_missing_run_is_an_error(tmp_path):
    """A misspelt name must not look like a waiting run; the message says where to look."""
    done = raysweep("status", "--storage", str(tmp_path), "--name", "pilto")
    assert done.returncode == 2
    assert "no run 'pilto' in " in done.stderr
    assert f"`raysweep runs --storage {shlex.quote(str(tmp_path))}` lists those there are" in done.stderr


@pytest.mark.parametrize(
    "words",
    [
        ["bundle"], ["push", "--model", "A1", "--to", "me/a", "--licence", "mit"], ["status"], ["logs", "A1"],
        ["preview"], ["check-run"], ["report"], ["evaluate"], ["try"], ["serve"],
        ["infill", "--model", "A1", "A [word]."], ["score", "texts.csv"], ["classify", "texts.csv"],
    ],
)  # fmt: skip
def test_a_misspelt_run_name_is_answered_with_the_nearest_one(tmp_path, monkeypatch, words):
    """The message suggested to make a run of the misspelt name; without a near name, it lists the runs."""
    (tmp_path / "texts.csv").write_text("text\nI like apples.\n")
    for name in ("pilot", "paper"):
        write_json(RunFolder(tmp_path / "runs" / name).record, {"name": name})
    monkeypatch.chdir(tmp_path)
    (tmp_path / "experiments.yaml").write_text((ROOT / "experiments.yaml").read_text())
    for name, hint in (("pilto", "; did you mean 'pilot'?"), ("x", "; known are paper, pilot")):
        result = CliRunner().invoke(app, [*words, "--name", name])
        assert isinstance(result.exception, ConfigError)
        assert str(result.exception) == f"--name: no run '{name}' in {tmp_path / 'runs'}{hint}"
        assert not (tmp_path / "runs" / name).exists()


def test_logs_diff_and_clean_of_a_missing_run_are_errors(tmp_path):
    """A wrong name ends with exit code 2, whereas having nothing to clean is not an error."""
    for words, message in (
        (["logs", "A1"], "'A1' has no log yet"),
        (["diff", "A1", "A2"], "'A1': found neither a run of this name"),
    ):
        done = raysweep(*words, "--storage", str(tmp_path))
        assert done.returncode == 2
        assert message in done.stderr
    assert raysweep("clean", "--storage", str(tmp_path)).returncode == 0


def test_logs_of_a_missing_named_run_are_refused_by_name(tmp_path):
    """The message was that there is no experiments.yaml."""
    done = raysweep("logs", "A1", "--name", "nosuch", "--storage", str(tmp_path), "--config", "none.yaml")
    assert done.returncode == 2
    assert "is 'nosuch' the name of a run?" in done.stderr
    assert "none.yaml" not in done.stderr


def test_logs_of_a_run_use_its_recorded_config(tmp_path):
    """The command after a failed trial names the run alone; the config of that run may be another file or profile."""
    run = RunFolder(tmp_path / "runs" / "pilot")
    trials = {"mine": {"levels": ["A1"]}}
    run.trial("mine").root.mkdir(parents=True)
    run.trial("mine").log.write_text("step 1\n")
    run.config.write_text(dump_config(parse_config({"data": {"levels": ["A1"]}, "trials": trials})))
    done = raysweep("logs", "mine", "--name", "pilot", "--storage", str(tmp_path / "runs"), "--config", "none.yaml")
    assert (done.returncode, done.stdout) == (0, "step 1\n")


def test_logs_of_a_run_with_a_now_refused_search_are_readable(tmp_path):
    """What refuses new trainings must not hide those that an earlier version did."""
    run = RunFolder(tmp_path / "runs" / "pilot")
    run.trial("A1").root.mkdir(parents=True)
    run.trial("A1").log.write_text("step 1\n")
    config = yaml.safe_load(
        dump_config(parse_config({"data": {"levels": ["A1"]}, "trials": {"A1": {"levels": ["A1"]}}}))
    )
    config["trials"]["A1"]["search"] = {"space": {"weight_decay": {"low": 0, "high": 1}}}
    run.config.write_text(yaml.safe_dump(config))
    done = raysweep("logs", "A1", "--name", "pilot", "--storage", str(tmp_path / "runs"))
    assert (done.returncode, done.stdout) == (0, "step 1\n")
    with pytest.raises(ConfigError, match="only whole numbers are drawn"):
        parse_config(config)


def test_a_sample_corpus_does_not_overwrite_a_file(tmp_path):
    """It may be the user's own corpus; `--force` writes it anew."""
    out = tmp_path / "mine.csv"
    out.write_text("mine")
    small = ["sample", "--rows", "12", "--out", str(out)]
    done = raysweep(*small)
    assert (done.returncode, out.read_text()) == (2, "mine")
    assert f"{out}: is there already; give --force" in done.stderr
    assert raysweep(*small, "--force").returncode == 0
    assert out.read_text().count("\n") > 12


def test_infill_without_a_model_gives_an_example_path(tmp_path):
    """The message names the path that holds no model, with an example of one that does."""
    done = raysweep("infill", "--model", str(tmp_path), "I like [word].")
    assert done.returncode == 2
    assert "holds no model; must be a folder such as runs/local/trials/all, or with --name RUN" in done.stderr


def test_data_is_exported_to_the_original_format_and_imported_back(tmp_path):
    """Export the examples and import their documents: the test split's texts are the same again."""
    small = ["--storage", str(tmp_path), "--set", "data.sample.rows=60"]
    assert raysweep("prepare", *small).returncode == 0
    done = raysweep("ilm-export", *small, "--out", str(tmp_path / "ilm"))
    assert done.returncode == 0, done.stderr
    counts = json.loads((tmp_path / "local" / "corpus" / "splits.json").read_text())["counts"]
    done = raysweep("ilm-import", str(tmp_path / "ilm" / "test.pkl"), "--level", "A1", "--out", str(tmp_path / "b.csv"))
    assert done.returncode == 0, done.stderr
    with (tmp_path / "b.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == sum(count["test"] for count in counts.values())
    before = (tmp_path / "b.csv").read_bytes()
    words = ["ilm-import", str(tmp_path / "ilm" / "valid.pkl"), "--level", "A1", "--out", str(tmp_path / "b.csv")]
    done = raysweep(*words)
    assert (done.returncode, "b.csv is there already; give --force" in done.stderr) == (2, True)
    assert (tmp_path / "b.csv").read_bytes() == before
    assert raysweep(*words, "--force").returncode == 0
    assert (tmp_path / "b.csv").read_bytes() != before
    with (tmp_path / "local" / "corpus" / "sample.csv").open(newline="") as file:
        assert {row["text"] for row in rows} <= {row["text"] for row in csv.DictReader(file)}


def test_a_pickle_that_would_run_code_is_refused(tmp_path):
    """None of its code runs, and the message says what is allowed."""
    (tmp_path / "evil.pkl").write_bytes(b"cos\nsystem\n(S'touch /tmp/owned'\ntR.")
    done = raysweep("ilm-import", str(tmp_path / "evil.pkl"), "--level", "A1", "--out", str(tmp_path / "b.csv"))
    assert done.returncode == 2
    assert "it wants to load os.system" in done.stderr
    assert not (tmp_path / "b.csv").exists()
