"""Settings of the stage that tells levels from perplexities."""

from typing import Annotated

from pydantic import Field

from raysweep.config.section import Section


class ClassificationConfig(Section):
    """Levels from perplexities beside baselines: fitted on valid documents and tested on test documents, and in folds.

    The start and the first training of every entry score the valid and test documents, which may take longer than the
    evaluate stage.
    """

    folds: Annotated[int, Field(ge=2, le=100)] = Field(
        5, description="parts of the test documents that are tested in turn; a learner's texts are in one"
    )
