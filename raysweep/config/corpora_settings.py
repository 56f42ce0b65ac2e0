"""Settings of other corpora, on which a run's models are scored in addition to its own test documents."""

import json
from typing import Annotated

from pydantic import Field

from raysweep.config.data_settings import DataConfig, SourceConfig
from raysweep.config.section import Distinct


class CorpusConfig(SourceConfig):
    """Another corpus; all its documents are scored, and none is trained on."""

    path: str | Annotated[tuple[str, ...], Distinct] = Field(
        description="a file, several files, a glob, a folder or an address"
    )

    def as_data(self, data: DataConfig) -> DataConfig:
        """Add the run's levels, language and near-duplicate threshold; raises ValidationError if they do not fit."""
        of_run = data.model_dump(mode="json", include={"levels", "language", "near_duplicates"})
        return DataConfig.model_validate_json(json.dumps({**self.model_dump(mode="json"), **of_run}))


Corpora = dict[str, CorpusConfig]
