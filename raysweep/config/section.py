"""What every part of experiments.yaml is made from: frozen, strict records, closed to unknown keys."""

import re
from collections.abc import Mapping
from typing import Annotated, ClassVar

from pydantic import BaseModel, ConfigDict, Field

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Count = Annotated[int, Field(ge=0)]
PositiveInt = Annotated[int, Field(ge=1)]
PositiveFloat = Annotated[float, Field(gt=0.0)]
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*\Z")


class Section(BaseModel):
    """A part of the file: frozen, strict, and closed to unknown keys."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False)
    renamed_keys: ClassVar[Mapping[str, str]] = {}
    """Keys of earlier versions and their names now; an old key is refused, and the error names the new one."""
