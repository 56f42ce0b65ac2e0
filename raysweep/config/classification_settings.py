"""Settings of the stage that predicts levels from perplexities."""

from typing import Annotated

from pydantic import Field

from raysweep.config.section import Section


class ClassificationConfig(Section):
    """Prediction of levels from perplexities, compared with baselines.

    Classifiers are fitted on valid documents and tested on test documents, and also tested by cross-validation.  The
    start and the first training of every entry score the valid and test documents, which may take longer than the
    evaluate stage.
    """

    folds: Annotated[int, Field(ge=2, le=100)] = Field(
        5, description="folds of the cross-validation on the test documents; a learner's texts are in one fold"
    )
