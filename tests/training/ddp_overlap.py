"""Compares our all-reduce, after a step's backward passes, with DistributedDataParallel's, which overlaps them.

    OMP_NUM_THREADS=1 python -m tests.training.ddp_overlap --size small --batch-size 8

Two processes, gloo over the loopback interface, one thread each; the same steps either way, in turn, so that other work
on the machine weighs on both.  Prints the median of each in seconds, the ratio, and how far the gradients differ.
"""

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
import torch.distributed
import torch.multiprocessing

from raysweep.config.training_settings import SCRATCH, ModelConfig, TrainingConfig
from raysweep.masking.vocabulary import gpt2
from raysweep.model.gpt2 import build_model, parameter_count
from raysweep.model.token_losses import token_losses
from raysweep.training.attempt import make_engine
from raysweep.training.distributed import DistributedGroup
from raysweep.training.loss import label_weights, objective_of
from raysweep.training.step import step_gradients
from raysweep.training.synthetic import synthetic_examples

WORKERS = 2


class _Losses(torch.nn.Module):
    """A model whose forward pass is the loss, as DistributedDataParallel wants it."""

    def __init__(self, engine):
        super().__init__()
        self.model, self._engine = engine.model, engine

    def forward(self, batch, weights):
        return token_losses(self.model, batch, weights[batch.classes_N], self._engine.kernels)


class _Ways:
    """Both ways to the gradients of one step, summed over the workers."""

    def __init__(self, engine, objective, bucket_mb):
        self._engine, self._objective = engine, objective
        # The gradients are views into its buckets: no copy, which is its fastest way.
        self._overlapped = torch.nn.parallel.DistributedDataParallel(
            _Losses(engine), gradient_as_bucket_view=True, bucket_cap_mb=bucket_mb
        )

    def after(self, examples):
        """Ours."""
        batches = self._engine.assemble(examples, self._objective)
        step_gradients(self._engine, examples, batches, self._objective, seed=0, step=1)

    def overlapped(self, examples):
        """DistributedDataParallel's, which divides by the number of workers."""
        group = self._engine.group
        batches = self._engine.assemble(examples, self._objective)
        counts = torch.as_tensor(sum(rows.labels.counts() for rows in batches), dtype=torch.float64)
        weights = label_weights(group.all_reduce_sum(counts)) * WORKERS
        torch.manual_seed(0)
        for number, rows in enumerate(batches, start=1):
            batch = rows.to(group.device)
            if number < len(batches):
                with self._overlapped.no_sync():
                    self._overlapped(batch, weights)[0].backward()
            else:
                self._overlapped(batch, weights)[0].backward()


def _work(rank, options, folder):
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=WORKERS)
    settings = TrainingConfig(batch_size=options.batch_size, packing="off")
    source = synthetic_examples(options.batch_size * (options.pairs + 1), max_tokens=256)
    config = ModelConfig(size=options.size, dropout=0.0)
    model = build_model(SCRATCH, model=config, vocabulary=gpt2(), max_tokens=256, seed=0)
    group = DistributedGroup(rank=rank, world_size=WORKERS, device=torch.device("cpu"))
    engine = make_engine("ddp", model, source, settings, group, 256)
    ways = _Ways(engine, objective_of(settings), options.bucket_mb)
    seconds = {"after": [], "overlapped": []}
    gradients = {}
    for number in range(options.pairs + 1):
        examples = np.arange(number * options.batch_size, (number + 1) * options.batch_size)
        # Whichever comes first finds colder caches.
        for name in sorted(seconds, reverse=number % 2 == 1):
            model.zero_grad(set_to_none=True)
            torch.distributed.barrier()
            began = time.perf_counter()
            getattr(ways, name)(examples)
            torch.distributed.barrier()
            seconds[name].append(time.perf_counter() - began)
            gradients[name] = torch.cat([parameter.grad.flatten() for parameter in model.parameters()]).clone()
    if rank == 0:
        first, second = gradients.values()
        ratios = [ours / theirs for ours, theirs in zip(seconds["after"], seconds["overlapped"], strict=True)][1:]
        result = {
            "size": options.size,
            "parameters": parameter_count(model),
            "batch_size": options.batch_size,
            "bucket_mb": options.bucket_mb,
            **{f"{name}_s": round(statistics.median(values[1:]), 4) for name, values in seconds.items()},
            "ratios": [round(ratio, 3) for ratio in ratios],
            "ratio": round(statistics.median(ratios), 3),
            "gradients_differ_by": float((first - second).abs().max() / first.abs().max()),
        }
        Path(folder, "result.json").write_text(json.dumps(result))
    torch.distributed.destroy_process_group()


def main():
    """Measure once."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--size", default="small")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--pairs", type=int, default=10)
    parser.add_argument("--bucket-mb", type=int, default=25)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        torch.multiprocessing.spawn(_work, (options, folder), nprocs=WORKERS)
        print(Path(folder, "result.json").read_text())


if __name__ == "__main__":
    main()
