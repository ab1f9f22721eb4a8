"""Key files and passphrases as people have them: damaged, of another kind, too large, in a place that isn't there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from firewall.bundle import DEFAULT, load_bundle, write_bundle
from firewall.bundle.cli import sign_bundle
from firewall.bundle.signature import (
    SIGNATURE_BYTES,
    generate,
    read_passphrase,
    read_private,
    read_public,
    sign,
    verified_by,
)
from firewall.bundle.trust import Trust
from firewall.errors import UsageError


@pytest.fixture
def key(tmp_path: Path) -> Path:
    """A pair of our own."""
    generate(tmp_path / "k")
    return tmp_path / "k"


@pytest.fixture
def alien(tmp_path: Path) -> Path:
    """A pair that is not Ed25519, in the same formats."""
    pair = generate_private_key(SECP256R1())
    (tmp_path / "ec").write_bytes(pair.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    (tmp_path / "ec.pub").write_bytes(pair.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return tmp_path / "ec"


def test_only_the_exact_bytes_verify_and_the_signer_is_named(key: Path, tmp_path: Path) -> None:
    """64 bytes; of several keys the one that signed is found, wherever it stands; one bit more and nobody signed."""
    other = generate(tmp_path / "other")
    signature, public = sign(b"content", read_private(key))

    assert len(signature) == SIGNATURE_BYTES and read_public(key.with_name("k.pub")) == (public,)
    assert verified_by(b"content", signature, (other, public)) == public
    assert verified_by(b"content", signature, (public, other)) == public
    assert verified_by(b"content", signature, (other,)) is None and verified_by(b"content", signature, ()) is None
    assert verified_by(b"contenu", signature, (public,)) is None
    assert len(public.fingerprint) == 16 and public.fingerprint != other.fingerprint


def test_a_key_is_written_only_where_it_can_be(key: Path, tmp_path: Path) -> None:
    """A folder that isn't there, and a file of either name that is: one line, and what lay there is as before."""
    with pytest.raises(UsageError, match="name a file in a folder that exists"):
        generate(tmp_path / "nowhere" / "k")
    before = key.read_bytes(), key.with_name("k.pub").read_bytes()
    for there in (key, key.with_name("k.pub")):
        with pytest.raises(UsageError, match=f"{key}.* exists, and a key is never overwritten"):
            generate(key)
        there.rename(tmp_path / "aside")
        with pytest.raises(UsageError, match="never overwritten"):
            generate(key)
        (tmp_path / "aside").rename(there)
    assert before == (key.read_bytes(), key.with_name("k.pub").read_bytes())


def test_a_public_key_that_can_not_be_used_says_why(key: Path, alien: Path, tmp_path: Path) -> None:
    """Nothing in PEM, a key that is damaged, and one that is not Ed25519, also behind a good one."""
    good = key.with_name("k.pub").read_bytes()
    file = tmp_path / "f.pub"
    for content, said in (
        (b"", "holds no public key in PEM"),
        (b"ssh-ed25519 AAAA", "holds no public key in PEM"),
        (good.replace(b"MC", b"AA"), "holds a damaged public key"),
        (alien.with_name("ec.pub").read_bytes(), "a key that is not Ed25519"),
        (good + alien.with_name("ec.pub").read_bytes(), "a key that is not Ed25519"),
        (key.read_bytes(), "holds a private key; give the public key"),
    ):
        file.write_bytes(content)
        with pytest.raises(UsageError, match=said):
            read_public(file)


def test_a_private_key_that_can_not_be_used_says_why(key: Path, alien: Path, tmp_path: Path) -> None:
    """Not Ed25519, a public one, and a passphrase that is missing, wrong or not needed."""
    generate(tmp_path / "locked", b"open sesame")
    assert read_private(tmp_path / "locked", b"open sesame").sign(b"x")
    for path, passphrase, said in (
        (alien, None, "holds a key that is not Ed25519"),
        (key.with_name("k.pub"), None, "it is no private key in PEM"),
        (tmp_path / "locked", None, "is encrypted; give --passphrase-file"),
        (tmp_path / "locked", b"open", "the passphrase is wrong or it is damaged"),
        (key, b"open", "is not encrypted; leave --passphrase-file out"),
    ):
        with pytest.raises(UsageError, match=said):
            read_private(path, passphrase)


def test_a_file_that_is_no_key_is_not_read_to_its_end(tmp_path: Path) -> None:
    """64 KiB are read and no more, also of a file without an end."""
    (tmp_path / "large").write_bytes(b"x" * ((1 << 16) + 1))
    for path in (tmp_path / "large", Path("/dev/zero")):
        with pytest.raises(UsageError, match="is larger than 65536 bytes; that is no key"):
            read_private(path)
    (tmp_path / "most").write_bytes(b"x" * (1 << 16))
    with pytest.raises(UsageError, match="it is no private key"):
        read_private(tmp_path / "most")
    with pytest.raises(UsageError, match=r"can't read the key .*No such file"):
        read_public(tmp_path / "none")


def test_a_passphrase_is_the_first_line(tmp_path: Path) -> None:
    """Of whatever line ends; no file is no passphrase, an empty line is a mistake."""
    file = tmp_path / "secret"
    assert read_passphrase(None) is None
    for content in (b"open sesame", b"open sesame\n", b"open sesame\r\nmore\n"):
        file.write_bytes(content)
        assert read_passphrase(file) == b"open sesame"
    for content in (b"", b"\n", b"\nopen sesame\n"):
        file.write_bytes(content)
        with pytest.raises(UsageError, match="is empty; write the passphrase into its first line"):
            read_passphrase(file)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """An unsigned bundle of version 5."""
    made = load_bundle()
    fields = made.manifest.model_dump(exclude={"files", "version"})
    write_bundle(tmp_path / "b", made.files, version=5, **fields)
    return tmp_path / "b"


def test_a_signature_does_not_lower_a_version(bundle: Path, key: Path) -> None:
    """Devices would refuse it: an error before anything is written. The same version and a higher one are signed."""
    before = (bundle / "manifest.json").read_bytes()
    with pytest.raises(UsageError, match="--version must be at least 5, the bundle's own, got 4"):
        sign_bundle(bundle, key, version=4)
    assert (bundle / "manifest.json").read_bytes() == before and not (bundle / "manifest.json.sig").exists()
    sign_bundle(bundle, key, version=5)
    assert (bundle / "manifest.json").read_bytes() == before
    sign_bundle(bundle, key, version=6)
    assert load_bundle(bundle, trust=Trust(keys=read_public(key.with_name("k.pub")))).manifest.version == 6


def test_a_bundle_that_changes_while_it_is_signed_is_not_signed(
    bundle: Path, key: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was verified is what is signed: a manifest that another program has put there meanwhile is not."""

    def slow(path: Path, **options: object) -> object:
        loaded = load_bundle(path, **options)  # type: ignore[arg-type]
        text = (bundle / "manifest.json").read_text()
        (bundle / "manifest.json").write_text(text.replace('"created": "2', '"created": "3'))
        return loaded

    monkeypatch.setattr("firewall.bundle.load_bundle", slow)
    with pytest.raises(UsageError, match="was changed while it was read"):
        sign_bundle(bundle, key)
    assert not (bundle / "manifest.json.sig").exists()


def test_a_bundle_in_a_folder_that_can_not_be_written_is_one_line(bundle: Path, key: Path) -> None:
    """A folder stands in the place of the file that is written first."""
    (bundle / f".manifest.json.{os.getpid()}.partial").mkdir()
    with pytest.raises(UsageError, match=r"can't write .*manifest\.json .*in a folder that can be written"):
        sign_bundle(bundle, key)


def test_the_packages_own_bundle_is_not_signed(key: Path) -> None:
    """By name and by path: it needs no signature."""
    for path in (Path("default"), DEFAULT):
        with pytest.raises(UsageError, match="the package's own bundle needs no signature"):
            sign_bundle(path, key)
