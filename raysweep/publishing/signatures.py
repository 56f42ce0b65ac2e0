"""Signs the manifest of a bundle with an Ed25519 key of OpenSSH, and checks such a signature.

Keys are the files that `ssh-keygen -t ed25519` makes, which most researchers already have, and signatures have the
format of `ssh-keygen -Y sign`, so OpenSSH itself can check a bundle without raysweep.  `cryptography` reads the keys
and does all the arithmetic; this module writes and reads the envelope around it (OpenSSH's PROTOCOL.sshsig).
"""

import base64
import hashlib
import re
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_ssh_private_key,
    load_ssh_public_key,
)

from raysweep.errors import InputError
from raysweep.storage.printable import shown

NAMESPACE = b"raysweep-bundle"
"""A signature made for another purpose, such as a git commit, is not valid for a bundle."""
HOW_TO = "make a key with `ssh-keygen -t ed25519 -f raysweep-key`; raysweep-key.pub is the one to publish"
_MAGIC, _KIND, _HASH = b"SSHSIG", b"ssh-ed25519", b"sha512"
_BEGIN, _END = "-----BEGIN SSH SIGNATURE-----\n", "-----END SSH SIGNATURE-----\n"
_MAX_KEY_BYTES = 20_000


@dataclass(frozen=True, slots=True)
class Signature:
    """The key that made a valid signature."""

    key: bytes
    """The public key: 32 bytes."""

    @property
    def fingerprint(self) -> str:
        """The key's fingerprint, as `ssh-keygen -l` prints it."""
        digest = hashlib.sha256(_public_blob(self.key)).digest()
        return f"SHA256:{base64.b64encode(digest).decode().rstrip('=')}"


def sign(content: bytes, key_file: Path, ask_passphrase: Callable[[], str]) -> bytes:
    """Sign bytes with a private key of OpenSSH; InputError if it is no Ed25519 key, or the passphrase is wrong."""
    key = _read_private_key(key_file, ask_passphrase)
    public = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    signature = key.sign(_signed(content))
    blob = _MAGIC + struct.pack(">L", 1)
    blob += b"".join(map(_string, (_public_blob(public), NAMESPACE, b"", _HASH, _string(_KIND) + _string(signature))))
    return _armour(blob)


def check_signature(content: bytes, armoured: bytes) -> Signature:
    """Raise ValueError unless the key named in a signature made it for these bytes."""
    body = armoured.decode("ascii").removeprefix(_BEGIN).removesuffix(_END)
    blob = base64.b64decode("".join(body.split()), validate=True)
    if _armour(blob) != armoured:
        raise ValueError("is not written as `ssh-keygen -Y sign` writes it")
    public, namespace, reserved, digest, signature = _strings(blob.removeprefix(_MAGIC + struct.pack(">L", 1)), 5)
    kind, key = _strings(public, 2)
    signed_as, value = _strings(signature, 2)
    if {kind, signed_as} != {_KIND} or reserved or digest != _HASH or len(key) != 32:
        raise ValueError("is not one of an Ed25519 key with SHA-512")
    if namespace != NAMESPACE:
        raise ValueError("was made for another purpose")
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(value, _signed(content))
    except InvalidSignature as error:
        raise ValueError("does not fit the manifest") from error
    return Signature(key)


def read_public_key(path: Path) -> Signature:
    """Read an Ed25519 key from a `.pub` file, as signatures name it; raises InputError if there is none."""
    try:
        key = load_ssh_public_key(_read_key_file(path).strip())
    except (ValueError, UnsupportedAlgorithm) as error:
        raise InputError(f"{path}: holds no public key of OpenSSH ({shown(str(error))}); {HOW_TO}") from error
    if not isinstance(key, Ed25519PublicKey):
        raise InputError(f"{path}: holds a key of another kind; must be ssh-ed25519. To {HOW_TO}")
    return Signature(key.public_bytes(Encoding.Raw, PublicFormat.Raw))


def _read_private_key(path: Path, ask_passphrase: Callable[[], str]) -> Ed25519PrivateKey:
    content = _read_key_file(path)
    try:
        try:
            key = load_ssh_private_key(content, None)
        except TypeError:  # cryptography raises this if the key has a passphrase
            key = load_ssh_private_key(content, ask_passphrase().encode())
    except (ValueError, UnsupportedAlgorithm) as error:
        what = "holds no private key of OpenSSH, or its passphrase is another"
        raise InputError(f"{path}: {what} ({shown(str(error))}); {HOW_TO}") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise InputError(f"{path}: holds a key of another kind; must be ssh-ed25519. To {HOW_TO}")
    return key


def _read_key_file(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_KEY_BYTES + 1)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); {HOW_TO}") from error
    if len(content) > _MAX_KEY_BYTES:
        raise InputError(f"{path}: is longer than a key; {HOW_TO}")
    return content


def _signed(content: bytes) -> bytes:
    return _MAGIC + b"".join(map(_string, (NAMESPACE, b"", _HASH, hashlib.sha512(content).digest())))


def _public_blob(key: bytes) -> bytes:
    return _string(_KIND) + _string(key)


def _string(content: bytes) -> bytes:
    return struct.pack(">L", len(content)) + content


def _strings(blob: bytes, count: int) -> list[bytes]:
    """Split a blob into a given number of length-prefixed strings; nothing may be left over."""
    strings = []
    for _ in range(count):
        length = int.from_bytes(blob[:4], "big")
        strings.append(blob[4 : 4 + length])
        if len(blob) < 4 + length:
            raise ValueError("is cut short")
        blob = blob[4 + length :]
    if blob:
        raise ValueError("holds more than a signature")
    return strings


def _armour(blob: bytes) -> bytes:
    text = base64.b64encode(blob).decode()
    return (_BEGIN + re.sub("(.{1,70})", r"\1\n", text) + _END).encode()
