"""The curve over tau of one set of masks, from one pass: what each rule releases and certifies of clean images.

Each row of `firewall lab certify patch` says from which confidence on all masks name its label, and up to which one of
them objects; so every setting of the dial is counted without another look at the images.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from firewall.bundle.stickers import CurveSpec, MeasuredOn, PointSpec
from firewall.decision.dial import Dial
from firewall.decision.steps import assured, unopposed
from firewall.errors import UsageError
from firewall.lab.certification.sticker_steps import levels_of

__all__ = ["TAUS", "Row", "chosen", "curve", "curve_of", "point"]

#: What the curve is stated at.
TAUS = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
#: What a tau is chosen from.
_CHOICES = tuple(round(0.01 * step, 2) for step in range(50, 100))

Row = dict[str, Any]
_Flags = npt.NDArray[np.bool_]


def curve(rows: Sequence[Row], taus: Sequence[float] = TAUS) -> list[dict[str, Any]]:
    """Counts at every tau, of both rules, and of the round without a dial.

    Args:
        rows: Of `certify_patches`.
        taus: Between 0 and 1 each.

    Returns:
        Points as of firewall.bundle.stickers.PointSpec.
    """
    dials = [Dial(), *(Dial(rule, tau) for rule in ("object", "agree") for tau in taus)]
    return [point(rows, dial).model_dump(mode="json") for dial in dials]


def point(rows: Sequence[Row], dial: Dial) -> PointSpec:
    """Counts at one setting."""
    right = np.array([row["predicted"] == row["label"] for row in rows], bool)
    sure, free = _passing(rows, dial, "plain")
    sure_of_true, free_of_true = _passing(rows, dial, "true")
    released, safe = (free, sure_of_true) if dial.rule == "object" else (sure, free_of_true)
    named = released & sure
    return PointSpec(
        rule="object" if dial.rule == "object" else "agree",
        tau=dial.tau,
        released_right=int((released & right).sum()),
        released_wrong=int((released & ~right).sum()),
        certified=int(safe.sum()),
        named_right=int((named & right).sum()),
        named_wrong=int((named & ~right).sum()),
    )


def _passing(rows: Sequence[Row], dial: Dial, key: str) -> tuple[_Flags, _Flags]:
    """Where rule agree releases the plain or the true label, and where rule object does: (rows,) each. Without tau
    there is one step only."""
    if dial.tau is not None and "steps" in rows[0]:
        levels = levels_of(rows, key)
        return assured(dial, levels), unopposed(dial, levels)
    end = "" if key == "plain" else "_true"
    return dial.sure(_column(rows, f"named{end}")), ~dial.objects(_column(rows, f"against{end}"))


def chosen(rows: Sequence[Row], share: float) -> float:
    """The lowest tau, in hundredths from 0.5 on, at which rule "object" releases so many right labels.

    The lower tau is, the more images are certified.

    Args:
        rows: Of `certify_patches`, of images on which the curve is not stated.
        share: Of all images, between 0 and 1.

    Returns:
        Tau.

    Raises:
        UsageError: The share is out of range, or no tau releases so many.
    """
    if not 0 < share < 1:
        raise UsageError(f"the share to release lies between 0 and 1, got {share:g}; 0.97 is 97 %")
    best = 0.0
    for tau in _CHOICES:
        best = point(rows, Dial("object", tau)).released_right / len(rows)
        if best >= share:
            return tau
    raise UsageError(
        f"no tau up to {_CHOICES[-1]:g} releases {share:.1%} of the images: {best:.1%} is the most; ask for less, for "
        "smaller stickers, or train a classifier for masks"
    )


def curve_of(found: dict[str, Any], tau: float | None, wanted: float | None, chosen_on: dict[str, Any]) -> CurveSpec:
    """What a bundle states.

    Args:
        found: Of `firewall lab certify patch`.
        tau: The one that was chosen for rule "object", or None.
        wanted: The share that it was to release.
        chosen_on: `about` of the images that it was chosen on.
    """
    about, cost = found["about"], found["cost"]["rounds_1"]
    steps = found["summary"].get("images_asked")  # of all images, at the highest tau; the cost is of some
    taus = sorted({*TAUS, *([] if tau is None else [tau])})
    return CurveSpec(
        area=about["area"],
        masks=about["along"],
        fill=about["fill"],
        finer=about.get("finer", 0),
        side=about["side"],
        input=(about["input"][0], about["input"][1]),
        mask_side=about["mask_side"],
        on=_images(about),
        points=tuple(PointSpec.model_validate(each) for each in curve(found["rows"], taus)),
        images=steps[-1]["mean"] if steps else cost["images"],
        processor_ms=cost["processor_ms_p50"],
        chosen=tau,
        chosen_on=None if tau is None else _images(chosen_on),
        wanted=None if tau is None else wanted,
    )


def _images(about: dict[str, Any]) -> MeasuredOn:
    return MeasuredOn.model_validate({key: about[key] for key in ("dataset", "part", "images", "seed")})


def _column(rows: Sequence[Row], key: str) -> np.ndarray[Any, np.dtype[np.float64]]:
    return np.array([-math.inf if row[key] is None else row[key] for row in rows], np.float64)
