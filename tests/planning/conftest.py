"""The small run of the pipeline's tests."""

from tests.pipeline.conftest import finished_storage, tiny_run

__all__ = ["finished_storage", "tiny_run"]
