"""A run folder and a small corpus on disk."""

from pathlib import Path

import pytest

from raysweep.corpus.sample import write_sample
from raysweep.storage.run_folder import RunFolder
from tests.corpus.odd_csv import LEVELS


@pytest.fixture
def folder(tmp_path) -> RunFolder:
    return RunFolder(tmp_path / "a run's folder")


@pytest.fixture(scope="session")
def sample_csv(tmp_path_factory) -> Path:
    """1,500 synthetic texts."""
    path = tmp_path_factory.mktemp("sample") / "sample.csv"
    write_sample(path, rows=1500, seed=3, levels=LEVELS)
    return path
