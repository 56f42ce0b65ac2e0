"""A file that is written under another name and then renamed is complete, or does not exist."""

import errno
import os
import pickle
import subprocess
import sys
import time

import pytest

from raysweep import errors
from raysweep.errors import ConfigError, InputError
from raysweep.staging.parallel_work import in_parallel
from raysweep.storage.atomic_files import atomic_file, atomic_folder, read_json, write_json
from raysweep.storage.named_folder import open_run_folder

WRITE_LATE = """
import sys, threading
from pathlib import Path
from raysweep.storage.atomic_files import atomic_folder

def write():
    threading.main_thread().join()
    with atomic_folder(Path(sys.argv[1])) as beside:
        (beside / "weights").write_text("late")

threading.Thread(target=write).start()
"""


def test_a_failed_write_keeps_the_old_file_and_leaves_no_temporary_file(tmp_path):
    """Readers see the old version or the new one."""
    path = tmp_path / "record.json"
    write_json(path, {"a": 1})
    with pytest.raises(RuntimeError), atomic_file(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert read_json(path) == {"a": 1}
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("writing", [atomic_file, atomic_folder])
def test_the_error_of_a_full_disk_names_the_file(tmp_path, writing):
    """write() names none, so that a command called a full disk a fault in raysweep."""
    for code, named in ((errno.ENOSPC, str(tmp_path / "out")), (errno.EIO, None)):
        with pytest.raises(OSError, match="full") as raised, writing(tmp_path / "out"):
            raise OSError(code, "full")
        assert raised.value.filename == named
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("writing", [atomic_file, atomic_folder])
def test_the_error_of_a_failing_disk_names_the_file_that_is_synced(tmp_path, monkeypatch, writing):
    """fsync() names none either; an error in the block may be that of a corpus being read, and is left as it is."""

    def fail(descriptor):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="Input/output") as raised, writing(tmp_path / "out"):
        pass
    assert raised.value.filename == str(tmp_path / "out")


def test_threads_that_write_at_once_do_not_change_the_process_umask(tmp_path, monkeypatch):
    """Otherwise all later files could be written by anybody: a worker fetches many small files at a time."""
    real = os.umask

    def slow_umask(mask):
        before = real(mask)
        time.sleep(0.01)
        return before

    monkeypatch.setattr(os, "umask", slow_umask)
    before = real(0o027)
    try:
        in_parallel(lambda number: write_json(tmp_path / f"{number}.json", {}), range(8))
        assert real(0o027) == 0o027
    finally:
        real(before)
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o640}


def test_a_folder_is_replaced_atomically(tmp_path):
    """A model folder never has files of two models."""
    target = tmp_path / "model"
    for name in ("old", "new"):
        with atomic_folder(target) as temporary:
            (temporary / name).write_text(name)
    assert [path.name for path in target.iterdir()] == ["new"]
    assert list(tmp_path.iterdir()) == [target]


def test_a_folder_is_written_by_a_thread_that_outlives_the_main_thread(tmp_path):
    """A thread pool once refused the checkpoint with "cannot schedule new futures after interpreter shutdown"."""
    subprocess.run([sys.executable, "-c", WRITE_LATE, str(tmp_path / "model")], check=True)
    assert (tmp_path / "model" / "weights").read_text() == "late"


def test_a_truncated_record_is_refused_by_name(tmp_path):
    """A lost record costs work, but never causes a wrong result."""
    path = tmp_path / "run.json"
    path.write_text('{"a": ')
    with pytest.raises(InputError, match=r"run\.json: not valid JSON"):
        read_json(path)


@pytest.mark.parametrize(("storage", "name"), [("runs", "a/b"), ("runs", ".."), ("runs", "")])
def test_a_run_folder_needs_a_plain_name_on_a_local_path(storage, name):
    """Other names and paths would write where nobody looks."""
    with pytest.raises(ConfigError, match=r"--(storage|name): found"):
        open_run_folder(storage, name)


@pytest.mark.parametrize("kind", [kind for kind in vars(errors).values() if isinstance(kind, type)])
def test_errors_survive_pickling(kind):
    """Ray sends errors between processes; an error that cannot be pickled loses its message."""
    more = {errors.NonFiniteLossError: (7, (3, 5))}.get(kind, ())
    error = kind("place: found 3; must be 4", *more)
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is kind
    assert str(again) == str(error)
    assert vars(again) == vars(error)
