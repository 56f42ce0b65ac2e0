"""The chaos suite: every fault ends in plain words and the right exit code, quickly, and none in silence.

A file of cases per kind (`cases_<kind>.py`, a tuple CASES); this module runs them through the command line's
own entry point, in this process.  Most are marked slow; the sample marked `in_ci` runs with every test run.
"""

import importlib
import os
import shutil
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from raysweep.cli.app import main
from tests.chaos.case import CONFIG, Case
from tests.chaos.plain_user import plain_user

HERE = Path(__file__).parent
KINDS = sorted(path.stem.removeprefix("cases_") for path in HERE.glob("cases_*.py"))
CASES: list[Case] = [case for kind in KINDS for case in importlib.import_module(f"tests.chaos.cases_{kind}").CASES]


def run_command(*words):
    """The exit code of a command, run in this process as the `raysweep` script runs it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["raysweep", *words])
        try:
            main()
        except SystemExit as end:
            return end.code or 0
    return 0


@pytest.fixture(scope="session")
def earlier_runs(tmp_path_factory):
    """Gives `runs/` with a run that has done a command ('prepare' or 'run'), each made once."""
    made = {}

    def folder_after(command):
        if command not in made:
            made[command] = tmp_path_factory.mktemp(command)
            with pytest.MonkeyPatch.context() as patch:
                patch.chdir(made[command])
                Path("experiments.yaml").write_text(CONFIG)
                assert run_command(command, *(["--inline"] if command == "run" else [])) == 0
        return made[command] / "runs"

    return folder_after


@pytest.fixture(autouse=True)
def restore_process_state(tmp_path):
    """A case leaves neither its umask nor the modules of its folder to the next."""
    umask = os.umask(0)
    os.umask(umask)
    yield
    os.umask(umask)
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, id=f"{case.kind}: {case.name}", marks=[] if case.in_ci else [pytest.mark.slow])
        for case in CASES
    ],
)
def test_a_fault_ends_with_the_expected_message_and_exit_code(case, tmp_path, monkeypatch, capfd, earlier_runs):
    """With the expected exit code; a fault that is passed over in silence is the worst outcome."""
    (tmp_path / "experiments.yaml").write_text(CONFIG)
    if case.after:
        shutil.copytree(earlier_runs(case.after), tmp_path / "runs")
    case.make(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    # A mask function of the case's own is a module in its folder.
    monkeypatch.syspath_prepend(tmp_path)
    for name, value in case.variables.items():
        monkeypatch.setenv(name, value.format(folder=tmp_path))
    capfd.readouterr()
    with ExitStack() as stack:
        if case.as_plain_user:
            stack.enter_context(plain_user())
        began, began_wall = time.process_time(), time.monotonic()
        exit_code = run_command(*case.command)
        took_s, waited_s = time.process_time() - began, time.monotonic() - began_wall
    printed = "\n".join(capfd.readouterr())
    assert exit_code == case.exit_code, printed
    for text in case.words:
        assert text in printed
    for text in ("Traceback", *case.unprinted):
        assert text not in printed
    assert took_s < case.within_s
    assert waited_s < 3 * case.within_s, "it waited, or what it started took the time"
    case.check(tmp_path)


def test_each_case_has_a_unique_name_in_the_file_of_its_kind():
    """So that a failure leads to its row; and the sample for CI stays a sample."""
    names = [(case.kind, case.name) for case in CASES]
    assert len(set(names)) == len(names)
    for kind in KINDS:
        assert {case.kind for case in importlib.import_module(f"tests.chaos.cases_{kind}").CASES} == {kind}
    assert 8 <= sum(case.in_ci for case in CASES) <= 40
