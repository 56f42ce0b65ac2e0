"""Chooses the models that `raysweep infill` uses: one in a folder, one model of a run, or each level's own model."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from raysweep.cli.settings import Settings
from raysweep.errors import ConfigError, InputError
from raysweep.storage.run_folder import RunFolder


@dataclass(frozen=True, kw_only=True, slots=True)
class ChosenModels:
    """The chosen models, by name, and the language of the texts that they were trained on."""

    folders: Mapping[str, Path]
    """The key '' stands for a single model whose name is not shown."""
    language: str
    run: RunFolder | None = None
    """The run that they belong to."""
    levels: Mapping[str, str] = field(default_factory=dict)
    """By name, the level of each model that was trained on only one."""

    def load(self) -> dict[str, Any]:
        """Load the models on the CPU, by name."""
        from raysweep.model.gpt2 import load_model

        return {name: load_model(folder, "cpu") for name, folder in self.folders.items()}


@contextmanager
def choose_models(settings: Settings, model: str | None, *, all_levels: bool) -> Iterator[ChosenModels]:
    """Find the models, and fetch them from object storage; without a run, `model` is a folder or an address.

    Raises:
        ConfigError: the options do not determine a model.
        InputError: the model does not exist, or its files have changed since it was trained.
    """
    if all_levels and model is not None:
        raise ConfigError("--all-levels and --model: found both; give one of them")
    if settings.name is None:
        if all_levels:
            raise ConfigError("--all-levels: needs --name, the run whose models are asked")
        yield ChosenModels(folders={"": _find_folder(model)}, language="en")
        return
    with settings.fetched() as current:
        yield _models_of(current.folder, model, all_levels=all_levels)


def _find_folder(model: str | None) -> Path:
    """Find the model in the given folder; without one, in ./model."""
    from raysweep.staging.bucket_address import is_bucket_uri
    from raysweep.staging.run_view import fetch_folder
    from raysweep.storage.run_folder import TrialFolder

    folder = (
        fetch_folder(model, option="--model") if model is not None and is_bucket_uri(model) else Path(model or "model")
    )
    for place in (folder, TrialFolder(folder).model):
        if (place / "config.json").is_file():
            return place
    if model is None:
        raise ConfigError(
            "infill: found no model; give --name RUN with --model TRIAL or --all-levels, or --model FOLDER"
        )
    raise InputError(
        f"--model: found '{model:.80}', which holds no model; must be a folder such as runs/local/trials/all, or with "
        "--name RUN a trial such as all"
    )


def _models_of(run: RunFolder, model: str | None, *, all_levels: bool) -> ChosenModels:
    from raysweep.config.loading import read_resolved_config
    from raysweep.pipeline.status import read_done_trials
    from raysweep.scheduling.records import read_model_digest
    from raysweep.scheduling.trials import expand_trials, find_roles
    from raysweep.staging.run_command import run_command

    config = read_resolved_config(run)
    trials = expand_trials(config)
    done = read_done_trials(run, trials)
    own = find_roles(trials, config.data.levels).specialised.values()
    names = [name for name in (next((name for name in seeds if name in done), None) for seeds in own) if name]
    if not all_levels:
        names = [model] if model in done else []
    if not names:
        trained = ", ".join(done) or f"none yet; do {run_command(run)} first"
        problem = "no level has a model of its own" if all_levels else f"found '{model or '':.80}'"
        if model is None and not all_levels:
            problem = "give one, or --all-levels"
        raise InputError(
            f"--{'all-levels' if all_levels else 'model'}: {problem}; trained in '{run.name}' are {trained}"
        )
    for name in names:
        read_model_digest(run.trial(name))  # refuses what is damaged
    shown = dict(zip(names if all_levels else [""], names, strict=True))
    return ChosenModels(
        folders={label: run.trial(name).model for label, name in shown.items()},
        language=config.data.language,
        run=run,
        levels={
            label: trials[name].settings.levels[0]
            for label, name in shown.items()
            if len(trials[name].settings.levels) == 1
        },
    )
