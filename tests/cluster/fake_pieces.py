"""Replacements for masking and scoring; workers import them by name, and with them no torch."""

import os
import signal
import time

from raysweep.errors import DamagedError, InputError
from raysweep.inference.part_scores import PartScores


def mask(*, rows, shard, **task):
    """Return a summary like the real one."""
    return {"shard": shard, "documents": rows[1] - rows[0], "examples": 2, "nested": {"kept": [1, 2]}}


def mask_first_shard_last(*, folder, **task):
    """Work like `mask`, but make the first shard only after the second."""
    folder.mkdir(parents=True, exist_ok=True)
    while task["shard"] == 0 and not (folder / "shard 1 is made").exists():
        time.sleep(0.01)
    (folder / f"shard {task['shard']} is made").touch()
    return mask(**task)


def mask_or_refuse(**task):
    """Raise an error for a document of one shard, which it cannot use."""
    if task["shard"] == 1:
        raise InputError("documents.parquet row 7: found no text")
    return mask(**task)


def mask_or_break(**task):
    """Fail with a bug in one shard."""
    _ = 1 // (task["shard"] - 1)
    return mask(**task)


def score(*, model, out, device, **task):
    """Record which process scored the model, and with how many threads."""
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(f"{os.getpid()} {device} {os.environ['OMP_NUM_THREADS']}")


def score_or_refuse(*, model, **task):
    """Raise an error for the second model, whose files cannot be read."""
    if model == "B1":
        raise InputError("model.safetensors: torn")
    score(model=model, **task)


def score_and_die_once(*, model, out, **task):
    """Kill the process that scores the second model, once."""
    mark = out.parent / "died"
    if model == "B1" and not mark.exists():
        mark.parent.mkdir(parents=True, exist_ok=True)
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    score(model=model, out=out, **task)


def score_and_die(*, model, **task):
    """Kill the process that scores the second model, every time."""
    if model == "B1":
        os.kill(os.getpid(), signal.SIGKILL)
    score(model=model, **task)


def score_and_die_last(*, model, out, **task):
    """Kill the process that scores the second model once, when the file `others are scored` exists."""
    mark = out.parent / "died"
    if model == "B1" and not mark.exists():
        while not (out.parent / "others are scored").exists():
            time.sleep(0.01)
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    score(model=model, out=out, **task)


def score_part(*, run, model, model_digest, texts, with_tokens, infills, device):
    """Return made-up scores of the texts, or fail as the model's name says."""
    if model == "damaged":
        raise DamagedError("model.safetensors is damaged; train it again with --force damaged")
    if model == "broken":
        raise ZeroDivisionError("no such thing")
    if model == "lost" and not (run / "died").exists():
        (run / "died").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return PartScores(texts=3, sums=texts + b"!", tokens=b"tokens" if with_tokens else None)


def double(block):
    """Return twice the block."""
    return block * 2


def double_or_refuse(block):
    """Refuse one block as invalid input, and fail on another with a bug."""
    if block == 2:
        raise InputError("row 7: found no text")
    return double(block) // (block - 4)


def double_and_die_once(block, *, mark):
    """Kill the process that works on one block, once."""
    if block == 2 and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return double(block)
