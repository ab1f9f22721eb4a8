"""What of augmentation and calibration is of which family of attacks: what a juror is not shown that leaves one out.

Leaving out an attack and keeping its near relatives would say little, so a family goes as a whole: with `light` every
shadow, beam, glare, projector and cast, and the changes of brightness, contrast and colour of every image too. The
attacks of each family: `firewall.lab.evaluation.crops.families`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from firewall.errors import UsageError
from firewall.lab.datasets.obstructions import OBSTRUCTIONS
from firewall.lab.datasets.shifts import SHIFTS

__all__ = ["FAMILIES", "Family", "named", "shifts_without"]


@dataclass(frozen=True)
class Family:
    """What belongs to a family.

    Args:
        obstructions: Keys of OBSTRUCTIONS.
        steps: Of `firewall.lab.training.classifiers.augmentation.STEPS`.
        weather: Keys of `firewall.lab.datasets.shifts.KINDS`.
        smooth: Whether smooth adversarial steps are of it.
    """

    obstructions: tuple[str, ...] = ()
    steps: tuple[str, ...] = ()
    weather: tuple[str, ...] = ()
    smooth: bool = False


#: Fog is light that is added, rain covers. A family that no augmentation holds (own-size, adaptive) is not here: there
#: is nothing to leave out.
FAMILIES: Mapping[str, Family] = MappingProxyType(
    {
        "channel": Family(steps=("resize", "blur", "noise", "jpeg"), weather=("jpeg", "blur", "noise", "sharp")),
        "light": Family(
            obstructions=("shadow", "beam", "glare", "projector", "cast"),
            steps=("light",),
            weather=("dark", "bright", "fog"),
        ),
        "occlusion": Family(
            obstructions=("bars", "stickers", "leaves", "dirt", "drops"), steps=("occlude",), weather=("rain",)
        ),
        "pose": Family(steps=("pose",)),
        "subspace": Family(smooth=True),
    }
)


def named(names: Collection[str]) -> Family:
    """What is left out together.

    Args:
        names: Of families, or of single obstructions.

    Returns:
        All that belongs to them, in the order of the tables.

    Raises:
        UsageError: A name is unknown.
    """
    unknown = [name for name in names if name not in FAMILIES and name not in OBSTRUCTIONS]
    if unknown:
        raise UsageError(
            f"--without: unknown obstruction or family {unknown[0]!r}; known: {', '.join(OBSTRUCTIONS)}; and the "
            f"families {', '.join(FAMILIES)}"
        )
    chosen = [family for name, family in FAMILIES.items() if name in names]
    return Family(
        tuple(kind for kind in OBSTRUCTIONS if kind in names or any(kind in one.obstructions for one in chosen)),
        tuple(step for one in chosen for step in one.steps),
        tuple(kind for one in chosen for kind in one.weather),
        any(one.smooth for one in chosen),
    )


def shifts_without(names: Collection[str]) -> tuple[str, ...]:
    """The shifts of `firewall.lab.datasets.shifts` that benign images for limits may be under.

    Args:
        names: Of families that are left out.

    Raises:
        UsageError: A name is unknown.
    """
    left_out = named(names).weather
    return tuple(name for name, (kind, _) in SHIFTS.items() if kind not in left_out)
