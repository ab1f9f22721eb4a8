"""Evaluate a bundle on GTSRB test images that are attacked on the spot: `firewall lab evaluate --gtsrb`.

Attacked and benign images have one file history: the same crop and resize, rounded to uint8 at the network's input.
Only images that the classifier gets right are attacked, and only those count that still fool it after rounding.
Thresholds come from benign calibration images alone. The attacker knows the classifier and not the firewall: a *static*
evaluation, which says nothing about an attacker who knows both.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from rich.console import Console
from rich.table import Table

from firewall import __version__
from firewall.bundle import DetectorSpec, load_bundle
from firewall.detectors import build
from firewall.engines import OnnxRuntimeEngine
from firewall.errors import DataError, UsageError
from firewall.lab.attacks import ATTACKS, Attack, quantise, survivors
from firewall.lab.calibration.bundling import calibration_tracks
from firewall.lab.calibration.thresholds import detector_specs
from firewall.lab.datasets import gtsrb
from firewall.lab.evaluation.attacked_images import rate_json
from firewall.lab.measurement import metrics
from firewall.lab.measurement.bundle_verdicts import early_verdicts
from firewall.lab.measurement.edge import Measured, measure
from firewall.lab.measurement.intervals import rate_of
from firewall.lab.models.sign_classifier import SignClassifier, from_onnx
from firewall.screening import Firewall
from firewall.sweep.keyed import key_of
from firewall.transforms import SWEEP_76

__all__ = ["USUAL", "evaluate_on_gtsrb", "render"]

#: Attacks of several kinds that take minutes together.
USUAL = ("fgsm", "pgd-0.01", "pgd-0.03", "pgd-0.06", "pgd-high-confidence", "deepfool", "cw", "cw-kappa")

_RATES = (0.01, 0.05)
#: Variants of the agreement detector that are measured: name -> (command-line name, sweep).
_AGREEMENT = {
    "agreement 16 one-sided": ("agreement", 16),
    "agreement 16 two-sided": ("agreement-two-sided", 16),
    "agreement 76 one-sided": ("agreement", 76),
    "agreement 76 two-sided": ("agreement-two-sided", 76),
    "confidence": ("confidence", 16),
}
_SWEPT = tuple(f"jpeg:{quality}" for quality in SWEEP_76)


def evaluate_on_gtsrb(
    root: Path, bundle_name: str, attacks: Sequence[str] | None, *, limit: int, seed: int, normals: int = 1000
) -> dict[str, Any]:
    """Attack test images and measure the bundle and the forms of the agreement detector.

    Args:
        root: Folder of GTSRB.
        bundle_name: "default" or a bundle's folder.
        attacks: Names of attacks; None for all.
        limit: Test images to attack with each attack.
        seed: Draws the images, and the attacks' randomness.
        normals: Test images that the false-positive rates are measured on.

    Returns:
        Ready for JSON.

    Raises:
        UsageError: There is no such attack.
        DataError: The bundle wasn't calibrated on tracks of GTSRB.
    """
    names = list(ATTACKS) if attacks is None else list(attacks)
    unknown = [name for name in names if name not in ATTACKS]
    if unknown or not names:
        raise UsageError(f"unknown attack {', '.join(unknown) or '(none)'}; known: {', '.join(ATTACKS)}")
    bundle = load_bundle(bundle_name)
    if not bundle.manifest.calibration.split:
        raise DataError(
            f"bundle {bundle_name} wasn't calibrated on GTSRB tracks; 'lab evaluate' can't find its calibration images"
        )
    guard = Firewall(bundle, engine := OnnxRuntimeEngine(bundle), threads=1, sweep_key=key_of(seed))
    operations = tuple(dict.fromkeys([*_SWEPT, *(name for each in guard.detectors for name in each.operations)]))
    spec = bundle.manifest.classifier.input
    size: dict[str, Any] = {"width": spec.width, "height": spec.height}
    kept = calibration_tracks(root, dict(bundle.manifest.calibration.split))
    calibration = measure(engine, kept.images, operations, label="calibration images", **size)
    calibration = calibration.subset(calibration.labels == kept.labels)
    test = gtsrb.load_test(root)
    drawn = np.random.default_rng(seed).permutation(len(test))[:normals]
    test = test.subset(np.isin(np.arange(len(test)), drawn))
    measured = measure(engine, test.images, operations, label="test images", **size)
    right = measured.labels == test.labels
    normal = measured.subset(right)
    index = np.flatnonzero(right)
    chosen = np.random.default_rng(seed).permutation(index)[:limit]
    model = from_onnx(bundle.files[bundle.manifest.classifier.file])
    detectors = {
        name: detector_specs([kind], calibration, _RATES[0], sweep)[0] for name, (kind, sweep) in _AGREEMENT.items()
    }
    result: dict[str, Any] = {
        "bundle": {"name": bundle.manifest.name, "sha256": bundle.sha256, "firewall": __version__},
        "protocol": "static; attacks on correctly classified GTSRB test images at the network's input size, rounded to "
        "uint8; only examples that still fool count; thresholds on benign calibration images of other tracks",
        "calibration_images": len(calibration),
        "test_images": len(test),
        "accuracy": float(right.mean()),
        "normal": _normal(guard, measured, right),
        "attacks": {},
    }
    for name in names:
        rounded, fooled, facts = _attack(ATTACKS[name], model, measured.images[chosen], test.labels[chosen], seed)
        if not fooled.any():
            result["attacks"][name] = {**facts, "detectors": {}}
            continue
        adversarial = measure(engine, list(rounded[fooled]), operations, label=f"sweeping {name}", **size)
        rows = {label: _row(detector, calibration, normal, adversarial) for label, detector in detectors.items()}
        released = _released(guard, adversarial)
        withheld = rate_of(~released)
        verdict = {"withheld": withheld.value, "ci95": [withheld.low, withheld.high]}
        wrong = rate_json(rate_of(released & (adversarial.labels != test.labels[chosen][fooled])))
        result["attacks"][name] = {**facts, "wrong_release": wrong, "detectors": rows, "firewall": verdict}
    return result


def _attack(
    attack: Attack, model: SignClassifier, images: npt.NDArray[np.uint8], labels: npt.NDArray[np.int64], seed: int
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.bool_], dict[str, Any]]:
    """The attacked images as they would be stored, which of them fool the classifier, and facts for JSON."""
    started = time.monotonic()
    parts = []
    for start in range(0, len(images), 100):
        batch = torch.from_numpy(images[start : start + 100]).permute(0, 3, 1, 2).float().div(255)
        parts.append(quantise(attack.run(model, batch, torch.from_numpy(labels[start : start + 100]), seed)))
    rounded = np.concatenate(parts)
    fooled = survivors(model, rounded, torch.from_numpy(labels))
    change = rounded[fooled].astype(np.float64) - images[fooled]
    count = int(fooled.sum())
    facts = {
        "attempted": len(images),
        "n": count,
        "success": count / len(images),
        "linf_grey_levels": float(np.abs(change).max(axis=(1, 2, 3)).mean()) if count else None,
        "l2": float(np.linalg.norm(change.reshape(count, -1) / 255, axis=1).mean()) if count else None,
        "seconds_per_image": round((time.monotonic() - started) / len(images), 4),
    }
    return rounded, fooled, facts


def _row(spec: DetectorSpec, calibration: Measured, normal: Measured, adversarial: Measured) -> dict[str, Any]:
    detector = build(spec)
    reference, benign, attacked = (part.scores(detector) for part in (calibration, normal, adversarial))
    row: dict[str, Any] = {
        "auroc": metrics.auroc(benign, attacked),
        "auroc_ci95": metrics.auroc_interval(benign, attacked),
    }
    for rate in _RATES:
        threshold = metrics.threshold_at(reference, rate)
        hits = int((attacked > threshold).sum())
        key = f"{round(rate * 100)}fpr"
        row[f"tpr_at_{key}"] = hits / len(attacked)
        row[f"tpr_at_{key}_ci95"] = metrics.rate_interval(hits, len(attacked))
        row[f"fpr_on_test_at_{key}"] = float((benign > threshold).mean())
    return row


def _released(guard: Firewall, measured: Measured) -> npt.NDArray[np.bool_]:
    return early_verdicts(
        guard.policy, {each.name: measured.scores(each, guard.keyed) for each in guard.detectors}
    ).released


def _normal(guard: Firewall, measured: Measured, right: npt.NDArray[np.bool_]) -> dict[str, float]:
    withheld = ~_released(guard, measured)
    return {
        "n": int(right.sum()),
        "false_positive_rate": float(withheld[right].mean()),
        "misclassified": int((~right).sum()),
        "misclassified_withheld": float(withheld[~right].mean()) if (~right).any() else 0.0,
        "wrong_labels_released": int((~withheld & ~right).sum()),
    }


def render(result: dict[str, Any], console: Console) -> None:
    """Print the result as tables."""
    normal = result["normal"]
    console.print(
        f"accuracy {result['accuracy']:.4f} on {result['test_images']} kept-out images; "
        f"benign images withheld {normal['false_positive_rate']:.4f} of {normal['n']}; "
        f"wrong labels released {normal['wrong_labels_released']} of {normal['misclassified']}"
    )
    for detector in _AGREEMENT:
        table = Table(title=detector)
        for column in ("attack", "success", "n", "AUROC", "TPR at 1 % FPR", "TPR at 5 % FPR", "FPR on test at 1 / 5 %"):
            table.add_column(column, justify="left" if column == "attack" else "right")
        for attack, entry in result["attacks"].items():
            row = entry["detectors"].get(detector)
            if row is None:
                table.add_row(attack, f"{entry['success']:.3f}", "0", "-", "-", "-", "-")
                continue
            table.add_row(
                attack,
                f"{entry['success']:.3f}",
                str(entry["n"]),
                f"{row['auroc']:.3f}",
                f"{row['tpr_at_1fpr']:.3f}",
                f"{row['tpr_at_5fpr']:.3f}",
                f"{row['fpr_on_test_at_1fpr']:.4f} / {row['fpr_on_test_at_5fpr']:.4f}",
            )
        console.print(table)
    table = Table(title="the bundle's verdict on attacked images")
    table.add_column("attack")
    for column in ("wrong label released", "withheld"):
        table.add_column(column, justify="right")
    for attack, entry in result["attacks"].items():
        verdict = entry.get("firewall")
        cells = [_cell(entry["wrong_release"], "rate"), _cell(verdict, "withheld")] if verdict else ["-", "-"]
        table.add_row(attack, *cells)
    console.print(table)


def _cell(entry: dict[str, Any], key: str) -> str:
    low, high = entry["ci95"]
    return f"{entry[key]:.3f} ({low:.3f} - {high:.3f})"
