"""Settings of trainings on a part of the documents, and of the control trials made from them."""

from typing import Annotated

from pydantic import Field

from raysweep.config.section import Section


class SubsetConfig(Section):
    """A random part of the train documents of a trial's levels, as large as one of these levels."""

    size_of: str = Field(description="the level whose number of train documents is taken")
    disjoint: bool = Field(False, description="cut so that the parts for two levels share no document")
    seed: Annotated[int, Field(ge=0)] = Field(0, description="of the draw; not of the training")


class ControlsConfig(Section):
    """Extra trials that tell a gain of specialising on a level from one of size, steps or chance."""

    size_matched: bool = Field(
        False, description="per level: a model on all levels, with the level's settings and number of documents"
    )
    step_matched: bool = Field(
        False, description="per level: a model on all levels and documents, with the level's settings and steps"
    )
    placebo: bool = Field(
        False, description="per level: a model on a random group of documents of all levels, as many as the level has"
    )
