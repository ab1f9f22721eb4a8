"""Detectors of pixels on attacks that they were not trained on: one training for each family of attacks, without it.

A detector that has seen an attack's near relatives has as good as seen the attack, so whole families are left out.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from firewall.errors import DataError
from firewall.lab.database import Database
from firewall.lab.training.detector_folder import load_trained
from firewall.lab.training.detectors.pixel_detectors import Settings, train
from firewall.lab.training.detectors.pixel_evaluation import evaluate

__all__ = ["FAMILIES", "leave_one_out"]

FAMILIES: MappingProxyType[str, tuple[str, ...]] = MappingProxyType(
    {
        "sign step": ("fgsm", "fgsm-top5", "substitute", "substitute-drawn"),
        "bounded steps": (
            *("pgd", "pgd-0.01", "pgd-0.03", "pgd-0.06", "pgd-high-confidence"),
            *("apgd-ce", "apgd-dlr", "apgd-square", "autoattack", "autoattack-standard", "universal"),
        ),
        "least radius": ("bim", "l1-bim", "l2-bim", "pgd-targeted"),
        "deepfool": ("deepfool", "deepfool-top5", "fab-t"),
        "newtonfool": ("newtonfool", "newtonfool-top5"),
        "gradient step": ("gradient", "gradient-top5"),
        "optimised": ("cw", "cw-top5", "cw-kappa", "lbfgs"),
        "few pixels": ("jsma", "jsma-top5", "one-pixel", "five-pixels"),
        "deformation": ("adef", "adef-top5", "stadv", "stadv-targeted", "stadv-wide"),
        "black box": ("square", "hopskipjump"),
        "on the sign": ("patch", "stickers"),
        "shadow": ("shadow", "shadow-refined", "triangle", "railing"),
        "light": ("beam", "glare", "flicker", "projector", "projector-gradient", "cast"),
        "occlusion": ("bars", "two-bars", "stickers-drawn", "leaves", "scribble", "dirt", "drops"),
        "pose": ("pose", "pose-wide"),
    }
)


def leave_one_out(
    database: Database,
    others: Sequence[Database],
    out: Path,
    settings: Settings,
    *,
    attacks: Sequence[str] = (),
    threads: int = 1,
    families: Mapping[str, tuple[str, ...]] = FAMILIES,
) -> dict[str, Any]:
    """For each family with a member among the attacks: train without it, measure on it.

    Goes on where it was stopped: a family with a result in `out` is not trained again.

    Args:
        database: To train on.
        others: To measure on; the last one is reported.
        out: Folder of the trainings.
        settings: Of each training.
        attacks: Names; none: the database's.
        threads: Threads of torch.
        families: Name -> attacks.

    Returns:
        Detector -> attack -> figures as `pixel_evaluation.evaluate` has them, with the family.

    Raises:
        DataError: The database holds attacks of fewer than two families.
    """
    names = list(attacks) or [name for name, count in database.info()["adversarial"].items() if count]
    present = {family: [name for name in names if name in members] for family, members in families.items()}
    present = {family: members for family, members in present.items() if members}
    if len(present) < 2:
        raise DataError(f"{database.folder} holds attacks of {len(present)} families; two are the least")
    result: dict[str, Any] = {}
    for family, members in present.items():
        folder = out / family.replace(" ", "-")
        done = folder / "judged.json"
        if not done.exists():
            own = replace(settings, attacks=tuple(names), leave_out=tuple(members))
            train(database, folder, own, threads=threads)
            judged = evaluate(load_trained(folder), database, others, originals=False, only=members)
            done.write_text(json.dumps(judged, indent=1) + "\n", encoding="utf-8")
        judged = json.loads(done.read_text(encoding="utf-8"))
        # Of the last database alone: the largest set that shares nothing with the training.
        name, found = [(name, entry) for name, entry in judged.items() if name != "thresholds"][-1]
        for attack in members:
            if attack in found["attacks"]:
                entry = {**found["attacks"][attack], "family": family, "judged_on": name}
                result[attack] = {**entry, "fpr_at_1fpr": found["normal"]["fpr"]["0.01"]["value"]}
    return {settings.detector: result}
