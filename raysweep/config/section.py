"""The base of every section of experiments.yaml, and types that several sections use."""

import re
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from raysweep.storage.printable import shown

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
MOST = 1_000_000_000
"""The default bound of a count: far above any use, and far below the overflow of a 64-bit integer."""
Count = Annotated[int, Field(ge=0)]
"""A number that was counted or measured, such as bytes; settings are a `BoundedCount`."""
BoundedCount = Annotated[int, Field(ge=0, le=MOST)]
PositiveInt = Annotated[int, Field(ge=1, le=MOST)]
PositiveFloat = Annotated[float, Field(gt=0.0)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]
Cores = Annotated[int, Field(ge=1, le=4096)]
Timeout = Annotated[float, Field(gt=0.0, le=86_400.0)]
"""Seconds, at most a day."""


def _are_distinct(values: tuple[Any, ...]) -> tuple[Any, ...]:
    for value in values:
        if values.count(value) > 1:
            raise ValueError(f"{shown(value)} is given twice")
    return values


Distinct = AfterValidator(_are_distinct)
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*\Z")


class Section(BaseModel):
    """A section of the file, which is frozen and strict; unknown keys are errors."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False)
    renamed_keys: ClassVar[Mapping[str, str]] = {}
    """Key of an earlier version → its present name; an old key is refused with an error that names the new one."""
