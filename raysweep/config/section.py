"""The base of every section of experiments.yaml, and types that several sections use."""

import re
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Count = Annotated[int, Field(ge=0)]
PositiveInt = Annotated[int, Field(ge=1)]
PositiveFloat = Annotated[float, Field(gt=0.0)]


def _are_distinct(values: tuple[Any, ...]) -> tuple[Any, ...]:
    for value in values:
        if values.count(value) > 1:
            raise ValueError(f"{value!r} is given twice")
    return values


Distinct = AfterValidator(_are_distinct)
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*\Z")


class Section(BaseModel):
    """A section of the file: frozen and strict; unknown keys are errors."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False)
    renamed_keys: ClassVar[Mapping[str, str]] = {}
    """Keys of earlier versions and their names now; an old key is refused, and the error names the new one."""
