"""Families of attacks: what is left out together when a bundle is tried on what it has never met.

An attack that has seen a near relative as good as seen the attack itself: so augmentation, fit and choice leave out a
whole family. An attack may belong to several, as a shadow that is then stored as JPEG does; it is unseen only to a
bundle that was made without all of them.
"""

from __future__ import annotations

import re
from types import MappingProxyType

from firewall.errors import UsageError

__all__ = ["FAMILIES", "families_of", "members"]

#: Family -> pattern that is searched for in the attack's name, and what the family is.
FAMILIES: MappingProxyType[str, tuple[str, str]] = MappingProxyType(
    {
        "channel": (r"@", "stored, sent or resized after the attack: JPEG, H.264, resize, blur, noise, chains"),
        "subspace": (
            r"(^|-)(low|dct|blurred|smooth|tv)(-|@|$)",
            "pixel attacks kept to low frequencies or smooth changes",
        ),
        "own-size": (r"(^|-)own(-|@|$)", "made at the crop's own size, through the edge's resize"),
        "light": (
            r"^(shadow|beam|glare|projector|colour|cast|light)",
            "shadows, beams, glare, projectors, colour casts",
        ),
        "occlusion": (r"^(sticker|bar|patch|leaves|leaf|dirt|drops|snow|mud)", "things on the sign or the lens"),
        "pose": (r"^(pose|stadv|adef|rotation|flow)", "turned, moved, scaled or bent"),
        "adaptive": (r"^adaptive", "made by someone who knows the whole firewall"),
    }
)
#: What no family above holds: changes of single pixels at the classifier's size.
PIXELS = "pixels"


def families_of(attack: str) -> tuple[str, ...]:
    """The families of an attack by its name; `pixels` alone if it is in none of FAMILIES."""
    found = tuple(family for family, (pattern, _) in FAMILIES.items() if re.search(pattern, attack))
    return found or (PIXELS,)


def members(family: str, attacks: tuple[str, ...]) -> tuple[str, ...]:
    """Those of the attacks that belong to a family.

    Args:
        family: One of FAMILIES, or `pixels`.
        attacks: Names.

    Raises:
        UsageError: There is no such family, or none of the attacks belongs to it.
    """
    if family not in (*FAMILIES, PIXELS):
        raise UsageError(f"unknown family {family!r}; known: {', '.join((*FAMILIES, PIXELS))}")
    found = tuple(name for name in attacks if family in families_of(name))
    if not found:
        raise UsageError(
            f"none of the attacks {', '.join(attacks)} is of the family {family}; name some with --attacks"
        )
    return found
