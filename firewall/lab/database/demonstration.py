"""The attacked signs of the embedded demo: `firewall lab demo`.

Each attack changes only pixels inside the crop that the firewall itself would look at, in the rendered frame, and is
stored losslessly. What is stored fools the classifier on the whole way from frame to label, after rounding. The rim of
the sign is left alone: regions are found by it, and a region that moves would undo the attack.

The demo shows the firewall at work: of several strengths that fool the classifier it takes one that is withheld, if
there is one. How often attacks are withheld is what `firewall lab evaluate` measures, not this.
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

from firewall.demo.scene import render
from firewall.demo.source import ENCOUNTERS, Patch, write_patches
from firewall.frame import Frame, Pixels, Region
from firewall.lab.attacks import ATTACKS, quantise
from firewall.lab.models.sign_classifier import INPUT_SIZE, from_onnx
from firewall.regions import RegionFinder, build
from firewall.regions.boxes import overlaps
from firewall.screening import Firewall
from firewall.sweep.keyed import key_of
from firewall.verdict import Verdict

__all__ = ["make"]

#: Attacks by the names that the demo's captions use.
_CAPTIONS = {"FGSM": "fgsm", "PGD": "pgd-0.03", "DeepFool": "deepfool"}
#: Shares of the crop's side that may be changed, and by how much the change is stretched: the edge resizes by integer
#: arithmetic, and a step beyond the boundary keeps the example across it.
_TRIES = [
    (inner, stretch) for inner in (0.66, 0.76, 0.86, 0.56, 0.94, 1.0) for stretch in (1.0, 1.15, 1.3, 1.6, 2.0, 2.6)
]


def make(out: Path, bundle: str, *, seed: int) -> dict[str, Any]:
    """Attack every step of every attacked encounter on the bundle's classifier and write the patches.

    Args:
        out: File of the patches.
        bundle: `default` or a bundle's folder.
        seed: What the attacks' random numbers depend on.

    Returns:
        Counts: frames attacked, frames whose label the attack changed, those of them that are withheld, and the file's
            bytes.
    """
    guard = Firewall.load(bundle, exhaustive=True, sweep_key=key_of(seed))
    finder = build("signs", bundle=guard.bundle)
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
    return {
        "frames": len(steps),
        "fooled": fooled,
        "withheld": withheld,
        "not fooled": missed,
        "bytes": out.stat().st_size,
    }


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
    if region is None:
        return None
    x, y, width, height = region
    crop = torch.from_numpy(clean[y : y + height, x : x + width].copy()).permute(2, 0, 1).float().div(255)[None]
    changes: dict[float, Tensor] = {}
    evading: tuple[Region, Pixels, Verdict] | None = None
    for inner, stretch in _TRIES:
        if inner not in changes:
            seen = _Seen(model, crop, inner)
            attacked = ATTACKS[attack].run(seen, crop, torch.tensor([label]), seed)
            changes[inner] = seen.inside(attacked) - crop
        frame = clean.copy()
        frame[y : y + height, x : x + width] = quantise((crop + stretch * changes[inner]).clamp(0, 1))[0]
        regions = finder.find(frame)
        found = _best(regions, box)
        if found is None:
            continue
        # All boxes of the frame, as the edge judges them: the attack may reach its end in another one of the sign.
        verdicts = guard.screen_frame(Frame(frame, "demo", 0, time.monotonic()), regions)
        verdict = verdicts[regions.index(found)]
        if verdict.suspected_label in (None, label):
            continue
        fooled = [each for each in verdicts if each.released and each.label != label and _overlap(each.region, box) > 0]
        if not fooled:
            return region, frame, verdict
        evading = evading or (region, frame, fooled[0])
    return evading


class _Seen(nn.Module):
    """The classifier behind the edge's resize, as far as gradients can follow it; only the inner part is looked at."""

    def __init__(self, model: nn.Module, crop: Tensor, inner: float) -> None:
        super().__init__()
        self.model, self.crop = model, crop
        height, width = crop.shape[2:]
        rim = [round(side * (1 - inner) / 2) for side in (height, width)]
        self.mask = torch.zeros(1, 1, height, width)
        self.mask[..., rim[0] : height - rim[0], rim[1] : width - rim[1]] = 1

    def inside(self, images: Tensor) -> Tensor:
        """The crop with its inner part replaced by that of `images`."""
        return self.crop + (images - self.crop) * self.mask

    def forward(self, images: Tensor) -> Tensor:
        """Logits of (N, 3, h, w) crops."""
        size = (INPUT_SIZE, INPUT_SIZE)
        small = nn.functional.interpolate(
            self.inside(images), size, mode="bilinear", antialias=True, align_corners=False
        )
        logits: Tensor = self.model(small)
        return logits


def _best(regions: list[Region], box: Region) -> Region | None:
    """The region that covers the sign best, if any covers at least half of the two together."""
    overlaps = [(_overlap(region, box), region) for region in regions]
    best = max(overlaps, default=(0.0, None), key=lambda pair: pair[0])
    return best[1] if best[0] >= 0.5 else None


def _overlap(first: Region, second: Region) -> float:
    return float(overlaps(np.array([first], np.float64), np.array([second], np.float64))[0, 0])
