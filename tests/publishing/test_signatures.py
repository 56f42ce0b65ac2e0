"""A bundle can be signed with a key of OpenSSH, and OpenSSH itself can check it."""

import contextlib
import hashlib
import io
import json
import shlex
import shutil
import subprocess
import sys
import zipfile

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from raysweep.cli.app import main
from raysweep.config.loading import dump_config
from raysweep.errors import InputError
from raysweep.publishing.signatures import check_signature, read_public_key, sign
from raysweep.report.writing import write_report
from tests.publishing.forging import edit_json, pack
from tests.simulated_run import make_config, make_run


def write_key(path, key=None, passphrase=None):
    """Write a pair of key files, as `ssh-keygen` does."""
    key = key or Ed25519PrivateKey.generate()
    encryption = BestAvailableEncryption(passphrase) if passphrase else NoEncryption()
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, encryption))
    public = path.with_suffix(".pub")
    public.write_bytes(key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH) + b" author@university\n")
    return path, public


def no_passphrase():
    raise AssertionError("asked for a passphrase")


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    return write_key(tmp_path_factory.mktemp("keys") / "key")


@pytest.fixture(scope="module")
def other_key(tmp_path_factory):
    return write_key(tmp_path_factory.mktemp("keys") / "other")[1]


@pytest.fixture(scope="module")
def signed(tmp_path_factory, keys):
    """Make a bundle that the command has signed, in a folder with a space in its name."""
    root = tmp_path_factory.mktemp("signed") / "my papers"
    root.mkdir()
    folder, config, trials = make_run(root, make_config(("A1", "C1"), resamples=100), documents=36)
    folder.config.write_text(dump_config(config), encoding="utf-8")
    write_report(folder, config, trials)
    out = root / "evidence.zip"
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(io.StringIO()) as printed:
        code, *_ = command(patch, "bundle", "--name", "pilot", "--storage", root, "--out", out, "--sign", keys[0])
    assert code == 0
    *_, next_command = printed.getvalue().splitlines()
    assert next_command == f"to check it anywhere: `raysweep verify {shlex.quote(str(out))} --key {keys[1]}`"
    return out


def command(patch, *arguments):
    patch.setattr(sys, "argv", ["raysweep", *map(str, arguments)])
    with pytest.raises(SystemExit) as left:
        main()
    return left.value.code or 0, left


def files_of(path):
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_bundling_to_an_existing_folder_is_refused(signed, tmp_path, monkeypatch, capsys):
    """The zip was made, and could then not take the folder's place: an error with a traceback."""
    run = ("--name", "pilot", "--storage", signed.parent)
    assert command(monkeypatch, "bundle", *run, "--out", tmp_path)[0] == 2
    assert (
        f"--out: found '{tmp_path}', a folder; name a file, such as {tmp_path}/evidence.zip" in capsys.readouterr().err
    )


def test_a_signed_bundle_verifies_only_with_its_key(signed, keys, other_key, monkeypatch, capsys):
    """The exit code is 0 with the right key or without a key, and 1 with another key."""
    fingerprint = read_public_key(keys[1]).fingerprint
    assert command(monkeypatch, "verify", signed, "--key", keys[1])[0] == 0
    out = capsys.readouterr().out
    assert f"signed by {fingerprint}: the key asked for" in out
    assert f"follows from its tables, signed by {keys[1]}" in out
    assert command(monkeypatch, "verify", signed)[0] == 0
    out = capsys.readouterr().out
    assert f"signed by {fingerprint}: give --key" in out
    assert f"follows from its tables, signed by {keys[1]}" not in out
    assert command(monkeypatch, "verify", signed, "--key", other_key)[0] == 1
    err = capsys.readouterr().err
    assert f"stated by {fingerprint}, asked for one by {read_public_key(other_key).fingerprint}" in err


def forge_software(files):
    content = edit_json(files["manifest.json"], lambda values: values["made_with"].update(numpy="0.9"))
    return {**files, "manifest.json": content}


def drop_a_file(values):
    del values["files"]["README.txt"]


FORGERIES = {
    "made_with is another": forge_software,
    "the bundle is another": lambda files: {**files, "manifest.json": edit_json(files["manifest.json"], drop_a_file)},
    "the signature is cut": lambda files: {**files, "manifest.json.sig": files["manifest.json.sig"][:-40]},
    "the signature is empty": lambda files: {**files, "manifest.json.sig": b""},
    "the signature is no text": lambda files: {**files, "manifest.json.sig": b"\xff" * 100},
    "the signature has a space more": lambda files: {
        **files,
        "manifest.json.sig": files["manifest.json.sig"].replace(b"\n", b" \n", 1),
    },
}


@pytest.mark.parametrize("name", FORGERIES)
def test_changes_to_signed_contents_are_detected(signed, tmp_path, monkeypatch, capsys, name):
    """The manifest holds every file's hash and `made_with`; a bad signature is an error even if no key is given."""
    path = pack(tmp_path / "evidence.zip", FORGERIES[name](files_of(signed)))
    assert command(monkeypatch, "verify", path)[0] == 1
    assert "manifest.json.sig: stated a signature, " in capsys.readouterr().err


def test_a_bundle_without_its_signature_is_refused_if_a_key_is_given(signed, keys, tmp_path, monkeypatch, capsys):
    """Removing the signature is the simplest forgery."""
    files = {name: content for name, content in files_of(signed).items() if name != "manifest.json.sig"}
    path = pack(tmp_path / "evidence.zip", files)
    assert command(monkeypatch, "verify", path)[0] == 0
    capsys.readouterr()
    assert command(monkeypatch, "verify", path, "--key", keys[1])[0] == 1
    assert "manifest.json.sig: stated no signature, asked for one by SHA256:" in capsys.readouterr().err


@pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="OpenSSH is not installed")
def test_openssh_verifies_a_bundle_with_the_commands_of_its_readme(signed, keys, tmp_path):
    """Readers do not need raysweep for that; the commands are those of README.txt in the zip."""
    with zipfile.ZipFile(signed) as archive:
        archive.extractall(tmp_path)
    shutil.copyfile(keys[1], tmp_path / "key.pub")
    readme_lines = [line.strip() for line in (tmp_path / "README.txt").read_text().splitlines()]
    script = [line for line in readme_lines if line.startswith(("echo ", "ssh-keygen "))]
    assert len(script) == 2
    run = subprocess.run(["sh", "-ec", "\n".join(script)], cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert 'Good "raysweep-bundle" signature for authors' in run.stdout
    (tmp_path / "manifest.json").write_text((tmp_path / "manifest.json").read_text() + " ")
    assert subprocess.run(["sh", "-ec", "\n".join(script)], cwd=tmp_path, capture_output=True).returncode != 0


@pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="OpenSSH is not installed")
@pytest.mark.parametrize("namespace", ["raysweep-bundle", "git"])
def test_a_signature_made_by_openssh_is_valid_only_in_the_bundle_namespace(keys, tmp_path, namespace):
    """Authors may sign on a machine without raysweep; a signature made for a commit is not valid for a bundle."""
    keys[0].chmod(0o600)
    (tmp_path / "manifest.json").write_bytes(b"{}\n")
    subprocess.run(
        ["ssh-keygen", "-q", "-Y", "sign", "-f", keys[0], "-n", namespace, tmp_path / "manifest.json"], check=True,
        capture_output=True,
    )  # fmt: skip
    armoured = (tmp_path / "manifest.json.sig").read_bytes()
    if namespace == "raysweep-bundle":
        assert check_signature(b"{}\n", armoured) == read_public_key(keys[1])
    else:
        with pytest.raises(ValueError, match="for another purpose"):
            check_signature(b"{}\n", armoured)


def test_every_flipped_bit_of_a_signature_is_detected(tmp_path):
    """Bits are flipped in the text and in the bytes; the only exception raised is ValueError."""
    key, _ = write_key(tmp_path / "key")
    armoured = sign(b"content", key, no_passphrase)
    for place in range(len(armoured)):
        for bit in (1, 4, 32):
            changed = armoured[:place] + bytes([armoured[place] ^ bit]) + armoured[place + 1 :]
            with pytest.raises(ValueError):  # noqa: PT011 - the message depends on the flipped bit
                check_signature(b"content", changed)
        with pytest.raises(ValueError):  # noqa: PT011
            check_signature(b"content", armoured[:place])


def test_an_encrypted_key_asks_for_its_passphrase(tmp_path):
    """The right passphrase signs, another is reported."""
    key, public = write_key(tmp_path / "key", passphrase=b"correct horse")
    assert check_signature(b"x", sign(b"x", key, lambda: "correct horse")) == read_public_key(public)
    with pytest.raises(InputError, match="or its passphrase is another"):
        sign(b"x", key, lambda: "battery staple")


def test_a_file_that_is_not_a_key_is_refused_with_how_to_make_one(tmp_path, keys, monkeypatch, capsys, signed):
    """Cases: a folder, a missing file, noise, another type of key, and public and private key interchanged."""
    other, other_public = write_key(tmp_path / "ecdsa", ec.generate_private_key(ec.SECP256R1()))
    (tmp_path / "noise").write_bytes(b"\xff" * 300)
    (tmp_path / "big").write_bytes(b"0" * 30_000)
    for path in (tmp_path, tmp_path / "none", tmp_path / "noise", tmp_path / "big", other, keys[1]):
        with pytest.raises(InputError, match=r"ssh-keygen -t ed25519"):
            sign(b"x", path, no_passphrase)
    for path in (tmp_path, tmp_path / "none", tmp_path / "noise", tmp_path / "big", other_public, keys[0]):
        with pytest.raises(InputError, match=r"ssh-keygen -t ed25519"):
            read_public_key(path)
    assert command(monkeypatch, "verify", signed, "--key", tmp_path / "none")[0] == 2


def test_the_digest_of_a_bundle_is_that_of_its_manifest(signed, monkeypatch, capsys):
    """This one line stands for every byte of the bundle; both commands print it."""
    manifest = files_of(signed)["manifest.json"]
    assert json.loads(manifest)["format"] == 1
    command(monkeypatch, "verify", signed)
    assert f"digest of the bundle: {hashlib.sha256(manifest).hexdigest()}" in capsys.readouterr().out
