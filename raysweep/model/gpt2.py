"""GPT-2 as raysweep trains it: its initial weights, and its forward pass up to the output layer.

A model starts from random weights of a chosen size, from any folder with a Hugging Face GPT-2 (such as
a parent trial's model), or from a name on the hub; only the last uses the network.  Every model gets
raysweep's vocabulary: GPT-2's 50,257 tokens and the seven of infilling.

Axes: B examples, T tokens, D width, V vocabulary.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import transformers.utils.logging
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import AutoConfig, GPT2Config, GPT2LMHeadModel

from raysweep.config.training_settings import SCRATCH, SIZES, ModelConfig
from raysweep.errors import TrainingError
from raysweep.masking.vocabulary import GPT2_SIZE, VOCABULARY_SIZE
from raysweep.seeding import seed_for

logger = logging.getLogger(__name__)

END_OF_TEXT = GPT2_SIZE - 1
"""Id of `<|endoftext|>`."""


def build_model(start: str, *, model: ModelConfig, max_tokens: int, seed: int) -> GPT2LMHeadModel:
    """The model a training starts from, on the CPU, in float32, in training mode.

    Args:
        start: 'scratch', a folder with a GPT-2, or a name on the Hugging Face hub.
        model: its size if it is made from scratch, and its dropout in any case.
        max_tokens: tokens in the longest example; a model from scratch gets as many positions.
        seed: for random weights.  The global random state does not change.

    Raises:
        TrainingError: the start cannot be read, is no GPT-2, or has too few positions.
    """
    built = _random_model(model, max_tokens, seed) if start == SCRATCH else _pretrained(start, model.dropout)
    if built.config.n_positions < max_tokens:
        raise TrainingError(
            f"model.start '{start}': it has {built.config.n_positions} positions, but examples have up to "
            f"{max_tokens} tokens; set masking.max_tokens: {built.config.n_positions} or start from a longer model"
        )
    built.train()
    return _prepared(built)


def load_model(folder: Path, device: str | torch.device = "cpu") -> GPT2LMHeadModel:
    """A finished model of raysweep (or any GPT-2 with the infilling tokens), in evaluation mode.

    Raises:
        TrainingError: the folder holds no such model.
    """
    model = _read(str(folder), local=True)
    if model.config.vocab_size != VOCABULARY_SIZE:
        raise TrainingError(
            f"{folder}: its vocabulary has {model.config.vocab_size} tokens; an infilling model has {VOCABULARY_SIZE}. "
            "Train it first: set model.start to this folder"
        )
    model.train(False)
    # The stub of `to` accepts no device.
    placed: GPT2LMHeadModel = _prepared(model).to(device)  # type: ignore[arg-type]
    return placed


def parameter_count(model: nn.Module) -> int:
    """Weights of a model, shared ones counted once."""
    return sum(parameter.numel() for parameter in model.parameters())


def hidden_states(
    model: GPT2LMHeadModel, ids_BT: Tensor, places_BT: Tensor | None = None, owners_BT: Tensor | None = None
) -> Tensor:
    """The input of the output layer for every position (B, T, D); padding must be on the right.

    The same numbers as `model.transformer(ids_BT)`, which builds an attention mask and inspects it, so that
    the host waits for the GPU in every forward pass.  With causal attention, padding on the right needs no
    mask; for packed rows the mask is built from `owners_BT`.

    Args:
        places_BT: for packed rows, each position's place in its example.
        owners_BT: for packed rows, the example of each position; attention stays within an example.
    """
    transformer = model.transformer
    places_TD = transformer.wpe.weight[: ids_BT.shape[1]] if places_BT is None else transformer.wpe(places_BT)
    states_BTD = transformer.drop(transformer.wte(ids_BT) + places_TD)
    mask_B1TT = None if owners_BT is None else (owners_BT[:, None, :, None] == owners_BT[:, None, None, :]).tril()
    for block in transformer.h:
        output = block(states_BTD, attention_mask=mask_B1TT)
        states_BTD = output[0] if isinstance(output, tuple) else output
    normalised_BTD: Tensor = transformer.ln_f(states_BTD)
    return normalised_BTD


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Silence progress bars and warnings of transformers inside the block."""
    library: Any = transformers.utils.logging
    verbosity, bars = library.get_verbosity(), library.is_progress_bar_enabled()
    library.set_verbosity_error()
    library.disable_progress_bar()
    try:
        yield
    finally:
        library.set_verbosity(verbosity)
        if bars:
            library.enable_progress_bar()


def _random_model(model: ModelConfig, max_tokens: int, seed: int) -> GPT2LMHeadModel:
    layers, width, heads = SIZES[model.size]
    config = GPT2Config(
        vocab_size=VOCABULARY_SIZE,
        n_positions=max_tokens,
        n_layer=layers,
        n_embd=width,
        n_head=heads,
        bos_token_id=END_OF_TEXT,
        eos_token_id=END_OF_TEXT,
        **_dropouts(model.dropout),
    )
    with torch.random.fork_rng(devices=[]), quiet_transformers():
        torch.manual_seed(seed_for(seed, "weights"))
        return GPT2LMHeadModel(config)


def _pretrained(start: str, dropout: float) -> GPT2LMHeadModel:
    is_folder = Path(start).is_dir()
    if not is_folder and (Path(start).is_absolute() or start.startswith((".", "~")) or start.count("/") > 1):
        raise TrainingError(f"model.start: no folder '{start}'; give a folder with a Hugging Face GPT-2, or a hub name")
    model = _read(start, local=is_folder, **_dropouts(dropout))
    size = model.config.vocab_size
    if not GPT2_SIZE <= size <= VOCABULARY_SIZE:
        raise TrainingError(
            f"model.start '{start}': its vocabulary has {size} tokens; must be GPT-2's {GPT2_SIZE}, "
            f"with up to {VOCABULARY_SIZE - GPT2_SIZE} more for infilling"
        )
    if size < VOCABULARY_SIZE:
        _enlarge_vocabulary(model)
    return model


def _read(start: str, *, local: bool, **overrides: Any) -> GPT2LMHeadModel:
    place = f"model.start '{start}'"
    try:
        with quiet_transformers():
            config = AutoConfig.from_pretrained(start, local_files_only=local, **overrides)
            if not isinstance(config, GPT2Config):
                raise TrainingError(f"{place}: it is a {config.model_type!r} model; raysweep trains GPT-2 only")
            loaded: Any = GPT2LMHeadModel.from_pretrained(
                start,
                config=config,
                local_files_only=local,
                use_safetensors=True,
                dtype=torch.float32,
                attn_implementation="sdpa",
                output_loading_info=True,
            )
    except (OSError, ValueError, SafetensorError) as error:
        where = (
            "a folder with config.json and model.safetensors"
            if local
            else "a folder, or a hub name that can be reached"
        )
        raise TrainingError(f"{place}: cannot be read as a GPT-2 ({_first_line(error)}); must be {where}") from error
    model, report = loaded
    if report["missing_keys"] or report["mismatched_keys"]:
        lacking = sorted(report["missing_keys"]) or sorted(str(key) for key in report["mismatched_keys"])
        raise TrainingError(
            f"{place}: {len(lacking)} weights are missing or of another shape ({lacking[0]}, …); save the model anew"
        )
    assert isinstance(model, GPT2LMHeadModel)
    return model


def _enlarge_vocabulary(model: GPT2LMHeadModel) -> None:
    """Add rows for the infilling tokens, each the mean of the old rows."""
    old = model.config.vocab_size
    with quiet_transformers():
        model.resize_token_embeddings(VOCABULARY_SIZE, mean_resizing=False)
    with torch.no_grad():
        for weight_VD in {id(w): w for w in (model.transformer.wte.weight, model.lm_head.weight)}.values():
            weight_VD[old:] = weight_VD[:old].mean(dim=0)


def _prepared(model: GPT2LMHeadModel) -> GPT2LMHeadModel:
    """Replace GELU by one fused operation (equal up to rounding; the saved config stays the same)."""
    if model.config.activation_function in {"gelu_new", "gelu_pytorch_tanh"}:
        blocks: Any = model.transformer.h
        for block in blocks:
            block.mlp.act = nn.GELU(approximate="tanh")
    return model


def _dropouts(dropout: float) -> dict[str, Any]:
    return {"resid_pdrop": dropout, "embd_pdrop": dropout, "attn_pdrop": dropout}


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n", 1)[0].rstrip(".")
