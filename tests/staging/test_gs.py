"""gs:// against a stand-in that implements the parts of Google's XML API that raysweep uses; not tested on Google."""

import pytest

from raysweep.errors import LockedError
from raysweep.staging.bucket import Bucket, TakenError
from raysweep.staging.bucket_address import parse_bucket_uri
from raysweep.staging.lease import take_lease
from raysweep.staging.run_staging import staged_run
from tests.staging.staged_process import SHORT, do_staged


@pytest.fixture
def gs_uri(server, monkeypatch):
    """The address of the runs."""
    name = server.new_bucket()
    server.gate.speaks_gs = True
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", server.url)
    yield f"gs://{name}/some/folder"
    server.gate.speaks_gs = False


def test_google_storage_writes_are_conditional_on_generations(gs_uri, tmp_path):
    """As on Google, where an ETag cannot be a condition of a write."""
    bucket = Bucket(parse_bucket_uri(gs_uri), patience_s=60.0)
    condition = bucket.create("lock", b"mine")
    assert condition.isdigit()
    with pytest.raises(TakenError):
        bucket.create("lock", b"theirs")
    later = bucket.replace("lock", b"mine again", condition)
    with pytest.raises(TakenError):
        bucket.replace("lock", b"theirs", condition)
    assert bucket.read("lock")[1].condition == later
    bucket.download("lock", bucket.find("lock"), tmp_path / "lock")
    assert (tmp_path / "lock").read_bytes() == b"mine again"
    bucket.delete(["lock", "never there"])
    assert bucket.list() == {}


def test_a_run_folder_is_stored_in_google_storage(gs_uri, monkeypatch, tmp_path):
    """With its lease; another disk finds the same contents."""
    run, _, _ = do_staged(gs_uri, "prepare", changes=SHORT)
    lease = take_lease(Bucket(parse_bucket_uri(gs_uri).at("tiny")), disk="x", say=print)
    assert lease.has_conditions
    lease.renew_if_due()
    lease.release()
    assert not lease.is_lost
    monkeypatch.setenv("RAYSWEEP_STAGING", str(tmp_path / "other"))
    with staged_run(parse_bucket_uri(gs_uri), "tiny", print) as staging:
        assert (staging.root / "corpus" / "documents.parquet").read_bytes() == run.folder.documents.read_bytes()
        with pytest.raises(LockedError):
            raise_if_taken(gs_uri, monkeypatch)


def raise_if_taken(uri, monkeypatch):
    """A second driver that gives up quickly."""
    from raysweep.staging import lease as leases

    monkeypatch.setattr(leases, "_watch_until_free", lambda bucket, stored: bucket.read("lease.json")[1])
    monkeypatch.setattr(Bucket, "replace", lambda self, path, data, condition: self.create(path, data))
    take_lease(Bucket(parse_bucket_uri(uri).at("tiny")), disk="another", say=print)
