"""The attacked signs of the embedded demo: `firewall lab demo`.

Each attack changes only the pixels of the crop that the firewall itself would look at, in the rendered frame, and is
stored losslessly. What is stored fools the classifier on the whole way from frame to label, after rounding.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor, nn

from firewall.frame import Frame, Pixels, Region
from firewall.lab.attacks import ATTACKS, quantise
from firewall.lab.models.sign_classifier import INPUT_SIZE, from_onnx
from firewall.regions import RegionFinder, build
from firewall.screening import Firewall
from firewall.sources.demo import ENCOUNTERS, Patch, write_patches
from firewall.sources.scene import render
from firewall.verdict import Verdict

__all__ = ["make"]

#: Attacks by the names that the demo's captions use.
_CAPTIONS = {"FGSM": "fgsm", "PGD": "pgd-0.03", "DeepFool": "deepfool", "C&W": "cw"}
_TRIES = 6


def make(out: Path, bundle: str, *, seed: int) -> dict[str, Any]:
    """Attack every step of every attacked encounter on the bundle's classifier and write the patches to `out`.

    Returns what came of it: frames attacked, frames whose label the attack changed, and of those the withheld.
    """
    guard = Firewall.load(bundle, exhaustive=True)
    finder = build("signs")
    model = from_onnx(guard.bundle.files[guard.bundle.manifest.classifier.file])
    patches: list[Patch] = []
    fooled = withheld = missed = 0
    steps = [(number, step) for number, entry in enumerate(ENCOUNTERS) if entry.attack for step in range(entry.steps)]
    for number, step in track(steps, "attacking", transient=True, console=Console(stderr=True)):
        encounter = ENCOUNTERS[number]
        clean, box = render(encounter, step)
        found = _attack(guard, finder, model, clean, box, encounter.label, _CAPTIONS[encounter.attack or ""], seed)
        if found is None:
            missed += 1
            continue
        (x, y, width, height), attacked, verdict = found
        fooled += 1
        withheld += not verdict.released
        pixels = np.ascontiguousarray(attacked[y : y + height, x : x + width])
        patches.append(Patch(number, step, x, y, encounter.attack or "", pixels))
    write_patches(out, patches)
    return {"frames": len(steps), "fooled": fooled, "withheld": withheld, "not fooled": missed, "bytes": out.stat().st_size}


def _attack(
    guard: Firewall,
    finder: RegionFinder,
    model: nn.Module,
    clean: Pixels,
    box: Region,
    label: int,
    attack: str,
    seed: int,
) -> tuple[Region, Pixels, Verdict] | None:
    """The region attacked, the frame with it, and the verdict; None if the classifier couldn't be fooled."""
    region = _best(finder.find(clean), box)
    for attempt in range(_TRIES):
        if region is None:
            return None
        x, y, width, height = region
        crop = torch.from_numpy(clean[y : y + height, x : x + width].copy()).permute(2, 0, 1).float().div(255)[None]
        target = torch.tensor([label])
        changed = ATTACKS[attack].run(_Resized(model), crop, target, seed + attempt)
        # The edge resizes by integer arithmetic, so a step beyond the boundary keeps the example across it.
        changed = (crop + (changed - crop) * (1.0 + 0.15 * attempt)).clamp(0, 1)
        frame = clean.copy()
        frame[y : y + height, x : x + width] = quantise(changed)[0]
        region = _best(finder.find(frame), box)
        if region is None:
            return None
        (verdict,) = guard.screen_frame(Frame(frame, "demo", 0, time.monotonic()), [region])
        if verdict.suspected_label not in (None, label):
            return _cover((x, y, width, height), region), frame, verdict
    return None


class _Resized(nn.Module):
    """The classifier behind the edge's resize, as far as gradients can follow it."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        size = (INPUT_SIZE, INPUT_SIZE)
        small = torch.nn.functional.interpolate(images, size, mode="bilinear", antialias=True, align_corners=False)
        logits: Tensor = self.model(small)
        return logits


def _best(regions: list[Region], box: Region) -> Region | None:
    """The region that covers the sign best, if any covers at least half of the two together."""
    overlaps = [(_overlap(region, box), region) for region in regions]
    best = max(overlaps, default=(0.0, None), key=lambda pair: pair[0])
    return best[1] if best[0] >= 0.5 else None


def _overlap(first: Region, second: Region) -> float:
    width = min(first[0] + first[2], second[0] + second[2]) - max(first[0], second[0])
    height = min(first[1] + first[3], second[1] + second[3]) - max(first[1], second[1])
    shared = max(width, 0) * max(height, 0)
    return shared / (first[2] * first[3] + second[2] * second[3] - shared)


def _cover(first: Region, second: Region) -> Region:
    x, y = min(first[0], second[0]), min(first[1], second[1])
    right = max(first[0] + first[2], second[0] + second[2])
    bottom = max(first[1] + first[3], second[1] + second[3])
    return x, y, right - x, bottom - y
