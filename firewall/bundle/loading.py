"""The bundle: everything the edge needs to judge, in one folder, checked before any of it is used.

`manifest.json` names each file with its SHA-256. The hash is checked over the very bytes that are loaded: a file is
read once, compared, and only those bytes are passed on. Nothing in a bundle is pickled.

`manifest.json.sig`, if there is one, is an Ed25519 signature of the manifest's exact bytes. The manifest holds the hash
of every other file, so the signature covers the whole bundle. Whose signatures count: firewall.bundle.trust.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from firewall.bundle.manifest import LARGEST_FILE, MANIFEST, SIGNATURE, FileSpec, Manifest, network_files
from firewall.bundle.onnx_bytes import has_external_data, precision_of
from firewall.bundle.signature import SIGNATURE_BYTES
from firewall.bundle.strict import Strict, first_fault
from firewall.bundle.trust import Standing, Trust
from firewall.errors import BundleError
from firewall.host.file_writing import replace_file

__all__ = ["DEFAULT", "Bundle", "load_bundle", "write_bundle"]

#: The traffic-sign bundle that comes with the package.
DEFAULT = Path(__file__).parents[1] / "assets" / "default_bundle"
_LARGEST_MANIFEST = 16 << 20
#: Fields of a manifest that older versions don't know.
_LATER = ("patches", "masked_classifier", "finder", "golden", "numerics", "provenance")

Part = TypeVar("Part", bound=Strict)


@dataclass(frozen=True)
class Bundle:
    """A verified bundle.

    Attributes:
        path: Its folder.
        manifest: Its manifest.
        files: Name -> the very bytes that were hashed.
        sha256: SHA-256 of the manifest, lower-case hexadecimal.
        standing: Why it may be used, see firewall.bundle.trust.
        key: Fingerprint of the trusted key that signed it, or empty.
    """

    path: Path
    manifest: Manifest
    files: dict[str, bytes]
    sha256: str
    standing: Standing = "unsigned"
    key: str = ""

    @property
    def unsigned(self) -> bool:
        """Nobody who is trusted here vouches for it, so every verdict has to say so."""
        return self.standing == "unsigned"

    @property
    def unsigned_notice(self) -> str:
        """What the operator of an unsigned bundle has to know, in one line."""
        return f"bundle {self.manifest.name} is signed by no key that is trusted here: every verdict says 'unsigned'"

    def part(self, file: str, schema: type[Part], remedy: str) -> Part | None:
        """A JSON file of the bundle, checked.

        Args:
            file: Its name in the bundle.
            schema: What it has to fit.
            remedy: The command that makes it, for the message.

        Returns:
            What it holds, or None if the bundle has no such file.

        Raises:
            BundleError: If it doesn't fit the schema.
        """
        content = self.files.get(file)
        try:
            return None if content is None else schema.model_validate_json(content)
        except ValidationError as error:
            raise BundleError(
                f"{file} of bundle {self.path} is not valid: {first_fault(error)}; make it again with '{remedy}'"
            ) from error


def load_bundle(name: str | Path = "default", *, trust: Trust | None = None) -> Bundle:
    """Read and verify a bundle. There is no other way to get one.

    Args:
        name: `default`, or the path of a bundle's folder.
        trust: Whose signatures count. None: what the environment says (`Trust.configured`).

    Returns:
        The bundle; every byte in it was compared with its hash.

    Raises:
        BundleError: If it is missing, altered, incomplete, of another format, not signed as it has to be, or older
            than one that was accepted before.
    """
    path = DEFAULT if str(name) == "default" else Path(name)
    # Whoever installs a package may lay its files out as links, and its integrity is the package's.
    packaged = path.resolve() == DEFAULT.resolve()
    inside = None if packaged else path.resolve()
    raw = _read(path / MANIFEST, _LARGEST_MANIFEST, inside)
    manifest = _parse(raw, path)
    standing: Standing = "package"
    key, sha256 = "", hashlib.sha256(raw).hexdigest()
    trust = Trust.configured() if trust is None else trust
    if not packaged:
        # Before anything that the manifest names is opened.
        signed = trust.keys and os.path.lexists(path / SIGNATURE)
        signature = _read(path / SIGNATURE, SIGNATURE_BYTES, inside) if signed else None
        standing, key = trust.standing(raw, signature, path)
    pictures = [frame.file for frame in manifest.golden or ()]
    for file in (*(network.file for network in manifest.networks), *network_files(manifest.detectors), *pictures):
        if file not in manifest.files:
            raise BundleError(
                f"the manifest of bundle {path} uses {file!r} but doesn't list it; build the bundle again"
            )
    files = {}
    for file, spec in manifest.files.items():
        content = _read(path / file, LARGEST_FILE, inside, spec.bytes)
        found = hashlib.sha256(content).hexdigest()
        if len(content) != spec.bytes or found != spec.sha256:
            raise BundleError(
                f"{path / file} is not the file that its bundle was made with (SHA-256 {found[:12]}..., "
                f"expected {spec.sha256[:12]}...); it is not used: install the bundle again"
            )
        if file.endswith(".onnx") and has_external_data(content, f"{path / file}"):
            raise BundleError(
                f"{path / file} keeps weights in other files, which no hash covers; save the network as one file"
            )
        files[file] = content
    for file, precision in ((network.file, network.precision) for network in manifest.networks):
        written = precision_of(files[file], f"{path / file}")
        if written != precision:
            raise BundleError(
                f"bundle {path} was calibrated for {precision}, but {file} computes in {written}; its thresholds hold "
                "for no other precision: calibrate it again with 'firewall export bundle'"
            )
    if standing == "signed":
        trust.not_older(manifest.name, manifest.version, sha256)
    return Bundle(path, manifest, files, sha256, standing, key)


def write_bundle(path: Path, files: dict[str, bytes], **fields: Any) -> Bundle:
    """Write a bundle and load it back.

    The manifest is written last, so a bundle whose writing was interrupted doesn't load.

    Args:
        path: Its folder; it is made if it isn't there.
        files: Name -> content of every file but the manifest.
        **fields: The other fields of Manifest.

    Returns:
        The bundle as it was read back.

    Raises:
        BundleError: If the manifest doesn't fit its schema, or the bundle can't be loaded.
    """
    specs = {
        name: FileSpec(sha256=hashlib.sha256(content).hexdigest(), bytes=len(content))
        for name, content in files.items()
    }
    try:
        manifest = Manifest(files=specs, **fields)
    except ValidationError as error:
        raise BundleError(f"can't write bundle {path}: {first_fault(error)}") from error
    path.mkdir(parents=True, exist_ok=True)
    (path / MANIFEST).unlink(missing_ok=True)
    (path / SIGNATURE).unlink(missing_ok=True)  # of what stood here before
    for name, content in files.items():
        (path / name).write_bytes(content)
    # Versions that don't know of these refuse a bundle that has them, and read all others.
    unasked = {field for field in _LATER if getattr(manifest, field) is None}
    text = json.dumps(manifest.model_dump(mode="json", exclude=unasked), indent=1, ensure_ascii=False) + "\n"
    replace_file(path / MANIFEST, text.encode())
    return load_bundle(path, trust=Trust())  # it was made here a moment ago, and is signed later


def _read(path: Path, limit: int, inside: Path | None, expected: int | None = None) -> bytes:
    """The bytes of a plain file. inside: the folder that a link may not lead out of. expected: its length; no more than
    one byte beyond that is read."""
    try:
        real = path.resolve(strict=True)
        if inside is not None and not real.is_relative_to(inside):
            raise BundleError(
                f"{path} is a link out of its bundle, to {real}; it is not used: put the file itself there"
            )
        # A pipe in the place of a file would otherwise be waited for.
        with os.fdopen(os.open(real, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise BundleError(f"{path} is no plain file; install the bundle again")
            content = file.read((limit if expected is None else expected) + 1)
    except (OSError, RuntimeError) as error:  # a loop of links is a RuntimeError before Python 3.13
        why = (error.strerror if isinstance(error, OSError) else None) or error
        missing = "name a bundle's folder or 'default' with --bundle"
        what = missing if path.name == MANIFEST else "install the bundle again"
        raise BundleError(f"can't read {path} ({why}); {what}") from error
    if len(content) > limit:
        raise BundleError(f"{path} is larger than {limit} bytes; that is not a file of a bundle")
    return content


def _parse(raw: bytes, path: Path) -> Manifest:
    try:
        values = json.loads(raw)
        found = values.get("format") if isinstance(values, dict) else None
        if found != 1:
            raise BundleError(
                f"bundle {path} has format {found!r}, this version reads format 1; install a version that reads it, or "
                "build the bundle again"
            )
        return Manifest.model_validate(values)
    except ValidationError as error:
        raise BundleError(
            f"the manifest of bundle {path} is not valid: {first_fault(error)}; install it again, or the newer version "
            "that it was made by"
        ) from error
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise BundleError(f"the manifest of bundle {path} is not readable JSON ({error}); install it again") from error
