"""The options that name a config, a profile and a run folder, declared once, and the `Settings` made from them."""

import inspect
import shlex
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:  # pydantic is not needed to print a help page
    from raysweep.config.schema import Config
    from raysweep.staging.bucket_address import BucketAddress
    from raysweep.storage.run_folder import RunFolder

DEFAULT_CONFIG = Path("experiments.yaml")
DEFAULT_STORAGE = "runs"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The values of the common options; the config is read when it is first needed.

    Raises:
        ConfigError: raised by the properties, with every mistake in the file, the overrides or the name.
    """

    file: Path = DEFAULT_CONFIG
    asked_profile: str | None = None
    """None: the file's default profile."""
    name: str | None = None
    """None: the profile's name."""
    storage: str = DEFAULT_STORAGE
    overrides: tuple[str, ...] = ()
    skips_empty: bool = False
    """Leave out levels whose texts are missing or too few."""
    is_quiet: bool = False
    """Print only warnings, errors and failed trials."""
    left_out: tuple[str, ...] = ()
    """Levels that were found to have too few texts."""
    fetches: str = ""
    """What a command that only inspects a run fetches from object storage, as `staging.run_view.fetched` takes it."""
    needs_run: bool = False
    """Refuse the name of no run where there are other runs: it is probably misspelt."""

    @cached_property
    def _loaded(self) -> "tuple[str, Config]":
        from raysweep.config.loading import load_config

        return load_config(self.file, self.asked_profile, self.overrides)

    @cached_property
    def config(self) -> "Config":
        """The profile's settings with the overrides applied."""
        if not self.skips_empty:
            return self._loaded[1]
        from raysweep.config.left_out_levels import without_levels
        from raysweep.pipeline.thin_levels import leave_out_again

        return without_levels(leave_out_again(self._loaded[1], self.folder), self.left_out)

    @property
    def profile(self) -> str:
        """The name of the chosen profile."""
        return self._loaded[0]

    @cached_property
    def folder(self) -> "RunFolder":
        """The run folder, or its local copy if it is in object storage; reads no config if the run is named."""
        from raysweep.storage.named_folder import open_run_folder

        name = self.name or self.profile
        if self.address is None:
            return open_run_folder(self.storage, name)
        from raysweep.staging.local_copies import LocalCopies

        copies = LocalCopies.of(self.address)
        return open_run_folder(str((copies.view if self.fetches else copies.run)("-").parent), name)

    @cached_property
    def address(self) -> "BucketAddress | None":
        """The bucket that holds the runs; None if they are in a folder."""
        if "://" not in self.storage:
            return None
        from raysweep.staging.bucket_address import parse_bucket_uri

        return parse_bucket_uri(self.storage)

    @contextmanager
    def fetched(self, *runs: str) -> "Iterator[Settings]":
        """Fetch what the command inspects, of this run and of other runs in the same storage.

        Yields the settings read again, because the fetched files may say which levels are left out.
        """
        with ExitStack() as stack:
            if self.address is not None and self.fetches:
                from raysweep.staging.run_view import fetched

                for name in {self.folder.name, *runs}:
                    stack.enter_context(fetched(self.address, name, self.fetches))
            if self.needs_run:
                self._refuse_misspelt_name()
            yield replace(self)

    def _refuse_misspelt_name(self) -> None:
        """Without any other run the command itself says how to make one."""
        from raysweep.storage.run_folder import RunFolder

        place = self.folder.root.parent
        if self.address is not None or self.folder.root.is_dir() or not place.is_dir():
            return
        if not (others := sorted(path.name for path in place.iterdir() if RunFolder(path).record.is_file())):
            return
        from raysweep.config.error_messages import did_you_mean
        from raysweep.errors import ConfigError

        where = "" if self.storage == DEFAULT_STORAGE else f" --storage {shlex.quote(self.storage)}"
        hint = did_you_mean(self.folder.name, others) or f"; `raysweep runs{where}` lists those there are"
        raise ConfigError(f"--name: no run '{self.folder.name}' in {place}{hint}")

    def refuse_mistakes(self) -> None:
        """Read the config and the run's name, to raise whatever is wrong with them."""
        _ = self.config, self.folder

    def command(self) -> list[str]:
        """Return the words that repeat this run, for the report; without secrets."""
        from raysweep.config.secrets import recorded_override

        words = ["python -m raysweep run", shlex.join(["--profile", self.profile, "--name", self.folder.name])]
        if self.file != DEFAULT_CONFIG:
            words += ["--config", shlex.quote(str(self.file))]
        words += [] if self.storage == DEFAULT_STORAGE else ["--storage", shlex.quote(self.storage)]
        for override in self.overrides:
            words += ["--set", shlex.quote(recorded_override(override))]
        return [*words, "--skip-empty"] if self.skips_empty else words


def _option(name: str, annotation: Any, default: Any, flags: tuple[str, ...] = (), **info: Any) -> inspect.Parameter:
    flag = typer.Option(f"--{name.strip('_').replace('_', '-')}", *flags, **info)
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[annotation, flag]
    )


ForceOption = Annotated[
    list[str] | None,
    typer.Option(
        "--force",
        metavar="TRIAL|STAGE",
        help="Trial or stage to do again, with everything that depends on it; repeatable.",
    ),
]
ExtendOption = Annotated[
    list[str] | None,
    typer.Option(
        "--extend",
        metavar="TRIAL",
        help="Continue a finished trial whose steps were raised (keep: resume); repeatable.",
    ),
]
_COMMON = (
    _option("config", Path, DEFAULT_CONFIG, metavar="FILE", help="Config file with the profiles."),
    _option("profile", str | None, None, metavar="NAME", help="Profile [default: that of the file]."),
    _option("name", str | None, None, metavar="NAME", help="Name of the run [default: the profile's name]."),
    _option(
        "storage",
        str,
        DEFAULT_STORAGE,
        metavar="FOLDER",
        help="Where run folders are stored: a path that every node can read, s3://… or gs://…",
    ),
)
_SET = _option(
    "set_",
    list[str] | None,
    None,
    metavar="KEY=VALUE",
    help="Change a setting of the profile, such as training.steps=200; repeatable.",
)
_ALLOW_LEAKS = _option(
    "allow_leaks", bool, False, help="Give verdicts, marked as such, even if training data contain test documents."
)
_SKIP_EMPTY = _option("skip_empty", bool, False, help="Leave out levels whose texts are missing or too few.")
_QUIET = _option("quiet", bool, False, flags=("-q",), help="Print only warnings and errors.")


def with_settings(
    *,
    overrides: bool = True,
    allow_leaks: bool = False,
    skip_empty: bool = False,
    quiet: bool = False,
    reads_config: bool = True,
    fetches: str = "",
    needs_run: bool = False,
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the common options, which it receives as `Settings`, its first argument.

    With `reads_config`, mistakes in the config end the command before it begins; see `Settings` for `fetches` and
    `needs_run`.  The others say whether it has the option.
    """
    asked = [(_SET, overrides), (_ALLOW_LEAKS, allow_leaks), (_SKIP_EMPTY, skip_empty), (_QUIET, quiet)]
    common = [*_COMMON, *(option for option, is_asked in asked if is_asked)]

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        own = list(inspect.signature(command).parameters.values())[1:]

        def run_command(**options: Any) -> None:
            values = {option.name: options.pop(option.name) for option in common}
            leaks = ("report.allow_leaks=true",) if values.get("allow_leaks") else ()
            settings = Settings(
                file=values["config"],
                asked_profile=values["profile"],
                name=values["name"],
                storage=values["storage"],
                overrides=(*(values.get("set_") or ()), *leaks),
                skips_empty=values.get("skip_empty", False),
                is_quiet=values.get("quiet", False),
                fetches=fetches,
                needs_run=needs_run,
            )
            if reads_config:
                settings.refuse_mistakes()
            with settings.fetched() as current:
                command(current, **options)

        parameters = [*common, *(option.replace(kind=inspect.Parameter.KEYWORD_ONLY) for option in own)]
        run_command.__name__, run_command.__doc__ = command.__name__, command.__doc__
        run_command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run_command.__annotations__ = {option.name: option.annotation for option in parameters}
        return run_command

    return decorate


def new_group() -> typer.Typer:
    """Make a group whose commands `app.py` adds to the top level."""
    return typer.Typer(no_args_is_help=True, rich_markup_mode=None)
