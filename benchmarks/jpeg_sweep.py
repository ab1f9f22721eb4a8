"""Speed of the native JPEG sweep against doing the same with Pillow and with the fast JPEG libraries, in one run.

python benchmarks/jpeg_sweep.py [--image PHOTO] [--json FILE] [--threads N] [--quick]

First it checks that the native sweep equals Pillow byte for byte; it measures nothing that is not equal. Then it takes
the contenders in turn, over and over, so that a busy moment of the machine hits all of them, and reports medians: one
thread unless said otherwise, results written to memory that was allocated before (a library that can't do that
allocates). PyTurboJPEG, simplejpeg and OpenCV are measured where they are installed, and work; simplejpeg with its
defaults, whose faster DCT gives other pixels.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import PIL
from PIL import Image

from firewall import native
from firewall.transforms import SWEEP_16
from firewall.transforms.jpeg import jpeg_sweep_reference

Pixels = npt.NDArray[np.uint8]
Work = Callable[[], object]

MEAN = np.array([0.485, 0.456, 0.406])
STD = np.array([0.229, 0.224, 0.225])
SCALE = (1.0 / (255.0 * STD)).astype(np.float32)[:, None, None]
SHIFT = (-MEAN / STD).astype(np.float32)[:, None, None]
QUALITIES = np.array(SWEEP_16, np.int32)

#: height, width, result, goal as times Pillow's speed, goal as times that of the fastest other library.
CASES: list[tuple[int, int, str, float | None, float | None]] = [
    (64, 64, "uint8", 35.0, 12.0),
    (224, 224, "uint8", 15.0, 10.0),
    (480, 640, "uint8", 12.0, None),
    (64, 64, "float32", None, None),
    (224, 224, "float32", 25.0, None),
    (224, 224, "float16", None, None),
    (480, 640, "float32", None, None),
]


def photograph(height: int, width: int) -> Pixels:
    """A picture with the spectrum of photographs: power that falls with the square of the frequency."""
    rng = np.random.default_rng(0)
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)[None])
    image = np.real(np.fft.ifft2(np.fft.fft2(rng.normal(size=(3, height, width))) / (frequency + 0.005)))
    image = image.transpose(1, 2, 0) @ np.array([[1, 0.8, 0.7], [0.2, 0.3, -0.4], [0.1, -0.3, 0.2]])
    levels = np.round((image - image.min()) / np.ptp(image) * 255)
    return np.asarray(levels, np.uint8)


def normalised(copies: Pixels, out: npt.NDArray[Any]) -> None:
    """What the engines do with uint8 copies; into `out` (Q, 3, H, W)."""
    batch = np.ascontiguousarray(copies.transpose(0, 3, 1, 2), np.float32)
    batch *= SCALE
    if out.dtype == np.float32:
        np.add(batch, SHIFT, out=out)
    else:
        batch += SHIFT
        out[...] = batch


def others() -> dict[str, Callable[[Pixels, int], Pixels]]:
    """Save and open by each other library that is installed."""
    found: dict[str, Callable[[Pixels, int], Pixels]] = {}
    if importlib.util.find_spec("simplejpeg"):
        import simplejpeg

        def by_simplejpeg(pixels: Pixels, quality: int) -> Pixels:
            data = simplejpeg.encode_jpeg(pixels, quality=quality, colorsubsampling="420")
            return np.asarray(simplejpeg.decode_jpeg(data))

        found["simplejpeg"] = by_simplejpeg
    if importlib.util.find_spec("turbojpeg"):
        import turbojpeg

        try:
            codec = turbojpeg.TurboJPEG()
        except (OSError, RuntimeError):  # the package is there, but not the library that it calls
            codec = None
        if codec is not None:

            def by_turbojpeg(pixels: Pixels, quality: int) -> Pixels:
                data = codec.encode(
                    pixels, quality=quality, pixel_format=turbojpeg.TJPF_RGB, jpeg_subsample=turbojpeg.TJSAMP_420
                )
                return np.asarray(codec.decode(data, pixel_format=turbojpeg.TJPF_RGB))

            found["PyTurboJPEG"] = by_turbojpeg
    if importlib.util.find_spec("cv2"):
        import cv2

        cv2.setNumThreads(1)

        def by_cv2(pixels: Pixels, quality: int) -> Pixels:
            # Channel order is left as it is: it changes pixels, not the amount of work.
            data = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
            return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)

        found["cv2"] = by_cv2
    return found


def contenders(pixels: Pixels, result: str, threads: int) -> tuple[dict[str, Work], npt.NDArray[Any], npt.NDArray[Any]]:
    """The work of each contender; the results of the native sweep and of Pillow, filled once they have run."""
    height, width = pixels.shape[:2]
    runtime = native.load()
    copies = np.zeros((len(QUALITIES), height, width, 3), np.uint8)
    shape = copies.shape if result == "uint8" else (len(QUALITIES), 3, height, width)
    ours, theirs, rest = (np.zeros(shape, result) for _ in range(3))

    def by_native() -> None:
        if result == "uint8":
            runtime.jpeg_sweep(pixels, QUALITIES, 2, ours, threads)
        else:
            getattr(runtime, f"jpeg_sweep_{result}")(pixels, QUALITIES, 2, MEAN, STD, ours, threads)

    def by_pillow() -> None:
        if result == "uint8":
            jpeg_sweep_reference(pixels, SWEEP_16, out=theirs)
        else:
            normalised(jpeg_sweep_reference(pixels, SWEEP_16, out=copies), theirs)

    def by_library(library: Callable[[Pixels, int], Pixels]) -> Work:
        def work() -> None:
            for slot, quality in zip(rest if result == "uint8" else copies, SWEEP_16, strict=True):
                slot[...] = library(pixels, quality)
            if result != "uint8":
                normalised(copies, rest)

        return work

    found: dict[str, Work] = {"native": by_native, "Pillow": by_pillow}
    found.update({name: by_library(library) for name, library in others().items()})
    return found, ours, theirs


def medians(works: dict[str, Work], seconds: float) -> dict[str, dict[str, float]]:
    """Milliseconds of each, taken in turn for about `seconds`."""
    samples: dict[str, list[float]] = {name: [] for name in works}
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(samples["Pillow"]) < 7:
        for name, work in works.items():
            # A short run beside long ones: five in a row, or it would be measured with the caches of the others.
            for _ in range(5 if name == "native" else 1):
                start = time.perf_counter()
                work()
                samples[name].append(1e3 * (time.perf_counter() - start))
    return {
        name: {"median_ms": statistics.median(times), "fastest_ms": min(times), "samples": len(times)}
        for name, times in samples.items()
    }


def refuse_difference(pixels: Pixels, ours: npt.NDArray[Any], theirs: npt.NDArray[Any]) -> None:
    """Stop unless both are the same to the last bit."""
    if not np.array_equal(ours, theirs):
        wrong = int(np.count_nonzero(ours != theirs))
        sys.exit(f"the native sweep of {pixels.shape} differs from Pillow's in {wrong} of {ours.size} numbers")


def machine() -> dict[str, str]:
    """What the numbers depend on."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                model = line.split(":", 1)[1].strip()
                break
    versions = {"pillow": PIL.__version__, "numpy": np.__version__, "python": platform.python_version()}
    usable = others()
    for name, package in (
        ("simplejpeg", "simplejpeg"),
        ("PyTurboJPEG", "PyTurboJPEG"),
        ("cv2", "opencv-python-headless"),
    ):
        versions[name] = importlib.metadata.version(package) if name in usable else "not usable here"
    return {"processor": model, "cores": str(os.cpu_count()), "instructions": native.simd_level(), **versions}


def main() -> None:
    """Measure all cases and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--image", type=Path, help="photograph to use instead of a made one")
    parser.add_argument("--json", type=Path, help="write the numbers to this file")
    parser.add_argument("--threads", type=int, default=1, help="threads of the native sweep")
    parser.add_argument("--quick", action="store_true", help="a second a case instead of six")
    arguments = parser.parse_args()
    about = machine()
    sys.stdout.write(", ".join(f"{key} {value}" for key, value in about.items()) + "\n")
    rows = []
    for height, width, result, goal, goal_others in CASES:
        if arguments.image:
            with Image.open(arguments.image) as file:
                photo = file.convert("RGB").resize((width, height), Image.Resampling.LANCZOS)
            pixels = np.asarray(photo).copy()
        else:
            pixels = photograph(height, width)
        works, ours, theirs = contenders(pixels, result, arguments.threads)
        for name in ("native", "Pillow"):
            works[name]()
        refuse_difference(pixels, ours, theirs)
        times = medians(works, 1.0 if arguments.quick else 6.0)
        mine = times["native"]["median_ms"]
        rest = {name: time["median_ms"] for name, time in times.items() if name not in ("native", "Pillow")}
        best = min(rest, key=rest.__getitem__, default=None)
        ratio = times["Pillow"]["median_ms"] / mine
        line = f"{height}x{width} 16 qualities {result:8} native {mine:8.3f} ms, Pillow {ratio:5.1f}x"
        line += f" (goal {goal:.0f}x)" if goal else ""
        if best is not None:
            line += f", {best} {rest[best] / mine:5.1f}x" + (f" (goal {goal_others:.0f}x)" if goal_others else "")
        sys.stdout.write(line + "\n")
        sys.stdout.flush()
        rows.append(
            {"height": height, "width": width, "result": result, "threads": arguments.threads, "times": times}
            | {"pillow_ratio": ratio, "goal": goal, "best_other": best, "goal_other": goal_others}
            | {"best_other_ratio": None if best is None else rest[best] / mine}
        )
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps({"machine": about, "cases": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
