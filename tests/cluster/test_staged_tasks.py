"""What a worker tells of an error of its disk, and what it fetches of a run for the parts of texts that it scores."""

import errno
import socket

import pytest

from raysweep.cluster.staged_tasks import score_staged_part
from raysweep.errors import StorageError
from raysweep.pipeline.tasks import TextPart
from raysweep.staging.worker_place import WorkerPlace


@pytest.fixture
def part(tmp_path):
    return TextPart(run=tmp_path, model="A1", texts=b"", with_tokens=False, infills=False)


def error_of(monkeypatch, part, error):
    """What comes back of a part if the disk fails with an error."""

    def fail(_):
        raise error

    monkeypatch.setattr(WorkerPlace, "of", fail)
    refused = score_staged_part("none:none", part, None, None, device="cpu")
    assert isinstance(refused, StorageError)
    return str(refused).removeprefix(f"node {socket.gethostname()}: ")


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_needs_room(monkeypatch, part, code):
    """A quota is full as a disk is."""
    told = error_of(monkeypatch, part, OSError(code, "It is full", "/disk/file"))
    assert told == "its disk: It is full; make room there, or end the node, and the same command goes on"


@pytest.mark.parametrize(
    ("error", "place"),
    [
        (PermissionError(errno.EACCES, "Permission denied", "/disk/file"), "/disk/file: Permission denied"),
        (OSError(errno.EIO, "Input/output error"), "its disk: Input/output error"),
        (OSError("odd"), "its disk: odd"),
    ],
)
def test_another_error_of_a_disk_is_named_with_the_file(monkeypatch, part, error, place):
    """Room does not help then."""
    told = error_of(monkeypatch, part, error)
    assert told == f"{place}; mend that on the node, or end the node, and the same command goes on"
