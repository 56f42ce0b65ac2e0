"""Ray's threads share one memory arena, so that each reuses what the others freed."""

import ctypes
import subprocess
import sys

import pytest

from raysweep.cluster import native_memory

COUNT_ARENAS = """
import ctypes, sys, threading
from raysweep.cluster.native_memory import share_arenas
assert sys.argv[1] == "apart" or share_arenas()
libc, there = ctypes.CDLL(None), threading.Barrier(8)
libc.malloc.restype = ctypes.c_void_p
def take():
    there.wait()
    for _ in range(50):
        libc.malloc(ctypes.c_size_t(4000))
    there.wait()
threads = [threading.Thread(target=take) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
libc.fopen.restype = ctypes.c_void_p
file = ctypes.c_void_p(libc.fopen(b"/dev/stdout", b"w"))
libc.malloc_info(0, file), libc.fclose(file)
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_info"), reason="glibc alone has arenas")
def test_threads_share_a_limited_number_of_malloc_arenas():
    """Without the limit, eight threads that allocate at the same time have several arenas."""
    arenas = {
        how: subprocess.run(
            [sys.executable, "-c", COUNT_ARENAS, how], capture_output=True, text=True, check=True
        ).stdout.count("<heap nr=")
        for how in ("apart", "together")
    }
    assert arenas["apart"] > 1
    assert arenas["together"] == 1


def test_a_system_without_glibc_is_unchanged(monkeypatch):
    """Its C library has no such option."""
    monkeypatch.setattr(native_memory.sys, "platform", "darwin")
    assert not native_memory.share_arenas()


def test_the_users_own_arena_limit_is_kept(monkeypatch):
    """The user knows their machine."""
    monkeypatch.setenv("MALLOC_ARENA_MAX", "4")
    assert not native_memory.share_arenas()
