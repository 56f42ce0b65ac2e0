"""How large the model is that trials start from, known without loading torch or the model."""

from dataclasses import dataclass
from pathlib import Path

from raysweep.config.schema import Config
from raysweep.config.training_settings import SIZES, ModelSize
from raysweep.storage.atomic_files import read_json

VOCABULARY = 50_264
"""Rows of the token embedding."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelShape:
    """What rates and memory depend on."""

    layers: int
    width: int
    positions: int

    @property
    def parameters(self) -> int:
        """Embeddings and the matrices of the layers; biases and norms are left out."""
        return (VOCABULARY + self.positions) * self.width + self.layers * 12 * self.width * self.width


def model_shape(config: Config) -> ModelShape:
    """The shape of the model that trials start from."""
    start = config.model.start
    if start != "scratch" and (settings := Path(start).expanduser() / "config.json").is_file():
        values = read_json(settings)
        layers, width = int(values["n_layer"]), int(values["n_embd"])
    else:
        layers, width, _ = SIZES[config.model.size if start == "scratch" else size_of_hub_model(start)]
    return ModelShape(layers=layers, width=width, positions=config.masking.max_tokens)


def size_of_hub_model(name: str) -> ModelSize:
    """The size that a hub model's name contains, such as 'gpt2-medium'; GPT-2 base where it contains none."""
    sizes: list[ModelSize] = [size for size in SIZES if "gpt2" in size and size in name]
    return max(sizes, key=len, default="gpt2")
