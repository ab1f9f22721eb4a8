"""`firewall bundle`: make keys, sign a bundle, check one, show what is in it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from firewall.errors import UsageError
from firewall.host.file_writing import replace_file
from firewall.host.output import json_text

if TYPE_CHECKING:
    from firewall.bundle import Bundle

__all__ = ["AllowUnsigned", "TrustedKeys", "bundle_app", "sign_bundle"]

bundle_app = typer.Typer(
    help="Make keys, sign and verify bundles, and show what is in one.",
    no_args_is_help=True,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

TrustedKeys = Annotated[
    Path | None,
    typer.Option(
        "--trust",
        metavar="KEY.pub",
        help="File of public keys; the bundle must be signed by one of them. [$FIREWALL_TRUST]",
    ),
]
AllowUnsigned = Annotated[
    bool | None,
    typer.Option("--allow-unsigned", help="Use a bundle without a signature; every verdict then says so."),
]
Name = Annotated[str, typer.Argument(metavar="BUNDLE", help="'default' or the folder of a bundle.")]
Passphrase = Annotated[
    Path | None, typer.Option(metavar="FILE", help="File whose first line encrypts the private key.")
]


def sign_bundle(path: Path, key: Path, *, passphrase: Path | None = None, version: int | None = None) -> str:
    """Verify a bundle and sign its manifest.

    Args:
        path: The bundle's folder.
        key: File of the private key.
        passphrase: File whose first line is the key's passphrase; None if the key has none.
        version: Written into the manifest first; None keeps the bundle's version.

    Returns:
        The key's fingerprint.

    Raises:
        BundleError: If the bundle can't be verified.
        UsageError: For the package's own bundle, a version below the bundle's, or a key that can't be used.
    """
    from firewall.bundle import DEFAULT, MANIFEST, SIGNATURE, load_bundle
    from firewall.bundle.signature import read_passphrase, read_private, sign
    from firewall.bundle.trust import Trust

    if path.resolve() == DEFAULT.resolve() or str(path) == "default":
        raise UsageError("the package's own bundle needs no signature; name the folder of another")
    private = read_private(key, read_passphrase(passphrase))
    bundle = load_bundle(path, trust=Trust())
    raw = (path / MANIFEST).read_bytes()
    if hashlib.sha256(raw).hexdigest() != bundle.sha256:
        raise UsageError(f"bundle {path} was changed while it was read; let its writer finish and sign it again")
    if version is not None and version != bundle.manifest.version:
        if version < bundle.manifest.version:
            raise UsageError(f"--version must be at least {bundle.manifest.version}, the bundle's own, got {version}")
        raw = (json.dumps({**json.loads(raw), "version": version}, indent=1, ensure_ascii=False) + "\n").encode()
    signature, public = sign(raw, private)
    # Between the two writes the signature does not fit, so a device that trusts keys refuses the bundle.
    _replace(path / MANIFEST, raw)
    _replace(path / SIGNATURE, signature)
    load_bundle(path, trust=Trust(keys=(public,)))
    return public.fingerprint


@bundle_app.command()
def keygen(
    out: Annotated[
        Path, typer.Option(metavar="KEY", help="File of the new private key; the public key goes to KEY.pub.")
    ],
    passphrase_file: Passphrase = None,
) -> None:
    """Make a pair of keys (Ed25519). Keep KEY secret; copy KEY.pub to every device."""
    from firewall.bundle.signature import generate, read_passphrase

    public = generate(out, read_passphrase(passphrase_file))
    typer.echo(f"{out} (private), {out}.pub (public), fingerprint {public.fingerprint}")


@bundle_app.command()
def sign(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="Folder of a bundle.")],
    key: Annotated[Path, typer.Option(metavar="KEY", help="Private key, made by 'firewall bundle keygen'.")],
    version: Annotated[
        int | None, typer.Option(min=1, help="New version of the bundle; devices never go back to a lower one.")
    ] = None,
    passphrase_file: Passphrase = None,
) -> None:
    """Verify a bundle and sign its manifest. The signature is written to manifest.json.sig beside it."""
    from firewall.bundle import load_bundle
    from firewall.bundle.trust import Trust

    fingerprint = sign_bundle(bundle, key, passphrase=passphrase_file, version=version)
    manifest = load_bundle(bundle, trust=Trust()).manifest
    typer.echo(f"{bundle}: {manifest.name} version {manifest.version}, signed by {fingerprint}")


@bundle_app.command()
def verify(bundle: Name = "default", trust: TrustedKeys = None, allow_unsigned: AllowUnsigned = None) -> None:
    """Check hashes, signature and version of a bundle, but remember nothing. Exit code 1 if it is refused."""
    from firewall.bundle import load_bundle
    from firewall.bundle.trust import Trust

    loaded = load_bundle(bundle, trust=Trust.configured(trust, allow_unsigned, remember=False))
    size = sum(len(content) for content in loaded.files.values())
    typer.echo(
        f"{loaded.manifest.name} version {loaded.manifest.version} {loaded.sha256[:12]}: {len(loaded.files)} files, "
        f"{size} bytes, as they were made; {standing(loaded)}"
    )


@bundle_app.command()
def show(
    bundle: Name = "default",
    trust: TrustedKeys = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
) -> None:
    """Show classifier, detectors, thresholds, calibration, certificate, files and signature of a bundle."""
    from rich.console import Console

    from firewall.bundle import description, load_bundle
    from firewall.bundle.trust import Trust

    # A bundle without a signature may be looked at; the card then says that it has none.
    loaded = load_bundle(bundle, trust=Trust.configured(trust, allow_unsigned=True, remember=False))
    content = description.describe(loaded)
    content["signature"] = {"standing": loaded.standing, "key": loaded.key or None, "says": standing(loaded)}
    if as_json:
        typer.echo(json_text(content, indent=1))
    else:
        description.render(content, Console())


def standing(bundle: Bundle) -> str:
    """Why a bundle may be used, for people."""
    from firewall.bundle import SIGNATURE

    if bundle.standing == "package":
        return "comes with the package and is trusted as the code beside it is"
    if bundle.standing == "signed":
        return f"signed by the trusted key {bundle.key}"
    if (bundle.path / SIGNATURE).is_file():
        return "unsigned as far as is known here: there is a signature, but no trusted key to check it with"
    return "unsigned"


def _replace(path: Path, content: bytes) -> None:
    try:
        replace_file(path, content)
    except OSError as error:
        raise UsageError(
            f"can't write {path} ({error.strerror}); sign a bundle in a folder that can be written"
        ) from error
