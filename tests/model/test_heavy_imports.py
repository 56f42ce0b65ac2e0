"""Imports without Python's search for garbage."""

import gc
import sys

import pytest

from raysweep.model.heavy_imports import import_quickly


@pytest.mark.parametrize("is_enabled", [True, False])
def test_garbage_collection_is_paused_during_a_heavy_import(tmp_path, monkeypatch, is_enabled):
    """The collector's state is restored, whatever the import does; a module that is imported already is returned."""
    (tmp_path / "slow_one.py").write_text("import gc\nwas_enabled = gc.isenabled()\n")
    (tmp_path / "broken_one.py").write_text("1 / 0\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "slow_one", raising=False)
    before = gc.isenabled()
    try:
        gc.enable() if is_enabled else gc.disable()
        frozen = gc.get_freeze_count()
        imported = import_quickly("slow_one")
        assert gc.get_freeze_count() > frozen
        assert not imported.was_enabled
        assert gc.isenabled() == is_enabled
        assert import_quickly("slow_one") is imported
        with pytest.raises(ZeroDivisionError):
            import_quickly("broken_one")
        assert gc.isenabled() == is_enabled
    finally:
        gc.unfreeze()
        gc.enable() if before else gc.disable()
