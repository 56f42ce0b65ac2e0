"""Reads the tensors of a folder's safetensors files: their positions and digests, and whether they are finite.

A safetensors file consists of a length (8 bytes), a header in JSON, and the tensors' bytes; it is read without torch,
so that checking a start takes no longer than reading its bytes.  Pickled weights are never read.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raysweep.config.error_messages import show
from raysweep.errors import InputError
from raysweep.storage.user_json import MIB, parse_user_json, read_user_json

WEIGHTS_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"
_HEADER_LIMIT_BYTES = 16 * MIB
_CHUNK_BYTES = 4 * MIB
_EXPONENTS = {"F64": 0x7FF0 << 48, "F32": 0x7F800000, "F16": 0x7C00, "BF16": 0x7F80}
"""Number type → the bits that are all set in NaN and infinity, but in no finite number."""
_WIDTHS = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")
_CONVERT = (
    "convert them where you trust their source: "
    "AutoModelForCausalLM.from_pretrained(FOLDER, use_safetensors=False).save_pretrained(NEW_FOLDER)"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredTensor:
    """One tensor of a safetensors file."""

    name: str
    """The name in the file."""
    file: Path
    dtype: str
    """'F64', 'F32', 'F16' or 'BF16'."""
    shape: tuple[int, ...]
    begin: int
    """Offset of its first byte in the file."""
    end: int


def read_tensors(folder: Path, place: str) -> dict[str, StoredTensor]:
    """Find the tensors of `model.safetensors`, or of the files that the index names, by name.

    Raises:
        InputError: there are none, or a header, the index or a file's length is wrong.
    """
    if (folder / WEIGHTS_FILE).is_file():
        return _read_header(folder / WEIGHTS_FILE, f"{place}: {WEIGHTS_FILE}")
    if (folder / INDEX_FILE).is_file():
        return _read_indexed(folder, place)
    if any(path.is_file() for pattern in _PICKLES for path in folder.glob(pattern)):
        raise InputError(f"{place}: its weights are pickled, which can run code, so they are not read; {_CONVERT}")
    raise InputError(f"{place}: holds no {WEIGHTS_FILE}; must be a folder with config.json and {WEIGHTS_FILE}")


def digest_finite(tensor: StoredTensor, place: str) -> str:
    """Compute the BLAKE3 digest of the tensor's bytes: 128 bits in hexadecimal.

    Raises:
        InputError: a number is NaN or infinite, or the file ends too soon.
    """
    import numpy as np  # a plan with a cached digest needs neither
    from blake3 import blake3

    mask = _EXPONENTS[tensor.dtype]
    hasher, left = blake3(max_threads=blake3.AUTO), tensor.end - tensor.begin
    with tensor.file.open("rb") as file:
        file.seek(tensor.begin)
        while left:
            chunk = file.read(min(left, _CHUNK_BYTES))
            if not chunk:
                raise InputError(f"{place}: {tensor.file.name} ends within '{tensor.name}'; copy it anew")
            bits = np.frombuffer(chunk, dtype=f"<u{_WIDTHS[tensor.dtype]}")
            if (bits & bits.dtype.type(mask)).max() == mask:
                raise InputError(
                    f"{place}: {tensor.file.name}: '{tensor.name}' holds NaN or infinite numbers; "
                    "a model that starts from them cannot be trained: save it anew, from an earlier checkpoint"
                )
            hasher.update(chunk)
            left -= len(chunk)
    digest: str = hasher.hexdigest(length=16)
    return digest


def _read_indexed(folder: Path, place: str) -> dict[str, StoredTensor]:
    here = f"{place}: {INDEX_FILE}"
    files = read_user_json(folder / INDEX_FILE, here, limit_bytes=_HEADER_LIMIT_BYTES).get("weight_map")
    if not isinstance(files, dict) or not files or not all(isinstance(file, str) for file in files.values()):
        raise InputError(f"{here}: weight_map: must name a file for each weight; save the model anew")
    tensors: dict[str, StoredTensor] = {}
    for file in sorted(set(files.values())):
        if Path(file).name != file or "\\" in file or not file.endswith(".safetensors"):
            raise InputError(f"{here}: weight_map: found {show(file)}; must be a .safetensors file in the same folder")
        if not (folder / file).is_file():
            raise InputError(f"{here}: names {show(file)}, which is not there; copy the whole folder")
        for name, tensor in _read_header(folder / file, f"{place}: {show(file)[1:-1]}").items():
            if files.get(name) != file:
                raise InputError(
                    f"{place}: {show(file)} holds {show(name)}, but the index does not say so; save it anew"
                )
            tensors[name] = tensor
    if lacking := sorted(files.keys() - tensors.keys()):
        raise InputError(f"{here}: {show(lacking[0])} is not in {show(files[lacking[0]])}; save the model anew")
    return tensors


def _read_header(path: Path, place: str) -> dict[str, StoredTensor]:
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 2 <= length <= min(size - 8, _HEADER_LIMIT_BYTES):
            raise InputError(f"{place}: not a safetensors file (its header would have {length:,} bytes); copy it anew")
        entries = parse_user_json(file.read(length), f"{place}: header")
    entries.pop("__metadata__", None)
    tensors = {name: _read_entry(name, entry, path, place, start=8 + length) for name, entry in entries.items()}
    end = 8 + length
    for tensor in sorted(tensors.values(), key=lambda tensor: (tensor.begin, tensor.end)):
        if tensor.begin != end:
            raise InputError(f"{place}: the bytes of {show(tensor.name)} overlap others or leave a gap; save it anew")
        end = tensor.end
    if end != size:
        raise InputError(f"{place}: has {size:,} bytes; its header describes {end:,}: not the whole file. Copy it anew")
    return tensors


def _read_entry(name: str, entry: Any, path: Path, place: str, *, start: int) -> StoredTensor:
    fields = entry if isinstance(entry, Mapping) else {}
    dtype = fields.get("dtype")
    shape: Any = fields.get("shape")
    offsets: Any = fields.get("data_offsets")
    if not (_are_counts(shape) and _are_counts(offsets) and len(offsets) == 2 and isinstance(dtype, str)):
        raise InputError(f"{place}: header: {show(name)}: must have dtype, shape and data_offsets; save the model anew")
    if dtype not in _WIDTHS:
        raise InputError(
            f"{place}: {show(name)} has numbers of type {show(dtype)}; must be {', '.join(_WIDTHS)}: "
            "save the model unquantised"
        )
    if offsets[1] - offsets[0] != math.prod(shape) * _WIDTHS[dtype]:
        raise InputError(f"{place}: header: {show(name)}: its shape does not fit its bytes; save the model anew")
    return StoredTensor(
        name=name, file=path, dtype=dtype, shape=tuple(shape), begin=start + offsets[0], end=start + offsets[1]
    )


def _are_counts(values: Any) -> bool:
    return isinstance(values, list) and all(
        isinstance(value, int) and not isinstance(value, bool) and value >= 0 for value in values
    )
