"""Keeps arrays and tables that do not fit into memory in a temporary file, which has no name and needs no removal."""

import mmap
import os
import tempfile
import threading
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """The position of an array or table in a spool."""

    start: int  # bytes
    size: int  # bytes


class Spool:
    """A temporary file that threads append to and read from."""

    def __init__(self, folder: Path | None = None) -> None:
        """Args: `folder` of the file; None: the system's folder for temporary files."""
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder or Path(tempfile.gettempdir())
        with tempfile.TemporaryFile(dir=folder) as file:
            self._file = os.dup(file.fileno())
        weakref.finalize(self, os.close, self._file)
        self._size = 0
        self._lock = threading.Lock()
        self._map: mmap.mmap | None = None

    def append(self, data: npt.NDArray[Any]) -> Place:
        """Append an array.

        Raises:
            OSError: the disk is full or failed; the error names the folder, because the file has no name.
        """
        view = np.ascontiguousarray(data).reshape(-1).view(np.uint8).data
        with self._lock:
            place = Place(start=self._size, size=len(view))
            self._size += len(view)
        written = 0
        with self._named_errors():
            while written < len(view):
                written += os.pwrite(self._file, view[written:], place.start + written)
        return place

    def read(self, place: Place, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        """Read an array back, flat."""
        data = np.empty(place.size, dtype=np.uint8)
        done = 0
        while done < place.size:
            with self._named_errors():
                count = os.preadv(self._file, [data.data[done:]], place.start + done)
            assert count, "only what was appended is read"
            done += count
        return data.view(dtype)

    def read_all(self, places: Sequence[Place], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        """Read several arrays back as one."""
        data = np.empty(sum(place.size for place in places), dtype=np.uint8)
        begin = 0
        for place in places:
            data[begin : begin + place.size] = self.read(place, np.uint8)
            begin += place.size
        return data.view(dtype)

    def append_table(self, table: pa.Table) -> Place:
        """Append a table."""
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
        return self.append(np.frombuffer(sink.getvalue(), dtype=np.uint8))

    def read_table(self, place: Place) -> pa.Table:
        """Read a table back."""
        with pa.ipc.open_stream(pa.py_buffer(self.read(place, np.uint8))) as reader:
            return reader.read_all()

    def mapped(self, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        """Map the whole file into memory as one array; nothing may be appended afterwards."""
        if not self._size:
            return np.zeros(0, dtype=dtype)
        self._map = mmap.mmap(self._file, self._size)
        return np.frombuffer(self._map, dtype=dtype)

    def release(self) -> None:
        """Free the memory of the mapped pages; they are read from disk again when they are needed."""
        if self._map is not None:
            self._map.madvise(mmap.MADV_DONTNEED)

    @contextmanager
    def _named_errors(self) -> Iterator[None]:
        """Add the folder to an operating system error, so that the user knows where to make room."""
        try:
            yield
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self._folder)) from error
