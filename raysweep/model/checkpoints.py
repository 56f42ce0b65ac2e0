"""Checkpoints of a training: everything it needs to resume as if it had not been interrupted.

    checkpoints/step-00000400/  model.safetensors  optimizer.safetensors  checkpoint.json
    checkpoints/best-00000300/  model.safetensors  checkpoint.json

A folder appears by rename and its record holds the checksum of every file, so a damaged checkpoint is detected and
logged, and the previous one is used; by default the last two steps are kept.  The best model has a folder named after
its step, which is deleted only when no kept step refers to it: if it were overwritten in place, a kill between the two
writes would leave a step without its best model.

Tensors are stored as safetensors, everything else as JSON: no pickle is ever loaded.
"""

import logging
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from raysweep.config.fingerprints import fingerprint
from raysweep.errors import InputError, TrainingError
from raysweep.storage.atomic_files import atomic_folder, read_json, remove_leftovers, write_json
from raysweep.storage.digests import digest_file
from raysweep.storage.run_folder import CHECKPOINT_RECORD

logger = logging.getLogger(__name__)

Tensors = Mapping[str, torch.Tensor]


class _DamagedError(Exception):
    """A checkpoint's files are missing or differ from those that were written."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Checkpoint:
    """The state of a training after a step."""

    step: int
    state: Mapping[str, Any]
    """JSON values; `best_step` is the step of the best model so far, 0 if there is none yet."""
    model: Tensors
    optimizer: Tensors


class Checkpoints:
    """The checkpoints of one training, in one folder."""

    def __init__(self, folder: Path, work: str, trial: str, keep: int = 2) -> None:
        """Name the folder.

        Args:
            work: fingerprint of the training's config and data, which the checkpoints must match.
            trial: the trial's name, for messages.
            keep: number of last steps to keep, at least 1; with 1 there is no fallback for a damaged checkpoint.
        """
        self.folder, self.work, self.trial, self.keep = folder, work, trial, keep

    def save(self, checkpoint: Checkpoint) -> None:
        """Write a step, then remove the folders that no kept step needs.

        In this order a crash in between leaves one folder too many, never one too few.
        """
        parts = {"model": checkpoint.model, "optimizer": checkpoint.optimizer}
        self._write(self._place("step", checkpoint.step), checkpoint.step, checkpoint.state, parts)
        self._remove_unneeded(checkpoint)

    def save_best(self, step: int, model: Tensors) -> None:
        """Write the best model so far; it is kept until no kept step refers to it."""
        self._write(self._place("best", step), step, {}, {"model": model})

    def newest(self) -> Checkpoint | None:
        """Load the last undamaged step whose best model is undamaged too; None if there is none.

        Raises:
            TrainingError: a checkpoint has another fingerprint.
        """
        for step in reversed(self._steps("step")):
            try:
                return self.load(step)
            except _DamagedError as error:
                logger.warning(
                    "%s: checkpoint of step %d is damaged (%s); using the one before", self.trial, step, error
                )
        if self._steps("step"):
            logger.warning("%s: no checkpoint can be used; starting from the first step", self.trial)
        return None

    def load(self, step: int) -> Checkpoint:
        """Load the checkpoint of a step."""
        place = self._place("step", step)
        state = self._verified_state(place)
        if best_step := state["best_step"]:
            self._verified_state(self._place("best", best_step))
        return Checkpoint(
            step=step, state=state, model=_tensors(place, "model"), optimizer=_tensors(place, "optimizer")
        )

    def load_best(self, step: int) -> dict[str, torch.Tensor]:
        """Load the best model, which was written at `step`; raises TrainingError if its files are damaged."""
        place = self._place("best", step)
        try:
            self._verified_state(place)
            return _tensors(place, "model")
        except _DamagedError as error:
            raise TrainingError(
                f"{self.trial}: {place} is damaged ({error}); check the disk, delete {self.folder} and train again"
            ) from error

    def sweep(self) -> None:
        """Remove the half-written folders of a killed process; call it before anything is written."""
        remove_leftovers(self.folder)

    def remove_all(self) -> None:
        """Delete all checkpoints; call it after the training's result is written."""
        if self.folder.exists():
            shutil.rmtree(self.folder)

    def keep_last(self) -> None:
        """Delete all but the last step and its best model; call it after the training's result is written."""
        if steps := self._steps("step"):
            best = self._record(self._place("step", steps[-1]))["state"]["best_step"]
            kept = {self._place("step", steps[-1]), self._place("best", best)}
            for path in [*self.folder.glob("step-*"), *self.folder.glob("best-*")]:
                if path not in kept:
                    shutil.rmtree(path)

    def are_own(self) -> bool:
        """Tell whether the last step has this training's fingerprint."""
        steps = self._steps("step")
        try:
            return bool(steps) and self._record(self._place("step", steps[-1]))["work"] == self.work
        except _DamagedError:
            return False

    def take_over(self, earlier: str) -> None:
        """Give the checkpoints of a shorter training, which this one extends, this one's fingerprint; may be repeated.

        Args:
            earlier: the fingerprint of the shorter training.

        Raises:
            TrainingError: there are no checkpoints, or one is damaged.
        """
        places = [self._place(kind, step) for kind in ("best", "step") for step in self._steps(kind)]
        if not any(place.name.startswith("step") for place in places):
            raise TrainingError(
                f"{self.trial}: {self.folder} holds no checkpoint; train again with --force {self.trial}"
            )
        for place in places:
            try:
                record = self._record(place)
            except _DamagedError as error:
                raise TrainingError(
                    f"{self.trial}: {place} is damaged ({error}); train again with --force {self.trial}"
                ) from error
            if record["work"] == earlier:
                record["work"] = self.work
                write_json(place / CHECKPOINT_RECORD, {**record, "checksum": fingerprint(record)})

    def _place(self, kind: str, step: int) -> Path:
        return self.folder / f"{kind}-{step:08d}"

    def _steps(self, kind: str) -> list[int]:
        return sorted(int(path.name.rpartition("-")[2]) for path in self.folder.glob(f"{kind}-" + "[0-9]" * 8))

    def _write(self, place: Path, step: int, state: Mapping[str, Any], parts: Mapping[str, Tensors]) -> None:
        with atomic_folder(place) as temporary:
            for name, tensors in parts.items():
                save_file({key: _plain(tensor) for key, tensor in tensors.items()}, _file(temporary, name))
            files = {name: digest_file(_file(temporary, name)) for name in parts}
            record = {"work": self.work, "step": step, "state": dict(state), "files": files}
            write_json(temporary / CHECKPOINT_RECORD, {**record, "checksum": fingerprint(record)})

    def _record(self, place: Path) -> dict[str, Any]:
        try:
            record = read_json(place / CHECKPOINT_RECORD)
        except (OSError, InputError) as error:
            raise _DamagedError(f"{place.name}/{CHECKPOINT_RECORD} cannot be read") from error
        if not isinstance(record, dict) or record.pop("checksum", None) != fingerprint(record):
            raise _DamagedError(f"{place.name}/{CHECKPOINT_RECORD} has another checksum")
        return record

    def _verified_state(self, place: Path) -> Mapping[str, Any]:
        record = self._record(place)
        if record["work"] != self.work:
            raise TrainingError(
                f"{self.trial}: {place} belongs to other work ({record['work']}, not {self.work}: other settings, data "
                f"or parent); redo the trial with --force {self.trial}, or delete {self.folder}"
            )
        for name, expected in record["files"].items():
            file = _file(place, name)
            if not file.exists() or digest_file(file) != expected:
                raise _DamagedError(f"{place.name}/{file.name} is missing or has another checksum")
        state: Mapping[str, Any] = record["state"]
        return state

    def _remove_unneeded(self, newest: Checkpoint) -> None:
        steps = self._steps("step")
        # A step above the one just written is damaged, or it would have been resumed.
        kept = [step for step in steps if step <= newest.step][-self.keep :]
        for step in set(steps) - set(kept):
            shutil.rmtree(self._place("step", step))
        needed = {newest.state["best_step"]}
        for step in kept[:-1]:
            try:
                needed.add(self._record(self._place("step", step))["state"]["best_step"])
            except _DamagedError:
                shutil.rmtree(self._place("step", step))
        for step in set(self._steps("best")) - needed:
            shutil.rmtree(self._place("best", step))


def _file(place: Path, name: str) -> Path:
    return place / f"{name}.safetensors"


def _plain(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.detach().to("cpu").contiguous()


def _tensors(place: Path, name: str) -> dict[str, torch.Tensor]:
    try:
        return load_file(_file(place, name))
    except (OSError, SafetensorError) as error:
        raise _DamagedError(f"{place.name}/{name}.safetensors cannot be read") from error
