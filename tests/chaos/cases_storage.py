"""Storage that cannot be written, found, named or trusted."""

import os
from pathlib import Path

from tests.chaos.case import Case

PREPARE = ("prepare",)


def _read_only(folder):
    (folder / "runs").mkdir(mode=0o555)


def _nothing_was_made(folder):
    assert not (folder / "runs").exists()


def _lock_leads_elsewhere(folder):
    (folder / "precious.txt").write_text("not ours\n")
    (folder / "runs" / "tiny").mkdir(parents=True)
    (folder / "runs" / "tiny" / "run.lock").symlink_to(folder / "precious.txt")


def _lock_is_another_name(folder):
    (folder / "precious.txt").write_text("not ours\n")
    (folder / "runs" / "tiny").mkdir(parents=True)
    (folder / "runs" / "tiny" / "run.lock").hardlink_to(folder / "precious.txt")


def _precious_is_whole(folder):
    assert (folder / "precious.txt").read_text() == "not ours\n"


def _lock_is(make):
    def make_lock(folder):
        (folder / "runs" / "tiny").mkdir(parents=True)
        make(folder / "runs" / "tiny" / "run.lock")

    return make_lock


def _disappears_into_itself(folder):
    (folder / "runs").symlink_to(folder / "runs")


def _case(name, words, make=lambda folder: None, command=PREPARE, **more):
    return Case(name=name, kind="storage", make=make, command=command, exit_code=2, words=words, **more)


CASES = (
    _case(
        "read-only",
        ("error: --storage: cannot make the run folder", "Permission denied; name a folder that you can write into"),
        _read_only,
        as_plain_user=True,
        in_ci=True,
    ),
    _case(
        "run folder read-only",
        ("run.lock: Permission denied; give yourself the right to it",),
        lambda folder: (folder / "runs" / "tiny").mkdir(parents=True, mode=0o555),
        as_plain_user=True,
        in_ci=True,
    ),
    _case(
        "run folder unreadable",
        ("Permission denied; give yourself the right to it",),
        lambda folder: (folder / "runs" / "tiny").chmod(0o000),
        command=("status",),
        after="prepare",
        as_plain_user=True,
    ),
    _case(
        "a file is in the way",
        ("cannot make the run folder", "Not a directory"),
        lambda folder: (folder / "runs").write_text("a file"),
        in_ci=True,
    ),
    _case(
        "the run folder is a file",
        ("cannot make the run folder", "File exists"),
        lambda folder: ((folder / "runs").mkdir(), (folder / "runs" / "tiny").write_text("a file")),
    ),
    _case(
        "no place where folders can be made",
        ("cannot make the run folder /proc/nowhere",),
        command=("prepare", "--storage", "/proc/nowhere"),
    ),
    _case("another scheme", ("must be a path, s3://bucket",), command=("prepare", "--storage", "ftp://host/runs")),
    _case(
        "a user who is not there",
        ("--storage: found '~nobody-here/runs'; must be a path",),
        command=("prepare", "--storage", "~nobody-here/runs"),
    ),
    _case(
        "a link to itself",
        ("--storage: found 'runs'; must be a path (Symlink loop",),
        _disappears_into_itself,
        check=lambda folder: None,
    ),
    _case(
        "a path longer than the system takes",
        ("--storage: found 4,", "a path may have 3,500"),
        command=("prepare", "--storage", "/tmp/" + "deep/" * 900),
        unprinted=("deep/" * 17,),
        in_ci=True,
    ),
    _case(
        "a folder name longer than the system takes",
        ("cannot make the run folder", "File name too long"),
        command=("prepare", "--storage", "x" * 300),
    ),
    _case(
        "a long name of a run",
        ("--name: found 300 bytes",),
        command=("prepare", "--name", "é" * 150),
        unprinted=("é" * 81,),
    ),
    _case(
        "no UTF-8 in the name",
        (r"--name: found 'caf\udce9'; must be a folder name",),
        command=("prepare", "--name", os.fsdecode(b"caf\xe9")),
        check=_nothing_was_made,
        in_ci=True,
    ),
    _case(
        "no UTF-8 in the path",
        (r"--storage: found 'caf\udce9'; the path must be valid UTF-8",),
        command=("prepare", "--storage", os.fsdecode(b"caf\xe9")),
        in_ci=True,
    ),
    _case(
        "a line break in the name",
        (r"--name: found 'a\nb'; must be a folder name",),
        command=("prepare", "--name", "a\nb"),
    ),
    _case(
        "a slash in the name", ("--name: found '../up'; must be a folder name",), command=("prepare", "--name", "../up")
    ),
    _case(
        "the lock is a link to another file",
        ("run.lock: found a link or no plain file; remove it",),
        _lock_leads_elsewhere,
        check=_precious_is_whole,
        in_ci=True,
    ),
    _case(
        "the lock is a second name of another file",
        ("run.lock: found a link or no plain file",),
        _lock_is_another_name,
        check=_precious_is_whole,
    ),
    _case(
        "the lock is a link to nothing",
        ("run.lock: found a link",),
        _lock_is(lambda lock: lock.symlink_to("nowhere")),
        check=lambda folder: _not_followed(folder),
    ),
    _case("the lock is a folder", ("run.lock: found a link or no plain file",), _lock_is(Path.mkdir)),
    _case(
        "the lock is a pipe",
        ("run.lock: found a link or no plain file",),
        _lock_is(os.mkfifo),
        within_s=20.0,
        in_ci=True,
    ),
    _case(
        "status of a run whose lock is a pipe",
        ("run.lock: found a link or no plain file",),
        _lock_is(os.mkfifo),
        command=("status",),
        within_s=20.0,
    ),
)


def _not_followed(folder):
    assert not (folder / "runs" / "tiny" / "nowhere").exists()
