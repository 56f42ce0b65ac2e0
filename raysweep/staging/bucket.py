"""Reads and writes the objects of one run: whole objects, conditional writes, and retries while a store fails.

A request that fails by a timeout, a lost connection or status 429 or 5xx is retried with growing delays for
`PATIENCE_S`; the user is told, and told again when the store answers.  Large files are transferred in parallel parts.
"""

import io
import logging
import os
import random
import re
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from raysweep.errors import StorageError
from raysweep.staging.bucket_address import BucketAddress, open_store
from raysweep.staging.parallel_work import in_parallel
from raysweep.storage.atomic_files import atomic_file

PATIENCE_S = 600.0
"""Seconds for which a request is retried."""
PART_BYTES = 16 << 20
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.5, 30.0
_WARN_EVERY_S = 10.0
_STATUS = re.compile(r"status code: (\d{3})")
_PASSING = {408, 425, 429}
_NOT_IMPLEMENTED = 501
_NO_CREDENTIALS = ("169.254.169.254", "metadata.google.internal")
"""The last addresses at which credentials are looked up; an error from there means that there are none."""

logger = logging.getLogger(__name__)
Result = TypeVar("Result")


class TakenError(Exception):
    """A conditional write was refused: the object exists, or has another version than the one named."""


class UnconditionalError(Exception):
    """The store has no conditional writes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Stored:
    """An object's size and version, as a listing or a request returns them."""

    size: int
    version: str
    """Its ETag, which changes with its content."""
    condition: str
    """What `Bucket.replace` takes: the ETag, for gs:// the generation; '' in a listing, which does not contain it."""
    modified: float
    """Unix seconds by the store's clock."""


@dataclass(kw_only=True)
class Traffic:
    """Bytes sent and fetched, and the number of requests, failed ones included."""

    requests: int = 0
    writes: int = 0
    """How many of the requests were PUT or LIST, which cost more."""
    sent_bytes: int = 0
    fetched_bytes: int = 0


class Bucket:
    """The objects below one address, by relative path; thread-safe."""

    def __init__(self, address: BucketAddress, *, patience_s: float = PATIENCE_S, store: Any = None) -> None:
        """Args: `store` replaces the store that the address names."""
        self.address, self.traffic = address, Traffic()
        self._store, self._patience_s = store if store is not None else open_store(address), patience_s
        self._condition = "version" if address.scheme == "gs" else "e_tag"
        self._lock = threading.Lock()
        self._warned_at, self._is_failing, self._has_answered = float("-inf"), False, False

    def list(self, under: str = "") -> dict[str, Stored]:
        """List the objects whose path is `under` or begins with `under` and a slash; '' for all."""

        def fetch() -> dict[str, Stored]:
            pages = list(self._obstore.list(self._store, under or None))
            self._count(writes=len(pages))
            objects = {str(meta["path"]): self._stored(meta) for page in pages for meta in page}
            # Other tools (pyarrow, consoles) create empty objects that represent folders.
            folders = {str(parent) for path in objects for parent in PurePosixPath(path).parents} | {""}
            return {path: stored for path, stored in objects.items() if path not in folders}

        return self._try("list", under or "/", fetch)

    def find(self, path: str) -> Stored | None:
        """Return an object's size and version; None if it does not exist."""

        def ask() -> Stored | None:
            self._count()
            try:
                return self._stored(self._obstore.head(self._store, path))
            except FileNotFoundError:
                return None

        return self._try("find", path, ask)

    def read(self, path: str) -> tuple[bytes, Stored] | None:
        """Read a small object with its version; None if it does not exist."""

        def fetch() -> tuple[bytes, Stored] | None:
            self._count()
            try:
                response = self._obstore.get(self._store, path)
            except FileNotFoundError:
                return None
            data = bytes(response.bytes())
            self._count(requests=0, fetched=len(data))
            return data, self._stored(response.meta)

        return self._try("read", path, fetch)

    def download(self, path: str, stored: Stored, to: Path) -> None:
        """Download this version of an object, renaming it into place; the file's time is set to the object's.

        Raises:
            TakenError: the object was deleted or replaced.
        """
        starts = range(0, stored.size, PART_BYTES)

        with atomic_file(to) as temporary, temporary.open("r+b") as file:

            def fetch(start: int) -> None:
                end = min(start + PART_BYTES, stored.size)
                data = self._try("read", path, lambda: self._read_part(path, stored, start, end))
                os.pwrite(file.fileno(), data, start)

            if len(starts) > 1:
                in_parallel(fetch, starts)
            elif stored.size:
                fetch(0)
        os.utime(to, (stored.modified, stored.modified))

    def upload(self, path: str, source: Path | bytes) -> str:
        """Write an object, atomically, and return its version; raises FileNotFoundError without the source file."""
        with io.BytesIO(source) if isinstance(source, bytes) else source.open("rb") as file:
            size = file.seek(0, io.SEEK_END)

            def send() -> str:
                file.seek(0)
                self._count(writes=1 if size <= PART_BYTES else 2 + -(-size // PART_BYTES), sent=size)
                put = self._obstore.put(self._store, path, file, chunk_size=PART_BYTES, max_concurrency=4)
                return str(put["e_tag"])

            return self._try("write", path, send)

    def create(self, path: str, data: bytes) -> str:
        """Write an object that must not exist yet (If-None-Match: *); return the condition that `replace` takes.

        Raises:
            TakenError: it exists.
            UnconditionalError: the store does not support the condition.
        """
        return self._put_if(path, data, "create")

    def replace(self, path: str, data: bytes, condition: str) -> str:
        """Write an object if it still has this version (If-Match); return the condition of the new version.

        Raises:
            TakenError: it was deleted, or has another version.
            UnconditionalError: the store does not support the condition.
        """
        return self._put_if(path, data, {self._condition: condition})

    def delete(self, paths: Iterable[str]) -> None:
        """Delete objects, ignoring those that do not exist."""
        names = sorted(paths)

        def remove() -> None:
            self._count()
            try:
                self._obstore.delete(self._store, names)
            except FileNotFoundError:
                # If objects are deleted one by one, the first missing one ends the call.
                for name in names:
                    self._count()
                    with suppress(FileNotFoundError):
                        self._obstore.delete(self._store, name)

        if names:
            self._try("delete", names[0], remove)

    @property
    def _obstore(self) -> Any:
        import obstore  # 16 MB that a local run need not load

        return obstore

    def _stored(self, meta: Mapping[str, Any]) -> Stored:
        return Stored(
            size=meta["size"],
            version=str(meta["e_tag"]),
            condition=str(meta[self._condition] or ""),
            modified=meta["last_modified"].timestamp(),
        )

    def _read_part(self, path: str, stored: Stored, start: int, end: int) -> bytes:
        self._count()
        wanted: Any = {"range": (start, end), "if_match": stored.version}
        try:
            data = bytes(self._obstore.get(self._store, path, options=wanted).bytes())
        except (FileNotFoundError, self._obstore.exceptions.PreconditionError) as error:
            raise TakenError(path) from error
        if len(data) != end - start:
            raise OSError(f"found {len(data):,} of {end - start:,} bytes")
        self._count(requests=0, fetched=len(data))
        return data

    def _put_if(self, path: str, data: bytes, mode: Any) -> str:
        errors = self._obstore.exceptions

        def send() -> str:
            self._count(writes=1, sent=len(data))
            try:
                return str(self._obstore.put(self._store, path, data, mode=mode)[self._condition])
            except (errors.AlreadyExistsError, errors.PreconditionError, FileNotFoundError) as error:
                if isinstance(error, FileNotFoundError) and mode == "create":
                    raise
                # An earlier attempt may have succeeded and its response may have been lost.
                if (now := self.read(path)) is not None and now[0] == data:
                    return now[1].condition
                raise TakenError(path) from error
            except errors.BaseError as error:
                if isinstance(error, errors.NotSupportedError) or _status(error) == _NOT_IMPLEMENTED:
                    raise UnconditionalError(path) from error
                raise

        return self._try("write", path, send)

    def _try(self, what: str, path: str, send: Callable[[], Result]) -> Result:
        """Send a request until it succeeds, fails permanently, or `PATIENCE_S` seconds have passed.

        Raises:
            StorageError: it failed; the message quotes the store.
        """
        began, wait = time.monotonic(), _FIRST_WAIT_S
        while True:
            try:
                result = send()
            except (self._obstore.exceptions.BaseError, OSError) as error:
                place, reason = f"{self.address}/{path}".rstrip("/"), _reason(error)
                has_credentials = self._has_answered or not any(host in str(error) for host in _NO_CREDENTIALS)
                if not has_credentials or not _may_pass(error):
                    raise StorageError(
                        f"{place}: cannot {what}: {reason}; {_advice(error, has_credentials)}"
                    ) from error
                if (tried := time.monotonic() - began) > self._patience_s:
                    raise StorageError(
                        f"{place}: cannot {what} for {tried:,.0f} s: {reason}; "
                        "the same command continues once the store answers"
                    ) from error
                self._warn(f"{place}: {reason}; trying again in {wait:.0f} s", is_failing=True)
                time.sleep(wait * random.uniform(0.75, 1.25))
                wait = min(wait * 2, _LONGEST_WAIT_S)
            else:
                self._has_answered = True
                if self._is_failing:
                    self._warn(f"{self.address} answers again", is_failing=False)
                return result

    def _warn(self, message: str, *, is_failing: bool) -> None:
        with self._lock:
            if is_failing == self._is_failing and time.monotonic() - self._warned_at < _WARN_EVERY_S:
                return
            self._warned_at, self._is_failing = time.monotonic(), is_failing
        logger.warning("%s", message)

    def _count(self, requests: int = 1, *, writes: int = 0, sent: int = 0, fetched: int = 0) -> None:
        with self._lock:
            self.traffic.requests += max(requests, writes)
            self.traffic.writes += writes
            self.traffic.sent_bytes += sent
            self.traffic.fetched_bytes += fetched


def _status(error: Exception) -> int | None:
    match = _STATUS.search(str(error))
    return int(match[1]) if match else None


def _may_pass(error: Exception) -> bool:
    """Return whether the same request may succeed later."""
    if isinstance(error, OSError) and not isinstance(error, FileNotFoundError):
        return error.errno is None
    if type(error).__name__ in _FINAL:
        return False
    status = _status(error)
    return not isinstance(error, FileNotFoundError) and (status is None or status >= 500 or status in _PASSING)


_FINAL: Mapping[str, str] = {
    "PermissionDeniedError": "give the credentials s3:GetObject, PutObject, DeleteObject and ListBucket on the bucket",
    "UnauthenticatedError": "set credentials by the usual chain: environment, profile, instance profile",
    "NotSupportedError": "use a store that has the request",
    "InvalidPathError": "use plain names",
    "UnknownConfigurationKeyError": "report this",
}


def _advice(error: Exception, has_credentials: bool) -> str:
    if not has_credentials:
        return _FINAL["UnauthenticatedError"]
    return _FINAL.get(type(error).__name__, "check the bucket's name, its region (?region=…) and the credentials")


def _reason(error: Exception) -> str:
    """Shorten the store's answer to at most 80 characters."""
    text = str(error)
    if code := re.search(r"<Code>(\w{1,40})</Code>", text):
        return f"{_status(error) or ''} {code[1]}".strip()
    if status := _status(error):
        return f"answer {status}"
    return re.sub(r"\s+", " ", re.split(r" in [\d.]+\S+ - ", text.split("\n\n")[0])[-1])[:80]
