"""How long a verdict takes on this machine: `firewall bench`."""

from __future__ import annotations

import json
import os
import platform
import statistics
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from firewall import __version__
from firewall.frame import Frame, Pixels
from firewall.screening import Firewall, Stages

__all__ = ["BenchResult", "least_samples", "measure", "render"]

#: Samples under which a percentile may not be claimed: enough for it to be exceeded once with 99 % confidence.
_LEAST = {50: 10, 90: 64, 99: 662}


def least_samples(percentile: int) -> int:
    """How many samples a percentile (50, 90 or 99) needs before `render` prints it."""
    return _LEAST[percentile]


@dataclass(frozen=True)
class BenchResult:
    """Latencies in milliseconds of one verdict on one region: resize, classify, sweep, detect, decide; no capture.

    stages: stage -> share of the total time 0..1. samples_ms: all raw samples in the order taken.
    """

    machine: dict[str, Any]
    bundle: dict[str, str]
    image: str
    threads: int
    warm_up: int
    samples: int
    classified: float
    minimum: float
    mean: float
    p50: float
    p90: float | None
    p99: float | None
    maximum: float
    stages: dict[str, float]
    samples_ms: list[float]

    def to_json(self) -> str:
        """Indented JSON of all fields."""
        return json.dumps(asdict(self), indent=1)


def measure(
    firewall: Firewall,
    *,
    image: Pixels | None = None,
    samples: int = 700,
    warm_up: int = 50,
    threads: int = 0,
    progress: bool = True,
) -> BenchResult:
    """Time `samples` verdicts after `warm_up` that don't count, on `image` or on noise at the network's input size.

    Every detector is asked (no early verdict), so this is the longest way through the firewall.
    """
    spec = firewall.bundle.manifest.classifier.input
    name = "given image"
    if image is None:
        image = np.random.default_rng(0).integers(0, 256, (spec.height, spec.width, 3), np.uint8)
        name = f"noise {spec.width}x{spec.height}"
    exhaustive, firewall.exhaustive = firewall.exhaustive, True
    stages, latencies, classified = Stages(), [], []
    try:
        for number in track(
            range(-warm_up, samples), "measuring", disable=not progress, transient=True, console=Console(stderr=True)
        ):
            frame = Frame(image, "bench", max(number, 0), time.monotonic())
            spent = Stages()
            started = time.perf_counter()
            verdict = firewall.screen_frame(frame, stages=spent)[0]
            elapsed = time.perf_counter() - started
            if number >= 0:
                latencies.append(elapsed * 1e3)
                classified.append(verdict.classified)
                for stage, seconds in spent.items():
                    stages[stage] = stages.get(stage, 0.0) + seconds
    finally:
        firewall.exhaustive = exhaustive
    total = sum(latencies) / 1e3
    shares = {stage: seconds / total for stage, seconds in stages.items()}
    shares["other"] = max(0.0, 1.0 - sum(shares.values()))
    return BenchResult(
        machine=_machine(),
        bundle={
            "name": firewall.bundle.manifest.name,
            "sha256": firewall.bundle.sha256,
            "provider": firewall.engine.provider,
        },
        image=name,
        threads=threads or len(os.sched_getaffinity(0)),
        warm_up=warm_up,
        samples=samples,
        classified=statistics.fmean(classified),
        minimum=min(latencies),
        mean=statistics.fmean(latencies),
        p50=float(np.percentile(latencies, 50)),
        p90=float(np.percentile(latencies, 90)) if samples >= _LEAST[90] else None,
        p99=float(np.percentile(latencies, 99)) if samples >= _LEAST[99] else None,
        maximum=max(latencies),
        stages=shares,
        samples_ms=[round(value, 4) for value in latencies],
    )


def render(result: BenchResult, console: Console) -> None:
    """The result as tables for people."""
    console.print(
        f"{result.machine['label']}, {result.threads} threads, {result.bundle['provider']}, "
        f"bundle {result.bundle['name']}"
    )
    console.print(
        f"{result.samples} verdicts on {result.image} after {result.warm_up} to warm up, "
        f"{result.classified:g} images classified each"
    )
    table = Table(title="verdict latency, ms")
    figures = {
        "min": result.minimum,
        "mean": result.mean,
        "p50": result.p50,
        "p90": result.p90,
        "p99": result.p99,
        "max": result.maximum,
    }
    for name in figures:
        table.add_column(name, justify="right")
    table.add_row(*(f"{value:.2f}" if value is not None else "-" for value in figures.values()))
    console.print(table)
    for percentile, value in ((90, result.p90), (99, result.p99)):
        if value is None:
            console.print(f"p{percentile} needs at least {_LEAST[percentile]} samples (--samples)")
    shares = Table(title="share of the time")
    shares.add_column("stage")
    shares.add_column("share", justify="right")
    for stage, share in sorted(result.stages.items(), key=lambda item: -item[1]):
        shares.add_row(stage, f"{share:.1%}")
    console.print(shares)


def _machine() -> dict[str, Any]:
    model = Path("/proc/device-tree/model")
    board = model.read_bytes().rstrip(b"\0").decode(errors="replace") if model.exists() else ""
    jetson = "jetson" in board.lower()
    arch = platform.machine()
    return {
        "label": board if jetson else f"{arch} (not Jetson)",
        "board": board,
        "architecture": arch,
        "cores": os.cpu_count(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "firewall": __version__,
    }
