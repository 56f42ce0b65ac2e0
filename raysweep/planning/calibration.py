"""Measures a machine for the config's model and data, in less than a minute and without Ray.

A small run in a temporary folder: a sample of the corpus is masked, a few processes train on it, first
one alone and then several side by side, and one exports its model and scores documents with it.  Every
part is the code that a run uses.  What comes out are `planning.rates.Rates` and the data's size;
`calibration_cache` keeps them.
"""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raysweep.config.loading import dump_config
from raysweep.config.schema import Config
from raysweep.errors import ResourceError
from raysweep.planning import devices
from raysweep.planning.calibration_sample import make_examples
from raysweep.planning.calibration_worker import END, VALID_EXAMPLES
from raysweep.planning.forecast import DataSize
from raysweep.planning.model_size import size_of_hub_model
from raysweep.planning.rates import ROW_S, Rates
from raysweep.storage.atomic_files import read_json, write_json, write_text
from raysweep.storage.run_folder import RunFolder

LIMIT_S = 60.0
"""For the whole of it; what is not measured by then is left out."""
PHASE_S = 4.0
"""For which so many workers train side by side."""
SCORED_DOCUMENTS = 12
"""Of each level, in the longer of two scorings."""
MOST_TOGETHER = 4
"""Trainings on one GPU that are tried."""

Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Calibration:
    """What was measured."""

    rates: Rates
    data: DataSize


def calibrate(
    config: Config, *, device: devices.Device, place: Path, say: Say, limit_s: float = LIMIT_S
) -> Calibration:
    """Measure this machine.

    Args:
        place: an empty folder, for the sample, its examples and models.

    Raises:
        ResourceError: a training did not come to its steps in time, or failed; names its output.
    """
    began, folder = time.monotonic(), RunFolder(place)
    say("calibrate: preparing a sample of the data")
    data, mask_s, mask_start_s, tested = make_examples(config, folder)
    together = _counts(config, device)
    say(f"calibrate: training {_or(together)} at a time on {device.name}")
    write_text(folder.config, dump_config(local_model(config)))
    spec = {
        "device": device.torch_name,
        "scored": SCORED_DOCUMENTS,
        "generated": min(4, config.evaluation.generation_documents),
        "tested": tested,
    }
    write_json(folder.root / "spec.json", spec)
    threads, until = config.resources.cpus_per_trial, began + limit_s
    while True:
        try:
            seen = _run_workers(folder.root, together, threads=threads, until=until, say=say)
            break
        except ResourceError as error:
            if device.kind == "cpu" or len(together) == 1:
                raise
            # Most likely the GPU's memory is not enough for so many; that they do not fit is a finding too.
            together, until = together[:-1], time.monotonic() + limit_s
            say(f"{error}; once more with {_or(together)} at a time")
            _forget_workers(folder)
    first, fits = seen[0], _fit_steps(seen, together)
    rates = Rates(
        source="measured",
        device=device.name,
        parameters=first["parameters"],
        step_s=fits[0],
        token_s=fits[1],
        evaluation_token_s=first["evaluation_s"] / (VALID_EXAMPLES * data.tokens_of(config.data.levels)),
        checkpoint_s=first["checkpoint_s"],
        finish_s=first["finish_s"],
        score_example_s=first["score_example_s"],
        generate_document_s=first["generate_document_s"],
        row_s=ROW_S,
        mask_s=mask_s,
        mask_start_s=mask_start_s,
        memory_bytes=max(each["memory_bytes"] for each in seen),
        device_memory_bytes=first["device_memory_bytes"] or device.memory_bytes,
        slow_down=_slow_downs(seen, together),
        measured_at=time.time(),
        took_s=round(time.monotonic() - began, 1),
    )
    return Calibration(rates=rates, data=data)


def _counts(config: Config, device: devices.Device) -> list[int]:
    """How many trainings are timed side by side: 1, and as many as would share the machine or a GPU."""
    if device.kind == "cpu":
        slots = max(1, device.cores // config.resources.cpus_per_trial)
        return sorted({1, slots})
    return [1, 2, MOST_TOGETHER]


def local_model(config: Config) -> Config:
    """The config with a model of the same size from scratch, where its start would have to come from the hub."""
    start = config.model.start
    if start == "scratch" or Path(start).expanduser().is_dir():
        return config
    model = config.model.model_copy(update={"start": "scratch", "size": size_of_hub_model(start)})
    return config.model_copy(update={"model": model})


def _run_workers(root: Path, together: Sequence[int], *, threads: int, until: float, say: Say) -> list[dict[str, Any]]:
    """Start the workers, take them through the phases, and read what they saw."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "TOKENIZERS_PARALLELISM": "false"}
    workers = [_start_worker(root, index, environment) for index in range(together[-1])]
    try:
        if not _wait_for(root, workers, "ready-{}", until):
            raise ResourceError(_why_not_ready(root, workers))
        for count in together:
            write_text(root / "phase", str(count))
            time.sleep(max(0.5, min(PHASE_S, (until - time.monotonic()) / 3)))
        write_text(root / "phase", str(END))
        say("calibrate: exporting and scoring")
        # What is left is short, and its end is waited for whatever it takes.
        for index, worker in enumerate(workers):
            if worker.wait(timeout=600) != 0:
                raise ResourceError(_why_not_ready(root, workers))
            assert (root / f"seen-{index}.json").exists()
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()
    return [read_json(root / f"seen-{index}.json") for index in range(len(workers))]


def _forget_workers(folder: RunFolder) -> None:
    for path in [*folder.root.glob("ready-*"), *folder.root.glob("seen-*"), folder.root / "phase"]:
        path.unlink(missing_ok=True)
    shutil.rmtree(folder.trials, ignore_errors=True)


def _start_worker(root: Path, index: int, environment: dict[str, str]) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", __name__.replace("calibration", "calibration_worker"), str(root), str(index)]
    with (root / f"output-{index}").open("wb") as output:
        return subprocess.Popen([*command, str(time.time())], env=environment, stdout=output, stderr=output)


def _wait_for(root: Path, workers: Sequence["subprocess.Popen[bytes]"], name: str, until: float) -> bool:
    while time.monotonic() < until:
        if all((root / name.format(index)).exists() for index in range(len(workers))):
            return True
        if any(worker.poll() is not None for worker in workers):
            return False
        time.sleep(0.1)
    return False


def _why_not_ready(root: Path, workers: Sequence["subprocess.Popen[bytes]"]) -> str:
    for index, worker in enumerate(workers):
        if worker.poll():
            lines = (root / f"output-{index}").read_text(errors="replace").strip().splitlines()
            return f"calibration: a training failed: {lines[-1] if lines else 'it said nothing'}"
    return (
        f"calibration: {len(workers)} trainings did not come to their second step within {LIMIT_S:g} s. "
        "Set resources.cpus_per_trial higher (fewer trainings at a time), or use a smaller model"
    )


def _fit_steps(seen: Sequence[dict[str, Any]], together: Sequence[int]) -> tuple[float, float]:
    """Seconds of a step without tokens, and of a token more: the line through the short and the long steps' medians.

    Medians, since a busy machine makes some steps take many times as long; the line keeps the mean
    over all steps, which is what a training takes.
    """
    import numpy as np

    alone = [[seconds, tokens] for phase, seconds, tokens in seen[0]["steps"] if phase == together[0]]
    if len(alone) < 2:
        alone = [[seconds, tokens] for _, seconds, tokens in seen[0]["steps"] if seconds]
    steps = np.array(sorted(alone, key=lambda row: row[1]))
    third = len(steps) // 3
    seconds_per_token = float(steps[:, 0].sum() / steps[:, 1].sum())
    if third < 4:
        return 0.0, seconds_per_token
    (short_s, short), (long_s, long) = np.median(steps[:third], axis=0), np.median(steps[-third:], axis=0)
    slope = float((long_s - short_s) / max(1.0, long - short))
    mean_s, mean = steps.mean(axis=0)
    fixed = float(mean_s - slope * mean)
    return (fixed, slope) if slope > 0 and fixed > 0 else (0.0, seconds_per_token)


def _slow_downs(seen: Sequence[dict[str, Any]], together: Sequence[int]) -> dict[int, float]:
    """Seconds for a token in company over those alone, for each number of trainings that was timed."""
    found: dict[int, float] = {}
    for count in together:
        rows = [row for each in seen[:count] for row in each["steps"] if row[0] == count]
        if rows:
            found[count] = sum(row[1] for row in rows) / sum(row[2] for row in rows)
    alone = found.get(together[0])
    return {count: max(1.0, each / alone) for count, each in found.items()} if alone else {}


def _or(counts: Sequence[int]) -> str:
    return " and ".join(map(str, counts)) if len(counts) < 3 else f"{', '.join(map(str, counts[:-1]))} and {counts[-1]}"
