"""What `raysweep clean` removes, and what it must never touch."""

import os

import pytest

from raysweep.pipeline.cleanup import find_removable, remove
from raysweep.scheduling import records
from raysweep.scheduling.records import State
from raysweep.storage.atomic_files import write_json
from raysweep.storage.run_folder import RunFolder, TrialFolder


def put(path, size=100):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * size)
    return path


def finish(folder, name, state=State.DONE, **result):
    record = records.begin(folder, trial=name, fingerprint=name, identity={})
    records.end(folder, record, state, result=result)


@pytest.fixture
def run(tmp_path):
    """A done trial, a stopped one, and a search whose second sample was the best."""
    folder = RunFolder(tmp_path)
    for name in ("A1", "B1"):
        put(folder.trial(name).model / "model.safetensors")
        put(folder.trial(name).checkpoints / "step-00000002" / "model.safetensors")
    finish(folder.trial("A1"), "A1")
    finish(folder.trial("B1"), "B1", State.STOPPED)
    for sample in ("00", "01"):
        put(folder.trial("C1").root / "samples" / sample / "model" / "model.safetensors")
        finish(TrialFolder(folder.trial("C1").root / "samples" / sample), f"C1/samples/{sample}")
    folder.trial("C1").model.mkdir()
    os.link(
        folder.trial("C1").root / "samples" / "01" / "model" / "model.safetensors",
        folder.trial("C1").model / "model.safetensors",
    )
    finish(folder.trial("C1"), "C1", search={"sample": 1})
    put(folder.ray / "tune" / "x" / "tuner.pkl")
    put(folder.ray / "session.json")
    put(folder.trial("A1").root / ".metrics.jsonl.abc.part", 7)
    return folder


def removable(run):
    return {item.path.relative_to(run.root).as_posix(): item.size_bytes for item in find_removable(run)}


def test_clean_removes_files_that_nothing_needs(run):
    """A done trial's checkpoints, a rejected sample's model, Tune's notes, a killed writer's leftovers."""
    assert removable(run) == {
        "ray/tune": 100,
        "trials/A1/.metrics.jsonl.abc.part": 7,
        "trials/A1/checkpoints": 100,
        "trials/C1/samples/00/model": 100,
    }
    assert remove(find_removable(run)) == 307
    assert removable(run) == {}


def test_clean_keeps_files_that_a_later_run_resumes_from(run):
    """A stopped trial's checkpoints, every chosen model, and every record are kept."""
    before = {path for path in run.root.rglob("*") if path.is_file()}
    remove(find_removable(run))
    gone = {path.relative_to(run.root).as_posix() for path in before - set(run.root.rglob("*"))}
    assert gone == {
        "ray/tune/x/tuner.pkl",
        "trials/A1/.metrics.jsonl.abc.part",
        "trials/A1/checkpoints/step-00000002/model.safetensors",
        "trials/C1/samples/00/model/model.safetensors",
    }


def test_clean_removes_nothing_that_the_report_depends_on(run):
    """They are kept even in a place where other files would be deleted."""
    write_json(run.evidence, {"inputs": {"files": {"trials/C1/samples/00/model/model.safetensors": "digest"}}})
    assert "trials/C1/samples/00/model" not in removable(run)
