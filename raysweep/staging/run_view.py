"""Fetches what read-only commands need of a run into a folder of their own, beside that of a working process."""

import secrets
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from raysweep.errors import InputError, StorageError
from raysweep.staging.bucket import Bucket, TakenError
from raysweep.staging.bucket_address import BucketAddress, parse_bucket_uri
from raysweep.staging.local_copies import LocalCopies
from raysweep.staging.mirror import Mirror
from raysweep.staging.mirror_index import MirrorIndex
from raysweep.storage.run_files import LEASE, is_in_checkpoint, is_large, is_weights, is_working_file

_REFRESH_S = 5.0

_LEFT_OUT: Mapping[str, Callable[[str], bool]] = {
    "small": is_large,
    "no weights": is_weights,
    "no checkpoints": is_in_checkpoint,
    "all": lambda path: False,  # noqa: ARG005 - nothing is left out
}


@contextmanager
def fetched(storage: BucketAddress, name: str, what: str) -> Iterator[Path]:
    """Fetch a copy of the run, and keep it up to date while the block runs.

    Args:
        what: 'small' for records, curves, logs and the report, 'no weights', 'no checkpoints', or 'all'.

    Raises:
        StorageError: the store does not answer, or refuses.
    """
    mirror, without = _mirror(storage, name), _LEFT_OUT[what]
    mirror.pull(reset=True, without=without)
    over = threading.Event()

    def refresh() -> None:
        while not over.wait(_REFRESH_S):
            try:
                mirror.pull(reset=True, without=without)
            except (StorageError, OSError):
                # The copy stays as it was; `Bucket` has logged why.
                continue

    thread = threading.Thread(target=refresh, name="refresh", daemon=True)
    thread.start()
    try:
        yield mirror.root
    finally:
        over.set()


def fetch_runs(uri: str) -> Path:
    """Fetch the small files of all runs below a URI; return the folder that holds them."""
    storage = parse_bucket_uri(uri)
    names = {path.partition("/")[0] for path in Bucket(storage).list() if path.count("/") == 1}
    copies = LocalCopies.of(storage)
    parent = copies.view("-").parent
    parent.mkdir(parents=True, exist_ok=True)
    for name in names:
        _mirror(storage, name).pull(reset=True, without=is_large)
    for path in parent.iterdir():
        if path.is_dir() and path.name not in names:
            shutil.rmtree(path)
    return parent


def fetch_run(uri: str) -> Path:
    """Fetch a run without its checkpoints from its URI; return its folder, or raise ConfigError or InputError."""
    address = parse_bucket_uri(uri, option="run")
    parent, _, name = address.prefix.rpartition("/")
    mirror = _mirror(replace(address, prefix=parent), name)
    mirror.pull(reset=True, without=is_in_checkpoint)
    if not name or not mirror.root.is_dir() or not any(mirror.root.iterdir()):
        raise InputError(f"run: found {address}, which holds no run; must be such as s3://bucket/runs/paper")
    return mirror.root


def fetch_folder(uri: str, *, option: str) -> Path:
    """Fetch a folder of a run, such as a trial's model, from its URI.

    Args:
        option: the option that the URI was given with, for messages.

    Raises:
        ConfigError: the URI is not valid.
        InputError: there is nothing at the URI.
    """
    address = parse_bucket_uri(uri, option=option)
    root = LocalCopies.of(address).view("folder")
    mirror = Mirror(bucket=Bucket(address), root=root, index=MirrorIndex.load(LocalCopies.of(address).index(root)))
    mirror.pull(reset=True)
    if not root.is_dir() or not any(root.iterdir()):
        raise InputError(
            f"{option}: found {address}, which holds nothing; see `raysweep status --storage …` for the trials that "
            "are done"
        )
    return root


def fetch_file(uri: str) -> Path:
    """Fetch one file, such as a bundle, from its URI; raises InputError if there is no such object."""
    address = parse_bucket_uri(uri)
    folder, _, name = address.prefix.rpartition("/")
    address = replace(address, prefix=folder)
    bucket, path = Bucket(address), LocalCopies.of(address).view("file") / name
    if not name or (stored := bucket.find(name)) is None:
        raise InputError(f"{uri[:80]}: there is no such object")
    bucket.download(name, stored, path)
    return path


def check_bucket(storage: BucketAddress) -> str:
    """Write, read and delete an object, and test conditional writes; return a line for the user, or StorageError."""
    bucket, name = Bucket(storage, patience_s=20.0), f"raysweep-check-{secrets.token_hex(4)}"
    bucket.create(name, b"1")
    try:
        bucket.create(name, b"2")
        conditions = "has no conditional writes: two runs of one name are told apart with less certainty"
    except TakenError:
        conditions = "has conditional writes"
    finally:
        bucket.delete([name])
    return f"{storage} can be written and {conditions}"


def _mirror(storage: BucketAddress, name: str) -> Mirror:
    copies = LocalCopies.of(storage)
    copies.name_address(storage)
    root = copies.view(name)
    return Mirror(
        bucket=Bucket(storage.at(name)),
        root=root,
        index=MirrorIndex.load(copies.index(root)),
        leave_out=lambda path: path != LEASE and is_working_file(path),
        appends=True,
    )
