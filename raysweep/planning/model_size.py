"""How large the model is that trials start from, known without loading torch or the model."""

from dataclasses import dataclass

from raysweep.config.schema import Config
from raysweep.config.training_settings import SCRATCH, SIZES, ModelSize

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
    """The shape of the model that trials start from.

    Raises:
        InputError: the start is a folder with no model that fits the config.
    """
    start, size = config.model.start, config.model.size
    if start != SCRATCH:
        # Imported here: a plan from scratch needs neither numpy nor the tokenizer, a third of its time.
        from raysweep.model.start_folder import local_folder, place_of, read_start, refuse_long_examples

        if folder := local_folder(start):
            found = read_start(folder, place_of(start))
            refuse_long_examples(found, config.masking.max_tokens)
            shape = found.config
            return ModelShape(layers=shape.n_layer, width=shape.n_embd, positions=config.masking.max_tokens)
        size = size_of_hub_model(start)
    layers, width, _ = SIZES[size]
    return ModelShape(layers=layers, width=width, positions=config.masking.max_tokens)


def size_of_hub_model(name: str) -> ModelSize:
    """The size that a hub model's name contains, such as 'gpt2-medium'; GPT-2 base where it contains none."""
    sizes: list[ModelSize] = [size for size in SIZES if "gpt2" in size and size in name]
    return max(sizes, key=len, default="gpt2")
