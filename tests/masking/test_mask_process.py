"""The user's mask function works in a process of its own, which may end without harm."""

import os
import signal

import pytest

from raysweep.config.data_settings import MaskingConfig
from raysweep.errors import InputError
from raysweep.masking import mask_process
from raysweep.masking.mask_process import describe_end, make_shard
from raysweep.masking.mask_shard import mask_shard

OWN = """
import os
def first(text, hierarchy, generator):
    return [[(4, 0, 1)]]
def pid(text, hierarchy, generator):
    open("pid", "w").write(str(os.getpid()))
    return []
def odd(text, hierarchy, generator):
    return [[(4, 0, len(text) + 1)]]
def exits(text, hierarchy, generator):
    os._exit(0)
"""


@pytest.fixture
def shard(tmp_path, monkeypatch, write_documents):
    """Makes one shard of two documents with a function of the module above."""
    (tmp_path / "own_masks_apart.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    documents = write_documents(tmp_path / "documents.parquet", ["I like tea.", "We like milk."])

    def make(function, place="apart", call=make_shard):
        policy = MaskingConfig(function=f"own_masks_apart:{function}" if function else None, examples_per_document=1)
        return call(documents=documents, rows=(0, 2), shard=0, folder=tmp_path / place, policy=policy, seed=0)

    return make


def test_a_shard_made_in_a_separate_process_has_the_same_bytes(shard, tmp_path):
    """It is equal to the byte, although the function ran in another process."""
    apart, here = shard("first"), shard("first", "here", mask_shard)
    assert {**apart, "seconds": None} == {**here, "seconds": None}
    shards = [next((tmp_path / place).rglob("*.examples")).read_bytes() for place in ("apart", "here")]
    assert shards[0] == shards[1]
    shard("pid", "third")
    assert int((tmp_path / "pid").read_text()) != os.getpid()


def test_errors_of_the_mask_process_are_raised_and_a_lost_process_is_reported(shard):
    """The message names the document or, for a lost process, the range of documents."""
    with pytest.raises(InputError, match=r"document 0 .*must lie inside the text's 11 characters"):
        shard("odd")
    with pytest.raises(
        InputError, match=r"own_masks_apart:exits': ended its process \(exit code 0\) among documents 0 to 1"
    ):
        shard("exits")


def test_an_unexpected_error_keeps_its_traceback(shard, monkeypatch, tmp_path):
    """An unexpected error keeps its traceback, for the log."""
    (tmp_path / "documents.parquet").write_bytes(b"PAR1" * 9)
    with pytest.raises((InputError, RuntimeError, OSError)):
        shard("first")


def test_no_process_is_started_without_a_mask_function(shard, monkeypatch):
    """The usual case has no overhead."""
    monkeypatch.setattr(mask_process.subprocess, "run", lambda *_, **__: pytest.fail("started a process"))
    assert shard(None)["documents"] == 2


def test_an_interrupt_ends_the_mask_process(shard, monkeypatch):
    """Ctrl-C ends the wait, and then the other process."""
    started = []
    popen = mask_process.subprocess.Popen

    class Interrupted(popen):
        def wait(self, timeout=None):
            started.append(self)
            if len(started) == 1:
                raise KeyboardInterrupt
            return super().wait(timeout)

    monkeypatch.setattr(mask_process.subprocess, "Popen", Interrupted)
    with pytest.raises(KeyboardInterrupt):
        shard("first")
    assert started[0].returncode == -signal.SIGKILL


def test_exit_codes_and_signals_of_a_process_are_described_in_words():
    """The description gives the exit code or the name of the signal."""
    assert [describe_end(0), describe_end(3), describe_end(-9)] == ["exit code 0", "exit code 3", "signal SIGKILL"]
