"""Files of a Ray that is started here are readable only by the user."""

import os
import shutil
import stat
import tempfile
from pathlib import Path

import pytest

from raysweep.errors import ResourceError


@pytest.fixture
def files(monkeypatch):
    from raysweep.cluster import private_files

    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_AUTH_MODE", "RAY_TMPDIR"):
        monkeypatch.delenv(name, raising=False)
    return private_files


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def token(tmp_path):
    return tmp_path / "home" / ".ray" / "auth_token"


def test_the_token_is_created_before_ray_with_private_permissions(files, token):
    """Anyone who has it may run code as this user."""
    files.protect_token(token, create=True)
    assert len(token.read_text()) == 64
    assert (mode(token), mode(token.parent)) == (0o600, 0o700)
    assert list(token.parent.iterdir()) == [token]


@pytest.mark.parametrize(("text", "is_kept"), [("a token", True), ("", False)])
def test_a_readable_token_is_made_private_and_an_empty_one_replaced(files, token, text, is_kept):
    """Ray leaves its own readable for ever; a kill can leave an empty one."""
    token.parent.mkdir(parents=True)
    token.write_text(text)
    token.chmod(0o644)
    files.protect_token(token, create=True)
    assert mode(token) == 0o600
    assert (token.read_text() == text) is is_kept


def test_no_token_is_created_for_a_joined_cluster(files, token):
    """The cluster has its own; another one would be refused."""
    files.protect_token(token, create=False)
    assert not token.exists()


@pytest.mark.parametrize(
    "variable", [("RAY_AUTH_TOKEN", "x"), ("RAY_AUTH_TOKEN_PATH", "/secret"), ("RAY_AUTH_MODE", "disabled")]
)
def test_a_token_stored_elsewhere_by_the_user_is_not_changed(files, token, monkeypatch, variable):
    """Ray makes no file in this case, either."""
    monkeypatch.setenv(*variable)
    files.protect_token(token, create=True)
    assert not token.exists()


def test_a_home_folder_that_cannot_store_the_token_is_reported(files, tmp_path):
    """The message names the other place where the token may be."""
    (tmp_path / "home").write_text("a file")
    with pytest.raises(ResourceError, match=r"auth_token: Not a directory; .* RAY_AUTH_TOKEN_PATH"):
        files.protect_token(tmp_path / "home" / ".ray" / "auth_token", create=True)


@pytest.fixture
def places(files, monkeypatch, tmp_path):
    """Provide short folders for temporary files; pytest's are long."""
    made = Path(tempfile.mkdtemp(prefix="rs", dir="/tmp"))
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(made))
    yield made
    shutil.rmtree(made)


def test_session_folders_are_private(files, places):
    """Ray makes its own folders writable by all."""
    with files.session_parent() as parent:
        assert parent == places / f"raysweep-{os.geteuid()}" / "r"
    assert mode(parent.parent) == 0o700


def test_a_path_too_long_for_sockets_falls_back_to_tmp(files, monkeypatch, tmp_path):
    """Ray used to end with a traceback."""
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path / ("deep/" * 30)))
    with files.session_parent() as parent:
        assert parent == Path("/tmp") / f"raysweep-{os.geteuid()}" / "r"


def test_the_maximum_session_path_length_still_fits_a_socket(files, monkeypatch, places):
    """The length counts a session name whose process number has seven digits."""
    session = "session_2026-11-26_00-58-16_553123_4194304/sockets/plasma_store"
    folder = places / ("x" * (107 - len(f"{places}//raysweep-{os.geteuid()}/r/{session}")))
    folder.mkdir()
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(folder))
    with files.session_parent() as parent:
        assert len(f"{parent}/{session}") == 107
    monkeypatch.setattr("tempfile.gettempdir", lambda: f"{folder}x")
    monkeypatch.setattr(files, "_SOCKET_PATH_BYTES", 70)
    with (
        pytest.raises(
            ResourceError, match=r"^TMPDIR: found no folder for Ray's sockets: .*x is longer than the .* bytes"
        ),
        files.session_parent(),
    ):
        pass


@pytest.mark.parametrize("kind", ["link", "file"])
def test_a_session_folder_of_another_user_is_not_used(files, places, monkeypatch, tmp_path, kind):
    """Anyone may make a folder in /tmp with the name that raysweep would use."""
    taken = places / f"raysweep-{os.geteuid()}"
    if kind == "link":
        taken.symlink_to(tmp_path)
    else:
        taken.write_text("")
    with files.session_parent() as parent:
        assert parent.parent.parent == Path("/tmp")
    assert list(tmp_path.iterdir()) == []


def test_old_sessions_are_removed_except_the_newest_and_running_ones(files, places):
    """Their logs used to accumulate."""
    with files.session_parent() as parent:
        for number in range(6):
            (parent / f"session_2026-0{number}").mkdir()
        release = files.mark_in_use(parent / "session_2026-00")
    with files.session_parent():
        kept = ["session_2026-00", "session_2026-03", "session_2026-04", "session_2026-05"]
        assert sorted(path.name for path in parent.iterdir()) == kept
        release()
        with files.session_parent():  # while another session starts, nothing is removed
            assert sorted(path.name for path in parent.iterdir()) == kept
    with files.session_parent():
        assert sorted(path.name for path in parent.iterdir()) == kept[1:]
