"""Flattens the settings of a training to names and plain values, for TensorBoard's HParams tab and for trackers."""

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
    """Return the settings of a training; settings that are None are left out.

    Args:
        parent: the trial whose model it starts from.
        drawn: the settings that a search drew for this sample.

    Returns:
        Numbers, texts and booleans unchanged, and other values as JSON.  Paths are left out: for a start folder only
        its name is given.
    """
    values = settings.model_dump(mode="json", by_alias=True, exclude={"search", "seeds"}) | dict(drawn or {})
    values |= {f"model.{name}": value for name, value in model.model_dump(mode="json").items() if name != "start"}
    values |= {"seed": seed, "from": parent or Path(model.start).name}
    return {name: _plain(value) for name, value in values.items() if value is not None}


def _plain(value: Any) -> str | int | float | bool:
    return value if isinstance(value, str | int | float | bool) else json.dumps(value, ensure_ascii=False)
