"""Functions in the place of masking and scoring; workers import them by name, and no torch with them."""

import os
import signal
import time

from raysweep.errors import DamagedError, InputError
from raysweep.inference.part_scores import PartScores


def mask(*, rows, shard, **task):
    """Tell what the real one would."""
    return {"shard": shard, "documents": rows[1] - rows[0], "examples": 2, "nested": {"kept": [1, 2]}}


def mask_first_shard_last(*, folder, **task):
    """Like `mask`, but the first shard is not made before the second."""
    folder.mkdir(parents=True, exist_ok=True)
    while task["shard"] == 0 and not (folder / "shard 1 is made").exists():
        time.sleep(0.01)
    (folder / f"shard {task['shard']} is made").touch()
    return mask(**task)


def mask_or_refuse(**task):
    """One shard meets a document that it cannot use."""
    if task["shard"] == 1:
        raise InputError("documents.parquet row 7: found no text")
    return mask(**task)


def mask_or_break(**task):
    """One shard meets a bug."""
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


def score_and_die_once(*, model, out, **task):
    """The process that scores the second model is killed, once."""
    mark = out.parent / "died"
    if model == "B1" and not mark.exists():
        mark.parent.mkdir(parents=True, exist_ok=True)
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    score(model=model, out=out, **task)


def score_and_die(*, model, **task):
    """The process that scores the second model is killed, every time."""
    if model == "B1":
        os.kill(os.getpid(), signal.SIGKILL)
    score(model=model, **task)


def score_and_die_last(*, model, out, **task):
    """The process that scores the second model is killed, once, when the file `others are scored` is there."""
    mark = out.parent / "died"
    if model == "B1" and not mark.exists():
        while not (out.parent / "others are scored").exists():
            time.sleep(0.01)
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    score(model=model, out=out, **task)


def score_part(*, run, model, model_digest, texts, with_tokens, infills, device):
    """Tell the texts, or what the model's name says."""
    if model == "damaged":
        raise DamagedError("model.safetensors is damaged; train it again with --force damaged")
    if model == "broken":
        raise ZeroDivisionError("no such thing")
    if model == "lost" and not (run / "died").exists():
        (run / "died").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return PartScores(texts=3, sums=texts + b"!", tokens=b"tokens" if with_tokens else None)


def double(block):
    """Make something of a block."""
    return block * 2


def double_or_refuse(block):
    """One block is not what it should be, and another meets a bug."""
    if block == 2:
        raise InputError("row 7: found no text")
    return double(block) // (block - 4)


def double_and_die_once(block, *, mark):
    """The process that works on one block is killed, once."""
    if block == 2 and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return double(block)
