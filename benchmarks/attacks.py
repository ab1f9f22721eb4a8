"""What the attacks' own work costs beside the network's: PGD-40 against the bare forward and backward passes it needs.

    python benchmarks/attacks.py [--json FILE] [--rounds N] [--batch N] [--device cpu] [--gtsrb DIR [--images N]]

Default sign classifier, one thread. The bare loop is run with the same images, and takes the same 40 gradients; each
round times both, one after the other, so that a busy machine slows both. The ratio is the quotient of the medians. On
the CPU the seconds are those of the processor, which other programs on the machine hardly lengthen.

With --gtsrb (see `firewall lab evaluate`) every registered attack is run once, instead, on test images that the
classifier gets right: its success as stored and the seconds an image takes. Those are single runs, not comparisons.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from firewall.bundle import load_bundle
from firewall.lab.attacks import ATTACKS, quantise, survivors
from firewall.lab.attacks.pgd import Pgd
from firewall.lab.attacks.rounding import to_input
from firewall.lab.models.sign_classifier import INPUT_SIZE, from_onnx

GOAL = 0.9  # of the bare loop's speed
STEPS = 40


def bare(network: nn.Module, images: Tensor, labels: Tensor) -> None:
    """As many forward and backward passes as PGD-40 needs, and nothing else."""
    point = images.clone().requires_grad_()
    for _ in range(STEPS):
        torch.autograd.grad(cross_entropy(network(point), labels, reduction="sum"), point)


def seconds(device: str, work: Callable[..., object], *arguments: object) -> float:
    """How long a call takes, until the device is done with it."""
    clock = time.process_time if device == "cpu" else time.perf_counter
    started = clock()
    work(*arguments)
    if device != "cpu":
        torch.cuda.synchronize()
    return clock() - started


def ratio(network: nn.Module, batch: int, rounds: int, device: str) -> dict[str, Any]:
    """PGD-40's speed as a share of the bare loop's."""
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(batch, 3, INPUT_SIZE, INPUT_SIZE, generator=generator).to(device)
    labels = torch.randint(0, 43, (batch,), generator=generator).to(device)
    attack = Pgd(steps=STEPS)
    attack.run(network, images, labels, 0)  # warms up
    bare(network, images, labels)
    pairs = []
    for _ in range(rounds):
        plain = seconds(device, bare, network, images, labels)
        pairs.append((plain, seconds(device, attack.run, network, images, labels, 0)))
    ours, theirs = (statistics.median(pair[side] for pair in pairs) for side in (1, 0))
    return {
        "batch": batch,
        "rounds": rounds,
        "bare_images_per_second": round(batch / theirs, 2),
        "pgd40_images_per_second": round(batch / ours, 2),
        "ratio": round(theirs / ours, 4),
        "goal": GOAL,
    }


def victims(root: Path, network: nn.Module, count: int) -> tuple[Tensor, Tensor]:
    """Test images at the network's input size, in uint8 levels, that it names correctly, drawn by a fixed seed."""
    from firewall.lab.datasets import gtsrb

    test = gtsrb.load_test(root)
    drawn = np.random.default_rng(0).permutation(len(test))[: 2 * count]
    side = (INPUT_SIZE, INPUT_SIZE)
    pixels = [np.asarray(Image.fromarray(test.images[i]).resize(side, Image.Resampling.BILINEAR)) for i in drawn]
    images, labels = to_input(np.stack(pixels)), torch.from_numpy(np.asarray(test.labels)[drawn].astype(np.int64))
    with torch.no_grad():
        right = network(images).argmax(1) == labels
    return images[right][:count], labels[right][:count]


def every(root: Path, network: nn.Module, count: int, device: str) -> dict[str, Any]:
    """Success as stored, mean L2 and seconds per image of each attack; `count` images, or a chunk where that is more.

    A chunk, because attacks that are fitted on many images do worse and cost more on few.
    """
    images, labels = victims(root, network.cpu(), 256)
    network.to(device)
    rows: dict[str, Any] = {}
    for name, attack in ATTACKS.items():
        size = count if attack.chunk <= 32 else attack.chunk
        chosen, names = images[:size].to(device), labels[:size].to(device)
        clock = time.process_time if device == "cpu" else time.perf_counter
        started = clock()
        parts = [
            attack.run(network, part, own, 0)
            for part, own in zip(chosen.split(attack.chunk), names.split(attack.chunk), strict=True)
        ]
        pixels = quantise(torch.cat(parts))
        took = clock() - started
        met = survivors(network, pixels, names, attack.criterion)
        change = (to_input(pixels) - images[:size])[torch.from_numpy(met)].flatten(1).norm(dim=1)
        rows[name] = {
            "images": len(chosen),
            "success": round(float(met.mean()), 4),
            "l2": round(float(change.mean()), 3) if met.any() else None,
            "seconds_per_image": round(took / len(chosen), 4),
        }
        sys.stderr.write(f"{name:20} success {met.mean():.2f}   {took / len(chosen):8.4f} s an image\n")
    return rows


def main() -> int:
    """Measure, print, write. Exit code 1 if PGD-40 misses its goal."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--gtsrb", type=Path)
    parser.add_argument("--images", type=int, default=32)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    bundle = load_bundle("default")
    network = from_onnx(bundle.files[bundle.manifest.classifier.file]).to(arguments.device)
    result: dict[str, Any] = {
        "machine": platform.machine(),
        "processor": processor(),
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0],
        "time": time.strftime("%Y-%m-%d %H:%M"),
        "device": arguments.device if arguments.device == "cpu" else torch.cuda.get_device_name(),
        "threads": 1,
        "torch": torch.__version__,
        "commit": commit(),
        "classifier": bundle.sha256,
    }
    if arguments.gtsrb:
        result["attacks"] = every(arguments.gtsrb, network, arguments.images, arguments.device)
    else:
        result["pgd40"] = ratio(network, arguments.batch, arguments.rounds, arguments.device)
    sys.stdout.write(json.dumps(result, indent=1) + "\n")
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=1) + "\n")
    return 0 if arguments.gtsrb or result["pgd40"]["ratio"] >= GOAL else 1


def processor() -> str:
    """The processor's name, as Linux gives it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown")


def commit() -> str:
    """The checkout's commit, or "unknown"."""
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


if __name__ == "__main__":
    sys.exit(main())
