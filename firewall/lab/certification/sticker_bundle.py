"""The curve of a bundle's masks goes into the bundle, with a tau that was chosen on other images."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from firewall.bundle import MANIFEST, Bundle, PatchSpec, load_bundle
from firewall.bundle.stickers import STICKERS_FILE, StickersSpec, stickers
from firewall.decision.dial import stricter
from firewall.errors import BundleError, UsageError
from firewall.lab.calibration.bundling import rewritten
from firewall.lab.certification.classifier import certified
from firewall.lab.certification.sticker_curve import chosen, curve_of

__all__ = ["check_wanted", "chosen_by", "with_curve"]


def check_wanted(name: str, choose: float | None, choose_on: str, part: str, out: Path | None, *, demand: bool) -> None:
    """Refuse what can't be meant before anything is classified.

    Args:
        name: The bundle, or another classifier.
        choose: The share that a tau is to release, or None.
        choose_on: The part that it is chosen on.
        part: The part that the curve is stated on.
        out: Folder of the new bundle, or None.
        demand: Whether the bundle is to ask for it.

    Raises:
        UsageError: With what is allowed.
    """
    if choose is not None and not 0 < choose < 1:
        raise UsageError(f"--choose is a share of the images between 0 and 1, got {choose:g}; 0.97 is 97 %")
    if choose is not None and choose_on == part:
        raise UsageError(f"--choose-on {choose_on} is the part that is measured: a tau is chosen on other images")
    if out is not None and name != "default" and not (Path(name) / MANIFEST).is_file():
        raise UsageError(f"--out is for a bundle, and {name} is none; make one with 'firewall lab calibrate' first")
    if demand and (choose is None or out is None):
        raise UsageError("--demand needs --choose SHARE and --out DIR: the tau, and where the bundle goes")


def chosen_by(
    name: str,
    prove: partial[dict[str, Any]],
    about: tuple[str, str, int, int, Path | None],
    share: float,
    threads: int,
) -> tuple[float, dict[str, Any]]:
    """The tau that releases a share of some images.

    Args:
        name: The bundle, or another classifier.
        prove: `certify_patches` with its masks.
        about: Data set, part, most images, seed and folder of the data.
        share: What is to be released, between 0 and 1.
        threads: Of the classifier.

    Returns:
        Tau, and what images they were.

    Raises:
        FirewallError: As of `certified` and `chosen`.
    """
    found, _ = certified(name, prove, *about, threads=threads, result=None, own_pixels=True)
    return chosen(found["rows"], share), found["about"]


def with_curve(
    name: str,
    found: dict[str, Any],
    out: Path,
    tau: float | None,
    wanted: float | None,
    chosen_on: dict[str, Any],
    *,
    demand: bool = False,
) -> Bundle:
    """Write a bundle with the curve of one set of masks; curves of other masks stay.

    Args:
        name: `default`, or the bundle's folder.
        found: Of `firewall lab certify patch`.
        out: Folder of the new bundle; may be the bundle's own.
        tau: The one that was chosen for rule "object", or None.
        wanted: The share that it was to release.
        chosen_on: `about` of the images that it was chosen on.
        demand: The bundle asks for these masks and this tau from now on.
    """
    bundle = load_bundle(name)
    asked = bundle.manifest.masked_classifier or bundle.manifest.classifier
    own = curve_of(found, tau, wanted, chosen_on)
    try:
        known = stickers(bundle)
    except BundleError:  # of another network: they say nothing about this one
        known = None
    spec = PatchSpec(area=own.area, masks=own.masks, fill=own.fill, rule="object", tau=tau, finer=own.finer)
    others = [curve for curve in (() if known is None else known.curves) if not curve.same_masks(spec)]
    content = StickersSpec(classifier=bundle.manifest.files[asked.file].sha256, curves=(*others, own))
    changed = {"patches": stricter(bundle.manifest.patches, spec)} if demand else {}
    return rewritten(bundle, out, {STICKERS_FILE: (content.model_dump_json(indent=1) + "\n").encode()}, **changed)
