"""Kernels run wherever they are installed."""

import logging

import numba.core.caching
import pytest

from raysweep.masking import kernels
from raysweep.readers import compiled


@pytest.mark.parametrize("kernel", [compiled.kernel, kernels.kernel])
def test_kernels_are_compiled_in_memory_if_no_cache_folder_is_writable(kernel, monkeypatch, caplog):
    """As a user without a home, with read-only packages, not even the import worked; the reason is logged once."""
    monkeypatch.setattr(numba.core.caching.CacheImpl, "_locator_classes", [])
    compiled._say_uncached.cache_clear()
    with caplog.at_level(logging.WARNING):
        doubled, tripled = kernel(lambda number: 2 * number), kernel(lambda number: 3 * number)
    assert (doubled(4), tripled(4)) == (8, 12)
    (line,) = caplog.messages
    assert "NUMBA_CACHE_DIR" in line


def test_an_unrelated_compiler_error_is_raised(monkeypatch):
    """Only the missing cache folder is made up for."""

    def fail(**options):
        raise RuntimeError("no compiler")

    monkeypatch.setattr(compiled.numba, "njit", fail)
    with pytest.raises(RuntimeError, match="no compiler"):
        compiled.kernel(lambda number: number)
