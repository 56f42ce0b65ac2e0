"""Run commands in this process, with a config of their own."""

import pytest
from typer.testing import CliRunner

from raysweep.cli.app import app

CONFIG = """
default: tiny
profiles:
  tiny:
    data: {levels: [A1, C1], sample: {rows: 40, level_shares: {A1: 1, C1: 1}}}
    masking: {examples_per_document: 1}
    evaluation: {examples_per_document: 1}
    trials: {A1: {levels: [A1], steps: 2}}
"""


@pytest.fixture
def command(tmp_path, monkeypatch):
    """Run a command on the tiny config; the result's `exception` holds raysweep's errors."""
    (tmp_path / "experiments.yaml").write_text(CONFIG)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    return lambda *words, **options: CliRunner().invoke(app, [str(word) for word in words], **options)
