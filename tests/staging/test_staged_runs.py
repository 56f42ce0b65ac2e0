"""Whole runs whose folder is in object storage: the same results, whichever process dies, and wherever it resumes."""

import logging
import os
import re
import signal
import subprocess
import sys
import threading

import pytest

from raysweep.errors import LockedError, StorageError
from raysweep.scheduling.attempts import read_events
from raysweep.scheduling.records import State, read_record
from raysweep.staging import bucket as buckets
from raysweep.staging import lease as leases
from raysweep.staging import run_staging
from raysweep.staging.bucket import Bucket
from raysweep.staging.bucket_address import parse_bucket_uri
from raysweep.staging.run_staging import staged_run
from raysweep.training import loop
from tests.staging.elsewhere import RemoteDiskExecutor
from tests.staging.staged_process import SHORT, do_staged, open_run, results_of

TRAININGS = ("prepare", "mask", "train")


@pytest.fixture(scope="module")
def local_results(tmp_path_factory):
    """The short run on a local path."""
    run = open_run(tmp_path_factory.mktemp("local"), SHORT)
    run.do(*TRAININGS)
    return results_of(run.folder)


@pytest.fixture
def new_disk(tmp_path, monkeypatch):
    """Switch to a machine with an empty disk."""

    def move(name):
        monkeypatch.setenv("RAYSWEEP_STAGING", str(tmp_path / name))

    return move


def start(uri, *stages):
    """Start the short run as a process."""
    words = [sys.executable, "-m", "tests.staging.staged_process", uri, *(stages or TRAININGS)]
    return subprocess.Popen(words, env={**os.environ, "OMP_NUM_THREADS": "1"}, stderr=subprocess.PIPE, text=True)


def objects(uri):
    return Bucket(parse_bucket_uri(uri).at("tiny")).list()


def test_a_run_in_object_storage_equals_a_local_run(uri, finished_storage, new_disk, gate):
    """To the byte; the second time nothing is done, even on another disk."""
    first, _, _ = do_staged(uri)
    local = open_run(finished_storage)
    assert results_of(first.folder) == results_of(local.folder)
    files = {path.relative_to(local.folder.root).as_posix() for path in local.folder.root.rglob("*") if path.is_file()}
    events = re.compile(r"trials/[^/]+/events\.out\.tfevents")
    stored = set(objects(uri))
    assert {path for path in stored if not events.match(path)} - {"lease.json"} == {
        path for path in files if not events.match(path)
    }
    assert sum(bool(events.match(path)) for path in stored) == 8, "curves and scores of four trials"
    requests = len(gate.requests)
    again, messages, traffic = do_staged(uri)
    assert traffic.sent_bytes < 2_000, "no more than the lease"
    assert len(gate.requests) - requests < 15
    assert sum("skip" in line for line in messages) == 8
    new_disk("other")
    elsewhere, messages, _ = do_staged(uri)
    assert elsewhere.folder.root != again.folder.root
    assert sum("skip" in line for line in messages) == 8
    assert results_of(elsewhere.folder) == results_of(local.folder)


@pytest.mark.parametrize("is_elsewhere", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_finished_training_is_extended_on_another_machine(uri, new_disk, tmp_path, local_results, is_elsewhere):
    """Its kept state is in the bucket: the result equals that of a training in one go, to the byte."""
    training = {**SHORT["training"], "keep": "resume"}
    shorter = {"training": training, "trials": {"A1": {"levels": ["A1"], "steps": 4}}}
    longer = {"training": training, "trials": SHORT["trials"]}
    do_staged(uri, *TRAININGS, changes=shorter)
    new_disk("other")
    executor = RemoteDiskExecutor([tmp_path / "worker"]) if is_elsewhere else None
    run, messages, _ = do_staged(uri, *TRAININGS, changes=longer, extended=["A1"], executor=executor)
    assert "A1: goes on with the training that is done (steps: 4 → 8)" in messages
    assert results_of(run.folder) == local_results


@pytest.mark.parametrize(
    "fatal",
    [
        "checkpoints/step-00000004/checkpoint.json",
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in (
                "examples/shard-00000.json",
                "checkpoints/step-00000002/optimizer.safetensors",
                "model/model.safetensors",
                "A1/training.json",
                "tiny/run.json",
            )
        ),
    ],
)
@pytest.mark.parametrize("disk", ["staging", pytest.param("empty", marks=pytest.mark.slow)])
def test_a_run_killed_during_a_push_is_resumed_with_the_same_result(
    uri, gate, new_disk, local_results, monkeypatch, fatal, disk
):
    """On the same disk; and (with `slow`) on an empty one that has only the bucket."""
    process = start(uri)
    seen = threading.Event()

    def kill(method, path):
        if method in ("PUT", "POST") and path.endswith(fatal) and not seen.is_set():
            process.send_signal(signal.SIGKILL)
            process.wait()
            seen.set()

    gate.on_request = kill
    process.communicate(timeout=200)
    gate.on_request = None
    assert seen.is_set()
    assert process.returncode == -signal.SIGKILL
    # Another disk waits for the lease of the dead process; a minute is not needed to see that.
    monkeypatch.setattr(leases, "EXPIRES_S", 1.0)
    monkeypatch.setattr(leases, "_LOOK_EVERY_S", 0.2)
    new_disk(disk)
    run, _, _ = do_staged(uri, *TRAININGS, changes=SHORT)
    assert results_of(run.folder) == local_results
    assert set(local_results) <= set(objects(uri))


def test_a_lost_head_is_replaced_from_the_bucket_alone(uri, gate, new_disk, local_results, monkeypatch, caplog):
    """It resumes from the last checkpoint in the bucket, so at most one interval is repeated."""
    process = start(uri)
    seen = threading.Event()

    def kill(method, path):
        # The request after the one that completed a checkpoint; on a slow machine the first may never be sent.
        if seen.is_set():
            process.send_signal(signal.SIGKILL)
        elif method == "PUT" and re.search(r"/step-\d+/checkpoint\.json$", path):
            seen.set()

    gate.on_request = kill
    process.communicate(timeout=200)
    gate.on_request = None
    assert process.returncode == -signal.SIGKILL
    monkeypatch.setattr(leases, "EXPIRES_S", 1.0)
    monkeypatch.setattr(leases, "_LOOK_EVERY_S", 0.2)
    new_disk("empty")
    newest = max(int(match[1]) for path in objects(uri) if (match := re.search(r"step-(\d+)/checkpoint.json", path)))
    with caplog.at_level(logging.INFO, "raysweep"):
        run, messages, _ = do_staged(uri, *TRAININGS, changes=SHORT)
    assert any("had this run last" in line for line in messages)
    assert any(re.match(r"storage: fetched \d+ files", line) for line in messages)
    assert results_of(run.folder) == local_results
    events = read_events(run.folder.trial("A1"))
    assert [event["what"] for event in events].count("begin") == 2
    record = read_record(run.folder.trial("A1"))
    assert (record.state, record.attempts) == (State.DONE, 2)
    starts = [event for event in events if event["what"] == "start"]
    assert starts[-1]["kept"], "the second attempt resumed from a checkpoint"
    assert f"A1: resumes after step {newest} of 8" in caplog.messages


def test_a_temporary_bucket_outage_delays_a_run_without_changing_it(uri, gate, caplog, local_results):
    """Requests are retried; the training does not wait for them."""
    began = threading.Event()

    def fall(method, path):
        if path.endswith("examples/manifest.json") and not began.is_set():
            began.set()
            gate.is_down = True
            threading.Timer(5.0, setattr, (gate, "is_down", False)).start()

    gate.on_request = fall
    with caplog.at_level(logging.WARNING, "raysweep"):
        run, _, _ = do_staged(uri, *TRAININGS, changes=SHORT)
    assert began.is_set()
    assert results_of(run.folder) == local_results
    assert any("503 SlowDown; trying again" in message for message in caplog.messages)
    assert any("answers again" in message for message in caplog.messages)
    assert set(results_of(run.folder)) <= set(objects(uri))


def test_a_permanent_bucket_outage_keeps_the_results_locally(uri, gate, monkeypatch, local_results):
    """The command fails and says what to do; the same command then sends what is missing."""
    monkeypatch.setattr(buckets, "PATIENCE_S", 1.0)
    monkeypatch.setattr(buckets.Bucket.__init__, "__kwdefaults__", {"patience_s": 1.0, "store": None})

    def fall(method, path):
        if path.endswith("A1/training.json"):
            gate.is_down = True

    gate.on_request = fall
    with pytest.raises(StorageError, match="503 SlowDown; the same command continues once the store answers"):
        do_staged(uri, *TRAININGS, changes=SHORT)
    gate.on_request, gate.is_down = None, False
    run, messages, _ = do_staged(uri, *TRAININGS, changes=SHORT)
    assert sum("skip" in line for line in messages) == 3
    assert results_of(run.folder) == local_results
    assert set(results_of(run.folder)) <= set(objects(uri))


def test_a_second_driver_is_refused_and_a_dead_one_is_replaced(uri, new_disk, monkeypatch):
    """On another machine, where the kernel's lock is not visible."""
    monkeypatch.setattr(leases, "RENEW_EVERY_S", 0.3)
    monkeypatch.setattr(leases, "_LOOK_EVERY_S", 0.2)
    monkeypatch.setattr(run_staging, "_LOOK_EVERY_S", 0.1)
    with staged_run(parse_bucket_uri(uri), "tiny", print) as first:
        (first.root / "config.yaml").write_text("first")
        first.push()
        new_disk("elsewhere")
        with (
            pytest.raises(LockedError, match="is working in this folder"),
            staged_run(parse_bucket_uri(uri), "tiny", print),
        ):
            pass
        # It is suspended, like a laptop; the other takes over when the lease has expired.
        killed = []
        monkeypatch.setattr(os, "kill", lambda pid, number: killed.append(number))
        monkeypatch.setattr(first._lease, "renew_if_due", lambda: None)
        monkeypatch.setattr(leases, "EXPIRES_S", 1.0)
        with staged_run(parse_bucket_uri(uri), "tiny", print) as second:
            (second.root / "config.yaml").write_text("second")
            second.push()
            monkeypatch.undo()
            monkeypatch.setattr(os, "kill", lambda pid, number: killed.append(number))
            monkeypatch.setattr(leases, "RENEW_EVERY_S", 0.3)
            monkeypatch.setattr(run_staging, "_LOOK_EVERY_S", 0.1)
            first._thread.join(120)
            assert killed == [signal.SIGTERM], "what runs here saves a checkpoint and ends"
            (first.root / "config.yaml").write_text("first again")
            with pytest.raises(LockedError, match="another process has taken this run over"):
                first.push()
        with pytest.raises(LockedError):
            first.close()
        first.close = lambda: None


def test_the_disk_that_worked_last_overrides_an_older_one(uri, new_disk):
    """If two disks both hold the run, the one that worked last is right."""
    for disk, text in (("one", "1"), ("two", "2"), ("one", "")):
        new_disk(disk)
        with staged_run(parse_bucket_uri(uri), "tiny", print) as staging:
            path = staging.root / "config.yaml"
            if text:
                path.write_text(text)
            else:
                assert path.read_text() == "2"
    # A disk whose work was not sent yet continues with it.
    path.write_text("not sent")
    with staged_run(parse_bucket_uri(uri), "tiny", print) as staging:
        assert path.read_text() == "not sent"
    new_disk("two")
    with staged_run(parse_bucket_uri(uri), "tiny", print) as staging:
        assert (staging.root / "config.yaml").read_text() == "not sent"


def test_damaged_files_are_reported_and_not_pushed(uri, local_results):
    """The bucket keeps the sound file."""
    run, _, _ = do_staged(uri, "prepare", changes=SHORT)
    digest = results_of(run.folder)["corpus/documents.parquet"]
    messages = []
    with staged_run(parse_bucket_uri(uri), "tiny", messages.append):
        run.folder.documents.write_bytes(b"damaged")
    assert "not sent, because it is not as its record says: corpus/documents.parquet" in messages
    run.folder.documents.unlink()
    bucket = Bucket(parse_bucket_uri(uri).at("tiny"))
    bucket.download("corpus/documents.parquet", bucket.find("corpus/documents.parquet"), run.folder.documents)
    assert results_of(run.folder)["corpus/documents.parquet"] == digest


def test_training_curves_are_pushed_during_the_training(uri, gate, monkeypatch):
    """TensorBoard can read the bucket: the training waits at its sixth step until the curves are there."""
    arrived = {name: threading.Event() for name in ("metrics", "events")}
    steps, train = [], loop.train

    def note(method, path):
        if method == "PUT" and (seen := arrived.get(path.rpartition("/")[2].split(".")[0])):
            seen.set()

    def train_and_wait(job, *, should_stop, **how):
        def ask():
            steps.append(should_stop())
            assert len(steps) < 6 or all(seen.wait(120) for seen in arrived.values())
            return steps[-1]

        return train(job, should_stop=ask, **how)

    gate.on_request = note
    monkeypatch.setattr(run_staging, "_LOOK_EVERY_S", 0.1)
    monkeypatch.setattr(loop, "train", train_and_wait)
    do_staged(uri, *TRAININGS, changes=SHORT)
    assert len(steps) >= 6
