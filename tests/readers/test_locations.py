"""Where a corpus may lie, and by what it is recognised."""

import http.server
import threading

import fsspec
import pytest

from raysweep.config.data_settings import DataConfig
from raysweep.corpus.corpus_rows import read_corpus
from raysweep.errors import InputError
from raysweep.readers.locations import digest_files, find_files, local_files, name_files
from tests.readers.small_files import RECORDS, delimited


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_a_corpus_is_identified_by_the_bytes_of_all_its_files(tmp_path):
    """Moving it changes nothing; a changed byte, a file more, or other names of several files do."""
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.csv").write_bytes(b"x")
        (tmp_path / folder / "b.csv").write_bytes(b"y")
    here, there = find_files(str(tmp_path / "one")), find_files(str(tmp_path / "two"))
    assert digest_files(here) == digest_files(there)
    assert digest_files(here[:1]) == digest_files(there[:1]) != digest_files(here)
    (tmp_path / "two" / "b.csv").rename(tmp_path / "two" / "c.csv")
    assert digest_files(find_files(str(tmp_path / "two"))) != digest_files(here)
    (tmp_path / "one" / "b.csv").write_bytes(b"z")
    assert digest_files(here) != digest_files(find_files(str(tmp_path / "two")))


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("nowhere.csv", "data.path: found 'nowhere.csv', no such file; must be a file, a glob or an address"),
        ("*.csv", "data.path: found '*.csv', which matches no file; must match one or more"),
        (".", "data.path: found '.', a folder without data files; must be a file or a glob"),
        ("ftps3://x/y", 'data.path: "ftps3://x/y" cannot be fetched'),
        (["a.txt", "./a.txt"], "is named twice; must be named once"),
    ],
)
def test_a_path_without_a_readable_file_is_refused(tmp_path, monkeypatch, path, message):
    """The message says what was found and what is required."""
    monkeypatch.chdir(tmp_path)
    if isinstance(path, list):
        (tmp_path / "a.txt").write_text("x")
    with pytest.raises(InputError) as caught:
        find_files(path)
    assert message.replace('"', "'") in str(caught.value)
    assert local_files(path) == [] or isinstance(path, list)


def test_a_remote_file_is_copied_once_and_again_after_a_change(tmp_path):
    """fsspec's file system in memory stands for S3."""
    memory = fsspec.filesystem("memory")
    memory.pipe("/corpora/texts.csv", delimited(",", RECORDS[:2]))
    url = "memory://corpora/texts.csv"
    (first,) = find_files(url)
    assert first.name == "texts.csv"
    assert read_corpus([first], DataConfig()).documents.num_rows == 2
    before = first.stat().st_mtime_ns
    assert find_files(url) == [first]
    assert first.stat().st_mtime_ns == before
    memory.pipe("/corpora/texts.csv", delimited(","))
    assert read_corpus(find_files(url), DataConfig()).documents.num_rows == 3
    memory.rm("/corpora/texts.csv")
    with pytest.raises(InputError, match=r"cannot be fetched \(FileNotFoundError.*Check the address and access"):
        find_files(url)


def test_an_http_address_is_fetched(tmp_path):
    """The file is fetched from a server on this machine."""
    (tmp_path / "texts.csv").write_bytes(delimited(","))

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args) -> None:
            super().__init__(*args, directory=str(tmp_path))

        def log_message(self, *args) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_address[1]}/texts.csv?token=secret"
        try:
            assert read_corpus(find_files(url), DataConfig()).documents.num_rows == 3
        finally:
            server.shutdown()
    assert name_files([url, "b.csv"]).endswith("/texts.csv?token=*** and 1 more")
