"""Measures the whole command `raysweep score`, beside what it calls, the evaluate stage and a plain loop.

    python -m tests.inference.score_throughput --storage runs --name local --texts 10000

Rates are predicted tokens a second, by the clock and per second of CPU of all processes.  The command's are of all
models and its whole time, with the start of Python and Ray.  What it calls (`TrainedModel.score_texts`) and the stage's
function, on the run's test examples, are timed in this process with one thread; by the clock `score` has as many
processes as there are CPUs, so their rates are taken as many times.  With two masks a text the stage reads a document
twice, and `score` three times, the whole text as well.  The loop uses transformers, with a text a batch and all CPUs.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import torch
from transformers import GPT2LMHeadModel

import raysweep
from raysweep.corpus.sample import write_sample
from raysweep.evaluation.document_sums import FIRST, score_examples
from raysweep.masking.example_store import ExampleStore
from raysweep.model.freed_memory import keep_freed_memory
from raysweep.model.gpt2 import vocabulary_of
from raysweep.model.token_losses import full_precision

_LOOP_TEXTS = 500
_FUNCTION_TEXTS = 1000
_STAGE_ROUNDS = 5


def _time_command(run, texts, out, more):
    """Predicted tokens of all models, seconds by the clock, and of the CPU of all processes (seen twice a second)."""
    place = ["--storage", str(run.folder.root.parent), "--name", run.folder.name, "--out", str(out)]
    began, cpu_of = time.perf_counter(), {}
    command = psutil.Popen([sys.executable, "-m", "raysweep", "score", str(texts), *place, *more])
    while command.poll() is None:
        for process in [command, *command.children(recursive=True)]:
            try:
                cpu_of[process.pid] = sum(process.cpu_times()[:2])
            except psutil.Error:
                continue
        time.sleep(0.5)
    seconds = time.perf_counter() - began
    if command.returncode:
        raise subprocess.CalledProcessError(command.returncode, "raysweep score")
    table = pd.read_parquet(out)
    models = sum(column.startswith("nats_") for column in table.columns)
    return models * int(table["tokens"].sum() + table["infill_tokens"].sum()), seconds, sum(cpu_of.values())


def _time(score, rounds=1):
    """Predicted tokens a second, by the clock and of this process's CPU; one round before is not timed."""
    score()
    wall, cpu, tokens = time.perf_counter(), time.process_time(), 0
    for _ in range(rounds):
        tokens += score()
    return tokens / (time.perf_counter() - wall), tokens / (time.process_time() - cpu)


def _stage(run, network):
    """Scores the run's test examples as the evaluate stage does, and tells how many tokens were predicted."""
    store, evaluation = ExampleStore.open(run.folder.examples), run.config.evaluation
    chosen = store.select(run.config.data.levels, "test", examples_per_document=evaluation.examples_per_document)

    def score():
        sums = score_examples(network, store, np.sort(chosen), batch_tokens=evaluation.batch_tokens)
        return int(sums.tokens[:, : -len(FIRST)].sum())

    return score


def _function(model, texts):
    """Scores texts as the command does, a part at a time."""

    def score():
        scores = model.score_texts(texts, [str(number) for number in range(len(texts))])
        return int(scores.tokens.sum() + scores.infill_tokens.sum())

    return score


def _loop(folder, texts, vocabulary, longest):
    """Scores texts with transformers, one at a time."""
    model = GPT2LMHeadModel.from_pretrained(folder).eval()

    def score():
        tokens = 0
        for text in texts:
            ids = torch.tensor([vocabulary.plain.encode(text, add_special_tokens=False).ids[:longest]])
            model(ids, labels=ids).loss.item()
            tokens += ids.shape[1] - 1
        return tokens

    return score


def main():
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--storage", default="runs")
    parser.add_argument("--name", default="local")
    parser.add_argument("--texts", type=int, default=10_000)
    parser.add_argument("options", nargs="*", help="of `raysweep score`, after --")
    given = parser.parse_args()
    run, processes = raysweep.load(Path(given.storage, given.name), device="cpu"), len(os.sched_getaffinity(0))
    trial = next(name for name in run.models if name != "start")
    with tempfile.TemporaryDirectory() as folder:
        texts = Path(folder, "texts.csv")
        write_sample(texts, rows=given.texts, seed=1, levels=run.config.data.levels)
        tokens, seconds, cpu_seconds = _time_command(run, texts, Path(folder, "scores.parquet"), given.options)
        listed = pd.read_csv(texts)["text"].tolist()
    network = run[trial].network
    with torch.inference_mode():
        torch.set_num_threads(processes)
        vocabulary, longest = vocabulary_of(network), run.config.masking.max_tokens
        loop = _time(_loop(run.folder.trial(trial).model, listed[:_LOOP_TEXTS], vocabulary, longest))
    torch.set_num_threads(1)
    keep_freed_memory(torch.device("cpu"))  # as scorers do; after the loop, which would gain by it
    function = _time(_function(run[trial], listed[:_FUNCTION_TEXTS]))
    with full_precision():
        stage = _time(_stage(run, network), _STAGE_ROUNDS)
    others = {"function": function, "stage": stage, "loop": loop}
    report = {
        "texts": given.texts,
        "processes": processes,
        "load": round(os.getloadavg()[0], 1),
        "score": {"seconds": seconds, "cpu_seconds": cpu_seconds, "tokens_per_s": tokens / seconds},
        **{f"{name}_tokens_per_s": rates[0] for name, rates in others.items()},
        **{
            f"ratio_to_{name}": tokens / seconds / rates[0] / (1 if name == "loop" else processes)
            for name, rates in others.items()
        },
        **{f"cpu_ratio_to_{name}": tokens / cpu_seconds / rates[1] for name, rates in others.items()},
    }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
