"""Finds the run folder that a user names by `--storage` and `--name`."""

from pathlib import Path

from raysweep.errors import ConfigError
from raysweep.storage.run_folder import RunFolder

_NAME_BYTES = 200
"""Maximum length of a run's name; file systems allow 255 bytes."""
_ROOT_BYTES = 3500
"""Maximum length of a run folder's path; the system allows 4,096 bytes for a file in it."""


def open_run_folder(storage: str, name: str) -> RunFolder:
    """Return the run folder of `name` under `storage`, which must be a path that every node sees; create nothing.

    Raises ConfigError if the storage is not a valid path, or the name is not a plain folder name.
    """
    if not name.isprintable() or not name or name in {".", ".."} or "/" in name or "\\" in name:
        raise ConfigError(f"--name: found {name[:80]!r}; must be a folder name without slashes, such as 'pilot'")
    if len(name.encode()) > _NAME_BYTES:
        raise ConfigError(f"--name: found {len(name.encode()):,} bytes ('{name:.40}…'); must be at most {_NAME_BYTES}")
    try:
        root = Path(storage).expanduser().resolve() / name
        size = len(str(root).encode())
    except UnicodeEncodeError as error:
        raise ConfigError(f"--storage: found {storage[:80]!r}; the path must be valid UTF-8") from error
    except (OSError, RuntimeError, ValueError) as error:
        raise ConfigError(f"--storage: found {storage[:80]!r}; must be a path ({error!s:.80})") from error
    if size > _ROOT_BYTES:
        raise ConfigError(f"--storage: found {size:,} bytes ('{root!s:.40}…'); a path may have {_ROOT_BYTES:,}")
    return RunFolder(root)


def create_run_folder(folder: RunFolder) -> None:
    """Create the folder and its parents; raise ConfigError if that fails."""
    try:
        folder.root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        cannot = f"--storage: cannot make the run folder {folder.root!s:.200}: {error.strerror}"
        raise ConfigError(f"{cannot}; name a folder that you can write into") from error
