"""Commands on a run in object storage, from a machine that has no local copy."""

import json
import os
import re
import shutil
import threading

import pytest

from raysweep.cli import doctor
from raysweep.errors import ConfigError, InputError, LockedError
from raysweep.staging import run_view
from raysweep.staging.bucket import Bucket
from raysweep.staging.bucket_address import parse_bucket_uri
from raysweep.staging.run_staging import staged_run
from tests.staging.conftest import gate, object_server, server, uri  # noqa: F401 - fixtures


@pytest.fixture
def on(command, uri, tmp_path, monkeypatch):  # noqa: F811 - a fixture
    """Run a command on the run, with a disk of its own."""

    def run(*words, disk="here"):
        monkeypatch.setenv("RAYSWEEP_STAGING", str(tmp_path / disk))
        return command(*words, "--storage", uri)

    return run


def text_of(result):
    assert result.exit_code == 0, (result.output, result.exception)
    return result.stdout


def test_every_command_accepts_a_bucket_uri(on, command, uri, gate, monkeypatch, tmp_path):  # noqa: F811 - fixtures
    """Commands that only read fetch what they need into a folder of their own."""
    assert "A1: done, 2 steps" in text_of(on("run", "--inline"))
    record, _ = Bucket(parse_bucket_uri(uri).at("tiny")).read("run.json")
    assert f" --storage {uri}" in json.loads(record)["command"], "the words that repeat the run"
    shutil.rmtree(tmp_path / "here")

    gate.requests.clear()
    status = text_of(on("status", disk="other"))
    assert re.search(r"A1 +✔ done", status)
    assert not [path for _, path, _ in gate.requests if path.endswith((".safetensors", ".parquet", ".examples"))]
    assert "A1: step 2/2" in text_of(on("logs", "A1", disk="other"))
    assert text_of(on("diff", "A1", "A1", disk="other"))
    assert "0 changed, 0 missing" in text_of(on("check-run", disk="other"))
    assert text_of(on("run", "--dry-run", disk="other")) == text_of(on("plan", disk="other"))
    runs = text_of(on("runs", disk="other"))
    assert re.search(r"^tiny +tiny ", runs, re.MULTILINE)
    assert text_of(on("preview", disk="other"))
    monkeypatch.delitem(doctor.CHECKS, "Ray")
    assert "can be written and has conditional writes" in on("doctor", disk="other").stdout

    model = f"{uri}/tiny/trials/A1/model"
    assert "1. I like" in text_of(command("infill", "I like [word].", "--samples", 1, "--model", model))
    nothing = command("infill", "x", "--model", f"{uri}/tiny/trials/B9/model")
    assert isinstance(nothing.exception, InputError)
    assert "B9/model, which holds nothing" in str(nothing.exception)

    bundled = text_of(on("bundle", "--out", tmp_path / "evidence.zip", disk="other"))
    assert "no learner's text" in bundled
    Bucket(parse_bucket_uri(uri)).upload("e.zip", tmp_path / "evidence.zip")
    assert "verified in" in text_of(command("verify", f"{uri}/e.zip"))
    assert isinstance(command("verify", f"{uri}/none.zip").exception, InputError)
    assert not (tmp_path / "other").joinpath(next((tmp_path / "other").iterdir()).name, "tiny").exists()

    assert "report: skip" in text_of(on("report", disk="third"))
    assert "freed 0 bytes" in text_of(on("clean", disk="third"))
    forced = text_of(on("run", "--inline", "--force", "A1", disk="third"))
    assert "A1: training" in forced
    assert "0 changed, 0 missing" in text_of(on("check-run", disk="other"))


def test_the_plan_states_bytes_to_object_storage_but_not_their_time(on, command):
    """The rate of the storage is not known; on a path nothing is sent."""
    sentence = re.compile(
        r"object storage: the trainings send at most (\d+) MB of weights .*, of which (\d+) MB are models"
    )
    planned, models = map(int, sentence.search(text_of(on("plan"))).groups())
    output = text_of(on("run", "--inline"))
    assert sentence.search(output)[1] == str(planned)
    assert "besides tokenizers (3.6 MB a model with GPT-2's), curves, records, the corpus and its examples;" in output
    assert "The time of these transfers is unknown, and not included" in output
    assert models <= float(re.search(r"storage: sent ([\d.]+) MB", output)[1]) <= planned + 5  # with the tokenizer
    assert sentence.search(text_of(on("plan"))) is None
    assert "object storage" not in command("plan").output


def test_clean_removes_unneeded_objects_from_the_bucket(on, uri, gate, tmp_path):  # noqa: F811 - fixtures
    """The example is a checkpoint of a finished trial."""
    text_of(on("run", "--inline"))
    with staged_run(parse_bucket_uri(uri), "tiny", print) as staging:
        left = staging.root / "trials" / "A1" / "checkpoints" / "step-00000001" / "model.safetensors"
        left.parent.mkdir(parents=True)
        left.write_bytes(b"x" * 1000)
    assert "would free 1,000 bytes" in text_of(on("clean", "--dry-run", disk="other"))
    assert "freed 1,000 bytes" in text_of(on("clean", disk="other"))
    assert "0 changed, 0 missing" in text_of(on("check-run", disk="third"))
    assert "checkpoints" not in text_of(on("check-run", disk="third"))


def test_a_second_driver_on_this_machine_exits_with_2(on, uri):  # noqa: F811 - a fixture
    """The same holds for a path; commands that read the run see who works in it."""
    from raysweep.pipeline.lock import locked
    from raysweep.storage.run_folder import RunFolder

    on("status")
    with staged_run(parse_bucket_uri(uri), "tiny", print) as staging, locked(RunFolder(staging.root)):
        refused = on("run", "--inline")
        assert isinstance(refused.exception, LockedError)
        assert refused.exception.exit_code == 2
        assert f"running: process {os.getpid()} on " in text_of(on("status", disk="other"))
    assert "running" not in text_of(on("status", disk="other"))


def test_a_log_is_followed_through_the_bucket(on, uri, gate, monkeypatch, tmp_path):  # noqa: F811 - fixtures
    """Added lines arrive until the run ends."""
    monkeypatch.setattr(run_view, "_REFRESH_S", 0.3)
    fetched = threading.Semaphore(0)
    gate.on_request = lambda method, path: (method, path[-10:]) == ("GET", "worker.log") and fetched.release()
    with staged_run(parse_bucket_uri(uri), "tiny", [].append) as staging:
        log = staging.root / "trials" / "A1" / "worker.log"
        log.parent.mkdir(parents=True)
        log.write_text("first\n")
        staging.push()

        def go_on():
            assert fetched.acquire(timeout=120)
            log.write_text("first\nsecond\n")
            staging.push()
            assert fetched.acquire(timeout=120)
            staging.close()

        thread = threading.Thread(target=go_on)
        thread.start()
        followed = text_of(on("logs", "A1", "--follow", disk="other"))
        thread.join()
        monkeypatch.setattr(staging, "close", lambda: None)
    assert followed.splitlines() == ["first", "second"]


def test_an_invalid_uri_ends_a_command_at_once(command, tmp_path):
    """The exit code is 2, before any request to a store."""
    for words in (("run",), ("status",), ("check-run",)):
        error = command(*words, "--storage", "http://bucket/x").exception
        assert isinstance(error, ConfigError)
        assert "must be a path, s3://bucket/folder or gs://bucket/folder" in str(error)
