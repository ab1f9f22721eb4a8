"""What `firewall bundle show` says of masks: the bundle's own demand, and its curves."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from firewall.bundle.loading import Bundle
from firewall.bundle.stickers import stickers
from firewall.errors import BundleError

__all__ = ["described", "render_stickers"]


def described(bundle: Bundle) -> dict[str, Any] | None:
    """What a verified bundle asks and states, ready for JSON; None if neither. Figures that are not valid are named as
    such, so that all else is shown."""
    demand = bundle.manifest.patches and bundle.manifest.patches.model_dump(mode="json")
    try:
        spec = stickers(bundle)
    except BundleError as error:
        return {"demand": demand, "invalid": str(error)}
    if spec is None:
        return None if demand is None else {"demand": demand, "curves": []}
    return {"demand": demand, **spec.model_dump(mode="json")}


def render_stickers(card: dict[str, Any], console: Console) -> None:
    """Print what `described` gave, as tables."""

    def say(text: str) -> None:
        console.print(Text("".join(each if each.isprintable() else "?" for each in text)))

    if card["demand"] is not None:
        say("stickers: the bundle asks for " + ", ".join(f"{key} {value}" for key, value in card["demand"].items()))
    if "invalid" in card:
        say(f"stickers: {card['invalid']}")
        return
    for curve in card["curves"]:
        on, (width, height) = curve["on"], curve["input"]
        say(
            f"stickers of {curve['side']}x{curve['side']} pixels of {width}x{height} (area {curve['area']:.4g}), "
            f"{curve['masks']} masks a side of {curve['mask_side']} pixels{_finer(curve)}: {curve['images']:.4g} "
            f"images, {curve['processor_ms']:.3g} ms a label; on {on['images']} images of {on['dataset']}, part "
            f"{on['part']}"
        )
        if curve["chosen"] is not None:
            chosen = curve["chosen_on"]
            say(
                f"tau {curve['chosen']:g} for rule object, chosen to release {curve['wanted']:.1%} of "
                f"{chosen['images']} images of part {chosen['part']}"
            )
        table = Table("rule", "tau", "released right", "wrong", "certified", "called certified", "wrong", box=None)
        for point in curve["points"]:
            tau = "none" if point["tau"] is None else f"{point['tau']:g}"
            counts = ("released_right", "released_wrong", "certified", "named_right", "named_wrong")
            table.add_row(point["rule"], tau, *(f"{point[key]} of {on['images']}" for key in counts))
        console.print(table)
    if card["curves"]:
        say(
            "certified: clean images on which no change of such a square of the network's input can get a wrong label "
            "released; a sticker on the sign has to be smaller (docs/certificates.md)."
        )


def _finer(curve: dict[str, Any]) -> str:
    """The second step, where there is one."""
    return f", {curve['finer']} finer ones a side within an unsure one" if curve["finer"] else ""
