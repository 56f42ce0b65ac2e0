"""Temporary files of prepare: what becomes of them when the disk is full or fails."""

import errno
import os
from pathlib import Path

import numpy as np
import pytest

from raysweep.cli.endings import end_with
from raysweep.corpus.spool import Spool


def raise_os_error(number):
    def fail(*_):
        raise OSError(number, os.strerror(number))  # as the system does for a descriptor: without a name

    return fail


def test_a_full_disk_is_reported_with_its_folder_and_not_as_a_bug(tmp_path, monkeypatch, capsys):
    """The file has no name, and without a place the message would ask for a report."""
    spool = Spool(tmp_path / "corpus")
    monkeypatch.setattr(os, "pwrite", raise_os_error(errno.ENOSPC))
    with pytest.raises(OSError, match="No space left") as full:
        spool.append(np.arange(10))
    assert end_with(full.value) == 1
    printed = capsys.readouterr().err
    assert printed.startswith(f"error: {tmp_path / 'corpus'}: No space left on device; make room; the same command")


def test_an_unreadable_disk_is_reported_with_its_folder(tmp_path, monkeypatch):
    """The folder is also named if the system chose it."""
    for folder in (tmp_path, None):
        spool = Spool(folder)
        place = spool.append(np.arange(10))
        with monkeypatch.context() as broken:
            broken.setattr(os, "preadv", raise_os_error(errno.EIO))
            with pytest.raises(OSError, match="Input/output") as failed:
                spool.read(place, np.int64)
        assert failed.value.errno == errno.EIO
        assert Path(failed.value.filename).is_dir()
        assert spool.read(place, np.int64).tolist() == [*range(10)]
