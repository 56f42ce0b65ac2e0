"""A whole run fetched from object storage for reading."""

import shlex

import pytest

import raysweep
from raysweep.errors import InputError
from raysweep.staging.bucket_address import parse_bucket_uri
from raysweep.staging.run_command import run_command
from raysweep.staging.run_view import fetch_run


def test_a_run_is_loaded_from_its_uri_without_checkpoints(uri, bucket, finished_storage):
    """Everything that its records list is there, so it is read like a run on a path."""
    root = finished_storage / "tiny"
    for path in (path for path in root.rglob("*") if path.is_file()):
        bucket.upload(path.relative_to(root).as_posix(), path)
    bucket.upload("trials/A1/checkpoints/step-4/state.pt", b"large")
    run = raysweep.load(f"{uri}/tiny", device="cpu")
    assert not list(run.folder.root.rglob("*.pt"))
    assert run_command(run.folder).startswith(
        f"`raysweep run --name tiny --storage {shlex.quote(parse_bucket_uri(uri).uri)}"
    )
    assert run.losses().equals(raysweep.load(root).losses())
    assert run["A1"].score("I like apples.").equals(raysweep.load(root, device="cpu")["A1"].score("I like apples."))


def test_a_uri_without_a_run_is_refused(uri):
    """The message includes an example of a valid URI."""
    with pytest.raises(
        InputError, match=r"^run: found .*other, which holds no run; must be such as s3://bucket/runs/paper"
    ):
        fetch_run(f"{uri}/other")
