"""From somebody's own classifier and benign images to the folders of a jury."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from firewall.errors import DataError, UsageError
from firewall.export.onnx import export_classifier
from firewall.frame import Pixels
from firewall.lab.datasets.notice import say
from firewall.lab.models.juror import Juror, Kind, kind_for
from firewall.lab.training.jury.adversary import Adversary
from firewall.lab.training.jury.figures import rate, robust
from firewall.lab.training.jury.lessons import Habits, Lessons
from firewall.lab.training.jury.material import Material
from firewall.lab.training.jury.sign_juror import NOT_A_SIGN
from firewall.lab.training.jury.teacher import Teacher
from firewall.lab.training.jury.training import fit_juror, predict
from firewall.lab.training.loop import Schedule

__all__ = ["CARD", "JuryPlan", "PupilSettings", "passes_for", "train_jury"]

CARD = "card.json"
#: Versions of images that a juror is shown by default, and the bounds of the passes over them.
_VERSIONS, _FEWEST, _MOST = 300_000, 6, 60
#: Radii at which a juror is attacked, of 255, and up to how many images.
_LEVELS, _ATTACKED = (4, 8), 256


@dataclass(frozen=True)
class JuryPlan:
    """What the user asked for.

    Args:
        kinds: Keys of firewall.lab.models.juror.KINDS, each once.
        epochs: Passes over the images; None: `passes_for`.
        seed: What is random depends on it.
        mirror: Whether a mirrored image shows the same class.
        bfloat16: Whether passes run in bfloat16.
        threads: Threads of torch.
        workers: Processes that prepare images.
        device: cpu, cuda or cuda:N.

    Raises:
        UsageError: A kind is unknown or named twice, or none is named.
    """

    kinds: Sequence[str] = ("robust", "coarse", "edges")
    epochs: int | None = None
    seed: int = 0
    mirror: bool = False
    bfloat16: bool = False
    threads: int = 2
    workers: int = 1
    device: str = "cpu"

    def __post_init__(self) -> None:
        for kind in self.kinds:
            kind_for(kind, 48)
        if not self.kinds or len(set(self.kinds)) < len(self.kinds):
            raise UsageError(f"--kinds must name each kind once, at least one, got {', '.join(self.kinds) or 'none'}")


@dataclass(frozen=True)
class PupilSettings(Schedule):
    """What determines a juror, besides the schedule; a resumed run must have the same.

    Args:
        kind: A key of firewall.lab.models.juror.KINDS.
        size: Width and height of its input in pixels.
        outputs: How many logits.
        classifier: SHA-256 of the classifier's ONNX file.
        images: SHA-256 of what it learns from.
        others: SHA-256 of the crops that show no class; empty if there are none.
        label_share: How much a known class counts beside the classifier's answer, 0..1.
        label_smoothing: Of the cross-entropy.
        other_share: Crops without a class in each epoch, as a share of the images.
        attacked: Share of each batch that is attacked at full band.
        smooth: Share of each batch that is attacked smoothly.
        mirror: Whether half of the versions are mirrored.
        bfloat16: Whether passes run in bfloat16.
    """

    kind: str = "robust"
    size: int = 48
    outputs: int = 2
    classifier: str = ""
    images: str = ""
    others: str = ""
    label_share: float = 0.5
    label_smoothing: float = 0.02
    other_share: float = 0.2
    attacked: float = 0.4
    smooth: float = 0.25
    mirror: bool = False
    bfloat16: bool = False


def passes_for(images: int) -> int:
    """Passes over so many images that show a juror about 300,000 versions of them, 6 to 60."""
    return max(_FEWEST, min(_MOST, round(_VERSIONS / max(1, images))))


def train_jury(
    teacher: Teacher, material: Material, others: Sequence[Pixels], out: Path, plan: JuryPlan
) -> dict[str, Any]:
    """Train one juror of each kind (or go on training), export it, and measure it on what was kept out.

    Writes `out/KIND/juror.onnx` and `out/KIND/card.json`, which `firewall lab add-jury` reads, beside the checkpoint
    and log of each run; and `out/card.json` with all cards.

    Args:
        teacher: The classifier.
        material: The benign images.
        others: Crops that show none of the classes; with some, a juror has the class "not a sign" as well.
        out: Folder of the jury.
        plan: What is trained, and how.

    Returns:
        The card of the jury.

    Raises:
        DataError: A checkpoint belongs to other settings, or there are too few images.
        UsageError: There is no such device.
    """
    held, known = material.part(held=True)
    labels = teacher.logits(held).argmax(axis=1)
    cards: dict[str, Any] = {}
    for name in plan.kinds:
        say(f"juror {name}, {len(cards) + 1} of {len(plan.kinds)}")
        cards[name] = _one(name, teacher, material, others, out / name, plan, (held, known, labels))
    card = {
        "classifier": {
            "sha256": hashlib.sha256(teacher.content).hexdigest(),
            "classes": len(teacher.spec.labels),
            "right on kept-out images": _right(labels, known),
        },
        "images": material.name,
        "jurors": cards,
    }
    _write(out / CARD, card)
    return card


_Held = tuple[list[Pixels], npt.NDArray[np.int64], npt.NDArray[np.int64]]


def _one(
    name: str,
    teacher: Teacher,
    material: Material,
    others: Sequence[Pixels],
    out: Path,
    plan: JuryPlan,
    held: _Held,
) -> dict[str, Any]:
    fitted, classes = material.part(held=False)
    size, count = teacher.spec.input, len(teacher.spec.labels)
    kind = kind_for(name, min(size.width, size.height))
    epochs, batch = plan.epochs or passes_for(len(fitted)), min(128, max(8, len(fitted) // 4))
    shown = len(fitted) + (round(PupilSettings.other_share * len(fitted)) if others else 0)
    settings = PupilSettings(
        epochs=epochs,
        batch=batch,
        # Of a short run the average has to forget faster: over the last twentieth of its steps.
        moving_average=min(0.998, max(0.0, 1 - 20 / (epochs * (shown // batch)))),
        seed=plan.seed,
        kind=name,
        size=kind.size,
        outputs=count + bool(others),
        classifier=hashlib.sha256(teacher.content).hexdigest(),
        images=material.sha256,
        others=_digest(others),
        mirror=plan.mirror,
        bfloat16=plan.bfloat16,
    )
    done = _finished(out, settings)
    if done is not None:
        return done
    network = _fit(kind, teacher, (fitted, classes), others, shown, out, settings, plan, held)
    file = out / "juror.onnx"
    export_classifier(network, file, size=kind.size, labels=_labels(teacher.spec.labels, others))
    images, known, said = held
    predicted = predict(network, images, kind.size).argmax(1).numpy()
    chosen = np.unique(np.linspace(0, len(images) - 1, min(len(images), _ATTACKED)).round().astype(int))
    attacked = robust(network, [images[place] for place in chosen], kind.size, said[chosen], _LEVELS)
    card = {
        "juror": {"kind": name, "file": file.name, "width": kind.size, "height": kind.size},
        "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "classifier": settings.classifier,
        "training": {
            "data": material.name,
            "images": len(fitted),
            "with a label": int((classes >= 0).sum()),
            "crops without a class": len(others),
            "epochs": settings.epochs,
        },
        "kept-out images": {
            "agrees with the classifier": rate(predicted == said),
            "right": _right(predicted, known),
            "agrees after PGD-20 on the juror": {level: rate(hits) for level, hits in attacked.items()},
        },
        "settings": asdict(settings),
        "versions": {"torch": torch.__version__, "numpy": np.__version__},
    }
    _write(out / CARD, card)
    return card


def _fit(
    kind: Kind,
    teacher: Teacher,
    fitted: tuple[list[Pixels], npt.NDArray[np.int64]],
    others: Sequence[Pixels],
    shown: int,
    out: Path,
    settings: PupilSettings,
    plan: JuryPlan,
    held: _Held,
) -> Juror:
    images, classes = fitted
    lessons = Lessons(
        images,
        classes.tolist(),
        others,
        teacher=teacher,
        size=kind.size,
        outputs=settings.outputs,
        label_share=settings.label_share,
        habits=Habits(mirror=settings.mirror),
        seed=settings.seed,
    )

    def judged(network: nn.Module) -> float:
        network.eval()
        return float((predict(network, held[0], kind.size).argmax(1).numpy() == held[2]).mean())

    return fit_juror(
        kind,
        settings.outputs,
        lessons,
        shown,
        settings,
        out,
        adversary=Adversary(settings.attacked, settings.smooth, bfloat16=settings.bfloat16),
        label_smoothing=settings.label_smoothing,
        held=judged,
        threads=plan.threads,
        workers=plan.workers,
        device=plan.device,
    )


def _finished(out: Path, settings: PupilSettings) -> dict[str, Any] | None:
    """The card of a run that has ended with these settings."""
    try:
        card: dict[str, Any] = json.loads((out / CARD).read_text(encoding="utf-8"))
        whole = hashlib.sha256((out / card["juror"]["file"]).read_bytes()).hexdigest() == card["sha256"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return card if whole and card.get("settings") == asdict(settings) else None


def _digest(images: Sequence[Pixels]) -> str:
    total = hashlib.sha256()
    for image in images:
        total.update(repr(image.shape).encode() + image.tobytes())
    return total.hexdigest() if images else ""


def _labels(classes: Sequence[str], others: Sequence[Pixels]) -> tuple[str, ...]:
    """A name for each output; a class may have any name, that of the last output too."""
    if not others:
        return tuple(classes)
    return (*classes, next(name for name in (NOT_A_SIGN, f"{NOT_A_SIGN} (of the jury)") if name not in classes))


def _right(predicted: npt.NDArray[np.int64], known: npt.NDArray[np.int64]) -> dict[str, Any] | None:
    """The share of images with a known class that got it; None if none is known."""
    there = known >= 0
    return rate((predicted == known)[there]) if there.any() else None


def _write(file: Path, card: Mapping[str, Any]) -> None:
    partial = file.with_suffix(".partial")
    try:
        partial.write_text(json.dumps(card, indent=1) + "\n", encoding="utf-8")
        partial.replace(file)
    except OSError as error:
        raise DataError(f"{file} can't be written ({error.strerror}); name another --out") from error
