"""Measures a machine with the config's model and data, in less than a minute and without Ray.

In a temporary folder, a sample of the corpus is masked; a few processes (`calibration_worker`) train on
it, first one alone and then several at once; one exports its model and scores documents with
it.  Every part uses the same code as a run.  The results are `planning.rates.Rates` and the data's
size; `calibration_cache` stores them.
"""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raysweep.config.loading import dump_config
from raysweep.config.schema import Config
from raysweep.config.training_settings import CORPUS_TOKENIZER, GPT2_TOKENIZER, START_TOKENIZER
from raysweep.errors import ResourceError
from raysweep.planning.calibration_worker import END, VALID_EXAMPLES
from raysweep.planning.devices import Device
from raysweep.planning.model_size import size_of_hub_model
from raysweep.planning.rates import DataSize, Rates
from raysweep.storage.atomic_files import read_json, write_json, write_text
from raysweep.storage.run_folder import ExamplesFolder, RunFolder

if TYPE_CHECKING:
    import pyarrow as pa

    from raysweep.masking.vocabulary import Vocabulary

LIMIT_S = 60.0
"""Time limit for everything; what is not measured by then is left out."""
PHASE_S = 4.0
"""Duration for each number of simultaneous trainings."""
SAMPLE_DOCUMENTS = 60
"""Number of documents of each level."""
SCORED_DOCUMENTS = 12
"""Number of documents of each level in the longer of two scorings."""
MOST_TOGETHER = 4
"""Maximum number of trainings tried on one GPU."""

Say = Callable[[str], None]
Worker = subprocess.Popen[bytes]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Sample:
    """The masked sample of the corpus."""

    size: DataSize
    """Size of the whole corpus."""
    mask_s: float
    """Seconds per example."""
    mask_start_s: float
    tested: dict[str, int]
    """Number of test documents by level; levels without any are left out."""


def calibrate(
    config: Config, *, device: Device, place: Path, say: Say, limit_s: float = LIMIT_S
) -> tuple[Rates, DataSize]:
    """Measure this machine in an empty folder, and count the data; raises ResourceError if a training failed."""
    began, folder = time.monotonic(), RunFolder(place)
    say("calibrate: preparing a sample of the data")
    sample = _make_examples(config, folder)
    together = _counts(config, device)
    say(f"calibrate: training {_join(together)} at a time on {device.name}")
    write_text(folder.config, dump_config(local_model(config)))
    spec = {
        "device": device.torch_name,
        "scored": SCORED_DOCUMENTS,
        "generated": min(4, config.evaluation.generation_documents),
        "tested": sample.tested,
    }
    write_json(folder.root / "spec.json", spec)
    threads, until = config.resources.cpus_per_trial, began + limit_s
    while True:
        try:
            measured = _run_workers(folder.root, together, threads=threads, until=until, say=say)
            break
        except ResourceError as error:
            if not device.gpus or len(together) == 1:
                raise
            # Most likely the GPU's memory is too small for that many, which is a result too.
            together, until = together[:-1], time.monotonic() + limit_s
            say(f"{error}; once more with {_join(together)} at a time")
            _forget_workers(folder)
    first, (step_s, token_s) = measured[0], _fit_steps(measured[0]["steps"], together[0])
    rates = Rates(
        source="measured",
        device=device.name,
        parameters=first["parameters"],
        step_s=step_s,
        token_s=token_s,
        evaluation_token_s=first["evaluation_s"] / (VALID_EXAMPLES * sample.size.tokens_of(config.data.levels)),
        checkpoint_s=first["checkpoint_s"],
        finish_s=first["finish_s"],
        score_example_s=first["score_example_s"],
        generate_document_s=first["generate_document_s"],
        mask_s=sample.mask_s,
        mask_start_s=sample.mask_start_s,
        memory_bytes=max(worker["memory_bytes"] for worker in measured),
        device_memory_bytes=first["device_memory_bytes"] or device.memory_bytes,
        slow_down=_slow_downs(measured, together),
    )
    return rates, sample.size


def local_model(config: Config) -> Config:
    """Replace a model from the hub by one of the same size from scratch."""
    start = config.model.start
    if start == "scratch" or Path(start).expanduser().is_dir():
        return config
    # The workers read the tokenizer stored with their examples, whatever the config says.
    changes = {"start": "scratch", "size": size_of_hub_model(start), "tokenizer": GPT2_TOKENIZER}
    model = config.model.model_copy(update=changes)
    return config.model_copy(update={"model": model})


def _make_examples(config: Config, folder: RunFolder) -> _Sample:
    """Prepare and mask a sample of the config's own corpus, as a run does."""
    import numpy as np
    import pyarrow as pa

    from raysweep.corpus.corpus_rows import read_corpus
    from raysweep.corpus.documents import sort_documents, write_documents
    from raysweep.corpus.sample import SAMPLE_COLUMNS, write_sample
    from raysweep.corpus.splits import SPLITS
    from raysweep.masking.example_store import ExampleStore
    from raysweep.masking.mask_shard import mask_shard
    from raysweep.masking.shards import write_manifest
    from raysweep.masking.tokenizer_folder import pack_vocabulary
    from raysweep.readers.locations import find_files

    levels, columns, rows = config.data.levels, None, 0
    if config.data.path is not None:
        files = find_files(config.data.path)
    else:
        files, columns, rows = [folder.sample_csv], SAMPLE_COLUMNS, config.data.sample.rows
        shares, sampled = config.data.sample.level_shares, SAMPLE_DOCUMENTS * len(levels) * 2
        write_sample(folder.sample_csv, rows=sampled, seed=config.seed, level_shares=shares, levels=levels)
    corpus = read_corpus(files, config.data, columns)
    scale = rows / corpus.rows if rows else 1.0
    names = np.array(corpus.documents["level"].to_pylist(), dtype=np.str_)
    rng = np.random.default_rng(0)
    chosen = [rng.permutation(np.flatnonzero(names == level))[:SAMPLE_DOCUMENTS] for level in levels]
    documents = sort_documents(corpus.documents.take(pa.array(np.concatenate(chosen))))
    # Of ten documents, one is for validation and two are for tests: timing needs no fair split.
    train, valid, test = (SPLITS.index(split) for split in ("train", "valid", "test"))
    splits = np.resize([train] * 7 + [valid] + [test] * 2, len(documents))
    write_documents(folder.documents, documents, splits, lambda *_: None)
    vocabulary = _make_tokenizer(config, corpus.documents["text"], scale, folder)
    tokenizer = pack_vocabulary(vocabulary)
    seconds = []
    for _ in range(2):
        began = time.perf_counter()
        summary = mask_shard(
            documents=folder.documents,
            rows=(0, len(documents)),
            shard=0,
            folder=folder.examples,
            policy=config.masking,
            seed=config.seed,
            language=config.data.language,
            tokenizer=tokenizer,
        )
        seconds.append(time.perf_counter() - began)
    digest = None if tokenizer is None else vocabulary.digest
    write_manifest(folder.examples, fingerprint="calibration", identity={}, summaries=[summary], tokenizer=digest)
    store = ExampleStore.open(folder.examples)
    lengths = {level: store.lengths(store.select([level], "train")) for level in levels}
    taken = np.array(documents["level"].to_pylist(), dtype=np.str_)
    tested = {level: int(((taken == level) & (splits == test)).sum()) for level in levels}
    return _Sample(
        size=DataSize(
            tokens={level: float(counts.mean()) for level, counts in lengths.items() if len(counts)},
            documents={level: round(int((names == level).sum()) * scale) for level in levels},
            rows=rows or corpus.rows,
        ),
        mask_s=seconds[1] / max(1, summary["examples"]),
        mask_start_s=max(0.0, seconds[0] - seconds[1]),
        tested={level: count for level, count in tested.items() if count},
    )


def _make_tokenizer(config: Config, texts: "pa.ChunkedArray", scale: float, folder: RunFolder) -> "Vocabulary":
    """Make the run's tokenizer; a corpus tokenizer is trained on all texts, since the sample has too few words.

    Args:
        scale: ratio of the run's number of texts to that of `texts`.
    """
    from raysweep.masking.corpus_tokenizer import train_on_column
    from raysweep.masking.tokenizer_folder import write_tokenizer
    from raysweep.masking.vocabulary import gpt2
    from raysweep.model.run_tokenizer import make_tokenizer
    from raysweep.model.start_folder import cached_snapshot, local_folder

    model = config.model
    if model.tokenizer == CORPUS_TOKENIZER:
        vocabulary = train_on_column(texts, share=scale * config.data.split.train)
        write_tokenizer(ExamplesFolder(folder.examples).tokenizer, vocabulary, config.masking.max_tokens)
        return vocabulary
    if model.tokenizer == START_TOKENIZER and not (local_folder(model.start) or cached_snapshot(model.start)):
        return gpt2()  # the start is not downloaded for a calibration
    return make_tokenizer(config, folder.documents, folder.examples)


def _counts(config: Config, device: Device) -> list[int]:
    """Return the numbers of trainings to time together: 1, and as many as would share the machine or a GPU."""
    if device.gpus:
        return [1, 2, MOST_TOGETHER]
    return sorted({1, max(1, device.cores // config.resources.cpus_per_trial)})


def _run_workers(root: Path, together: Sequence[int], *, threads: int, until: float, say: Say) -> list[dict[str, Any]]:
    """Start the workers, take them through the phases, and read what they measured."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "TOKENIZERS_PARALLELISM": "false"}
    workers = []
    for index in range(together[-1]):
        command = [sys.executable, "-m", "raysweep.planning.calibration_worker", str(root), str(index)]
        with (root / f"output-{index}").open("wb") as output:
            workers.append(subprocess.Popen(command, env=environment, stdout=output, stderr=output))
    try:
        if not _wait_for(root, "ready-{}", workers, until):
            raise ResourceError(_why_not_ready(root, workers))
        for count in together:
            write_text(root / "phase", str(count))
            time.sleep(max(0.5, min(PHASE_S, (until - time.monotonic()) / 3)))
            _wait_for(root, f"timed-{count}-{{}}", workers[:count], until)
        write_text(root / "phase", str(END))
        say("calibrate: exporting and scoring")
        # The rest is short, so the time limit does not cut it off.
        for worker in workers:
            if worker.wait(timeout=600) != 0:
                raise ResourceError(_why_not_ready(root, workers))
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()
    return [read_json(root / f"seen-{index}.json") for index in range(len(workers))]


def _forget_workers(folder: RunFolder) -> None:
    for pattern in ("ready-*", "timed-*", "seen-*", "phase"):
        for path in folder.root.glob(pattern):
            path.unlink()
    shutil.rmtree(folder.trials, ignore_errors=True)


def _wait_for(root: Path, name: str, workers: Sequence[Worker], until: float) -> bool:
    """Wait until each worker has written its file; return False if time runs out or a worker ends."""
    while not all((root / name.format(index)).exists() for index in range(len(workers))):
        if time.monotonic() >= until or any(worker.poll() is not None for worker in workers):
            return False
        time.sleep(0.1)
    return True


def _why_not_ready(root: Path, workers: Sequence[Worker]) -> str:
    for index, worker in enumerate(workers):
        if worker.poll():
            lines = (root / f"output-{index}").read_text(errors="replace").strip().splitlines()
            return f"calibration: a training failed: {lines[-1] if lines else 'it wrote nothing'}"
    return (
        f"calibration: {len(workers)} trainings did not come to their second step within {LIMIT_S:g} s. "
        "Set resources.cpus_per_trial higher (fewer trainings at a time), or use a smaller model"
    )


def _fit_steps(steps: Sequence[Sequence[float]], phase: int) -> tuple[float, float]:
    """Fit a step's fixed seconds and its seconds per token, by the line through the medians of short and long steps.

    Args:
        steps: phase, seconds and tokens of each step of the first worker.
        phase: the phase in which it trained alone; if that has too few steps, all steps are used.
    """
    import numpy as np

    alone = [(seconds, tokens) for of_phase, seconds, tokens in steps if of_phase == phase]
    if len(alone) < 2:
        alone = [(seconds, tokens) for _, seconds, tokens in steps if seconds]
    rows = np.array(sorted(alone, key=lambda row: row[1]))
    third = len(rows) // 3
    mean_s, mean = rows.mean(axis=0)
    if third >= 4:
        (short_s, short), (long_s, long) = np.median(rows[:third], axis=0), np.median(rows[-third:], axis=0)
        slope = float((long_s - short_s) / max(1.0, long - short))
        fixed = float(mean_s - slope * mean)
        if slope > 0 and fixed > 0:
            return fixed, slope
    return 0.0, float(mean_s / mean)


def _slow_downs(seen: Sequence[dict[str, Any]], together: Sequence[int]) -> dict[int, float]:
    """Return, by number of trainings, the seconds per token relative to a training alone."""
    token_s: dict[int, float] = {}
    for count in together:
        rows = [row for worker in seen[:count] for row in worker["steps"] if row[0] == count]
        if rows:
            token_s[count] = sum(row[1] for row in rows) / sum(row[2] for row in rows)
    alone = token_s.get(together[0])
    return {count: max(1.0, seconds / alone) for count, seconds in token_s.items()} if alone else {}


def _join(counts: Sequence[int]) -> str:
    return " and ".join(map(str, counts)) if len(counts) < 3 else f"{', '.join(map(str, counts[:-1]))} and {counts[-1]}"
