"""Loads a run from its folder: its models by name, its losses, its evidence, and predictors of levels.

Nothing is read before it is needed, and every file is first compared with the record that lists it.  Torch is
imported with the first model, because its import takes seconds and `raysweep score`, whose models are in other
processes, does not need it.
"""

import shlex
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from pydantic import ValidationError

from raysweep.config.loading import read_resolved_config
from raysweep.config.schema import Config
from raysweep.config.training_settings import SCRATCH
from raysweep.errors import DamagedError, InputError, ResourceError
from raysweep.evidence.evidence_schema import Evidence
from raysweep.inference.level_classifier import LevelClassifier, model_digest_of
from raysweep.inference.level_predictor import LevelPredictor
from raysweep.inference.scoring_rules import ScoringRules
from raysweep.inference.trained_model import TrainedModel
from raysweep.masking.example_store import run_vocabulary
from raysweep.model.start_folder import find_folder, local_folder
from raysweep.scheduling.records import State, read_record
from raysweep.scheduling.trials import START_MODEL, Trial, expand_trials
from raysweep.staging.run_command import place_options, run_command
from raysweep.storage.classification_files import ClassificationFolder
from raysweep.storage.digests import combine_digests, find_damage, read_sealed
from raysweep.storage.printable import shown
from raysweep.storage.run_folder import RunFolder
from raysweep.training.job import start_of_training

if TYPE_CHECKING:
    import torch

_FAMILIES = ("specialised", "transfer")


@dataclass(frozen=True)
class LoadedRun:
    """A run; get it from `raysweep.load(folder)`."""

    folder: RunFolder
    device_name: str | None = None
    """The device of the models, such as 'cpu' or 'cuda:1'; None: a GPU if there is one."""

    def __getitem__(self, name: str) -> TrainedModel:
        """Return the model of a trial, or the common start of the models as 'start'.

        Raises:
            KeyError: there is no finished training of this name; the message lists the names.
        """
        return self.models[name]

    @cached_property
    def device(self) -> "torch.device":
        """The device of the models."""
        return find_device(self.device_name)

    @cached_property
    def models(self) -> "Models":
        """The common start, followed by every trained model, by the name of its trial.

        Raises:
            DamagedError, EarlierVersionError: a trial's record is damaged, or was written by another version.
        """
        done = {name for name in self._trials if self._is_done(name)}
        models = {START_MODEL: self._model(START_MODEL, self._read_start)}
        models |= {name: self._model(name, partial(self._read_model, name)) for name in self._trials if name in done}
        return Models(models)

    @cached_property
    def levels(self) -> LevelPredictor:
        """A predictor of levels with the models of a single level; for fine-tuned models see `level_predictor`."""
        return self.level_predictor("specialised")

    def level_predictor(self, family: str) -> LevelPredictor:
        """Return a predictor of the levels of texts.

        Args:
            family: 'specialised' for the models of a single level, 'transfer' for the fine-tuned models.

        Raises:
            InputError: the run's report compares fewer than two models of this family, or is based on scores of other
                models than the present ones.
        """
        if family not in _FAMILIES:
            raise InputError(f"family: found '{family[:40]}'; must be {' or '.join(_FAMILIES)}")
        row = next((row for row in self.evidence.cold_start if row.family == family), None)
        if row is None:
            raise InputError(
                f"{self.folder.evidence}: knows no levels by {family} models; they need the scores of two of them"
            )
        if missing := [name for name in (row.experts[level] for level in row.levels) if name not in self.models]:
            raise InputError(
                f"{self.folder.evidence}: tells levels by '{missing[0]:.40}' too, which is not trained now; "
                f"do {run_command(self.folder)} first"
            )
        calibration = row.calibration
        models = {level: self[row.experts[level]] for level in row.levels}
        self._refuse_stale_report([model.name for model in models.values()])
        return LevelPredictor(
            family=family,
            models=models,
            shares=row.shares,
            temperature=1.0 if calibration is None else calibration.temperature,
            accuracy=row.accuracy,
        )

    def level_classifier(self, path: str | Path | None = None) -> LevelClassifier:
        """Load a classifier that was fitted on perplexities of this run's models.

        Args:
            path: a file of `raysweep classify`; if None, the run's own classifier, which `classification` in the config
                fits on the run's valid documents.

        Raises:
            InputError: the file has no classifier, or one that was fitted on other models or other scores than the
                present ones.
            DamagedError: the run's own classifier is missing or was changed.
        """
        place = Path("classifier.skops" if path is None else path)
        options = shlex.join(["--out", str(place.with_suffix(".json")), "--force"])
        fix = f"classify again with `raysweep classify CORPUS {place_options(self.folder)} {options}`"
        if path is None:
            path, fix = ClassificationFolder.of(self.folder).classifier, f"do {run_command(self.folder)}"
            if self.config.classification is None:
                raise InputError(
                    f"{self.folder.root}: has no classifier of its own; "
                    f"do {run_command(self.folder, '--set', 'classification.folds=5')}"
                )
            self._refuse_damage("classify", path)
        # imports scikit-learn, which loading a run does not need
        from raysweep.classification.saved_classifier import load_classifier

        pipeline, levels, models = load_classifier(Path(path), fix=fix)
        for name, digest in models.items():
            if name not in self.models:
                raise InputError(f"{path}: reads perplexities of '{name[:40]}', which is no model of this run")
            if digest != model_digest_of(self.folder, name):
                raise InputError(f"{path}: was fitted on another model '{name[:40]}' than this run has now; {fix}")
        return LevelClassifier(pipeline=pipeline, levels=levels, models={name: self[name] for name in models})

    @cached_property
    def evidence(self) -> Evidence:
        """The evidence: all content of the report as typed records.

        Raises:
            InputError: there is no report, or another version of raysweep wrote it.
            DamagedError: the file was changed.
        """
        self._refuse_damage("report", self.folder.evidence)
        try:
            return Evidence.model_validate_json(self.folder.evidence.read_text(encoding="utf-8"))
        except ValidationError:  # a message for every number, thousands in all
            raise InputError(
                f"{self.folder.evidence}: was written by another version of raysweep; {self._fix('report')}"
            ) from None

    def losses(self) -> pd.DataFrame:
        """Read the losses of every test document, `evaluation/losses.parquet`.

        The table has a row per model, document, kind of span and part, with the sums `nats`, `tokens` and `bytes`.

        Raises:
            InputError: no model is scored yet.
            DamagedError: the table was changed.
        """
        self._refuse_damage("evaluate", self.folder.losses)
        return pd.read_parquet(self.folder.losses, page_checksum_verification=True)

    @cached_property
    def config(self) -> Config:
        """The settings of the run."""
        return read_resolved_config(self.folder)

    @cached_property
    def _trials(self) -> dict[str, Trial]:
        return expand_trials(self.config)

    def _fix(self, target: str) -> str:
        """Return, for messages, the complete command that makes a trial or a stage again."""
        stage = target if target == "report" else "run"  # a report depends on everything else
        return f"make it again with {run_command(self.folder, '--force', target, stage=stage)}"

    def _is_done(self, name: str) -> bool:
        record = read_record(self.folder.trial(name), fix=self._fix(name))
        return record is not None and record.state is State.DONE

    def _model(self, name: str, load: Any) -> TrainedModel:
        return TrainedModel(name=name, rules=ScoringRules.of_run(self.config), load=load)

    def _read_model(self, name: str) -> Any:
        trial = self.folder.trial(name)
        record = read_record(trial)
        assert record is not None
        prefix = f"{trial.model.name}/"
        outputs = {path: values for path, values in record.outputs.items() if path.startswith(prefix)}
        if damaged := find_damage(trial.root, outputs):
            raise DamagedError(f"{damaged[0].path} {damaged[0].what}; {self._fix(name)}")
        from raysweep.model.gpt2 import load_model

        return load_model(trial.model, self.device)

    def _read_start(self) -> Any:
        """Build the start of the trials without a parent, like the evaluate stage."""
        from raysweep.model.gpt2 import build_model

        config = self.config
        first = next(trial for trial in self._trials.values() if trial.parent is None)
        record = read_record(self.folder.trial(first.name))
        is_pretrained = record is not None and config.model.start != SCRATCH
        network: Any = build_model(
            start_of_training(config),
            model=config.model,
            vocabulary=run_vocabulary(self.folder.examples, config.model.tokenizer),
            max_tokens=config.masking.max_tokens,
            seed=first.seed,
            start_digest=str(record.identity["model"]["start"]) if record and is_pretrained else "",
        )
        return network.to(self.device).eval()

    def _refuse_stale_report(self, models: Collection[str]) -> None:
        """Raise InputError if the scores of `models`, or the models themselves, were made again since the report."""
        stages = read_sealed(self.folder.record, fix=self._fix("report"))["stages"]
        evaluated = stages["evaluate"]
        is_stale = stages["report"]["made_from"]["evaluate"] != combine_digests(evaluated["outputs"])
        for name in models:
            record, path = read_record(self.folder.trial(name), fix=self._fix(name)), self.folder.cells_record(name)
            assert record is not None
            scores = read_sealed(path, fix=self._fix(name)) if path.exists() else None
            is_stale |= (
                scores is None
                or scores["made_from"]["model"] != record.model_digest
                or evaluated["made_from"][name] != combine_digests(scores["outputs"], r".*\.parquet$")
            )
        if is_stale:
            raise InputError(
                f"{self.folder.evidence}: rests on other models or scores than those that are there now; "
                f"do {run_command(self.folder)} first"
            )

    def _refuse_damage(self, stage: str, path: Path) -> None:
        """Raise DamagedError if a stage's file does not match run.json, and InputError if the stage is not done."""
        name, fix = path.relative_to(self.folder.root).as_posix(), self._fix(stage)
        stages = read_sealed(self.folder.record, fix=fix)["stages"] if self.folder.record.exists() else {}
        outputs = stages.get(stage, {}).get("outputs", {})
        if name not in outputs:
            raise InputError(f"{path}: not there; do {run_command(self.folder)} first")
        if damaged := find_damage(self.folder.root, {name: outputs[name]}):
            raise DamagedError(f"{path} {damaged[0].what}; {fix}")


class Models(Mapping[str, TrainedModel]):
    """Trained models by name; the error for an unknown name lists the known names."""

    def __init__(self, models: Mapping[str, TrainedModel]) -> None:
        self._models = dict(models)

    def __getitem__(self, name: str) -> TrainedModel:
        if name not in self._models:
            raise KeyError(f"{name}: no such model; trained are {', '.join(self._models)}")
        return self._models[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._models)

    def __len__(self) -> int:
        return len(self._models)

    def __repr__(self) -> str:
        return f"Models({', '.join(self._models)})"


def open_run(folder: Path, device: str | None = None) -> LoadedRun:
    """Load a run; see `raysweep.load`.  Raises InputError if the folder has none."""
    run = LoadedRun(RunFolder(folder), device)
    _ = run.config
    if device is not None:
        _ = run.device  # raise now if there is no such device
    return run


def open_model(start: str, device: str | None = None) -> TrainedModel:
    """Load one model; see `raysweep.load_model`.  Raises InputError if it is not a GPT-2, or cannot be found."""
    from raysweep.model.gpt2 import load_model

    place = find_device(device)
    folder = find_folder(start, "model")
    network = load_model(folder, place, needs_infilling=False)
    name = start if local_folder(start) is None else _name_of(folder)
    return TrainedModel(
        name=name, rules=ScoringRules.of_positions(int(network.config.n_positions)), load=lambda: network
    )


def find_device(device: str | None) -> "torch.device":
    """Return the device with this name; None: a GPU if there is one.  Raises InputError if there is no such device."""
    import torch

    from raysweep.model.torch_devices import select_device

    try:
        selected = select_device(device)
        torch.empty(0, device=selected)
    # Torch without CUDA raises an AssertionError; without the package of another device, ImportError or others.
    except (ResourceError, RuntimeError, AssertionError, ImportError, NotImplementedError) as error:
        raise InputError(
            f"device: found {shown(str(device))}, which torch cannot use here; must be such as 'cpu' or 'cuda:0', "
            "or None for a GPU if there is one"
        ) from error
    return selected


def _name_of(folder: Path) -> str:
    """Return the trial's name for a trial's model folder, otherwise the folder's name."""
    resolved = folder.resolve()
    return resolved.parent.name if resolved.name == "model" else resolved.name
