"""Masking and scoring that take no time; workers import them by name."""

import os
import time

from raysweep.errors import InputError


def mask(*, documents, rows, shard, folder, policy, seed):
    """Later shards are faster, so they end in another order than they were asked for."""
    time.sleep(max(0.0, 0.2 - 0.05 * shard))
    return {"shard": shard, "documents": rows[1] - rows[0], "examples": 2, "nested": {"kept": [1, 2]}}


def mask_or_refuse(**task):
    """One shard meets a document that it cannot use."""
    if task["shard"] == 1:
        raise InputError("documents.parquet row 7: found no text")
    return mask(**task)


def mask_or_break(**task):
    """One shard meets a mistake of ours."""
    _ = 1 // (task["shard"] - 1)
    return mask(**task)


def score(*, model, out, device, **task):
    """Note which process scored it, with how many threads."""
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(f"{os.getpid()} {device} {os.environ['OMP_NUM_THREADS']}")


def score_or_refuse(*, model, **task):
    """The second model's files cannot be read."""
    if model == "B1":
        raise InputError("model.safetensors: torn")
    score(model=model, **task)
