"""A jury for somebody's own classifier, and the bundle of both: `firewall lab jury`."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from firewall.bundle import Bundle, ClassifierSpec
from firewall.lab.calibration.bundling import wired
from firewall.lab.calibration.jury_bundle import read_juror
from firewall.lab.calibration.settings import BenignImages, CalibrationSettings, NetworkSettings
from firewall.lab.calibration.thresholds import calibrate, check_enough
from firewall.lab.datasets.labelled import some_of
from firewall.lab.models.classifier_folder import load_card
from firewall.lab.training.detector_folder import Trained
from firewall.lab.training.jury.material import Material, load_material
from firewall.lab.training.jury.own_jury import JuryPlan, train_jury
from firewall.lab.training.jury.sign_juror import without_sign
from firewall.lab.training.jury.teacher import Teacher
from firewall.lab.training.loop import checked_device

__all__ = ["JuryBundle", "make_jury"]

#: Images that are larger than so many times the classifier's input are made smaller while they are read.
_LARGEST = 2
#: Images that tell whether the classifier gets its pixels as it was trained.
_SHOWN = 128


@dataclass(frozen=True)
class JuryBundle:
    """The bundle that is wanted.

    Args:
        out: Its folder.
        name: Its name.
        rate: Share of benign images that it may withhold, between 0 and 1.
    """

    out: Path
    name: str = "own-jury"
    rate: float = 0.01


def make_jury(
    classifier: Path,
    network: NetworkSettings,
    images: str,
    scenes: Sequence[Path],
    out: Path,
    plan: JuryPlan,
    *,
    bundle: JuryBundle | None = None,
    data: Path | None = None,
    tell: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Train a jury for a classifier on its answers to benign images.

    Args:
        classifier: Folder of the classifier, a bundle, `default`, or an ONNX file.
        network: How the classifier is read.
        images: As of `load_material`.
        scenes: Packs or folders of images that show none of the classes.
        out: Folder of the jury.
        plan: What is trained, and how.
        bundle: Also a bundle, with thresholds that are set on the images that were kept out.
        data: Folder of the data sets.
        tell: Gets lines on how the classifier fits the images.

    Returns:
        The card of the jury; with a bundle also what its calibration measured.

    Raises:
        UsageError: An option doesn't fit.
        DataError: Images are missing or too few, or the classifier doesn't fit them.
        EngineError: The classifier can't be run.
    """
    checked_device(plan.device)
    card, spec, content = load_card(classifier, network.options)
    material = load_material(images, spec.labels, _LARGEST * max(spec.input.width, spec.input.height), data)
    detectors = ["confidence", *(f"juror-{kind}" for kind in plan.kinds)]
    if bundle is not None:  # before hours of training
        note = ": a fifth of the images is kept out for this"
        check_enough(int(material.held.sum()), bundle.rate, detectors, note)
    shown = some_of(material.images, material.known if (material.known >= 0).any() else None, _SHOWN)
    note = wired(spec, content, shown, card, network.accept_preparation, tell)
    others = [crop for path in scenes for crop in without_sign(path)]
    made = train_jury(Teacher(spec, content), material, others, out, plan)
    if bundle is not None:
        written = _bundle(bundle, spec, content, material, out, plan, note)
        made = {**made, "bundle": written.manifest.calibration.model_dump(mode="json")}
    return made


def _bundle(
    wanted: JuryBundle, spec: ClassifierSpec, content: bytes, material: Material, out: Path, plan: JuryPlan, note: str
) -> Bundle:
    held, _ = material.part(held=True)
    own = hashlib.sha256(content).hexdigest()
    jurors = []
    for kind in plan.kinds:
        detector, network, juror_card = read_juror(out / kind)
        jurors.append(Trained(detector.name, detector.parameters, network, own, juror_card))
    described = f"{len(held)} of {material.name}, kept out of the jury's training"
    benign = BenignImages(held, described, notes=note)
    settings = CalibrationSettings(("confidence",), wanted.rate, name=wanted.name)
    return calibrate(spec, content, benign, wanted.out, settings, jurors)
