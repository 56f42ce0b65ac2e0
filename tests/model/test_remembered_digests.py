"""A plan knows a pretrained start by its files' times; whatever trains reads every weight."""

import pytest

from raysweep.model import remembered_digests, start_folder
from raysweep.model.remembered_digests import trusting_file_times
from raysweep.model.start_folder import start_digest
from raysweep.model.weight_files import digest_finite
from raysweep.pipeline.outlook import foresee
from tests.pipeline.conftest import make_run
from tests.start_folders import make_weights, write_start


@pytest.fixture
def start(tmp_path, monkeypatch):
    """A start whose files are an hour old, as the clock has it."""
    monkeypatch.setattr(remembered_digests, "user_cache", lambda: tmp_path / "cache" / "raysweep")
    folder = write_start(tmp_path / "start")
    now = remembered_digests.unix_seconds()
    monkeypatch.setattr(remembered_digests, "unix_seconds", lambda: now + 3600)
    return folder


@pytest.fixture
def read(monkeypatch):
    """The weights that were read."""
    names = []

    def note(tensor, place):
        names.append(tensor.name)
        return digest_finite(tensor, place)

    monkeypatch.setattr(start_folder, "digest_finite", note)
    return names


def digest_again(folder):
    """Compute the digest as another process would, without anything in memory."""
    start_folder._digest_tensors.cache_clear()
    return start_digest(str(folder))


def test_plans_use_the_cached_digest_but_runs_read_the_weights(start, read, tmp_path):
    """498 MB are read in 0.3 s, and a plan answers in half a second."""
    digest = digest_again(start)
    count = len(read)
    assert count == len(make_weights())
    run = make_run(tmp_path / "runs", {"model": {"start": str(start)}})
    start_folder._digest_tensors.cache_clear()
    seen = foresee(run.config, "tiny", run.folder, command=["raysweep"])
    assert seen.refusal is None
    assert len(read) == count
    assert digest_again(start) == digest
    assert len(read) == 2 * count


def test_a_changed_file_is_digested_again(start, read):
    """This holds even if its size and its modification time are unchanged."""
    known = (start / "model.safetensors").stat()
    with trusting_file_times():
        digest = digest_again(start)
        write_start(start, make_weights(seed=1))
        remembered_digests.os.utime(start / "model.safetensors", ns=(known.st_atime_ns, known.st_mtime_ns))
        assert digest_again(start) != digest
        write_start(start)
        assert digest_again(start) == digest


def test_a_file_changed_during_digesting_is_not_cached(start, monkeypatch):
    """Reading takes seconds: what is remembered belongs to the files as they were before."""

    def change(tensor, place):
        monkeypatch.setattr(start_folder, "digest_finite", digest_finite)
        digest = digest_finite(tensor, place)
        (start / "model.safetensors").touch()
        return digest

    monkeypatch.setattr(start_folder, "digest_finite", change)
    digest_again(start)
    (file,) = [start / "model.safetensors"]
    assert remembered_digests.FileStates.of([file]).key not in remembered_digests._entries()


def test_a_file_modified_just_now_is_not_cached(start, read, monkeypatch):
    """The file may change again within the resolution of its times."""
    monkeypatch.setattr(remembered_digests, "unix_seconds", lambda: (start / "model.safetensors").stat().st_ctime + 1)
    with trusting_file_times():
        digest_again(start)
        count = len(read)
        digest_again(start)
    assert len(read) == 2 * count


def test_a_damaged_or_unwritable_digest_cache_is_ignored(start, read, tmp_path, monkeypatch):
    """The digest is that of the weights."""
    digest = digest_again(start)
    file = tmp_path / "cache" / "raysweep" / "start-digests.json"
    file.write_text("{")
    with trusting_file_times():
        assert digest_again(start) == digest
        file.write_text("[]")
        assert digest_again(start) == digest
        file.unlink()
        monkeypatch.setattr(remembered_digests.os, "access", lambda *_: False)
        assert digest_again(start) == digest
    assert not file.exists()
    assert len(read) == 4 * len(make_weights())


def test_the_oldest_entries_are_evicted_from_the_digest_cache(start, monkeypatch):
    """If they were not, the file would grow for ever."""
    monkeypatch.setattr(remembered_digests, "_MOST_STARTS", 2)
    for seed in range(4):
        digest_again(write_start(start.with_name(f"start{seed}"), make_weights(seed=seed)))
    assert len(remembered_digests._entries()) == 2
