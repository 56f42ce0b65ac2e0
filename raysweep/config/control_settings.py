"""Settings of trainings on a subset of the documents, and of the control trials."""

from typing import Annotated

from pydantic import Field

from raysweep.config.section import Section, Seed


class SubsetConfig(Section):
    """A random subset of the train documents of a trial's levels, as large as one of these levels."""

    size_of: str = Field(description="the level whose number of train documents determines the size")
    disjoint: bool = Field(False, description="the subsets for two levels share no document")
    seed: Seed = Field(0, description="seed of the draw; the training has its own seed")


class ControlsConfig(Section):
    """Additional trials that separate the effect of the level from those of size, steps and chance."""

    size_matched: bool = Field(
        False, description="per level: a model on all levels, with the level's settings and number of documents"
    )
    step_matched: bool = Field(
        False, description="per level: a model on all levels and documents, with the level's settings and steps"
    )
    placebo: bool = Field(
        False, description="per level: a model on a random group of documents of all levels, as many as the level has"
    )
    placebo_draws: Annotated[int, Field(ge=1, le=100)] = Field(
        3,
        description="random groups of documents for each level, with a model each; they show gains due to chance",
    )
    compute_matched: bool = Field(
        False, description="a general model that sees as many examples as all level models together"
    )
    exposure_matched: bool = Field(
        False, description="a general model that sees as many examples of each level as the level's own model"
    )

    @property
    def asked(self) -> tuple[str, ...]:
        """The kinds of controls that are enabled."""
        return tuple(name for name, value in self if value is True)
