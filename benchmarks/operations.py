"""How much faster the native runtime does the 38 operations than Pillow does, one thread, in one run.

    python benchmarks/operations.py [--json FILE] [--rounds N] [--sizes 224 48]

The bytes are compared first: nothing is timed that is not equal. Both sides start from one uint8 image and fill one
array of copies that is allocated before; each round times Pillow and the runtime one after the other, so that a busy
machine slows both. A ratio is the quotient of the medians. On a busy machine long rounds are interrupted more often
than short ones: "processor" is the same quotient of the time that the thread had a processor, which leaves that out.
"""

from __future__ import annotations

import argparse
import io
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
from PIL import Image, ImageFilter

from firewall import native
from firewall.transforms import OPERATIONS_38, apply_operations, residual

Pixels = npt.NDArray[np.uint8]

GOAL_38 = 8.0  # at 224x224


def by_pillow(pixels: Pixels, operations: tuple[str, ...], out: Pixels) -> None:
    """The operations one after the other, as a program with nothing but Pillow does them."""
    height, width = pixels.shape[:2]
    image = Image.fromarray(pixels)
    for slot, operation in zip(out, operations, strict=True):
        family, _, text = operation.partition(":")
        if family == "jpeg":
            file = io.BytesIO()
            image.save(file, "JPEG", quality=int(text), subsampling=2)
            slot[...] = np.asarray(Image.open(file))
        elif family == "blur":
            slot[...] = np.asarray(image.filter(ImageFilter.GaussianBlur(float(text))))
        elif family == "rotate":
            slot[...] = np.asarray(image.rotate(float(text)))
        else:
            scaled = image.resize((int(width * float(text)), int(height * float(text))), Image.Resampling.BICUBIC)
            if scaled.width >= width:
                left, top = (scaled.width - width) // 2, (scaled.height - height) // 2
                slot[...] = np.asarray(scaled)[top : top + height, left : left + width]
            else:
                left, top = (width - scaled.width) // 2, (height - scaled.height) // 2
                slot[...] = 0
                slot[top : top + scaled.height, left : left + scaled.width] = np.asarray(scaled)


def residual_by_pillow(pixels: Pixels, out: npt.NDArray[np.int16]) -> None:
    """The residual at a compression rate of 5 %."""
    image = Image.fromarray(pixels)
    side = 0.95**0.5
    small = image.resize((int(image.width * side), int(image.height * side)), Image.Resampling.BOX)
    out[...] = pixels.astype(np.int16) - np.asarray(small.resize(image.size, Image.Resampling.BILINEAR))


def photograph(side: int) -> Pixels:
    """A picture with smooth areas, edges and a little noise, the same in every run."""
    random = np.random.default_rng(side)
    coarse = Image.fromarray(random.integers(0, 256, (side // 12, side // 12, 3), np.uint8))
    smooth = np.asarray(coarse.resize((side, side), Image.Resampling.BICUBIC)).astype(np.int16)
    pixels: Pixels = np.clip(smooth + random.integers(-6, 7, smooth.shape), 0, 255).astype(np.uint8)
    return pixels


def times(functions: list[Callable[[], object]], rounds: int) -> list[tuple[list[float], list[float]]]:
    """Milliseconds of each function, and of its processor, called in turn, after one call that isn't counted."""
    for function in functions:
        function()
    taken: list[tuple[list[float], list[float]]] = [([], []) for _ in functions]
    for _ in range(rounds):
        for function, (series, processor) in zip(functions, taken, strict=True):
            start, busy = time.perf_counter(), time.thread_time()
            function()
            processor.append(1e3 * (time.thread_time() - busy))
            series.append(1e3 * (time.perf_counter() - start))
    return taken


def compare(
    name: str, side: int, reference: Callable[[], object], ours: Callable[[], object], rounds: int
) -> dict[str, Any]:
    """One row of the result."""
    slow, fast = times([reference, ours], rounds)
    percentiles = {
        key: {
            "p50": statistics.median(series),
            "p90": float(np.percentile(series, 90)),
            "p99": float(np.percentile(series, 99)),
            "max": max(series),
            "min": min(series),
            "processor_p50": statistics.median(processor),
        }
        for key, (series, processor) in (("pillow_ms", slow), ("native_ms", fast))
    }
    ratio = percentiles["pillow_ms"]["p50"] / percentiles["native_ms"]["p50"]
    processor = percentiles["pillow_ms"]["processor_p50"] / percentiles["native_ms"]["processor_p50"]
    ratios = {"ratio": ratio, "ratio_of_processor_time": processor}
    return {"work": name, "side": side, "rounds": rounds, **ratios, **percentiles}


def rows_of(side: int, rounds: int) -> list[dict[str, Any]]:
    """Every family, the 22 operations that are not JPEG, all 38, and the residual, at one size."""
    pixels = photograph(side)
    work = {
        family: tuple(o for o in OPERATIONS_38 if o.startswith(family))
        for family in ("jpeg", "blur", "rotate", "scale")
    }
    work["22 without jpeg"] = OPERATIONS_38[16:]
    work["38 operations"] = OPERATIONS_38
    rows = []
    for name, operations in work.items():
        expected = np.empty((len(operations), *pixels.shape), np.uint8)
        got = np.empty_like(expected)
        by_pillow(pixels, operations, expected)
        apply_operations(pixels, operations, out=got)
        if not np.array_equal(expected, got):
            raise SystemExit(f"{name} at {side}x{side}: the runtime's bytes are not Pillow's; nothing was timed")
        rows.append(
            compare(
                name,
                side,
                lambda operations=operations, out=expected: by_pillow(pixels, operations, out),  # type: ignore[misc]
                lambda operations=operations, out=got: apply_operations(pixels, operations, out=out),  # type: ignore[misc]
                rounds,
            )
        )
    lost = np.empty(pixels.shape, np.int16)
    residual_by_pillow(pixels, lost)
    if not np.array_equal(lost, residual(pixels, 0.05)):
        raise SystemExit(f"residual at {side}x{side}: the runtime's values are not Pillow's; nothing was timed")
    mine = np.empty_like(lost)
    rows.append(
        compare(
            "residual", side, lambda: residual_by_pillow(pixels, lost), lambda: residual(pixels, 0.05, out=mine), rounds
        )
    )
    return rows


def main() -> None:
    """Compare, time, print a table and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers here")
    parser.add_argument("--rounds", type=int, default=60, help="timed calls of each kind (default 60)")
    parser.add_argument(
        "--sizes", type=int, nargs="+", default=[224, 48], help="sides of the square images (default 224 48)"
    )
    arguments = parser.parse_args()
    has_jpeg = hasattr(native.load(), "jpeg_sweep")
    results = [row for side in arguments.sizes for row in rows_of(side, arguments.rounds)]
    where = {**machine(), "native_jpeg": has_jpeg}
    lines = [json.dumps(where), "" if has_jpeg else "This runtime has no JPEG sweep: Pillow does JPEG on both sides."]
    lines.append(f"{'work':>16} {'size':>9} {'Pillow ms':>10} {'native ms':>10} {'ratio':>7} {'processor':>9}")
    for row in results:
        size = f"{row['side']}x{row['side']}"
        slow, fast = row["pillow_ms"]["p50"], row["native_ms"]["p50"]
        goal = f"  goal {GOAL_38:g}" if row["work"] == "38 operations" and row["side"] == 224 else ""
        numbers = f"{slow:>10.3f} {fast:>10.3f} {row['ratio']:>7.1f} {row['ratio_of_processor_time']:>9.1f}"
        lines.append(f"{row['work']:>16} {size:>9} {numbers}{goal}")
    sys.stdout.write("\n".join(lines) + "\n")
    if arguments.json:
        arguments.json.write_text(json.dumps({"machine": where, "results": results}, indent=2) + "\n")


if __name__ == "__main__":
    main()
