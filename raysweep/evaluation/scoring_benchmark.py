"""Measures how fast documents are scored on this machine, compared with plain transformers on the same documents.

transformers gets everything that makes it fast without custom code: batches of similar length, no attention mask
(padding is on the right), no gradients.  It computes the logits of every position, and the losses from all of them.
"""

import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch.nn.functional import cross_entropy
from transformers import GPT2LMHeadModel

from raysweep.config.evaluation_settings import EvaluationConfig
from raysweep.config.training_settings import SCRATCH, ModelConfig, ModelSize
from raysweep.evaluation.document_sums import FIRST, batches_by_length, score_examples
from raysweep.masking.example_store import ExampleStore
from raysweep.model.freed_memory import keep_freed_memory
from raysweep.model.gpt2 import build_model, quiet_transformers
from raysweep.model.token_losses import find_labels, full_precision

_TOLERANCE = 1e-5
"""Relative tolerance of the sum over all documents; both compute in float32."""


def benchmark_scoring(
    store: ExampleStore, *, size: ModelSize, max_tokens: int, device: torch.device, like_transformers: bool
) -> dict[str, Any]:
    """Score all examples of the store once with each method, after a warm-up batch that is not timed.

    Args:
        size: size of the model, which has random weights.
        like_transformers: also time plain transformers, before our method.

    Returns:
        For each method, examples per second and examples per second of CPU time (which means little with a GPU), nats
        per label, and the ratios.

    Raises:
        AssertionError: the two sums of all losses differ, so the work is not the same.
    """
    config, vocabulary = ModelConfig(size=size), store.vocabulary
    model = build_model(SCRATCH, model=config, vocabulary=vocabulary, max_tokens=max_tokens, seed=0)
    model.to(device).eval()  # type: ignore[arg-type]  # the stub accepts no torch.device
    batch_tokens = EvaluationConfig().batch_tokens
    everything = np.arange(len(store))
    longest = everything[next(batches_by_length(store.lengths(everything), batch_tokens))]

    def our_nats(examples: Any) -> tuple[float, int]:
        sums = score_examples(model, store, examples, batch_tokens=batch_tokens)
        return sums.nats[:, : -len(FIRST)].sum(), int(sums.tokens[:, : -len(FIRST)].sum())

    result: dict[str, Any] = {"device": str(device), "size": size, "ids": vocabulary.size, "examples": len(store)}
    with full_precision():
        if like_transformers:
            plain = _plain(model, device)
            (theirs, _), result["transformers"] = _timed(
                lambda some: _plain_nats(plain, store, some, batch_tokens), longest, everything
            )
        # Only now, because transformers would become faster too.
        keep_freed_memory(device)
        (nats, labels), speed = _timed(our_nats, longest, everything)
    result |= {**speed, "nats_per_label": nats / labels}
    if like_transformers:
        assert math.isclose(nats, theirs, rel_tol=_TOLERANCE), f"the sum of all losses is {nats}, theirs {theirs}"
        for ratio, rate in (("ratio", "examples_per_s"), ("cpu_ratio", "examples_per_cpu_s")):
            result[f"{ratio}_to_transformers"] = speed[rate] / result["transformers"][rate]
    return result


def _timed(
    score: Callable[[Any], tuple[float, int]], warmup: Any, examples: Any
) -> tuple[tuple[float, int], dict[str, Any]]:
    """Time scoring; returns its result and its speed.  The result is plain numbers, so the device has finished."""
    score(warmup)
    wall, cpu = time.perf_counter(), time.process_time()
    sums = score(examples)
    seconds, cpu_seconds = time.perf_counter() - wall, time.process_time() - cpu
    return sums, {"examples_per_s": len(examples) / seconds, "examples_per_cpu_s": len(examples) / cpu_seconds}


def _plain(model: GPT2LMHeadModel, device: torch.device) -> Any:
    """Build the model with the layers of transformers and the same weights."""
    with quiet_transformers():
        plain: Any = GPT2LMHeadModel(model.config)
    plain.load_state_dict(model.state_dict())
    return plain.to(device).eval()


def _plain_nats(plain: Any, store: ExampleStore, examples: Any, batch_tokens: int) -> tuple[float, int]:
    nats, count = 0.0, 0
    for rows in batches_by_length(store.lengths(examples), batch_tokens):
        batch = store.assemble(examples[rows])
        labels = find_labels(batch.ids_BT, batch.types_BT)
        labels_BT = np.full(batch.ids_BT.shape, -100, dtype=np.int64)
        labels_BT.reshape(-1)[labels.positions_N + 1] = labels.ids_N
        logits_BTV = plain(torch.from_numpy(batch.ids_BT.astype(np.int64)).to(plain.device), use_cache=False).logits
        wanted_N = torch.from_numpy(labels_BT[:, 1:].reshape(-1)).to(plain.device)
        losses_N = cross_entropy(logits_BTV[:, :-1].flatten(0, 1), wanted_N, ignore_index=-100, reduction="none")
        nats += losses_N.double().sum().item()
        count += len(labels.ids_N)
    return nats, count
