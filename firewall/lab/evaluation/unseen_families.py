"""A fused bundle against families of attacks of which no part of it has seen a member: `firewall lab unseen`.

For each family, detectors of pixels that `firewall lab leave-one-out` trained without it take the place of the
bundle's; the fusion is fitted and its threshold set without it; and the result is evaluated on the family.
"""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.progress import track

from firewall.bundle import Bundle, DetectorSpec, write_bundle
from firewall.bundle.certificate import judges
from firewall.errors import DataError
from firewall.lab.calibration.fusion_bundle import FusionSettings, fuse
from firewall.lab.database import Database
from firewall.lab.database.normals import named_splits, normal_entries
from firewall.lab.evaluation.attacked_images import attacked_images
from firewall.lab.evaluation.protocol import protocol_of
from firewall.lab.measurement.bundle_verdicts import Judge, judge_of
from firewall.lab.measurement.edge import Measured
from firewall.lab.measurement.intervals import rate_of
from firewall.lab.measurement.metrics import FEW
from firewall.lab.models import Protected
from firewall.lab.training.detector_folder import Trained, load_trained
from firewall.lab.training.detectors.leave_one_out import FAMILIES

__all__ = ["unseen"]


def unseen(
    bundle: Bundle,
    classifier: Protected,
    trainings: Sequence[Path],
    database: Database,
    calibration: Database,
    judged: Database,
    settings: FusionSettings,
    *,
    split: str = "all",
) -> dict[str, Any]:
    """Evaluate a bundle on each family of attacks, after everything was fitted without that family.

    Args:
        bundle: With a fusion.
        classifier: Its classifier.
        trainings: Folders of `firewall lab leave-one-out`, one for each detector of pixels. A detector of the bundle
            that learnt from attacks and has no such training is left out.
        database: As `fuse` was given it.
        calibration: As `fuse` was given it.
        judged: Attacks to evaluate on; those with fewer than `FEW` images are left out.
        settings: As `fuse` was given them.
        split: Of the judged database, see `named_splits`.

    Returns:
        Ready for JSON; "rows" has family, attack, n and withheld (a share, with ci95).

    Raises:
        DataError: A training is missing, or an image would be on two sides.
    """
    if bundle.manifest.fusion is None:
        raise DataError(f"{bundle.path} has no fusion; make one with 'firewall lab fuse'")
    splits = named_splits(split)
    rows: list[dict[str, Any]] = []
    normal: dict[str, Any] = {}
    present = {
        family: [name for name in members if name in judged.card.attacks] for family, members in FAMILIES.items()
    }
    chosen = {family: members for family, members in present.items() if _folders(trainings, family) and members}
    if not chosen:
        raise DataError(
            f"{', '.join(str(folder) for folder in trainings)} hold no training without a family that {judged.folder} "
            "has attacks of; make them with 'firewall lab leave-one-out --out'"
        )
    with tempfile.TemporaryDirectory() as folder:
        for family in track(chosen, "families", transient=True, console=Console(stderr=True)):
            detectors = [load_trained(path) for path in _folders(trainings, family)]
            without = replace(settings, without=FAMILIES[family])
            parts = _replaced(bundle, detectors, FAMILIES[family], Path(folder) / "parts")
            fused = fuse(parts, classifier, database, calibration, Path(folder) / "fused", without).bundle
            found, normal[family] = _judged(judge_of(fused, classifier), judged, calibration, splits, chosen[family])
            rows += [{"family": family, **row} for row in found]
    shares = [row["withheld"] for row in rows]
    worst = min(rows, key=lambda row: row["withheld"]) if rows else None
    return {
        "bundle_sha256": bundle.sha256,
        "judges": judges(bundle.manifest),
        "trainings": [path.name for path in trainings],
        "detectors": [spec.name for spec in parts.manifest.detectors],
        "judged": {"dataset": judged.card.dataset.spec, "part": judged.card.dataset.part, "splits": list(splits)},
        "mean": float(np.mean(shares)) if shares else None,
        "worst": worst,
        "normal": normal,
        "rows": rows,
    }


def _folders(trainings: Sequence[Path], family: str) -> list[Path]:
    """The detector of each training that was trained without the family; none if a training lacks it."""
    folders = [folder / family.replace(" ", "-") for folder in trainings]
    return folders if all((folder / "detector.json").is_file() for folder in folders) else []


def _replaced(bundle: Bundle, detectors: Sequence[Trained], family: Collection[str], path: Path) -> Bundle:
    """`bundle` with other detectors of pixels, without those that no training was named for, and without a fusion."""
    manifest, files = bundle.manifest, dict(bundle.files)
    taken = {detector.name: detector for detector in detectors}
    specs: list[DetectorSpec] = []
    for spec in manifest.detectors:
        if spec.name in taken:
            other = taken.pop(spec.name)
            met = set(other.report["trained_with"]) & set(family)
            if met:
                raise DataError(f"the detector {other.name} was trained with {', '.join(sorted(met))}; leave it out")
            files |= other.files
            specs.append(spec.model_copy(update={"parameters": other.parameters, "fitted": other.fitted}))
            continue
        if "file" not in spec.parameters:
            specs.append(spec)
    if taken:
        raise DataError(f"{bundle.path} has no detector {', '.join(taken)}; it has {_names(manifest.detectors)}")
    names = ("name", "version", "created", "classifier", "calibration", "versions")
    return write_bundle(path, files, **{name: getattr(manifest, name) for name in names}, detectors=tuple(specs))


def _names(specs: Sequence[DetectorSpec]) -> str:
    return ", ".join(spec.name for spec in specs)


def _judged(
    judge: Judge, database: Database, calibration: Database, splits: Collection[str], attacks: Sequence[str]
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """A row for each attack with enough images, and what the benign images give."""
    how = protocol_of(judge.bundle, database, named_splits(",".join(splits)), None if len(splits) < 3 else calibration)
    groups = np.array([entry.group for entry in normal_entries(database)], np.int64)
    rows = []
    for name in attacks:
        images = attacked_images(judge, database, name, splits)
        if images is not None and len(images) >= FEW:
            rows.append({"attack": name, **_withheld(judge, images.measured, images.tracks)})
    return rows, _withheld(judge, judge.normals(database).subset(how.judged), groups[how.judged])


def _withheld(judge: Judge, measured: Measured, tracks: npt.NDArray[np.int64]) -> dict[str, Any]:
    found = rate_of(~judge.verdicts(judge.scores(measured)).released, tracks)
    return {"n": found.total, "withheld": found.value, "ci95": [found.low, found.high]}
