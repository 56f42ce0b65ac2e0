"""What every part of experiments.yaml is made from: frozen, strict records, closed to unknown keys."""

import re
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
PositiveInt = Annotated[int, Field(ge=1)]
PositiveFloat = Annotated[float, Field(gt=0.0)]
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*\Z")


class Section(BaseModel):
    """A part of the file: frozen, strict, and closed to unknown keys."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False)
