"""One of the trainings that a calibration times at once: `python -m raysweep.planning.calibration_worker`.

It trains on examples of the config's own data and records how long every step takes.  The parent
writes to a file how many of the workers train, so that the same processes are timed alone and
together.  The first worker then times an export and scores a few documents.
"""

import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import yaml

from raysweep.config.loading import parse_config
from raysweep.config.schema import Config
from raysweep.scheduling.trials import START_MODEL, Trial
from raysweep.storage.atomic_files import read_json, write_json
from raysweep.storage.run_folder import RunFolder
from raysweep.training.job import Evaluation, TrainingJob, training_job

END = 0
"""The phase in which all workers end."""
WARM_UP_STEPS = 2
EVALUATE_EVERY = 4
VALID_EXAMPLES = 16
SCORING_S = 4.0
MOST_SCORINGS = 5
_WAIT_S = 0.02
_NO_PHASE = -1
_MANY_STEPS = 1_000_000
"""Practically unlimited: the training is stopped long before."""


class Stopwatch:
    """Times the steps of a training, and pauses it while others are timed."""

    def __init__(self, folder: Path, index: int, *, device: str) -> None:
        self._folder, self._index, self._device = folder, index, device
        self._began: tuple[float, int] | None = None
        self.steps: list[tuple[int, float]] = []
        """(phase, seconds) of every step in order; phase -1 for a step that belongs to no phase."""
        self.evaluations = 0

    def between_steps(self) -> str | None:
        """Act as the training's `should_stop`: record the step, and wait until this worker may train."""
        self._synchronize()
        now, phase = time.perf_counter(), self._phase()
        if self._began is not None:
            began, before = self._began
            self.steps.append((phase if phase == before else _NO_PHASE, now - began))
            (self._folder / f"timed-{self.steps[-1][0]}-{self._index}").touch()
        else:
            self.steps.append((_NO_PHASE, 0.0))
        if len(self.steps) == WARM_UP_STEPS:
            (self._folder / f"ready-{self._index}").touch()
        while self._index >= phase != END and len(self.steps) >= WARM_UP_STEPS:
            time.sleep(_WAIT_S)
            phase = self._phase()
        self._began = (time.perf_counter(), phase)
        return "calibrated" if phase == END else None

    def after_evaluation(self, _: Evaluation) -> None:
        """Restart the step timer after an evaluation."""
        self._synchronize()
        self.evaluations += 1
        self._began = (time.perf_counter(), self._phase())

    def _phase(self) -> int:
        """Return how many workers train now; practically all until the parent writes a number."""
        try:
            return int((self._folder / "phase").read_text())
        except FileNotFoundError:
            return 1 << 16

    def _synchronize(self) -> None:
        if self._device != "cpu":
            import torch

            torch.cuda.synchronize()


def measure(root: Path, index: int) -> dict[str, Any]:
    """Train until the parent ends it; return the measurements in seconds, bytes and tokens."""
    from raysweep.training.loop import train

    spec = read_json(root / "spec.json")
    device = spec["device"]
    config = parse_config(yaml.safe_load((root / "config.yaml").read_text(encoding="utf-8")))
    job = calibration_job(config, RunFolder(root), f"worker-{index}", steps=_MANY_STEPS)
    watch = Stopwatch(root, index, device=device)
    result = train(job, device=device, on_evaluation=watch.after_evaluation, should_stop=watch.between_steps)
    lines = [json.loads(line) for line in (job.folder / "metrics.jsonl").read_text().splitlines()]
    tokens = [line["tokens"] for line in lines if line["kind"] == "step"]
    seen: dict[str, Any] = {
        "steps": [[phase, seconds, count] for (phase, seconds), count in zip(watch.steps, tokens, strict=True)],
        "evaluation_s": result.seconds["evaluation"] / max(1, watch.evaluations),
        "checkpoint_s": result.seconds["checkpoint"] / (1 + watch.evaluations / 3),
        "parameters": result.parameters,
        **_memory(device, result.peak_memory_bytes),
    }
    return seen | _time_the_rest(config, root, spec) if index == 0 else seen


def calibration_job(config: Config, folder: RunFolder, name: str, *, steps: int) -> TrainingJob:
    """Make the config's training, on all levels and without a parent."""
    entry = next(iter(config.trials.values()))
    settings = entry.model_copy(
        update={
            "levels": config.data.levels,
            "parent": None,
            "search": None,
            "steps": steps,
            "evaluate_every": EVALUATE_EVERY,
            "checkpoint_every": _MANY_STEPS,
            "valid_examples": VALID_EXAMPLES,
            "patience": None,
        }
    )
    trial = Trial(name=name, entry=name, seed=0, settings=settings, parent=None)
    return training_job(config, folder, trial, "calibration")


def _time_the_rest(config: Config, root: Path, spec: dict[str, Any]) -> dict[str, float]:
    """Time building and exporting a model around one step, and scoring per additional document."""
    from raysweep.evaluation.scoring import score_model
    from raysweep.training.loop import train

    folder = RunFolder(root)
    job = calibration_job(config, folder, "short", steps=1)
    began = time.perf_counter()
    result = train(job, device=spec["device"])
    finish_s = time.perf_counter() - began - sum(result.seconds.values())
    generated, tested = spec["generated"], spec["tested"].values()
    masks = config.evaluation.examples_per_document
    extra = sum(min(spec["scored"], count) - 1 for count in tested) * masks
    infilled = sum(min(generated, count) for count in tested)

    def timed(documents: int, generated: int = 0) -> float:
        counts = {"documents_per_level": documents, "generation_documents": generated}
        began = time.perf_counter()
        score_model(
            model=START_MODEL,
            start=str(job.folder / "model"),
            job=job,
            examples=folder.examples,
            documents=folder.documents,
            levels=tuple(spec["tested"]),
            evaluation=config.evaluation.model_copy(update=counts),
            seed=0,
            out=folder.cells("calibration"),
            record=folder.cells_record("calibration"),
            identity={},
            made_from={},
            device=spec["device"],
        )
        return time.perf_counter() - began

    timed(1, generated)  # warm up: the first call is slower than the others
    began = time.perf_counter()
    rounds: list[tuple[float, float, float]] = []
    # A small model scores so quickly that one measurement is too noisy.
    while not rounds or (len(rounds) < MOST_SCORINGS and time.perf_counter() - began < SCORING_S):
        rounds.append((timed(1), timed(spec["scored"]), timed(1, generated)))
    few, more, with_texts = (statistics.median(column) for column in zip(*rounds, strict=True))
    # On a busy machine, many examples may take no longer than one; then the whole time is charged to them.
    scoring_s = more - few if more > few else more
    return {
        "finish_s": max(0.0, finish_s),
        "score_example_s": scoring_s / max(1, extra),
        "generate_document_s": max(0.0, with_texts - few) / max(1, infilled),
    }


def _memory(device: str, peak: int) -> dict[str, int]:
    """Return a GPU's memory and what this process holds of it; on a CPU the process's peak (0: the parent knows it)."""
    if device == "cpu":
        return {"memory_bytes": peak, "device_memory_bytes": 0}
    import torch

    context = 700 << 20  # used by the driver and kernels, which torch does not count; assumed, not measured
    return {
        "memory_bytes": max(peak, torch.cuda.max_memory_reserved()) + context,
        "device_memory_bytes": int(torch.cuda.get_device_properties(0).total_memory),
    }


def main() -> None:
    """Run this worker; the arguments are the folder and its number."""
    root, index = Path(sys.argv[1]), int(sys.argv[2])
    write_json(root / f"seen-{index}.json", measure(root, index))


if __name__ == "__main__":
    main()
