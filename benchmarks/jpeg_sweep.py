"""Speed of the native JPEG sweep against doing the same with Pillow and with the fast JPEG libraries, in one run.

python benchmarks/jpeg_sweep.py [--image PHOTO] [--json FILE] [--threads N] [--quick]

First it checks that the native sweep equals Pillow byte for byte; it measures nothing that is not equal. Then it takes
the contenders in turn, over and over, so that a busy moment of the machine hits all of them, and reports medians: one
thread unless said otherwise, results written to memory that was allocated before (a library that can't do that
allocates), resized by Pillow where the library has no exact equal. PyTurboJPEG, simplejpeg and OpenCV are measured
where they are installed, and work; simplejpeg with its defaults, whose faster DCT gives other pixels.

On a busy machine long runs are interrupted more often than short ones: "processor" is the quotient of the medians of
the time that the thread had a processor, which leaves interruptions out.

"fill" is the time to write the bytes of the result and nothing else. For numbers that gives a limit, which is reported:
the time of the sweep to bytes, with the writing of bytes exchanged for that of numbers and the conversion for nothing.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from machine import machine
from PIL import Image

from firewall import native
from firewall.transforms import SWEEP_16, resize
from firewall.transforms.jpeg import jpeg_sweep_reference

Pixels = npt.NDArray[np.uint8]
Work = Callable[[], object]

MEAN = np.array([0.485, 0.456, 0.406])
STD = np.array([0.229, 0.224, 0.225])
SCALE = (1.0 / (255.0 * STD)).astype(np.float32)[:, None, None]
SHIFT = (-MEAN / STD).astype(np.float32)[:, None, None]
QUALITIES = np.array(SWEEP_16, np.int32)

#: Side of a square that copies are resized to.
RESIZED = 48

#: height, width, result (resized, if it says so), goal as times Pillow's speed, goal as times that of the fastest other
#: library.
CASES: list[tuple[int, int, str, float | None, float | None]] = [
    (64, 64, "uint8", 35.0, 12.0),
    (224, 224, "uint8", 15.0, 10.0),
    (480, 640, "uint8", 12.0, None),
    (64, 64, "float32", None, None),
    (224, 224, "float32", 25.0, None),
    (224, 224, "float16", None, None),
    (480, 640, "float32", None, None),
    (224, 224, "uint8 resized", None, None),
    (224, 224, "float32 resized", None, None),
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


def contenders(pixels: Pixels, result: str, threads: int) -> tuple[dict[str, Work], dict[str, npt.NDArray[Any]]]:
    """The work of each contender, and the results of those that must be equal, filled once they have run."""
    runtime = native.load()
    dtype, _, resized = result.partition(" ")
    size = (RESIZED, RESIZED) if resized else None
    height, width = size or pixels.shape[:2]
    copies = np.zeros((len(QUALITIES), height, width, 3), np.uint8)
    shape = copies.shape if dtype == "uint8" else (len(QUALITIES), 3, height, width)
    theirs, rest, filled = (np.zeros(shape, dtype) for _ in range(3))
    results: dict[str, npt.NDArray[Any]] = {"Pillow": theirs}

    def by_native(count: int) -> Work:
        ours = np.zeros(shape, dtype)
        results["native" if count == 1 else f"native, {count} threads"] = ours
        resampling = int(Image.Resampling.BILINEAR) if resized else None
        if dtype == "uint8":
            return lambda: runtime.jpeg_sweep(pixels, QUALITIES, 2, ours, count, resampling)
        sweep = getattr(runtime, f"jpeg_sweep_{dtype}")
        return lambda: sweep(pixels, QUALITIES, 2, MEAN, STD, ours, count, resampling)

    def by_pillow() -> None:
        jpeg_sweep_reference(pixels, SWEEP_16, size=size, out=theirs if dtype == "uint8" else copies)
        if dtype != "uint8":
            normalised(copies, theirs)

    def by_library(library: Callable[[Pixels, int], Pixels]) -> Work:
        def work() -> None:
            for slot, quality in zip(rest if dtype == "uint8" else copies, SWEEP_16, strict=True):
                copy = library(pixels, quality)
                slot[...] = resize(copy, width, height) if resized else copy
            if dtype != "uint8":
                normalised(copies, rest)

        return work

    found = {"native": by_native(1)}
    if threads > 1:
        found[f"native, {threads} threads"] = by_native(threads)
    found.update({"Pillow": by_pillow, "fill": lambda: filled.fill(0)})
    found.update({name: by_library(library) for name, library in others().items()})
    return found, results


def short(name: str) -> bool:
    """Whether this is one of ours, which takes no time beside a loop of another library."""
    return name.startswith("native") or name == "fill"


def medians(works: dict[str, Work], seconds: float) -> dict[str, dict[str, float]]:
    """Milliseconds of each, taken in turn for about `seconds`."""
    samples: dict[str, list[float]] = {name: [] for name in works}
    processor: dict[str, list[float]] = {name: [] for name in works}
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(samples["Pillow"]) < 7:
        for name, work in works.items():
            # A short run beside long ones: five in a row, or it would be measured with the caches of the others.
            for _ in range(5 if short(name) else 1):
                start, busy = time.perf_counter(), time.thread_time()
                work()
                processor[name].append(1e3 * (time.thread_time() - busy))
                samples[name].append(1e3 * (time.perf_counter() - start))
    return {
        name: {
            "median_ms": statistics.median(times),
            "p90_ms": float(np.percentile(times, 90)),
            "p99_ms": float(np.percentile(times, 99)),
            "slowest_ms": max(times),
            "fastest_ms": min(times),
            "processor_ms": statistics.median(processor[name]),  # of the calling thread
            "samples": len(times),
        }
        for name, times in samples.items()
    }


def refuse_difference(pixels: Pixels, results: dict[str, npt.NDArray[Any]]) -> None:
    """Stop unless all are the same to the last bit."""
    for name, ours in results.items():
        if not np.array_equal(ours, results["Pillow"]):
            wrong = int(np.count_nonzero(ours != results["Pillow"]))
            sys.exit(f"{name}: the sweep of {pixels.shape} differs from Pillow's in {wrong} of {ours.size} numbers")


def limit(numbers: dict[str, dict[str, float]], sweep_to_bytes: dict[str, dict[str, float]]) -> float:
    """How many times Pillow's speed a sweep to numbers would have if it only wrote more than one to bytes does."""
    pillow, fill = (numbers[name]["processor_ms"] for name in ("Pillow", "fill"))
    return pillow / (sweep_to_bytes["native"]["processor_ms"] - sweep_to_bytes["fill"]["processor_ms"] + fill)


def versions() -> dict[str, str]:
    """Of numpy and of the other libraries."""
    usable = others()
    found = {"numpy": np.__version__}
    for name, package in (
        ("simplejpeg", "simplejpeg"),
        ("PyTurboJPEG", "PyTurboJPEG"),
        ("cv2", "opencv-python-headless"),
    ):
        found[name] = importlib.metadata.version(package) if name in usable else "not usable here"
    return found


def main() -> None:
    """Measure all cases and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--image", type=Path, help="photograph to use instead of a made one")
    parser.add_argument("--json", type=Path, help="write the numbers to this file")
    parser.add_argument("--threads", type=int, default=1, help="measure the native sweep with so many, too")
    parser.add_argument("--quick", action="store_true", help="a second a case instead of six")
    arguments = parser.parse_args()
    about = {**machine(), **versions()}
    sys.stdout.write(", ".join(f"{key} {value}" for key, value in about.items()) + "\n")
    rows: list[dict[str, Any]] = []
    for height, width, result, goal, goal_others in CASES:
        if arguments.image:
            with Image.open(arguments.image) as file:
                photo = file.convert("RGB").resize((width, height), Image.Resampling.LANCZOS)
            pixels = np.asarray(photo).copy()
        else:
            pixels = photograph(height, width)
        works, results = contenders(pixels, result, arguments.threads)
        for name in results:
            works[name]()
        refuse_difference(pixels, results)
        times = medians(works, 1.0 if arguments.quick else 6.0)
        mine = times["native"]["median_ms"]
        rest = {name: time["median_ms"] for name, time in times.items() if not short(name) and name != "Pillow"}
        best = min(rest, key=rest.__getitem__, default=None)
        ratio = times["Pillow"]["median_ms"] / mine
        line = (
            f"{height}x{width} 16 qualities {result:15} native {mine:8.3f} ms (fill {times['fill']['median_ms']:.3f})"
        )
        processor = times["Pillow"]["processor_ms"] / times["native"]["processor_ms"]
        line += f", Pillow {ratio:5.1f}x, processor {processor:5.1f}x"
        line += f" (goal {goal:.0f}x)" if goal else ""
        if best is not None:
            processor_best = times[best]["processor_ms"] / times["native"]["processor_ms"]
            line += f", {best} {rest[best] / mine:5.1f}x, processor {processor_best:5.1f}x" + (
                f" (goal {goal_others:.0f}x)" if goal_others else ""
            )
        to_bytes = [
            row["times"] for row in rows if (row["height"], row["width"], row["result"]) == (height, width, "uint8")
        ]
        most = limit(times, to_bytes[0]) if to_bytes and result.startswith("float") and " " not in result else None
        line += f", limit {most:.1f}x" if most else ""
        if arguments.threads > 1:
            more = f"{arguments.threads} threads"
            line += f"; {more} {mine / times[f'native, {more}']['median_ms']:.2f}x"
        sys.stdout.write(line + "\n")
        sys.stdout.flush()
        rows.append(
            {"height": height, "width": width, "result": result, "times": times}
            | {
                "pillow_ratio": ratio,
                "pillow_ratio_of_processor_time": processor,
                "limit_of_processor_time": most,
                "goal": goal,
                "best_other": best,
                "goal_other": goal_others,
            }
            | {"best_other_ratio": None if best is None else rest[best] / mine}
        )
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps({"machine": about, "cases": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
