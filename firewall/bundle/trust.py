"""Whose bundles may be used, and that none goes back to an older version.

The rules, in order:

1. The bundle that comes with the package is as trustworthy as the code beside it: whoever can change one can change the
   other. It needs no signature.
2. Where no key is trusted, any other bundle that fits its own manifest is used, and every verdict says `unsigned`,
   whether or not a signature lies beside it: a signature proves nothing to someone who doesn't know the key.
3. Where keys are trusted (`--trust`, `trust` in the settings, FIREWALL_TRUST), a bundle must be signed by one of them,
   or it is refused. `--allow-unsigned` lets in one without a signature; its verdicts say `unsigned`. A signature that
   fails is refused even then: something is wrong.
   `firewall serve` goes further than rule 2: somebody has to vouch for what it serves. Where no key is trusted it takes
   another bundle than the package's only with `--allow-unsigned`.
4. A signed bundle's version never goes back: the highest version accepted of each name is remembered. A lower one is
   refused, and so is another bundle of the same version. Only signed bundles are remembered, so nobody else can block a
   name.

What is remembered lies in a file of the user who runs the firewall (`trust_state`, FIREWALL_TRUST_STATE). It is opened
when the first bundle that a trusted key signed is loaded, and not before: others need none. If the file is missing,
nothing has been accepted yet, so anyone who can delete it can go back to an older version. A damaged file refuses all.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, RootModel, ValidationError

from firewall.bundle.signature import SIGNATURE_BYTES, PublicKey, read_public, verified_by
from firewall.bundle.strict import Sha256, Strict
from firewall.errors import BundleError, ConfigError
from firewall.host.file_writing import replace_file
from firewall.host.user_folder import place_of

__all__ = ["Accepted", "Standing", "Trust", "state_file"]

#: Why a bundle may be used: it came with the package, a trusted key signed it, or nobody vouches for it.
Standing = Literal["package", "signed", "unsigned"]

_YES, _NO = ("1", "true", "yes", "on"), ("", "0", "false", "no", "off")
_LARGEST_STATE = 1 << 20


class Accepted(Strict):
    """The newest bundle of a name that was accepted: its version, and the SHA-256 of its manifest."""

    version: int = Field(ge=1)
    sha256: Sha256


class _State(RootModel[Annotated[dict[str, Accepted], Field(max_length=10_000)]]):
    """Bundle name -> what was accepted."""


@dataclass(frozen=True)
class Trust:
    """Whose bundles may be used, by the rules of this module.

    Attributes:
        keys: Whose signatures count. Empty: no signature is asked for.
        allow_unsigned: Use a bundle without a signature all the same (rule 3).
        state: File that remembers accepted versions. None: `state_file()` if `users_state`, else nothing is remembered.
        remember: False compares with what is remembered but adds nothing, as `firewall bundle verify` does.
        users_state: Remember in the user's own file if `state` is None.
        vouched: If no key is trusted, refuse other bundles than the package's unless `allow_unsigned`, as
            `firewall serve` does.
    """

    keys: tuple[PublicKey, ...] = ()
    allow_unsigned: bool = False
    state: Path | None = None
    remember: bool = True
    users_state: bool = False
    vouched: bool = False

    @classmethod
    def configured(
        cls,
        keys: Path | None = None,
        allow_unsigned: bool | None = None,
        state: Path | None = None,
        *,
        remember: bool = True,
        vouched: bool = False,
    ) -> Trust:
        """What was given, and the environment for what is None.

        Args:
            keys: File of public keys in PEM; None: FIREWALL_TRUST.
            allow_unsigned: See Trust; None: FIREWALL_ALLOW_UNSIGNED.
            state: See Trust; None: FIREWALL_TRUST_STATE, or a file in the user's folder.
            remember: See Trust.
            vouched: See Trust.

        Returns:
            The rules to load bundles by.

        Raises:
            UsageError: If the file holds no public keys.
            ConfigError: If FIREWALL_ALLOW_UNSIGNED is neither on nor off.
        """
        named = os.environ.get("FIREWALL_TRUST")
        file = Path(named) if keys is None and named is not None else keys
        return cls(
            () if file is None else read_public(file),
            _switch("FIREWALL_ALLOW_UNSIGNED") if allow_unsigned is None else allow_unsigned,
            state,
            remember,
            users_state=True,
            vouched=vouched,
        )

    def standing(self, manifest: bytes, signature: bytes | None, where: Path) -> tuple[Standing, str]:
        """Apply rules 2 and 3 to a bundle that is not the package's.

        Args:
            manifest: The very bytes of the manifest that is used.
            signature: The signature beside it, None if there is none.
            where: The bundle's folder, for the message.

        Returns:
            The bundle's standing, and the fingerprint of the key that signed it (or an empty text).

        Raises:
            BundleError: If the bundle is refused.
        """
        if not self.keys:
            if self.vouched and not self.allow_unsigned:
                raise BundleError(
                    f"nobody vouches for bundle {where}: no key is trusted here, and only the package's own bundle may "
                    "be served without; name the public key that signed it with --trust KEY.pub (FIREWALL_TRUST), or "
                    "use --allow-unsigned (FIREWALL_ALLOW_UNSIGNED=1), which every verdict will say"
                )
            return "unsigned", ""
        if signature is None:
            if self.allow_unsigned:
                return "unsigned", ""
            raise BundleError(
                f"bundle {where} is not signed, and keys are trusted here: sign it with 'firewall bundle sign', or use "
                "--allow-unsigned, which every verdict will say"
            )
        signer = verified_by(manifest, signature, self.keys) if len(signature) == SIGNATURE_BYTES else None
        if signer is None:
            trusted = ", ".join(key.fingerprint for key in self.keys)
            raise BundleError(
                f"the signature of bundle {where} is not that of a trusted key ({trusted}): it was signed by another, "
                "or changed afterwards; it is not used"
            )
        return "signed", signer.fingerprint

    def not_older(self, name: str, version: int, sha256: str) -> None:
        """Apply rule 4 to a signed bundle, and remember it.

        Args:
            name: The bundle's name.
            version: The bundle's version.
            sha256: SHA-256 of its manifest.

        Raises:
            BundleError: If the version goes back, or another bundle of this version was accepted before.
        """
        state = self.state
        if state is None:
            if not self.users_state:
                return
            state = state_file()
        known = _read(state)
        last = known.get(name)
        if last is not None and version < last.version:
            raise BundleError(
                f"bundle {name!r} has version {version}, but version {last.version} was accepted before (remembered in "
                f"{state}): a version may not go back; sign the older content again under a higher version"
            )
        if last is not None and version == last.version and sha256 != last.sha256:
            raise BundleError(
                f"bundle {name!r} has version {version} like one accepted before (remembered in {state}), but is "
                "another; give it a higher version: 'firewall bundle sign --version'"
            )
        if self.remember and (last is None or version > last.version):
            _write(state, {**known, name: Accepted(version=version, sha256=sha256)})


def state_file() -> Path:
    """FIREWALL_TRUST_STATE, or `perception-firewall/bundles.json` in the user's folder for state.

    Raises BundleError where the user has none.
    """
    file = place_of("FIREWALL_TRUST_STATE", "XDG_STATE_HOME", "bundles.json")
    if file is None:
        raise BundleError(
            f"user {os.getuid()} has no home to remember in which versions of signed bundles were accepted; name a "
            "file that can be written with FIREWALL_TRUST_STATE (or trust_state in the settings)"
        )
    return file


def _read(path: Path) -> dict[str, Accepted]:
    try:
        with path.open("rb") as file:
            return _State.model_validate_json(file.read(_LARGEST_STATE)).root
    except FileNotFoundError:
        return {}
    except (OSError, ValidationError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is damaged"
        raise BundleError(
            f"can't read which bundle versions were accepted from {path} ({why}); mend it or name another file with "
            "FIREWALL_TRUST_STATE"
        ) from error


def _write(path: Path, accepted: dict[str, Accepted]) -> None:
    text = json.dumps({name: entry.model_dump() for name, entry in sorted(accepted.items())}, indent=1) + "\n"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, text.encode())
    except OSError as error:
        raise BundleError(
            f"can't remember the bundle's version in {path} ({error.strerror}); name a file that can be written with "
            "FIREWALL_TRUST_STATE"
        ) from error


def _switch(name: str) -> bool:
    value = os.environ.get(name, "").strip().lower()
    if value not in (*_YES, *_NO):
        raise ConfigError(f"{name} must be 1 or 0, got {value!r}")
    return value in _YES
