"""GPT-2 as raysweep trains it: its initial weights, and its forward pass up to the output layer.

A model starts from random weights of a chosen size, from any folder with a Hugging Face GPT-2 (such as
a parent trial's model), or from a name on the hub; only the last uses the network.  Every model gets
the run's vocabulary: the tokens of its tokenizer and the seven infilling tokens.  `model.start_folder` checks a folder;
only its weights are passed to transformers, which reads no file and runs no code of the folder.

Axes: B examples, T tokens, D width, V vocabulary.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import transformers.utils.logging
from safetensors import safe_open
from torch import Tensor, nn
from transformers import GPT2Config, GPT2LMHeadModel

from raysweep.config.training_settings import SCRATCH, SIZES, ModelConfig
from raysweep.errors import InputError
from raysweep.masking.vocabulary import Vocabulary, gpt2
from raysweep.model.cpu_products import use_fast_products
from raysweep.model.start_folder import (
    StartFolder,
    digest_start,
    find_folder,
    place_of,
    read_start,
    refuse_long_examples,
)
from raysweep.seeding import seed_for

logger = logging.getLogger(__name__)

_VOCABULARY = "raysweep_vocabulary"


def build_model(
    start: str, *, model: ModelConfig, vocabulary: Vocabulary, max_tokens: int, seed: int, start_digest: str = ""
) -> GPT2LMHeadModel:
    """Build the model that a training starts from, on the CPU, in float32, in training mode.

    Args:
        start: 'scratch', a folder with a GPT-2, or a name on the Hugging Face hub.
        model: the size of a model from scratch, and the dropout of any model.
        vocabulary: the run's vocabulary; the start must have the same tokenizer.
        max_tokens: tokens in the longest example; a model from scratch gets as many positions.
        seed: for random weights.  The global random state does not change.
        start_digest: the digest of the start when the run was planned; not compared if ''.

    Raises:
        InputError: the start cannot be read, is not a GPT-2, has too few positions, or its content changed.
    """
    if start == SCRATCH:
        built = _random_model(model, vocabulary, max_tokens, seed)
    else:
        source = read_start(find_folder(start), place_of(start), vocabulary=vocabulary)
        refuse_long_examples(source, max_tokens)
        if start_digest and (digest := digest_start(source)) != start_digest:
            raise InputError(
                f"{source.place}: its digest is {digest}, and was {start_digest} when the run began; put the earlier "
                "weights back on every node, or begin again (--force train)"
            )
        built = _load_weights(source, vocabulary, **_dropouts(model.dropout))
        if not source.has_infilling_tokens:
            _add_infilling_tokens(built, vocabulary)
        for note in source.notes:
            logger.info("%s: %s", source.place, note)
    built.train()
    return _prepared(built, vocabulary)


def load_model(folder: Path, device: str | torch.device = "cpu", *, needs_infilling: bool = True) -> GPT2LMHeadModel:
    """Load a finished model of raysweep, or any GPT-2 with the infilling tokens, in evaluation mode.

    Args:
        needs_infilling: refuse a GPT-2 without the infilling tokens, which can only score whole texts.

    Raises:
        InputError: the folder has no such model.
    """
    source = read_start(folder, str(folder), vocabulary=None)
    vocabulary = source.vocabulary
    if needs_infilling and not source.has_infilling_tokens:
        raise InputError(
            f"{folder}: its vocabulary of {source.config.vocab_size} tokens lacks those of infilling, which make "
            f"{vocabulary.size}; train it first: set model.start to this folder"
        )
    model = _load_weights(source, vocabulary)
    model.train(False)
    # The stub of `to` accepts no device.
    placed: GPT2LMHeadModel = _prepared(model, vocabulary).to(device)  # type: ignore[arg-type]
    return placed


def vocabulary_of(model: Any) -> Vocabulary:
    """Return the vocabulary that `build_model` or `load_model` attached to a model; GPT-2's for any other model."""
    return getattr(model, _VOCABULARY, None) or gpt2()


def has_infilling_tokens(model: Any) -> bool:
    """Tell whether a model has the infilling tokens; without them it can only score whole texts."""
    return int(model.config.vocab_size) == vocabulary_of(model).size


def parameter_count(model: nn.Module) -> int:
    """Count the parameters of a model; shared parameters count once."""
    return sum(parameter.numel() for parameter in model.parameters())


def hidden_states(
    model: GPT2LMHeadModel,
    ids_BT: Tensor,
    places_BT: Tensor | None = None,
    owners_BT: Tensor | None = None,
    embedded_BTD: Tensor | None = None,
) -> Tensor:
    """Compute the input of the output layer for every position (B, T, D); padding must be on the right.

    The result equals that of `model.transformer(ids_BT)`, which builds and inspects an attention mask, so that the host
    waits for the GPU in every forward pass.  With causal attention, padding on the right needs no mask; for packed rows
    the mask is built from `owners_BT`.

    Args:
        places_BT: for packed rows, the index of each position within its example.
        owners_BT: for packed rows, the example of each position; attention stays within an example.
        embedded_BTD: the token embeddings of the ids, if they are already computed.
    """
    transformer = model.transformer
    if embedded_BTD is None:
        embedded_BTD = transformer.wte(ids_BT)
    places_TD = transformer.wpe.weight[: ids_BT.shape[1]] if places_BT is None else transformer.wpe(places_BT)
    states_BTD = transformer.drop(embedded_BTD + places_TD)
    mask_B1TT = None if owners_BT is None else (owners_BT[:, None, :, None] == owners_BT[:, None, None, :]).tril()
    for block in transformer.h:
        output = block(states_BTD, attention_mask=mask_B1TT)
        states_BTD = output[0] if isinstance(output, tuple) else output
    normalised_BTD: Tensor = transformer.ln_f(states_BTD)
    return normalised_BTD


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Silence the progress bars and warnings of transformers inside the block."""
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


def _random_model(model: ModelConfig, vocabulary: Vocabulary, max_tokens: int, seed: int) -> GPT2LMHeadModel:
    layers, width, heads = SIZES[model.size]
    config = GPT2Config(
        vocab_size=vocabulary.size,
        n_positions=max_tokens,
        n_layer=layers,
        n_embd=width,
        n_head=heads,
        bos_token_id=vocabulary.end_of_text,
        eos_token_id=vocabulary.end_of_text,
        **_dropouts(model.dropout),
    )
    with torch.random.fork_rng(devices=[]), quiet_transformers():
        torch.manual_seed(seed_for(seed, "weights"))
        return GPT2LMHeadModel(config)


def _load_weights(start: StartFolder, vocabulary: Vocabulary, **overrides: Any) -> GPT2LMHeadModel:
    """Load the folder's model in float32."""
    files: dict[Path, list[tuple[str, str]]] = {}
    for name, tensor in start.tensors.items():
        files.setdefault(tensor.file, []).append((name, tensor.name))
    weights: dict[str, Tensor] = {}
    for file, names in files.items():
        with safe_open(file, framework="pt") as opened:
            for name, stored_name in names:
                # Copy it, because the file is mapped into memory and may change on disk.
                tensor = opened.get_tensor(stored_name).to(torch.float32, copy=True)
                weights[name if name == "lm_head.weight" else f"transformer.{name}"] = tensor
    config = GPT2Config(
        **start.config.model_dump(exclude={"quantization_config"}),
        bos_token_id=vocabulary.end_of_text,
        eos_token_id=vocabulary.end_of_text,
        **overrides,
    )
    with quiet_transformers():
        loaded: Any = GPT2LMHeadModel.from_pretrained(
            None,
            config=config,
            state_dict=weights,
            dtype=torch.float32,
            attn_implementation="sdpa",
            output_loading_info=True,
            local_files_only=True,
            trust_remote_code=False,
        )
    model, report = loaded
    assert not report["missing_keys"]
    assert not report["mismatched_keys"]
    assert isinstance(model, GPT2LMHeadModel)
    return model


def _add_infilling_tokens(model: GPT2LMHeadModel, vocabulary: Vocabulary) -> None:
    """Resize the embeddings to the run's vocabulary: the tokenizer's rows stay, infilling tokens start at their mean.

    Rows beyond the tokenizer's tokens (such as padding or custom tokens) are overwritten: infilling uses their ids.
    """
    with quiet_transformers():
        model.resize_token_embeddings(vocabulary.size, mean_resizing=False)
    with torch.no_grad():
        for weight_VD in {id(w): w for w in (model.transformer.wte.weight, model.lm_head.weight)}.values():
            weight_VD[vocabulary.own_size :] = weight_VD[: vocabulary.own_size].mean(dim=0)


def _prepared(model: GPT2LMHeadModel, vocabulary: Vocabulary) -> GPT2LMHeadModel:
    """Attach the vocabulary, and switch to faster products and a fused GELU, which is equal up to rounding."""
    setattr(model, _VOCABULARY, vocabulary)
    use_fast_products(model)
    if model.config.activation_function in {"gelu_new", "gelu_pytorch_tanh"}:
        blocks: Any = model.transformer.h
        for block in blocks:
            block.mlp.act = nn.GELU(approximate="tanh")
    return model


def _dropouts(dropout: float) -> dict[str, Any]:
    return {"resid_pdrop": dropout, "embd_pdrop": dropout, "attn_pdrop": dropout}
