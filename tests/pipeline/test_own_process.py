"""A function in a separate process, which nobody has to wait for."""

import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool

import psutil
import pytest

from raysweep.errors import ResourceError
from raysweep.pipeline.own_process import OwnProcess


def test_a_separate_process_returns_the_functions_result_or_error():
    """As if it had been called in this process."""
    process = OwnProcess()
    assert process.run(pow, 2, 10, if_killed="") == 1024
    with pytest.raises(ValueError, match="invalid literal"):
        process.run(int, "x", if_killed="")


def test_a_stopped_function_ends_at_once():
    """Even if it would run forever; the waiting caller gets an error."""
    process = OwnProcess()
    with ThreadPoolExecutor(1) as thread:
        running = thread.submit(process.run, signal.pause, if_killed="")
        process.stop()
        assert isinstance(running.exception(60), BrokenProcessPool)


def test_the_process_ends_if_its_parent_is_killed():
    """After kill -9 nobody is left to stop it."""
    code = (
        "import signal; from raysweep.pipeline.own_process import OwnProcess; "
        "OwnProcess().run(signal.pause, if_killed='')"
    )
    with subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL) as parent:
        us = psutil.Process(parent.pid)
        while not (children := [child for child in us.children() if "spawn_main" in " ".join(child.cmdline())]):
            assert us.is_running()
        parent.kill()
    assert psutil.wait_procs(children, timeout=60)[1] == []


def test_ctrl_c_does_not_reach_the_process():
    """A terminal sends it to all processes; the process would print a traceback before this one answers."""
    code = (
        "import signal; from raysweep.pipeline.own_process import OwnProcess; "
        "print(signal.SIGINT in OwnProcess().run(signal.pthread_sigmask, signal.SIG_BLOCK, [], if_killed=''))"
    )
    # In a fresh process, where multiprocessing's resource tracker starts.
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True).stdout == "True\n"


def test_a_killed_process_is_reported_with_its_signal():
    """As when the kernel is short of memory."""
    with pytest.raises(ResourceError, match="too large"):
        OwnProcess().run(os._exit, 9, if_killed="too large")
