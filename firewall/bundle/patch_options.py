"""The options of `serve`, `screen` and `gate` that ask about stickers."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from firewall.errors import UsageError

__all__ = ["PatchRule", "Patches", "Tau", "asked_of_patches"]

_RULES = ("agree", "object")

Patches = Annotated[
    float | None,
    typer.Option(
        metavar="AREA",
        help="Release only labels that pass under masks over squares of this area, a share (0 to 1) of the input of "
        "the network that is asked under masks. What sticker that is on a sign: docs, certificates.",
    ),
]
Tau = Annotated[
    float | None,
    typer.Option(metavar="TAU", help="With --patches: a mask's label counts from this confidence on, between 0 and 1."),
]
PatchRule = Annotated[
    str | None,
    typer.Option(
        metavar="agree|object",
        help="With --patches: release what every mask names, or what none objects to.  \\[default: agree, with --tau "
        "object]",
    ),
]


def asked_of_patches(area: float | None, tau: float | None, rule: str | None) -> dict[str, Any] | None:
    """The fields of a PatchSpec that were asked for; None if none was.

    Args:
        area: Of the largest sticker, as a share of the network's input.
        tau: The confidence from which a mask's label counts.
        rule: The rule's name.

    Raises:
        UsageError: One is out of range, or given without --patches.
    """
    if area is None:
        for option, value in (("--tau", tau), ("--patch-rule", rule)):
            if value is not None:
                raise UsageError(f"{option} {value} is for stickers: say how large they may be, with --patches AREA")
        return None
    if not 0 < area < 1:
        raise UsageError(f"--patches is a share of the network's input between 0 and 1, got {area:g}; 0.02 is 2 %")
    if tau is not None and not 0 < tau < 1:
        raise UsageError(f"--tau is a confidence between 0 and 1, neither of them, got {tau:g}; 0.7 is a usual one")
    if rule is not None and rule not in _RULES:
        raise UsageError(f"--patch-rule {rule!r} is unknown; give {' or '.join(_RULES)}")
    asked = {"area": area, "tau": tau, "rule": rule}
    return {key: value for key, value in asked.items() if value is not None}
