"""How large a model is and how fast it infills: what a per-level ensemble costs against one model.

Every timing does the same work whatever the model would answer: a prompt of 64 tokens, then 16
tokens one after another with the key–value cache.  The first repeat warms up and is not counted.
"""

import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from raysweep.evaluation.answering import TokenBatch
from raysweep.model.gpt2 import load_model, parameter_count

PROMPT_TOKENS = 64
ANSWER_TOKENS = 16
BATCH_SIZES = (1, 32)


def measure_speed(model_folder: Path, repeats: int, device: str | None = None) -> dict[str, Any]:
    """Parameters, bytes on disk, and the latency of infilling at each batch size.

    Args:
        repeats: timings for each batch size; with 0 nothing is timed, and `batches` is empty.
        device: 'cpu', 'cuda' …; a GPU if there is one.

    Returns:
        Plain values; under `batches`, for each batch size: `tokens_per_second` (answers' tokens of
        the whole batch, by the median), and `latency_p50_s`, `latency_p95_s` of one infilling.
    """
    place = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    model = load_model(model_folder, place)
    return {
        "parameters": parameter_count(model),
        "bytes": sum(file.stat().st_size for file in model_folder.rglob("*") if file.is_file()),
        "device": torch.cuda.get_device_name(place) if place.type == "cuda" else place.type,
        "threads": torch.get_num_threads(),
        "prompt_tokens": PROMPT_TOKENS,
        "answer_tokens": ANSWER_TOKENS,
        "batches": {str(size): _time_batch(model, size, repeats) for size in BATCH_SIZES if repeats},
    }


def _time_batch(model: Any, size: int, repeats: int) -> dict[str, float]:
    seconds = [_time_infilling(model, size) for _ in range(repeats + 1)][1:]
    median, slow = (float(value) for value in np.quantile(seconds, [0.5, 0.95]))
    return {
        "latency_p50_s": median,
        "latency_p95_s": slow,
        "tokens_per_second": size * ANSWER_TOKENS / median,
    }


@torch.inference_mode()
def _time_infilling(model: Any, size: int) -> float:
    began = time.perf_counter()
    batch = TokenBatch(model, [range(PROMPT_TOKENS)] * size)
    for _ in range(ANSWER_TOKENS - 1):
        batch.step(batch.logits_RV.argmax(dim=-1).tolist())
    batch.logits_RV.argmax(dim=-1).tolist()  # waits for the device
    return time.perf_counter() - began
