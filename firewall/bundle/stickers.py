"""What a bundle's masks cost and certify, measured: `stickers.json`, a file of the bundle.

`firewall lab certify patch --out` makes it, and `firewall bundle show` shows it. It names the network that was asked,
so figures of another network are refused. It decides nothing but this: the rule "object" without a tau of its own takes
the tau that was chosen here, and the steps that it was chosen with.
"""

from __future__ import annotations

import math
from typing import Literal

from pydantic import Field, model_validator

from firewall.bundle.loading import Bundle
from firewall.bundle.patch_spec import PatchSpec
from firewall.bundle.strict import Sha256, Strict
from firewall.errors import BundleError, UsageError

__all__ = ["STICKERS_FILE", "CurveSpec", "MeasuredOn", "PointSpec", "StickersSpec", "resolved", "stickers"]

STICKERS_FILE = "stickers.json"
_REMEDY = "firewall lab certify patch --out"


class PointSpec(Strict):
    """Counts of clean images at one setting of one rule, see firewall.decision.dial.

    Attributes:
        rule: What is released.
        tau: The confidence from which a mask's label counts; None: any label that leads.
        released_right: Images whose right label is released.
        released_wrong: Images of which a wrong label is released.
        certified: Images on which no sticker can get a wrong label released.
        named_right: Images whose right label is released and called certified.
        named_wrong: Images of which a wrong label is released and called certified.
    """

    rule: Literal["agree", "object"]
    tau: float | None = Field(None, gt=0, lt=1)
    released_right: int = Field(ge=0)
    released_wrong: int = Field(ge=0)
    certified: int = Field(ge=0)
    named_right: int = Field(ge=0)
    named_wrong: int = Field(ge=0)


class MeasuredOn(Strict):
    """The images that were counted: some of a part of a data set, drawn by a seed.

    Attributes:
        dataset: The data set.
        part: Its part.
        images: How many.
        seed: What their choice depends on.
    """

    dataset: str
    part: str
    images: int = Field(ge=1)
    seed: int


class CurveSpec(Strict):
    """What one set of masks costs and certifies.

    Attributes:
        area: Of the largest square that may change, as a share of the network's input.
        masks: Masks along each side.
        fill: Grey value of a mask, 0..255.
        side: The square that may change, in pixels of the network's input.
        input: Width and height of that input in pixels.
        mask_side: Longer side of a mask in pixels.
        on: The images.
        points: One for each rule and tau.
        images: Mean number of masked images that were classified for a label that was asked about; in two steps, at tau
            0.95 and where nothing ends it early.
        processor_ms: Median milliseconds of processor time for a label, one thread.
        chosen: The tau for rule "object", None if none was chosen.
        chosen_on: The images that it was chosen on.
        wanted: The share of clean images that it was to release at least, 0..1.
        finer: Masks along each side of an unsure one, 0 for one step, see firewall.decision.steps.
    """

    area: float = Field(gt=0, lt=1)
    masks: int = Field(ge=2, le=16)
    fill: int = Field(128, ge=0, le=255)
    side: int = Field(ge=1)
    input: tuple[int, int]
    mask_side: int = Field(ge=1)
    on: MeasuredOn
    points: tuple[PointSpec, ...] = Field(min_length=1)
    images: float = Field(ge=0)
    processor_ms: float = Field(ge=0)
    chosen: float | None = Field(None, gt=0, lt=1)
    chosen_on: MeasuredOn | None = None
    wanted: float | None = Field(None, gt=0, lt=1)
    finer: int = Field(0, ge=0, le=6)

    @model_validator(mode="after")
    def _possible(self) -> CurveSpec:
        for point in self.points:
            released = point.released_right + point.released_wrong
            named = point.named_right + point.named_wrong
            if not named <= released <= self.on.images or point.certified > self.on.images:
                raise ValueError(f"of {self.on.images} images there can't be so many: {point}")
        return self

    def same_masks(self, spec: PatchSpec) -> bool:
        """Whether the masks are those of a demand."""
        sides = [math.ceil(math.sqrt(area * self.input[0] * self.input[1]) - 1e-9) for area in (self.area, spec.area)]
        return sides[0] == sides[1] and (self.masks, self.fill) == (spec.masks, spec.fill)


class StickersSpec(Strict):
    """The content of `stickers.json`.

    Attributes:
        classifier: SHA-256 of the network that was asked under masks.
        curves: One for each set of masks.
    """

    classifier: Sha256
    curves: tuple[CurveSpec, ...] = Field(min_length=1)


def stickers(bundle: Bundle) -> StickersSpec | None:
    """What a bundle states of its masks.

    Args:
        bundle: A verified bundle.

    Returns:
        The figures, or None if the bundle has none.

    Raises:
        BundleError: They are not valid, or of another network.
    """
    spec = bundle.part(STICKERS_FILE, StickersSpec, _REMEDY)
    asked = bundle.manifest.masked_classifier or bundle.manifest.classifier
    if spec is not None and spec.classifier != bundle.manifest.files[asked.file].sha256:
        raise BundleError(
            f"{STICKERS_FILE} of bundle {bundle.path} was measured with another network than {asked.file}: measure it "
            f"again with '{_REMEDY}'"
        )
    return spec


def resolved(spec: PatchSpec | None, bundle: Bundle) -> PatchSpec | None:
    """A demand with its tau: rule "object" without one takes what the bundle states for these masks, `finer` too.

    Args:
        spec: What is asked, or None.
        bundle: A verified bundle.

    Returns:
        The demand, or None.

    Raises:
        BundleError: The bundle's figures are not valid.
        UsageError: The bundle states no tau for these masks.
    """
    if spec is None or spec.rule != "object" or spec.tau is not None:
        return spec
    known = stickers(bundle)
    chosen = [curve for curve in (() if known is None else known.curves) if curve.chosen is not None]
    found = next((each for each in chosen if each.same_masks(spec) and spec.finer in (0, each.finer)), None)
    if found is None:
        there = (
            ", ".join(f"area {each.area:.4g} with {each.masks} masks a side{_steps(each)}" for each in chosen) or "none"
        )
        raise UsageError(
            f"rule 'object' needs a tau, and bundle {bundle.path} states none for area {spec.area:g} with {spec.masks} "
            f"masks a side{_steps(spec)} (it does for: {there}); give one between 0 and 1"
        )
    return spec.model_copy(update={"tau": found.chosen, "finer": found.finer})


def _steps(asked: PatchSpec | CurveSpec) -> str:
    return f" and finer {asked.finer}" if asked.finer else ""
