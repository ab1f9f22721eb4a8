"""Families of attacks: what is left out together when a bundle is tried on what it has never met.

A bundle that has seen an attack's near relative as good as saw the attack. So augmentation, fit and choice leave out a
whole family. An attack may belong to several, as low frequencies that are then stored as JPEG do; it is unseen only to
a bundle that was made without all of them.
"""

from __future__ import annotations

from types import MappingProxyType

from firewall.errors import UsageError

__all__ = ["FAMILIES", "families_of", "members"]

#: Family -> the attacks in it, by the part of the name before the first @; channel and own-size follow from the rest.
FAMILIES: MappingProxyType[str, tuple[str, ...]] = MappingProxyType(
    {
        "channel": (),
        "own-size": (),
        "subspace": ("blurred", "low-frequency", "smooth"),
        "light": ("shadow", "triangle", "railing", "beam", "glare", "flicker", "projector", "cast"),
        "occlusion": ("bars", "two-bars", "stickers", "patch", "leaves", "scribble", "dirt", "drops"),
        "pose": ("pose", "stadv", "adef"),
        "adaptive": ("adaptive",),
        "pixels": (),
    }
)
#: What stands behind an @ and is no channel.
_NO_CHANNEL = frozenset({"input", "known"})
_PHYSICAL = ("light", "occlusion", "pose")


def families_of(attack: str) -> tuple[str, ...]:
    """The families of an attack by its name.

    Args:
        attack: As `firewall.lab.attacks.by_name` takes it. One with a further part, as smooth-8, is as its beginning.

    Returns:
        One or more of FAMILIES; `pixels` alone for changes of single pixels at the classifier's size.
    """
    base, *rest = attack.split("@")
    found = [family for family, names in FAMILIES.items() if any(_begins(base, name) for name in names)]
    if set(rest) - _NO_CHANNEL:
        found.append("channel")
    if "input" not in rest and not set(found) & set(_PHYSICAL):
        found.append("own-size")
    return tuple(family for family in FAMILIES if family in found) or ("pixels",)


def members(family: str, attacks: tuple[str, ...]) -> tuple[str, ...]:
    """Those of the attacks that belong to a family.

    Args:
        family: One of FAMILIES.
        attacks: Names.

    Raises:
        UsageError: There is no such family, or none of the attacks belongs to it.
    """
    if family not in FAMILIES:
        raise UsageError(f"unknown family {family!r}; known: {', '.join(FAMILIES)}")
    found = tuple(name for name in attacks if family in families_of(name))
    if not found:
        raise UsageError(
            f"none of the attacks {', '.join(attacks)} is of the family {family}; name some with --attacks"
        )
    return found


def _begins(base: str, name: str) -> bool:
    return base == name or base.startswith(f"{name}-")
