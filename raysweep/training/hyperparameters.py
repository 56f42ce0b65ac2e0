"""The settings of a training as flat names and plain values, for TensorBoard's HParams tab and for trackers."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from raysweep.config.training_settings import ModelConfig, TrainingConfig

Hyperparameters = dict[str, str | int | float | bool]


def hyperparameters(
    settings: TrainingConfig,
    model: ModelConfig,
    *,
    seed: int,
    parent: str | None,
    drawn: Mapping[str, Any] | None = None,
) -> Hyperparameters:
    """What was trained with; settings that are not set are left out.

    Args:
        parent: the trial whose model it starts from.
        drawn: the settings that a search drew for this sample.

    Returns:
        Numbers, texts and booleans as they are, anything else as JSON.  No path: of a start only the folder's name.
    """
    values = settings.model_dump(mode="json", by_alias=True, exclude={"search", "seeds"}) | dict(drawn or {})
    values |= {f"model.{name}": value for name, value in model.model_dump(mode="json").items() if name != "start"}
    values |= {"seed": seed, "from": parent or Path(model.start).name}
    return {name: _plain(value) for name, value in values.items() if value is not None}


def _plain(value: Any) -> str | int | float | bool:
    return value if isinstance(value, str | int | float | bool) else json.dumps(value, ensure_ascii=False)
