"""A valid bundle, as its files."""

import zipfile

import pytest

from raysweep.config.loading import dump_config
from raysweep.publishing.bundle import write_bundle
from raysweep.report.writing import write_report
from tests.publishing.forging import Files
from tests.simulated_run import make_config, make_run


@pytest.fixture(scope="session")
def honest(tmp_path_factory) -> Files:
    """Return the contents of every file of a bundle by name, including the manifest."""
    root = tmp_path_factory.mktemp("honest")
    folder, config, trials = make_run(root, make_config(("A1", "C1"), resamples=100), documents=36)
    folder.config.write_text(dump_config(config), encoding="utf-8")
    write_report(folder, config, trials)
    write_bundle(folder, root / "evidence.zip")
    with zipfile.ZipFile(root / "evidence.zip") as archive:
        return {name: archive.read(name) for name in archive.namelist()}
