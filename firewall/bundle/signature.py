"""Ed25519 keys and detached signatures over exact bytes (RFC 8032, through `cryptography`).

A public key file is PEM (SubjectPublicKeyInfo) and may hold several keys one after another; a private key is PEM
(PKCS #8), encrypted if it was made with a passphrase; a signature is its 64 bytes. Any other program that knows these
formats can check what was signed here: `openssl pkeyutl -verify -pubin -inkey K.pub -rawin -in F -sigfile F.sig`.
"""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from firewall.errors import UsageError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

__all__ = [
    "SIGNATURE_BYTES",
    "PublicKey",
    "generate",
    "read_passphrase",
    "read_private",
    "read_public",
    "sign",
    "verified_by",
]

#: Length of an Ed25519 signature.
SIGNATURE_BYTES = 64

_LARGEST_KEY_FILE = 1 << 16
_PEM = re.compile(rb"-----BEGIN ([A-Z ]+)-----.+?-----END \1-----", re.DOTALL)


@dataclass(frozen=True)
class PublicKey:
    """A public key, and how it is named.

    Attributes:
        key: The key itself.
        fingerprint: The first 16 hexadecimal digits of the SHA-256 of the key's 32 bytes, to name it by.
    """

    key: Ed25519PublicKey
    fingerprint: str


def generate(path: Path, passphrase: bytes | None = None) -> PublicKey:
    """Make a pair: `path` for the private key, readable by its owner alone, and `path`.pub for the public one.

    Args:
        path: File of the private key.
        passphrase: Encrypts the private key.

    Raises:
        UsageError: If either file exists or can't be written: no key is ever overwritten.
    """
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import (
        BestAvailableEncryption,
        Encoding,
        NoEncryption,
        PrivateFormat,
        PublicFormat,
    )

    public = path.with_name(path.name + ".pub")
    there = next((file for file in (path, public) if file.exists()), None)
    if there is not None:
        raise UsageError(f"{there} exists, and a key is never overwritten; name another --out")
    pair = Ed25519PrivateKey.generate()
    encryption = BestAvailableEncryption(passphrase) if passphrase else NoEncryption()
    try:
        _write_new(path, pair.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption), 0o600)
        known = pair.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        _write_new(public, known, 0o644)
    except OSError as error:
        raise UsageError(
            f"can't write the key {path} ({error.strerror}); name a file in a folder that exists"
        ) from error
    return _named(pair.public_key())


def read_public(path: Path) -> tuple[PublicKey, ...]:
    """All public keys of a file, one at least.

    Raises:
        UsageError: If it holds none, or anything else than Ed25519.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    found = []
    for part in _PEM.finditer(_content(path)):
        if part[1] != b"PUBLIC KEY":
            raise UsageError(f"{path} holds a {part[1].decode().lower()}; give the public key, the file with .pub")
        try:
            key = load_pem_public_key(part[0])
        except (ValueError, UnsupportedAlgorithm) as error:
            raise UsageError(f"{path} holds a damaged public key; copy it again") from error
        if not isinstance(key, Ed25519PublicKey):
            raise UsageError(f"{path} holds a key that is not Ed25519; make one with 'firewall bundle keygen'")
        found.append(_named(key))
    if not found:
        raise UsageError(f"{path} holds no public key in PEM; make one with 'firewall bundle keygen'")
    return tuple(found)


def read_private(path: Path, passphrase: bytes | None = None) -> Ed25519PrivateKey:
    """The private key of a file.

    Raises:
        UsageError: If it is none, or the passphrase is missing or wrong.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(_content(path), passphrase)
    except TypeError as error:  # that is how the library tells of a passphrase that is missing or not needed
        how = "is not encrypted; leave --passphrase-file out" if passphrase else "is encrypted; give --passphrase-file"
        raise UsageError(f"the private key {path} {how}") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        what = "the passphrase is wrong or it is damaged" if passphrase else "it is no private key in PEM"
        raise UsageError(f"{path} can't be used to sign: {what}; make a key with 'firewall bundle keygen'") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise UsageError(f"{path} holds a key that is not Ed25519; make one with 'firewall bundle keygen'")
    return key


def sign(content: bytes, key: Ed25519PrivateKey) -> tuple[bytes, PublicKey]:
    """The 64 bytes that prove that the key's owner signed exactly `content`, and the key to check them with."""
    return key.sign(content), _named(key.public_key())


def verified_by(content: bytes, signature: bytes, keys: tuple[PublicKey, ...]) -> PublicKey | None:
    """The first of `keys` that signed exactly `content`; None if none did."""
    from cryptography.exceptions import InvalidSignature

    for public in keys:
        try:
            public.key.verify(signature, content)
        except InvalidSignature:
            continue
        return public
    return None


def _named(key: Ed25519PublicKey) -> PublicKey:
    return PublicKey(key, hashlib.sha256(key.public_bytes_raw()).hexdigest()[:16])


def _content(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(_LARGEST_KEY_FILE + 1)
    except OSError as error:
        raise UsageError(f"can't read the key {path} ({error.strerror}); name a file in PEM") from error
    if len(content) > _LARGEST_KEY_FILE:
        raise UsageError(f"{path} is larger than {_LARGEST_KEY_FILE} bytes; that is no key")
    return content


def _write_new(path: Path, content: bytes, mode: int) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)


def read_passphrase(path: Path | None) -> bytes | None:
    """The first line of a file; None without one.

    Raises:
        UsageError: If it can't be read or is empty.
    """
    if path is None:
        return None
    first = _content(path).splitlines()[:1]
    if not first or not first[0]:
        raise UsageError(f"the passphrase file {path} is empty; write the passphrase into its first line")
    return first[0]
