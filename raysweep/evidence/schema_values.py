"""The small things that the records of the evidence are made of."""

from typing import Annotated

from pydantic import Field

from raysweep.config.section import Section

Count = Annotated[int, Field(ge=0)]
Positive = Annotated[float, Field(gt=0.0)]
Seconds = Annotated[float, Field(ge=0.0)]
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Verdict = Annotated[str, Field(pattern="^(confirmed|refuted|undecided|not tested)$")]
Role = Annotated[str, Field(pattern="^[a-z_]+$")]


class Estimate(Section):
    """A value with the limits of its interval."""

    value: Positive
    low: Positive | None
    high: Positive | None


class Share(Section):
    """A part of a whole with the limits of its interval."""

    value: Annotated[float, Field(ge=0.0, le=1.0)]
    low: Annotated[float, Field(ge=0.0, le=1.0)] | None
    high: Annotated[float, Field(ge=0.0, le=1.0)] | None
    documents: Count
