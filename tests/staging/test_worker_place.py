"""Workers with their own disks: they fetch what the records list, send what they make, and obey the driver."""

import shlex
import time
from pathlib import Path

import pytest

from raysweep.errors import DamagedError
from raysweep.scheduling.attempts import read_events
from raysweep.scheduling.records import State, read_record
from raysweep.scheduling.stop_requests import requested_stop
from raysweep.staging import lease as leases
from raysweep.staging import worker_place
from raysweep.staging.bucket import Bucket
from raysweep.staging.bucket_address import parse_bucket_uri
from raysweep.staging.run_staging import staged_run
from raysweep.staging.worker_place import WorkerPlace, find_bucket_problem
from raysweep.storage.run_files import WORKER_ATTEMPTS
from raysweep.storage.run_folder import RunFolder
from tests.pipeline.test_further_corpora import write_corpus
from tests.staging.elsewhere import RemoteDiskExecutor, on_disk
from tests.staging.staged_process import SHORT, do_staged, open_run, results_of


@pytest.fixture(autouse=True)
def short_times(monkeypatch):
    """Fractions of seconds."""
    for name, value in {"_LOOK_EVERY_S": 0.1, "_ASK_EVERY_S": 0.2, "_WAIT_S": 0.05, "_TRIES": 3}.items():
        monkeypatch.setattr(worker_place, name, value)


@pytest.fixture
def prepared(uri):
    """A run with its corpus, in the bucket and on the driver's disk."""
    run, _, _ = do_staged(uri, "prepare", changes=SHORT)
    return run.folder


@pytest.fixture
def staging(uri, prepared):
    """The driver, at work."""
    with staged_run(parse_bucket_uri(uri), "tiny", print) as staging:
        yield staging


@pytest.fixture
def place(staging, tmp_path):
    """A worker with its own disk."""
    with on_disk(tmp_path / "worker"):
        yield WorkerPlace.of(staging.ticket)


def test_nothing_is_fetched_on_the_drivers_disk(staging, gate):
    """The folder is there; the driver sends its changes."""
    place = WorkerPlace.of(staging.ticket)
    requests = len(gate.requests)
    job = {"examples": staging.root / "examples"}
    assert place.localise(job) is job
    place.fetch(staging.root / "examples")
    place.send(staging.root / "x", record=staging.root / "y")
    with place.training_in(staging.root / "trials" / "A1"):
        pass
    assert len(gate.requests) == requests
    assert WorkerPlace.of(None).localise(job) is job


def test_a_tasks_inputs_are_fetched_as_listed_in_the_records(place, prepared, staging):
    """Paths are those of this disk; others, such as a start from the hub, are unchanged."""
    documents = place.localise(prepared.documents)
    assert documents != prepared.documents
    place.fetch(documents, Path("gpt2"), Path("/elsewhere/start"))
    assert documents.read_bytes() == prepared.documents.read_bytes()
    assert place.localise(("gpt2", [str(prepared.documents)])) == ("gpt2", [str(documents)])
    documents.write_bytes(b"damaged")
    place.fetch(documents)
    assert documents.read_bytes() == prepared.documents.read_bytes()


def test_an_object_that_differs_from_its_record_is_not_used(place, prepared, uri):
    """Nor is one that no record lists, since it may be half of a set."""
    Bucket(parse_bucket_uri(uri).at("tiny")).upload("corpus/documents.parquet", b"damaged")
    with pytest.raises(DamagedError, match=r"corpus/documents\.parquet: is not as run\.json says; ") as raised:
        place.fetch(place.localise(prepared.documents))
    assert f"`raysweep check-run --name tiny --storage {shlex.quote(parse_bucket_uri(uri).uri)}`" in str(raised.value)
    with pytest.raises(DamagedError, match=r"trials/B1/model: is not as trials/B1/trial\.json says"):
        place.fetch(place.localise(prepared.trial("B1").model))


def test_a_run_by_workers_with_separate_disks_equals_a_local_run(uri, tmp_path):
    """To the byte, over two disks beside the driver's; the events of each attempt are all there, in order.

    The run has a further corpus, a classification and its own tokenizer, which the workers fetch too.
    """
    write_corpus(tmp_path / "other.csv", "I like apples.", rows=12)
    changes = {
        "corpora": {"other": {"path": str(tmp_path / "other.csv")}},
        "classification": {"folds": 2},
        "model": {"tokenizer": "corpus"},
    }
    executor = RemoteDiskExecutor([tmp_path / "worker-1", tmp_path / "worker-2"])
    run, messages, _ = do_staged(uri, changes=changes, executor=executor)
    local = open_run(tmp_path / "path", changes)
    local.do()
    assert results_of(run.folder) == results_of(local.folder)
    assert sum(path.startswith(("corpora/", "classification/")) for path in results_of(run.folder)) > 10
    for name in run.trials:
        events = [event["what"] for event in read_events(run.folder.trial(name))]
        assert events == ["begin", "start", "end", "over"], name
        assert not (run.folder.trial(name).root / WORKER_ATTEMPTS).exists()
        assert read_record(run.folder.trial(name)).ledger["useful"] > 0
    _, messages, _ = do_staged(uri, changes=changes, executor=executor)
    assert sum("skip" in line for line in messages) == 9
    stored = set(Bucket(parse_bucket_uri(uri).at("tiny")).list())
    files = {path.relative_to(run.folder.root).as_posix() for path in run.folder.root.rglob("*") if path.is_file()}
    assert stored - {"lease.json"} == files


def test_a_training_resumes_on_another_disk_after_losing_its_node(uri, tmp_path):
    """It resumes from the checkpoint that the first worker sent."""
    executor = RemoteDiskExecutor([tmp_path / "first"])
    steps = iter(range(100))
    executor.should_stop = lambda: "enough" if next(steps) == 4 else None
    run, messages, _ = do_staged(uri, changes=SHORT, executor=executor)
    assert read_record(run.folder.trial("A1")).state is State.STOPPED
    assert any("A1: stopped after step 5/8: enough" in line for line in messages)
    # The driver could resume it too, if the next attempt runs on its own disk.
    assert (run.folder.trial("A1").checkpoints / "step-00000005" / "checkpoint.json").exists()
    run, _, _ = do_staged(uri, "train", changes=SHORT, executor=RemoteDiskExecutor([tmp_path / "second"]))
    assert read_record(run.folder.trial("A1")).state is State.DONE
    starts = [event["kept"] for event in read_events(run.folder.trial("A1")) if event["what"] == "start"]
    assert [bool(kept) for kept in starts] == [False, True]
    local = open_run(tmp_path / "path", SHORT)
    local.do("prepare", "mask", "train")
    ours, theirs = results_of(run.folder), results_of(local.folder)
    assert {path: digest for path, digest in ours.items() if path in theirs} == theirs
    assert not run.folder.trial("A1").checkpoints.exists()


def test_files_of_a_running_worker_survive_the_end_of_another_trial(place, staging):
    """The end of A1 must not delete what the worker of C1 is sending."""
    theirs = RunFolder(place.root)
    noted = '{"what": "start", "at": 1.0}\n'
    with place.training_in(theirs.trial("C1").root):
        theirs.trial("C1").attempts.write_text(noted)
        wait_for(lambda: place.bucket.find(f"trials/C1/{WORKER_ATTEMPTS}"))
        staging._mirror.pull()
        staging.collect(RunFolder(staging.root).trial("A1").root)
        noted += '{"what": "end", "at": 2.0}\n'
        theirs.trial("C1").attempts.write_text(noted)
    staging.push()
    staging.collect(RunFolder(staging.root).trial("C1").root)
    assert RunFolder(staging.root).trial("C1").attempts.read_text() == noted
    staging.push()
    assert place.bucket.find(f"trials/C1/{WORKER_ATTEMPTS}") is None


def wait_for(condition):
    until = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.05)


def test_a_stop_request_reaches_the_worker(place, staging):
    """The driver writes a file; the worker finds one."""
    ours = RunFolder(staging.root).trial("A1")
    theirs = RunFolder(place.root).trial("A1")
    with place.training_in(theirs.root):
        ours.root.mkdir(parents=True)
        ours.stop.write_text("the budget is used up")
        staging.push()
        wait_for(lambda: requested_stop(theirs) == "the budget is used up")


def test_a_worker_whose_driver_was_replaced_stops_without_pushing(place, staging, uri):
    """Another driver holds the run, and may have given the training to another worker."""
    trial, bucket = RunFolder(place.root).trial("A1"), Bucket(parse_bucket_uri(uri).at("tiny"))
    with place.training_in(trial.root):
        trial.metrics.write_text("1\n")
        wait_for(lambda: "trials/A1/metrics.jsonl" in bucket.list())
        leases.take_lease(bucket, disk=staging._disk, say=print)
        wait_for(lambda: requested_stop(trial) == "another process has taken the run over")
        trial.result.write_text("late")
    assert "trials/A1/training.json" not in bucket.list()


def test_other_workers_of_a_training_fetch_missing_files_and_push_nothing(place, staging, uri):
    """Only the first worker writes files; on one node they share its folder."""
    bucket = Bucket(parse_bucket_uri(uri).at("tiny"))
    bucket.upload("trials/A1/checkpoints/step-1/checkpoint.json", b"sent")
    bucket.upload("trials/A1/metrics.jsonl", b"sent")
    trial = RunFolder(place.root).trial("A1")
    trial.root.mkdir(parents=True)
    trial.metrics.write_text("newer")
    with place.training_in(trial.root, is_main=False):
        assert (trial.checkpoints / "step-1" / "checkpoint.json").read_text() == "sent"
        assert trial.metrics.read_text() == "newer"
        (trial.root / "x").write_text("1")
    assert "trials/A1/x" not in bucket.list()
    assert bucket.read("trials/A1/metrics.jsonl")[0] == b"sent"


def test_a_node_that_cannot_reach_the_bucket_is_reported(place, staging, gate, monkeypatch):
    """Before anything starts."""
    assert find_bucket_problem(staging.ticket) == ""
    gate.refuses = "/ray/node-"
    assert "cannot write: 403 AccessDenied; give the credentials" in find_bucket_problem(staging.ticket)
    gate.refuses = ""
    monkeypatch.setattr(worker_place, "read_token", lambda bucket: "another")
    assert "is another bucket here" in find_bucket_problem(staging.ticket)


def test_a_failing_store_does_not_stop_a_workers_training(place, staging, gate, caplog):
    """The training continues; what could not be sent is sent at its end."""
    place.bucket._patience_s = 0.2
    trial = RunFolder(place.root).trial("A1")
    with place.training_in(trial.root):
        gate.is_down = True
        try:
            trial.metrics.write_text("1\n")
            wait_for(lambda: any("503 SlowDown; the same command" in message for message in caplog.messages))
        finally:
            gate.is_down = False
    assert place.bucket.read("trials/A1/metrics.jsonl")[0] == b"1\n"
