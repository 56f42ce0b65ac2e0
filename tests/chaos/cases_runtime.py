"""Code that misbehaves, signals, other processes, modes of files, and output that nobody can show."""

import os
import stat
import textwrap

from tests.chaos.case import Case

RUN = ("run", "--inline")
OWN_MASK = ("run", "--inline", "--set", "masking.function=own_mask:draw")


def _mask(body):
    def make(folder):
        code = f"import os, signal, sys, time\ndef draw(*given):\n{textwrap.indent(body, '    ')}\n"
        (folder / "own_mask.py").write_text(code)

    return make


def _no_report(folder):
    assert not (folder / "runs" / "tiny" / "report" / "report.html").exists()


def _all_for_the_user_alone(folder):
    run = folder / "runs" / "tiny"
    modes = {stat.S_IMODE(path.stat().st_mode) & 0o077 for path in [run, *run.rglob("*")]}
    assert modes == {0}
    assert (run / "report" / "report.html").exists()


def _replaced(name, text):
    def make(folder):
        (folder / "runs" / "tiny" / name).write_bytes(text)

    return make


def _case(name, exit_code, words, make=lambda folder: None, command=RUN, **more):
    return Case(name=name, kind="runtime", make=make, command=command, exit_code=exit_code, words=words, **more)


CASES = (
    _case(
        "folders for the user alone",
        0,
        ("report:",),
        check=_all_for_the_user_alone,
        variables={"RAYSWEEP_UMASK": "077"},
    ),
    *(
        _case(
            f"a mask that is none: {text}",
            2,
            (f"RAYSWEEP_UMASK: found '{text}'; must be octal digits",),
            variables={"RAYSWEEP_UMASK": text},
            in_ci=text == "8",
        )
        for text in ("8", "0777", "u=rwx", "-1", "00077")
    ),
    _case(
        "the run was interrupted before it began",
        130,
        ("interrupted; what is saved is kept. To go on: `raysweep",),
        _mask("os.kill(os.getppid(), signal.SIGINT); time.sleep(60)"),
        command=OWN_MASK,
        check=_no_report,
    ),
    _case(
        "the run was terminated before it trained",
        130,
        ("interrupted; what is saved is kept. To go on: `raysweep",),
        _mask("os.kill(os.getppid(), signal.SIGTERM); time.sleep(60)"),
        command=OWN_MASK,
        check=_no_report,
    ),
    _case(
        "the lock's text is garbage",
        0,
        ("prepare",),
        _replaced("run.lock", os.urandom(64)),
        command=("prepare",),
        after="prepare",
    ),
    _case(
        "the lock names a process that is gone",
        0,
        ("prepare",),
        _replaced("run.lock", b'{"host": "elsewhere", "pid": 999999999, "since": "2999-01-01 00:00:00"}'),
        command=("prepare",),
        after="prepare",
    ),
    _case(
        "a wrong option",
        2,
        ("No such option: --nonsense",),
        command=("run", "--nonsense"),
        in_ci=True,
    ),
    _case("no such command", 2, ("No such command 'rum'",), command=("rum",), in_ci=True),
)
