"""Measures a model's size and infilling speed, to compare the cost of a model per level with that of one model.

Every timing does the same work for every model: a prompt of 64 tokens, then 16 tokens one after another
with the key–value cache (fewer if the model has fewer positions).  The first repeat is a warm-up and
is not counted.

The models of the levels are also timed together, for learners whose level is unknown: every model scores the
visible text, and then one of them answers.  All models stay in memory.  The texts of a batch are assigned to the models
in turn, so that the work does not depend on the training.
"""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from raysweep.evaluation.decoding import TokenBatch
from raysweep.masking.vocabulary import TargetType
from raysweep.model.gpt2 import load_model, parameter_count
from raysweep.model.scoring_pass import score_batch
from raysweep.model.sequence_packing import alone
from raysweep.model.token_losses import find_labels
from raysweep.model.torch_devices import device_name, select_device
from raysweep.storage.atomic_files import read_json

PROMPT_TOKENS = 64
ANSWER_TOKENS = 16
BATCH_SIZES = (1, 32)
_BUDGET_S = 1.0
"""Seconds after which a batch size is not repeated any more, unless it has fewer than `_FEWEST` repeats."""
_FEWEST = 2


def measure_speed(
    model_folder: Path, repeats: int, device: str | None = None, *, ensemble: Sequence[Path] = ()
) -> dict[str, Any]:
    """Measure parameters, bytes on disk and in memory, and the latency of infilling at each batch size.

    Args:
        repeats: number of timings for each batch size, fewer if they are slow; with 0 nothing is timed, and
            `batches` is empty.
        device: 'cpu', 'cuda' …; a GPU if there is one.
        ensemble: folders of the levels' models to time together, if there are at least two.

    Returns:
        Plain values; `batches` has, for each batch size, `tokens_per_second` (answer tokens of the whole
        batch, at the median latency), and `latency_p50_s` and `latency_p95_s` of one infilling.  `ensemble` has
        the same for the levels' models together (including the choice among them), or is None.
    """
    torch_device = select_device(device)
    prompt, answer = _tokens_that_fit(model_folder)
    return {
        **_measure([model_folder], repeats, torch_device, _infill),
        "device": device_name(torch_device),
        "threads": torch.get_num_threads(),
        "prompt_tokens": prompt,
        "answer_tokens": answer,
        "ensemble": _measure(ensemble, repeats, torch_device, _choose_and_infill) if len(ensemble) > 1 else None,
    }


def _tokens_that_fit(folder: Path) -> tuple[int, int]:
    """Return the numbers of tokens of the prompt and the answer."""
    positions = int(read_json(folder / "config.json")["n_positions"])
    answer = min(ANSWER_TOKENS, positions // 2)
    return min(PROMPT_TOKENS, positions - answer), answer


Work = Callable[[Sequence[Any], int, int, int], None]
"""Called with the models, the batch size, and the numbers of tokens of each prompt and answer."""


def _measure(folders: Sequence[Path], repeats: int, device: torch.device, work: Work) -> dict[str, Any]:
    began = time.perf_counter()
    models = [load_model(folder, device) for folder in folders]
    tokens = _tokens_that_fit(folders[0])
    loaded = time.perf_counter() - began
    return {
        "models": len(models),
        "parameters": sum(parameter_count(model) for model in models),
        "bytes": sum(file.stat().st_size for folder in folders for file in folder.rglob("*") if file.is_file()),
        "memory_bytes": sum(_weights(model) for model in models),
        "load_seconds": loaded,
        "batches": {str(size): _time_batch(models, size, tokens, repeats, work) for size in BATCH_SIZES if repeats},
    }


def _weights(model: Any) -> int:
    """Return the bytes of a model's tensors; shared tensors count once."""
    tensors = {tensor.data_ptr(): tensor for tensor in (*model.parameters(), *model.buffers())}
    return sum(tensor.nbytes for tensor in tensors.values())


def _time_batch(
    models: Sequence[Any], size: int, tokens: tuple[int, int], repeats: int, work: Work
) -> dict[str, float]:
    seconds: list[float] = []
    while len(seconds) <= repeats and (len(seconds) <= _FEWEST or sum(seconds) < _BUDGET_S):
        began = time.perf_counter()
        work(models, size, *tokens)
        seconds.append(time.perf_counter() - began)
    median, slow = (float(value) for value in np.quantile(seconds[1:], [0.5, 0.95]))
    return {
        "repeats": len(seconds) - 1,
        "latency_p50_s": median,
        "latency_p95_s": slow,
        "tokens_per_second": size * tokens[1] / median,
    }


@torch.inference_mode()
def _infill(models: Sequence[Any], size: int, prompt: int, answer: int) -> None:
    batch = TokenBatch(models[0], [range(prompt)] * size)
    for _ in range(answer - 1):
        batch.step(batch.logits_RV.argmax(dim=-1).tolist())
    batch.logits_RV.argmax(dim=-1).tolist()  # waits for the device


@torch.inference_mode()
def _choose_and_infill(models: Sequence[Any], size: int, prompt: int, answer: int) -> None:
    device = next(models[0].parameters()).device
    ids_BT = np.tile(np.arange(prompt, dtype=np.int32), (size, 1))
    labels = find_labels(ids_BT, np.full_like(ids_BT, TargetType.CONTEXT, dtype=np.uint8))
    batch = alone(ids_BT, np.full(size, prompt), labels).to(device)
    nats_MB = [score_batch(model, batch).view(size, -1).sum(dim=1) for model in models]
    torch.stack(nats_MB).argmin(dim=0).tolist()  # the choice; waits for the device
    for number, model in enumerate(models):
        if texts := len(range(number, size, len(models))):
            _infill([model], texts, prompt, answer)
