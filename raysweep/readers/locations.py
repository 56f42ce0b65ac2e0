"""Locates the files of a corpus: paths, globs, folders and addresses become files on this machine, in a fixed order.

A remote file (`s3://…`, `https://…`: fsspec) is copied once to the user's cache, and again when its server says that
it changed.  A corpus is identified by the bytes of all its files; file names count only if there are several files,
because their rows are then named by them.
"""

import hashlib
import json
import os
import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from raysweep.config.fingerprints import file_fingerprint, fingerprint
from raysweep.errors import InputError
from raysweep.storage.printable import shown, without_secrets
from raysweep.storage.user_cache import user_cache

DATA_SUFFIXES = {
    "csv", "tsv", "tab", "txt", "json", "jsonl", "ndjson", "parquet", "xlsx", "xlsm", "xlsb", "xls", "ods", "xml",
    "gz", "zst", "zip",
}  # fmt: skip
"""Suffixes of the files used from a folder or an archive; a file that is named directly may have any suffix."""
_REMOTE = re.compile(r"[a-z][a-z0-9+.-]+://")
_GLOB = re.compile(r"[*?\[]")
_NO_DATA = re.compile(r"(readme|licen[cs]e|citation|changelog)\b", re.IGNORECASE)


def as_list(path: str | Sequence[str]) -> list[str]:
    """Return one path or several as a list."""
    return [path] if isinstance(path, str) else list(path)


def is_remote(path: str) -> bool:
    """Tell whether a path is a URL."""
    return _REMOTE.match(path) is not None


def find_files(path: str | Sequence[str]) -> list[Path]:
    """Find the files that `data.path` names; the files of a glob or folder are sorted by name.

    Raises:
        InputError: a file does not exist or is named twice, or a glob or folder holds no data file.
    """
    files: list[Path] = []
    for given in as_list(path):
        files += [fetch(given)] if is_remote(given) else _local_files(given)
    repeated = {file for file in files if files.count(file) > 1} if len(files) < 1000 else set()
    if repeated:
        raise InputError(f"data.path: the file {shown(str(min(repeated)))} is named twice; must be named once")
    return files


def local_files(path: str | Sequence[str] | None) -> list[Path]:
    """Find the files of a corpus that are on this machine; nothing is downloaded, and missing files are skipped."""
    files: list[Path] = []
    for given in as_list(path or ()):
        with suppress(InputError):  # reading the corpus reports it
            files += [] if is_remote(given) else _local_files(given)
    return files


def is_data_file(name: str) -> bool:
    """Tell by its name whether a file of a folder or an archive may hold texts."""
    parts = name.split("/")
    hidden = any(part.startswith((".", "~$")) or part == "__MACOSX" for part in parts)
    return not hidden and parts[-1].rpartition(".")[2].lower() in DATA_SUFFIXES and not _NO_DATA.match(parts[-1])


def digest_files(files: Sequence[Path]) -> str:
    """Hash the bytes of all files, and their names if there are several."""
    if len(files) == 1:
        return file_fingerprint(files[0])
    base = os.path.commonpath([file.parent for file in files])
    return fingerprint({str(file.relative_to(base)): file_fingerprint(file) for file in files})


def name_files(path: str | Sequence[str] | None) -> str:
    """Describe `data.path` in a message, without secrets."""
    given = as_list(path or "")
    more = f" and {len(given) - 1:,} more" if len(given) > 1 else ""
    return without_secrets(given[0]) + more


def _local_files(given: str) -> list[Path]:
    path = Path(given).expanduser()
    if path.is_file():
        return [path.resolve()]
    if path.is_dir():
        files = [file for file in path.rglob("*") if file.is_file() and is_data_file(str(file.relative_to(path)))]
        problem = "a folder without data files; must be a file or a glob"
    elif _GLOB.search(given):
        root = Path(path.anchor or ".")
        files = [file for file in root.glob(str(path.relative_to(path.anchor))) if file.is_file()]
        problem = "which matches no file; must match one or more"
    else:
        files, problem = [], "no such file; must be a file, a glob or an address"
    if not files:
        raise InputError(f"data.path: found {shown(given)}, {problem}")
    return [file.resolve() for file in sorted(files)]


def fetch(url: str) -> Path:
    """Copy a remote file to the cache, unless its present version is there already.

    Raises:
        InputError: the file cannot be fetched, or the library for its protocol is not installed.
    """
    import fsspec

    folder = user_cache() / "corpora" / hashlib.blake2b(url.encode(), digest_size=12).hexdigest()
    target, record = folder / (Path(re.sub(r"[?#].*", "", url)).name or "corpus"), folder / "version.json"
    try:
        files, path = fsspec.core.url_to_fs(url)
        version = _version(files.info(path))
        if target.is_file() and record.is_file() and json.loads(record.read_text()) == version:
            return target
        folder.mkdir(parents=True, exist_ok=True)
        record.unlink(missing_ok=True)
        part = target.with_name(target.name + ".part")
        files.get_file(path, str(part))
        part.replace(target)
        record.write_text(json.dumps(version))
    except ImportError as error:
        raise InputError(
            f"data.path: {shown(url)} needs a library: pip install -c constraints.txt -e '.[remote]'"
        ) from error
    except Exception as error:  # each file system of fsspec raises other errors
        what = f"{type(error).__name__}: {without_secrets(str(error))[:200]}".rstrip(": ")
        raise InputError(f"data.path: {shown(url)} cannot be fetched ({what}). Check the address and access") from error
    return target


def _version(info: dict[str, Any]) -> dict[str, str]:
    """Return the properties of a remote file that change with its content."""
    known = ("size", "ETag", "etag", "LastModified", "last-modified", "mtime", "created", "md5Hash")
    return {name: str(info[name]) for name in known if info.get(name) is not None}
