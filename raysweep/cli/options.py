"""Options that several commands share, and the settings they lead to."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:  # pydantic is not needed to print a help page
    from raysweep.cli.settings import Settings

ConfigOption = Annotated[Path, typer.Option("--config", help="The file with the profiles.")]
ProfileOption = Annotated[str | None, typer.Option("--profile", help="Which profile; the file's default if absent.")]
NameOption = Annotated[str | None, typer.Option("--name", help="The run's name; the profile's if absent.")]
StorageOption = Annotated[str, typer.Option("--storage", help="Where run folders lie; a path that every node sees.")]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", help="path.to.key=value, laid over the profile; may be given several times."),
]
ForceOption = Annotated[
    list[str] | None,
    typer.Option("--force", help="A trial or stage to do again, with what depends on it; may be given several times."),
]
InlineOption = Annotated[bool, typer.Option("--inline", help="Work in this process, one piece at a time, without Ray.")]
AllowLeaksOption = Annotated[
    bool,
    typer.Option("--allow-leaks", help="Give verdicts although training knows test documents, and mark them."),
]
FailFastOption = Annotated[
    bool,
    typer.Option(
        "--fail-fast/--keep-going",
        help="Whether the first trial that fails stops the others, at a checkpoint; else all but its children go on.",
    ),
]

DEFAULT_CONFIG = Path("experiments.yaml")
DEFAULT_STORAGE = "runs"


def new_group() -> typer.Typer:
    """Commands that `app.py` lays beside the others."""
    return typer.Typer(no_args_is_help=True, rich_markup_mode=None)


def settings_of(
    config: Path,
    profile: str | None,
    name: str | None,
    storage: str,
    set_: list[str] | None,
    *,
    allow_leaks: bool = False,
) -> "Settings":
    """The config, the profile and the run folder that the options name."""
    from raysweep.cli.settings import read_settings

    overrides = [*(set_ or []), *(["report.allow_leaks=true"] if allow_leaks else [])]
    return read_settings(config, profile=profile, name=name, storage=storage, overrides=overrides)
