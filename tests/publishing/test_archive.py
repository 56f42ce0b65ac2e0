"""Every byte of a bundle is a file's content or what `raysweep bundle` writes around it."""

import io
import struct
import zipfile
import zlib

import pytest

from raysweep.errors import InputError
from raysweep.publishing import archive as archive_module
from raysweep.publishing.archive import write_archive
from raysweep.publishing.verify import verify_bundle
from tests.publishing.forging import pack

LOCAL, CENTRAL, END = b"PK\3\4", b"PK\1\2", b"PK\5\6"


@pytest.fixture(scope="module")
def zipped(honest, tmp_path_factory) -> bytes:
    return pack(tmp_path_factory.mktemp("zip") / "evidence.zip", honest).read_bytes()


def with_offsets(content: bytes, shift: int, start: int) -> bytes:
    """Add `shift` to every offset at or after `start`, so that the zip's reader finds all files again."""
    end = content.rindex(END)
    begin = int.from_bytes(content[end + 16 : end + 20], "little")
    directory, position = bytearray(content[begin + shift : end]), 0
    while position < len(directory):
        lengths = struct.unpack_from("<3H", directory, position + 28)
        offset = int.from_bytes(directory[position + 42 : position + 46], "little")
        directory[position + 42 : position + 46] = (offset + (shift if offset >= start else 0)).to_bytes(4, "little")
        position += 46 + sum(lengths)
    return (
        content[: begin + shift]
        + bytes(directory)
        + content[end : end + 16]
        + (begin + shift).to_bytes(4, "little")
        + content[end + 20 :]
    )


def between(content: bytes, hidden: bytes, *, fixed: bool) -> bytes:
    """Hide bytes between two files."""
    start = content.index(LOCAL, content.index(LOCAL) + 4)
    changed = content[:start] + hidden + content[start:]
    return with_offsets(changed, len(hidden), start) if fixed else changed


def with_comment(content: bytes) -> bytes:
    end = content.rindex(END)
    return content[: end + 20] + struct.pack("<H", 5) + b"H1 no"


def repacked(content: bytes, change) -> bytes:
    """Pack the files as another zip program would."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as new:
        for entry in old.infolist():
            data = old.read(entry)
            new.writestr(change(entry) or entry, data)
    return out.getvalue()


def set_field(**fields):
    def change(entry):
        if entry.filename == "report/report.md":
            for name, value in fields.items():
                setattr(entry, name, value)

    return change


def with_longer_stream(content: bytes) -> bytes:
    """Append bytes to the compressed data of the last file: an inflater stops before them."""
    place = content.rindex(LOCAL)
    begin = content.index(CENTRAL)
    sizes = struct.unpack_from("<2L", content, place + 18)
    longer = struct.pack("<2L", sizes[0] + 3, sizes[1])
    changed = bytearray(content[:begin] + b"evil"[:3] + content[begin:])
    changed[place + 18 : place + 26] = longer
    last = bytes(changed).rindex(CENTRAL)
    changed[last + 20 : last + 28] = longer
    end = bytes(changed).rindex(END)
    changed[end + 16 : end + 20] = struct.pack("<L", begin + 3)
    return bytes(changed)


HIDDEN = {
    "before the first file": lambda zipped: b"#!/bin/sh\n" + zipped,
    "before the first file, with offsets that fit": lambda zipped: with_offsets(b"evil" + zipped, 4, 0),
    "after the end": lambda zipped: zipped + b"evil",
    "another zip after the end": lambda zipped: zipped + zipped,
    "a zip before it": lambda zipped: zipped + with_offsets(zipped, 0, 0),
    "between two files": lambda zipped: between(zipped, b"evil", fixed=False),
    "between two files, with offsets that fit": lambda zipped: between(zipped, b"evil", fixed=True),
    "a comment": with_comment,
    "a comment of a file": lambda zipped: repacked(zipped, set_field(comment=b"H1 is refuted")),
    "an extra field": lambda zipped: repacked(zipped, set_field(extra=b"\xfe\xca\x04\x00evil")),
    "another time": lambda zipped: repacked(zipped, set_field(date_time=(2020, 1, 1, 0, 0, 0))),
    "another mode": lambda zipped: repacked(zipped, set_field(external_attr=0o100777 << 16)),
    "stored, not compressed": lambda zipped: repacked(zipped, set_field(compress_type=zipfile.ZIP_STORED)),
    "after a file's compressed data": with_longer_stream,
    "a name in the local header that differs": lambda zipped: zipped.replace(
        b"report/report.md", b"report/report.MD", 1
    ),
}


@pytest.mark.parametrize("name", HIDDEN)
def test_bytes_hidden_in_the_zip_are_detected(zipped, tmp_path, name):
    """A zip has room for bytes that some readers interpret differently or ignore; no hash would reveal them."""
    path = tmp_path / "evidence.zip"
    path.write_bytes(HIDDEN[name](zipped))
    assert path.read_bytes() != zipped
    with pytest.raises(InputError, match=r"holds bytes .* that `raysweep bundle` does not write|cannot be unpacked"):
        verify_bundle(path)


@pytest.mark.parametrize(
    "name",
    ["between two files, with offsets that fit", "a comment", "a comment of a file", "after a file's compressed data"],
)
def test_pythons_zip_reader_accepts_the_zips_with_hidden_bytes(zipped, honest, name):
    """This shows that the cases above are real: Python's own reader finds these zips complete and equal."""
    with zipfile.ZipFile(io.BytesIO(HIDDEN[name](zipped))) as archive:
        assert archive.testzip() is None
        assert {entry: archive.read(entry) for entry in archive.namelist()} == honest


def test_non_ascii_names_and_large_files_are_read_back(tmp_path):
    """The run's name is in the paths; a file may inflate to far more than is read at a time."""
    big = b"0" * 3_000_000 + zlib.compress(bytes(range(256)) * 40)
    files = {"manifest.json": b"{}", "trials/Größe/x": b"", "big": big}
    path = tmp_path / "x.zip"
    write_archive(files, path)
    with zipfile.ZipFile(path) as archive, path.open("rb") as file:
        entries = archive.infolist()
        archive_module._refuse_other_bytes(file, entries, path)
        contents = {entry.filename: b"".join(parts) for entry, parts in archive_module._contents(file, entries, path)}
    assert contents == files


def test_an_unreadable_bundle_is_not_written(tmp_path, monkeypatch):
    """The author should learn of it rather than the readers."""
    monkeypatch.setattr(archive_module, "MAX_BYTES", 10)
    with pytest.raises(InputError, match=r"1 files of 11 bytes; a bundle holds"):
        write_archive({"a": b"0" * 11}, tmp_path / "x.zip")
    assert not (tmp_path / "x.zip").exists()


@pytest.mark.parametrize("name", ["x" * 201, "a/" * 260 + "b"])
def test_an_overlong_path_is_refused(zipped, tmp_path, name):
    """No disk could store it."""
    path = tmp_path / "evidence.zip"
    path.write_bytes(zipped)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(name, b"x")
    with pytest.raises(InputError, match="longer than a path within a bundle"):
        verify_bundle(path)
