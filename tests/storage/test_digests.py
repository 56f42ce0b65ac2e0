"""Files are compared with their digests in records, and records with their own digests."""

import random

import pytest
from blake3 import blake3

from raysweep.errors import DamagedError, EarlierVersionError
from raysweep.storage import digests
from raysweep.storage.atomic_files import dump_json, write_json
from raysweep.storage.digests import (
    combine_digests,
    describe_outputs,
    digest_file,
    digest_text,
    find_damage,
    read_sealed,
    write_sealed,
)

RECORD = {"trial": "A1", "seconds": 0.1, "result": {"steps": 4, "name": "é"}}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "weights").write_bytes(bytes(range(256)) * 40)
    (tmp_path / "losses").write_bytes(b"1 2 3")
    (tmp_path / "empty").write_bytes(b"")
    return tmp_path


def outputs_of(folder):
    return describe_outputs(folder, [folder / "model", folder / "losses", folder / "empty", folder / "absent"])


def test_a_digest_is_128_bits_of_blake3(folder):
    """The digest is the first 128 bits of the published test vector for empty input."""
    assert digest_file(folder / "empty") == "af1349b9f5f9a1a6a0404dea36dcc949"


def test_a_file_is_digested_in_chunks(folder, monkeypatch):
    """Mapping 3 GB would count as 3 GB of memory; the last piece may be short."""
    content = (folder / "model" / "weights").read_bytes()
    for size in (100, 1024, len(content), 1 << 24):
        monkeypatch.setattr(digests, "_PIECE_BYTES", size)
        assert digest_file(folder / "model" / "weights") == blake3(content).hexdigest(length=16)


def test_outputs_list_every_existing_file(folder):
    """Folders are listed with all their files; missing outputs are left out."""
    assert {name: values["bytes"] for name, values in outputs_of(folder).items()} == {
        "empty": 0,
        "losses": 5,
        "model/weights": 10240,
    }
    assert find_damage(folder, outputs_of(folder)) == []


def test_missing_truncated_and_changed_files_are_distinguished(folder):
    """Each file is named, with what is wrong."""
    outputs = outputs_of(folder)
    (folder / "empty").unlink()
    (folder / "losses").write_bytes(b"1 2 4")
    (folder / "model" / "weights").write_bytes(b"cut")
    assert [(damage.path.name, damage.what, damage.is_missing) for damage in find_damage(folder, outputs)] == [
        ("empty", "is missing", True),
        ("losses", "is damaged (its digest differs)", False),
        ("weights", "is damaged (has 3 bytes; was made with 10,240)", False),
    ]


def test_a_combined_digest_covers_only_the_named_files(folder):
    """A model's card does not affect a child that starts from the model."""
    before = outputs_of(folder)
    (folder / "losses").write_bytes(b"1 2 4")
    after = outputs_of(folder)
    assert combine_digests(before, "model/") == combine_digests(after, "model/")
    assert combine_digests(before) != combine_digests(after)


def test_a_record_is_read_back_unchanged(tmp_path):
    """Version and digest are those in the file, not the reader's."""
    write_sealed(tmp_path / "trial.json", RECORD)
    assert read_sealed(tmp_path / "trial.json", fix="") == RECORD


@pytest.mark.parametrize("seed", range(5))
def test_every_flipped_bit_of_a_record_is_detected(tmp_path, seed):
    """The bit may be in a digit, a key, a space, the version or the digest itself."""
    path = tmp_path / "trial.json"
    write_sealed(path, RECORD)
    whole, flips = path.read_bytes(), random.Random(seed)
    for _ in range(100):
        damaged = bytearray(whole)
        damaged[flips.randrange(len(whole))] ^= 1 << flips.randrange(8)
        path.write_bytes(damaged)
        with pytest.raises((DamagedError, EarlierVersionError), match=r"trial\.json.*(again|--force)"):
            read_sealed(path, fix="train it again")


def test_a_record_of_an_older_version_is_not_reported_as_damaged(tmp_path):
    """It is not damaged, but it does not say what it was made from."""
    write_json(tmp_path / "run.json", {"name": "pilot", "stages": {}})
    with pytest.raises(EarlierVersionError, match="written by an earlier raysweep; give the run a new --name"):
        read_sealed(tmp_path / "run.json", fix="")
    values = {"version": 1}
    write_json(tmp_path / "run.json", {**values, "digest": digest_text(dump_json(values))})
    with pytest.raises(EarlierVersionError, match="has version 1"):
        read_sealed(tmp_path / "run.json", fix="")


def test_the_code_digest_covers_every_file_of_the_package(tmp_path, monkeypatch):
    """The version stays the same while someone edits the code."""
    package = tmp_path / "raysweep"
    (package / "storage").mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "page.css").write_text("a {}")
    monkeypatch.setattr(digests, "__file__", str(package / "storage" / "digests.py"))
    before = digests.digest_code.__wrapped__()
    (package / "__pycache__").mkdir()
    (package / "__pycache__" / "__init__.pyc").write_text("made from __init__.py")
    (package / "__pycache__" / "kernels.1.py311.nbc").write_text("what numba compiled, here and now")
    assert digests.digest_code.__wrapped__() == before
    (package / "page.css").write_text("b {}")
    assert digests.digest_code.__wrapped__() != before
