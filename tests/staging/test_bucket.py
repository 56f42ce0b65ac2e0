"""Objects, conditions, and a store that fails temporarily or permanently."""

import logging
import os
import subprocess
import sys
import time
import urllib.request

import pytest

from raysweep.errors import StorageError
from raysweep.staging import bucket as buckets
from raysweep.staging.bucket import Bucket, TakenError, UnconditionalError
from raysweep.staging.bucket_address import parse_bucket_uri
from raysweep.staging.parallel_work import in_parallel


def test_objects_are_written_read_listed_and_deleted(bucket, tmp_path):
    """Whole objects, with their size and version."""
    version = bucket.upload("a/x.json", b"{}")
    assert bucket.read("a/x.json") == (b"{}", bucket.find("a/x.json"))
    bucket.upload("b/y", b"1")
    listed = bucket.list()
    assert {path: entry.size for path, entry in listed.items()} == {"a/x.json": 2, "b/y": 1}
    assert listed["a/x.json"].version == version
    assert set(bucket.list("a")) == {"a/x.json"}
    bucket.delete(["a/x.json", "never/there"])
    assert bucket.read("a/x.json") is None
    assert bucket.find("a/x.json") is None
    bucket.delete([])


def test_empty_folder_marker_objects_are_not_listed_as_files(bucket, server, uri):
    """pyarrow creates them for Ray Train, and so do consoles."""
    for path in ("", "ray/", "ray/train/"):
        name = f"{server.url}/{uri.removeprefix('s3://')}/tiny/{path}"
        urllib.request.urlopen(urllib.request.Request(name.rstrip("/") + "/", b"", method="PUT")).close()
    bucket.upload("ray/train/x", b"1")
    assert set(bucket.list()) == {"ray/train/x"}


def test_a_large_file_is_uploaded_in_parts_and_read_back_unchanged(bucket, tmp_path, monkeypatch):
    """Multipart uploads need parts of at least 5 MiB."""
    monkeypatch.setattr(buckets, "PART_BYTES", 5 << 20)
    source, to = tmp_path / "big", tmp_path / "deep" / "back"
    source.write_bytes(os.urandom(11 << 20))
    bucket.upload("big", source)
    stored = bucket.find("big")
    bucket.download("big", stored, to)
    assert to.read_bytes() == source.read_bytes()
    assert to.stat().st_mtime == stored.modified
    assert bucket.traffic.sent_bytes == bucket.traffic.fetched_bytes == 11 << 20
    bucket.upload("none", b"")
    bucket.download("none", bucket.find("none"), to)
    assert to.read_bytes() == b""
    with pytest.raises(FileNotFoundError):
        bucket.upload("gone", tmp_path / "gone")


def test_a_replaced_version_is_not_fetched(bucket, tmp_path):
    """Parts of two versions would make a file that nobody wrote."""
    bucket.upload("x", b"old")
    stored = bucket.find("x")
    bucket.upload("x", b"new")
    with pytest.raises(TakenError):
        bucket.download("x", stored, tmp_path / "x")
    bucket.delete(["x"])
    with pytest.raises(TakenError):
        bucket.download("x", stored, tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_conditional_writes_let_only_one_writer_succeed(bucket, gate):
    """For creating an object, and for replacing the version that was seen."""
    version = bucket.create("lock", b"mine")
    with pytest.raises(TakenError):
        bucket.create("lock", b"theirs")
    later = bucket.replace("lock", b"mine again", version)
    with pytest.raises(TakenError):
        bucket.replace("lock", b"theirs", version)
    # The response to the first attempt was lost; the object has this writer's contents.
    assert bucket.replace("lock", b"mine again", version) == later
    gate.lacks_conditions = True
    with pytest.raises(UnconditionalError):
        bucket.create("other", b"x")


def test_temporary_503_errors_are_retried_and_logged(bucket, gate, caplog):
    """The work continues as if nothing had happened, and the user learns why it took longer."""
    gate.is_down = True
    gate.on_request = lambda *_: setattr(gate, "is_down", gate.count("PUT") < 3)
    gate.requests.clear()
    with caplog.at_level(logging.WARNING, "raysweep"):
        bucket.upload("x", b"1")
    assert gate.count("PUT") == 3
    assert "503 SlowDown; trying again in" in caplog.messages[0]
    assert caplog.messages[-1] == f"{bucket.address} answers again"
    assert bucket.read("x")[0] == b"1"


def test_retries_are_limited(bucket, gate):
    """The same command continues later."""
    gate.is_down = True
    bucket._patience_s = 1.0
    with pytest.raises(StorageError, match=r"tiny/x: cannot write for \d+ s: 503 SlowDown; the same command continues"):
        bucket.upload("x", b"1")


def test_a_permission_error_is_raised_without_retry(bucket, gate, uri):
    """Waiting does not make a missing permission or bucket appear."""
    gate.refuses = "/x"
    with pytest.raises(StorageError, match="cannot write: 403 AccessDenied; give the credentials s3:GetObject"):
        bucket.upload("x", b"1")
    gate.refuses = ""
    missing = Bucket(parse_bucket_uri("s3://there-is-none/x"))
    for ask in (missing.list, lambda: missing.upload("x", b"1"), lambda: missing.create("x", b"1")):
        with pytest.raises(StorageError, match=r"404 NoSuchBucket; check the bucket's name, its region"):
            ask()


def test_a_process_can_exit_while_a_store_does_not_answer(uri, gate):
    """A second Ctrl-C ends at once; threads that are still retrying must not keep Python from exiting."""
    gate.is_down = True
    code = (
        "import sys, threading, time; from raysweep.staging.bucket import Bucket;"
        "from raysweep.staging.parallel_work import in_parallel;"
        "from raysweep.staging.bucket_address import parse_bucket_uri; b = Bucket(parse_bucket_uri(sys.argv[1]));"
        "work = lambda x: b.upload(x, b'1');"
        "threading.Thread(target=in_parallel, args=(work, 'abc'), daemon=True).start(); time.sleep(1)"
    )
    subprocess.run([sys.executable, "-c", code, uri], check=True, capture_output=True, timeout=120)


def test_an_error_in_parallel_work_is_raised(bucket):
    """Work that has begun is finished by then; the rest is not begun."""
    done = []

    def work(number):
        if number == 3:
            raise ValueError(number)
        time.sleep(0.05)
        done.append(number)

    with pytest.raises(ValueError, match="3"):
        in_parallel(work, range(1000))
    count = len(done)
    assert count < 100
    time.sleep(0.2)
    assert len(done) == count
    in_parallel(done.append, [])


def test_missing_credentials_are_not_retried(bucket):
    """The last place in the chain is the machine's own metadata service, which a laptop does not have."""

    def ask():
        raise bucket._obstore.exceptions.GenericError("error sending request for url (http://169.254.169.254/latest)")

    with pytest.raises(StorageError, match="set credentials by the usual chain"):
        bucket._try("list", "/", ask)


def test_a_refused_connection_is_retried(uri, monkeypatch):
    """A failed connection may be temporary."""
    bucket = Bucket(parse_bucket_uri(f"{uri}?endpoint=http://127.0.0.1:9"), patience_s=0.5)
    with pytest.raises(StorageError, match=r"cannot list for \d s: HTTP error: error sending request; the same"):
        bucket.list()
