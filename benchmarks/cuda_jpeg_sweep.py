"""Speed of the JPEG sweep on a GPU against the memory of the device, nvJPEG and kornia, in one run.

python benchmarks/cuda_jpeg_sweep.py [--results FOLDER] [--images N]

First it checks that the GPU gives the bytes that the processor gives; it measures nothing that is not equal. Then it
takes the contenders in turn, over and over, timed by CUDA events on one stream, and reports medians. The limit is what
it takes to set as many bytes of device memory as the sweep writes. nvJPEG is torchvision's encode and decode, image by
image; kornia's JPEG is differentiable and gives other pixels. Needs a GPU, the runtime built with CUDA, and PyTorch
with CUDA to hold the arrays; torchvision and kornia are measured where they are installed.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import json
import re
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from machine import machine

from firewall import native
from firewall.transforms import SWEEP_16, cuda, jpeg_sweep, jpeg_sweep_normalised

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)

#: height, width, dtype, and goals: share of the memory limit, times nvJPEG's speed, times kornia's.
CASES: list[tuple[int, int, str, float | None, float | None, float | None]] = [
    (224, 224, "float16", 0.6, 30.0, 20.0),
    (224, 224, "float32", None, None, None),
    (224, 224, "uint8", None, None, None),
    (64, 64, "float16", None, None, None),
    (480, 640, "uint8", None, None, None),
]


def photographs(count: int, height: int, width: int) -> Any:
    """Pictures with the spectrum of photographs: power that falls with the square of the frequency."""
    rng = np.random.default_rng(0)
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)[None])
    spectrum = np.fft.fft2(rng.normal(size=(count, 3, height, width))) / (frequency + 0.005)
    images = np.real(np.fft.ifft2(spectrum)).transpose(0, 2, 3, 1) @ np.array(
        [[1, 0.8, 0.7], [0.2, 0.3, -0.4], [0.1, -0.3, 0.2]]
    )
    levels = np.round((images - images.min()) / np.ptp(images) * 255)
    return np.ascontiguousarray(levels, np.uint8)


def by_processor(image: Any, dtype: str) -> Any:
    """What the GPU must give for one image."""
    if dtype == "uint8":
        return jpeg_sweep(image, SWEEP_16)
    return jpeg_sweep_normalised(image, SWEEP_16, MEAN, STD, dtype=dtype)


def others(torch: Any, pixels: Any) -> dict[str, Callable[[], object]]:
    """Sweeps by each other library that is installed, without the normalisation that ours may include."""
    found: dict[str, Callable[[], object]] = {}
    planes = pixels.permute(0, 3, 1, 2).contiguous()
    if importlib.util.find_spec("torchvision"):
        from torchvision.io import ImageReadMode, decode_jpeg, encode_jpeg

        def by_nvjpeg() -> None:
            for quality in SWEEP_16:
                files = encode_jpeg(list(planes), quality=quality)
                decode_jpeg([file.cpu() for file in files], mode=ImageReadMode.RGB, device="cuda")

        found["nvJPEG"] = by_nvjpeg
    if importlib.util.find_spec("kornia"):
        from kornia.enhance import jpeg_codec_differentiable

        numbers = planes.float() / 255

        def by_kornia() -> None:
            for quality in SWEEP_16:
                with torch.no_grad():
                    jpeg_codec_differentiable(numbers, torch.tensor([float(quality)], device="cuda"))

        found["kornia"] = by_kornia
    return found


def medians(torch: Any, works: dict[str, Callable[[], object]], rounds: int) -> dict[str, dict[str, float]]:
    """Milliseconds of each between two events, taken in turn; quick work several times between the events."""
    samples: dict[str, list[float]] = {name: [] for name in works}
    for number in range(rounds + 3):  # three to warm up
        for name, work in works.items():
            quick = name in ("sweep", "memory")
            if not quick and number >= 6:
                continue
            repeats = 20 if quick else 1
            start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            start.record()
            for _ in range(repeats):
                work()
            end.record()
            end.synchronize()
            if number >= 3:
                samples[name].append(start.elapsed_time(end) / repeats)
    return {
        name: {"median_ms": statistics.median(times), "fastest_ms": min(times), "samples": len(times)}
        for name, times in samples.items()
    }


def measure(torch: Any, count: int, height: int, width: int, dtype: str) -> dict[str, Any]:
    """One case: equality, then times."""
    images = photographs(count, height, width)
    plan = cuda.jpeg_sweep(count=count, height=height, width=width, qualities=SWEEP_16, dtype=dtype, mean=MEAN, std=STD)
    pixels = torch.from_numpy(images).cuda()
    out = torch.empty((count, *plan.result_shape), dtype=getattr(torch, dtype), device="cuda")
    fill = torch.empty_like(out)
    stream = torch.cuda.current_stream().cuda_stream

    def sweep() -> None:
        plan.run(pixels, out, stream=stream)

    sweep()
    for index in range(0, count, 7):
        if out[index].cpu().numpy().tobytes() != by_processor(images[index], dtype).tobytes():
            sys.exit(f"image {index} of {height}x{width} {dtype}: the GPU's sweep differs from the processor's")
    works: dict[str, Callable[[], object]] = {"sweep": sweep, "memory": fill.zero_, **others(torch, pixels)}
    times = medians(torch, works, 50)
    mine = times["sweep"]["median_ms"]
    return {
        "images": count,
        "height": height,
        "width": width,
        "result": dtype,
        "bytes_written": out.numel() * out.element_size(),
        "plan_bytes": plan.memory,
        "times": times,
        "share_of_memory_limit": times["memory"]["median_ms"] / mine,
        "ratios": {name: time["median_ms"] / mine for name, time in times.items() if name not in ("sweep", "memory")},
    }


def main() -> None:
    """Measure all cases, print a table and write the numbers."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--results", type=Path, help="folder for jpeg_sweep-<gpu>.json")
    parser.add_argument("--images", type=int, default=64, help="images of a batch")
    arguments = parser.parse_args()
    support = native.cuda()
    if not support.usable:
        sys.exit(support.reason)
    try:
        import torch
    except ImportError:
        sys.exit("PyTorch holds the arrays of this benchmark and is not installed: pip install torch")
    if not torch.cuda.is_available():
        sys.exit("this PyTorch was built without CUDA; it holds the arrays of this benchmark")
    name = torch.cuda.get_device_name()
    about = {**machine(), "gpu": name, "torch": torch.__version__, "cuda": torch.version.cuda}
    for package in ("torchvision", "kornia"):
        about[package] = importlib.metadata.version(package) if importlib.util.find_spec(package) else "not installed"
    rows = []
    for height, width, dtype, share, nvjpeg, kornia in CASES:
        row = measure(torch, arguments.images, height, width, dtype)
        goals = {"share_of_memory_limit": share, "nvJPEG": nvjpeg, "kornia": kornia}
        rows.append({**row, "goals": goals})
        line = f"{arguments.images} x {height}x{width} {dtype}: {row['times']['sweep']['median_ms']:.3f} ms, "
        line += f"{row['share_of_memory_limit']:.0%} of the memory limit" + (f" (goal {share:.0%})" if share else "")
        for other, ratio in row["ratios"].items():
            line += f", {other} {ratio:.1f}x" + (f" (goal {goals[other]:.0f}x)" if goals.get(other) else "")
        sys.stdout.write(line + "\n")
        sys.stdout.flush()
    if arguments.results:
        slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
        arguments.results.mkdir(parents=True, exist_ok=True)
        path = arguments.results / f"jpeg_sweep-{slug}.json"
        path.write_text(json.dumps({"machine": about, "cases": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
