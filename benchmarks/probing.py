"""When the gate's history notices an attack by queries, and what it makes of signs that a camera passes.

    python benchmarks/probing.py --data ../shared/data [--images 10] [--json FILE]

HopSkipJump (labels alone) and Square (scores, which the gate doesn't give) attack the bundle's classifier without the
firewall. Every image that they ask about goes through a history of its own, as at the gate. Reported: after how
many queries the series is noticed, and how many the attack asks altogether. Then the frames of GTSRB's tracks go
through one history in their order: how many are nearly one of the frames before.
"""

from __future__ import annotations

import argparse
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from machine import machine
from PIL import Image
from torch import Tensor, nn

from firewall import Firewall
from firewall.frame import Pixels
from firewall.gate.history import History
from firewall.lab.attacks.hopskipjump import HopSkipJump
from firewall.lab.attacks.square import Square
from firewall.transforms import resize
from firewall.verdict import Verdict

_AFTER = 100  # the gate's default
_VERDICT = Verdict("probing", 0, (0, 0, 1, 1))


class Asked(nn.Module):
    """The classifier as a network that keeps every image it is asked about."""

    def __init__(self, guard: Firewall) -> None:
        """Take the firewall whose classifier is attacked."""
        super().__init__()
        self.guard, self.images = guard, list[Pixels]()

    def forward(self, batch: Tensor) -> Tensor:
        """Logits of float images (N, 3, H, W) in 0..1."""
        pixels = (batch.detach() * 255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous().numpy()
        self.images += list(pixels)
        return torch.cat(
            [
                torch.from_numpy(self.guard.engine.classify(part))
                for part in np.array_split(pixels, 1 + len(pixels) // 64)
            ]
        )


def main() -> None:
    """Attack, count, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="holds gtsrb_train_orig.npz")
    parser.add_argument("--images", type=int, default=10)
    parser.add_argument("--tracks", type=int, default=100)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    guard = Firewall.load("default", threads=1)
    spec = guard.bundle.manifest.classifier.input
    size = (spec.width, spec.height)
    with np.load(arguments.data / "gtsrb_train_orig.npz", allow_pickle=False) as file:
        pack = dict(file)
    track = pack["label"].astype(np.int64) * 1000 + pack["track"]  # they are numbered in each class
    order = np.lexsort((pack["frame"], track))
    there = np.unique(track)
    order = order[np.isin(track[order], there[:: max(1, len(there) // arguments.tracks)])]
    frames = [decoded(pack["blob"], *pack["off"][index : index + 2]) for index in order]
    chosen = np.linspace(0, len(frames) - 1, arguments.images).astype(int)
    attacks = {
        "hopskipjump": HopSkipJump(rounds=4, samples=60),
        "square": Square(),
    }
    rows = [row(guard, name, attack, [frames[index] for index in chosen], size) for name, attack in attacks.items()]
    result = {
        "machine": machine(),
        "after": _AFTER,
        "attacks": rows,
        "tracks": tracks(frames, track[order], size),
    }
    print(json.dumps(result, indent=1))  # noqa: T201 - a program that prints
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=1) + "\n")


def decoded(blob: np.ndarray[Any, Any], start: int, end: int) -> Pixels:
    """One picture of a pack."""
    return np.asarray(Image.open(io.BytesIO(blob[start:end].tobytes())).convert("RGB"))


def row(guard: Firewall, name: str, attack: Any, images: list[Pixels], size: tuple[int, int]) -> dict[str, Any]:
    """How one attack on several images shows."""
    noticed, asked = [], []
    for image in images:
        network = Asked(guard)
        batch = torch.from_numpy(resize(image, *size).copy()).permute(2, 0, 1)[None].float() / 255
        label = torch.from_numpy(guard.engine.classify(resize(image, *size)[None]).argmax(axis=1))
        attack.run(network, batch, label, seed=1)
        told: list[int] = []
        history = History(size, after=_AFTER, most=4096, report=lambda told=told: told.append(1), clock=lambda: 0.0)
        found = None
        for number, query in enumerate(network.images, 1):
            history.seen(query, "attacker", _VERDICT)
            if told and found is None:
                found = number
        asked.append(len(network.images))
        noticed.append(found)
    seen = sorted(each for each in noticed if each is not None)
    return {
        "attack": name,
        "images": len(images),
        "noticed": len(seen),
        "queries_until_noticed_median": seen[len(seen) // 2] if seen else None,
        "queries_until_noticed_most": seen[-1] if seen else None,
        "queries_median": sorted(asked)[len(asked) // 2],
        "not_noticed_queries": sorted(total for total, found in zip(asked, noticed, strict=True) if found is None),
    }


def tracks(frames: list[Pixels], numbers: np.ndarray[Any, Any], size: tuple[int, int]) -> dict[str, Any]:
    """What the history makes of signs that a camera passes."""
    near: dict[int, int] = dict.fromkeys(numbers.tolist(), 0)
    now = 0
    told: list[int] = []
    history = History(
        size,
        after=_AFTER,
        near=lambda: near.__setitem__(now, near[now] + 1),
        report=lambda: told.append(now),
        clock=lambda: 0.0,
    )
    for frame, number in zip(frames, numbers.tolist(), strict=True):
        now = number
        history.seen(frame, "camera", _VERDICT)
    return {
        "images": len(frames),
        "tracks": len(near),
        "near_identical": sum(near.values()),
        "most_in_a_track": max(near.values()),
        "tracks_with_any": sum(count > 0 for count in near.values()),
        "reported": len(told),
    }


if __name__ == "__main__":
    main()
