"""Reads the `config.json` of a Hugging Face GPT-2: the fields that determine what its weights mean, within limits.

Other fields (dropouts, tasks, code to run) are ignored: only the weights of a start are used.
"""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, ValidationError

from raysweep.config.error_messages import error_messages, show
from raysweep.errors import InputError
from raysweep.masking.vocabulary import GPT2_SIZE
from raysweep.storage.user_json import read_user_json

CONFIG_FILE = "config.json"
_MODEL_TYPE = "gpt2"


def _count(default: int, most: int, *names: str) -> int:
    field: int = Field(default, ge=1, le=most, validation_alias=AliasChoices(*names))
    return field


class StartConfig(BaseModel):
    """The fields of a GPT-2's config that determine what its weights mean; the defaults are those of GPT-2."""

    model_config = ConfigDict(frozen=True, strict=True, extra="ignore", allow_inf_nan=False)

    vocab_size: int = _count(GPT2_SIZE, 1_000_000, "vocab_size")
    n_positions: int = _count(1024, 1_000_000, "n_positions", "max_position_embeddings")
    n_embd: int = _count(768, 65_536, "n_embd", "hidden_size")
    n_layer: int = _count(12, 1_000, "n_layer", "num_hidden_layers")
    n_head: int = _count(12, 1_024, "n_head", "num_attention_heads")
    n_inner: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    activation_function: Literal[
        "gelu_new", "gelu", "gelu_fast", "gelu_pytorch_tanh", "quick_gelu", "relu", "silu", "swish", "tanh"
    ] = "gelu_new"
    layer_norm_epsilon: float = Field(1e-5, gt=0.0, lt=1.0)
    initializer_range: float = Field(0.02, ge=0.0, le=10.0)
    scale_attn_weights: bool = True
    scale_attn_by_inverse_layer_idx: bool = False
    reorder_and_upcast_attn: bool = False
    tie_word_embeddings: bool = True
    add_cross_attention: Literal[False] = False
    quantization_config: None = None

    def tensor_shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the shapes of the model's weights, by their names without `transformer.`."""
        width, inner = self.n_embd, self.n_inner or 4 * self.n_embd
        shapes: dict[str, tuple[int, ...]] = {
            "wte.weight": (self.vocab_size, width),
            "wpe.weight": (self.n_positions, width),
            "ln_f.weight": (width,),
            "ln_f.bias": (width,),
        }
        for layer in range(self.n_layer):
            shapes |= {
                f"h.{layer}.{name}": shape
                for name, shape in {
                    "ln_1.weight": (width,),
                    "ln_1.bias": (width,),
                    "attn.c_attn.weight": (width, 3 * width),
                    "attn.c_attn.bias": (3 * width,),
                    "attn.c_proj.weight": (width, width),
                    "attn.c_proj.bias": (width,),
                    "ln_2.weight": (width,),
                    "ln_2.bias": (width,),
                    "mlp.c_fc.weight": (width, inner),
                    "mlp.c_fc.bias": (inner,),
                    "mlp.c_proj.weight": (inner, width),
                    "mlp.c_proj.bias": (width,),
                }.items()
            }
        if not self.tie_word_embeddings:
            shapes["lm_head.weight"] = (self.vocab_size, width)
        return shapes


def read_start_config(folder: Path, place: str) -> StartConfig:
    """Read and check `config.json`; raises InputError with every unusable field, or with what else the folder is."""
    path = folder / CONFIG_FILE
    if not path.is_file():
        if (folder / "adapter_config.json").exists():
            raise InputError(
                f"{place}: the folder holds an adapter (PEFT) without its model; merge the two first "
                "(model.merge_and_unload().save_pretrained(FOLDER)), and start from that folder"
            )
        raise InputError(f"{place}: holds no {CONFIG_FILE}; must be a folder with {CONFIG_FILE} and model.safetensors")
    here = f"{place}: {CONFIG_FILE}"
    raw = read_user_json(path, here)
    if (kind := raw.get("model_type")) != _MODEL_TYPE:
        what = f"a {show(kind)} model" if isinstance(kind, str) else f"a model of type {show(kind)}"
        raise InputError(f"{here}: model_type: it is {what}; raysweep trains GPT-2 only (model_type 'gpt2')")
    try:
        config = StartConfig.model_validate(raw)
    except ValidationError as error:
        mistakes = error_messages(error.errors(include_url=False))
        raise InputError("\n".join(f"{here}: {field}: {message}" for field, message in mistakes)) from None
    if config.n_embd % config.n_head:
        raise InputError(f"{here}: n_head: found {config.n_head}; must divide n_embd, which is {config.n_embd}")
    return config
