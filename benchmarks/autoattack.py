"""Our APGD on the classifier alone, beside an implementation that isn't ours: how many signs withstand each.

    python benchmarks/autoattack.py [--json FILE] [--images N] [--eps LEVELS] [--steps N] [--data DIR]

APGD on the cross-entropy, then APGD-T on nine targets, one start each: AutoAttack's first two parts, which decide
nearly all images. pyautoattack is no dependency of ours: `pip install --no-deps pyautoattack==0.2.0`. It takes real
numbers; ours looks at the image as it will be stored. So both results are judged on the stored bytes as well.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from firewall.lab.attacks.apgd import Apgd
from firewall.lab.attacks.autoattack import AutoAttack
from firewall.lab.attacks.rounding import as_stored
from firewall.lab.datasets import open_dataset
from firewall.lab.models import open_classifier


def signs(count: int, data: Path | None) -> tuple[nn.Module, Tensor, Tensor]:
    """The default classifier, and signs of kept-out tracks that it names correctly, one of each track first."""
    classifier, images = open_classifier("default"), open_dataset("gtsrb", data, part="kept-out")
    order = np.random.default_rng(0).permutation(len(images))
    _, first = np.unique(images.groups[order], return_index=True)
    order = [*order[np.sort(first)], *np.delete(order, first)]
    pixels = np.stack([classifier.prepare(images.images[int(index)].copy()) for index in order[: 2 * count]])
    labels = images.labels[order[: 2 * count]]
    right = np.flatnonzero(classifier.logits(pixels).argmax(1) == labels)[:count]
    points = torch.from_numpy(pixels[right]).permute(0, 3, 1, 2).float().div(255).contiguous()
    return classifier.network, points, torch.from_numpy(labels[right])


def withstood(network: nn.Module, images: Tensor, labels: Tensor) -> list[bool]:
    """Which images still have their label."""
    with torch.no_grad():
        return [bool(same) for same in network(images).argmax(1) == labels]


def main() -> None:
    """Attack twice and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--eps", type=float, default=4.0)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--data", type=Path)
    options = parser.parse_args()
    import pyautoattack

    torch.set_num_threads(1)
    eps = options.eps / 255
    network, images, labels = signs(options.images, options.data)
    theirs = pyautoattack.AutoAttack(
        network, norm="Linf", eps=eps, seed=0, version="custom", attacks=["apgd-ce", "apgd-t"], device="cpu"
    )
    for part in (theirs.apgd, theirs.apgd_targeted):
        part.n_iter, part.n_restarts = options.steps, 1
    theirs.apgd_targeted.n_target_classes = 9
    answer = theirs.run_standard_evaluation(images, labels, batch_size=50)
    found = answer[0] if isinstance(answer, tuple) else answer
    parts = (Apgd(eps=eps, steps=options.steps), Apgd(loss="dlr", eps=eps, steps=options.steps, targets=9))
    own = torch.cat(
        [AutoAttack(parts).run(network, x, y, 0) for x, y in zip(images.split(50), labels.split(50), strict=True)]
    )
    rounded = withstood(network, as_stored(found.clamp(0, 1)), labels)
    ours = withstood(network, as_stored(own), labels)
    result: dict[str, Any] = {
        "images": len(images),
        "eps": options.eps,
        "steps": options.steps,
        "robust_accuracy": {
            "ours_as_stored": float(np.mean(ours)),
            "theirs_as_stored": float(np.mean(rounded)),
            "theirs_unrounded": float(np.mean(withstood(network, found, labels))),
        },
        "differ": int(sum(a != b for a, b in zip(ours, rounded, strict=True))),
        "largest_change": {"ours": float((own - images).abs().max()), "theirs": float((found - images).abs().max())},
        "theirs": "pyautoattack 0.2.0",
        "torch": torch.__version__,
    }
    text = json.dumps(result, indent=1) + "\n"
    if options.json is None:
        print(text, end="")  # noqa: T201
    else:
        options.json.write_text(text)


if __name__ == "__main__":
    main()
