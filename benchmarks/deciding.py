"""What deciding costs beside networks and pixels: milliseconds a frame, by the number of its regions.

    python benchmarks/deciding.py --data DATA [--against CHECKOUT] [--json FILE] [--profile]

DATA: folder of GTSDB, whose signs are put on a grey frame of 1360x800, so many of them; default bundle, one thread.
Each frame is judged twice: as it is, and with the networks', copies' and detectors' answers of that time stored, so
that only what surrounds them is left (then with warm caches, which a camera never has). Times of a frame:

    policy    the stage of this name: what settles a verdict, and the verdict
    between   what lies between the stages
    python    all but networks (native or ONNX Runtime) and pixels (native operations, contrast, bytes to floats)
    stored    the whole of the second pass

All is processor time of the thread, so that what else the machine does counts less; what the stages' own clock takes is
subtracted. `--against CHECKOUT` has another checkout (its `.venv`) judge each frame
too, in turns: medians of both, medians of the ratios of the pairs, and for how many frames the verdicts are equal, all
of them but latency, bit by bit. `--profile` prints where Python spends the stored pass.
"""

from __future__ import annotations

import argparse
import cProfile
import json
import pstats
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from checkout import Worker

from firewall import Firewall, native
from firewall.bundle import load_bundle
from firewall.decision import look
from firewall.decision.look import Stages
from firewall.detectors import contrast, juror
from firewall.engines import onnx_runtime, open_engine
from firewall.engines.small_network import SmallNetwork
from firewall.frame import Frame, Pixels, Region
from firewall.lab.datasets.gtsdb import scenes_of_pack
from firewall.transforms import crops, runtime
from firewall.verdict import Verdict

COUNTS = (1, 2, 4, 8)
WIDTH, HEIGHT = 1360, 800


def main() -> None:
    """Measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--frames", type=int, default=100)
    parser.add_argument("--against", type=Path, help="another checkout")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        Subject(arguments.data).serve()
        return
    if arguments.profile:
        Subject(arguments.data).profile()
        return
    from machine import machine

    checkouts = {"here": Path(__file__).parents[1], "against": arguments.against}
    workers = {
        name: Worker(path, __file__, ["--data", str(arguments.data.resolve()), "--worker"])
        for name, path in checkouts.items()
        if path is not None
    }
    result: dict[str, Any] = {"machine": machine(), "frames": arguments.frames, "regions": {}}
    for count in COUNTS:
        rows: dict[str, list[dict[str, Any]]] = {name: [] for name in workers}
        for number in range(-3, arguments.frames):  # the first three warm up
            for name in list(workers)[:: 1 if number % 2 else -1]:
                answer = workers[name].ask([count, max(number, 0)])
                if number >= 0:
                    rows[name].append(answer)
        result["regions"][str(count)] = table(rows)
    sys.stdout.write(json.dumps(result, indent=1) + "\n")
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def table(rows: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Medians, and of pairs the medians of their ratios."""
    found: dict[str, Any] = {}
    for name, answers in rows.items():
        found[name] = {key: statistics.median(a["ms"][key] for a in answers) for key in answers[0]["ms"]}
    if "against" in rows:
        pairs = list(zip(rows["against"], rows["here"], strict=True))
        found["ratio"] = {
            key: statistics.median(a["ms"][key] / b["ms"][key] for a, b in pairs) for key in found["here"]
        }
        found["verdicts_equal"] = sum(a["verdicts"] == b["verdicts"] for a, b in pairs)
    found["released"] = statistics.mean(sum('"released": true' in v for v in a["verdicts"]) for a in rows["here"])
    return found


class Subject:
    """The firewall of the checkout that runs this, and what it is shown."""

    def __init__(self, data: Path) -> None:
        self._beside = 0.0  # seconds in networks and pixels
        look.time = SimpleNamespace(perf_counter=time.thread_time, monotonic=time.monotonic)  # type: ignore[assignment]
        self._inner, self._outer = clock_costs()
        self._watch()
        bundle = load_bundle()
        self._guard = Firewall(bundle, open_engine(bundle, threads=1), threads=1)
        signs = scenes_of_pack(data / "gtsdb_train.npz").signs().images
        self._signs = [np.ascontiguousarray(sign[:300, :300]) for sign in signs if min(sign.shape[:2]) >= 24]

    def _watch(self) -> None:
        """Have the time in networks and pixels counted. The native module's functions stand in a copy of it."""
        plain = native.load()
        pixels = (
            "crops",
            "gaussian_blur",
            "jpeg_sweep",
            "jpeg_sweep_normalised",
            "residual",
            "rotate",
            "scale",
            "tensor",
        )
        watched = {name: self._timed(getattr(plain, name)) for name in pixels if hasattr(plain, name)}
        module = SimpleNamespace(**{**vars(plain), **watched})
        runtime._loaded = lambda: module
        for owner, name in (
            (SmallNetwork, "run"),
            (onnx_runtime.ort.InferenceSession, "run"),
            (juror, "shares_of"),
            (contrast, "contrast"),
        ):
            setattr(owner, name, self._timed(getattr(owner, name)))

    def _timed(self, call: Callable[..., Any]) -> Callable[..., Any]:
        clock = time.thread_time

        def timed(*given: Any, **named: Any) -> Any:
            started = clock()
            try:
                return call(*given, **named)
            finally:
                self._beside += clock() - started

        return timed

    def frame(self, count: int, number: int) -> tuple[Pixels, list[Region]]:
        """So many signs on grey; each number others."""
        pixels = np.full((HEIGHT, WIDTH, 3), 128, np.uint8)
        regions = []
        for place in range(count):
            sign = self._signs[(7 * number + 31 * place) % len(self._signs)]
            left, top, (height, width) = 10 + 330 * (place % 4), 10 + 400 * (place // 4), sign.shape[:2]
            pixels[top : top + height, left : left + width] = sign
            regions.append((left, top, width, height))
        return pixels, regions

    def run(self, count: int, number: int) -> dict[str, Any]:
        """Judge a frame twice."""
        pixels, regions = self.frame(count, number)
        frame, spent, self._beside = Frame(pixels, "test", number, time.monotonic()), Stages(), 0.0
        started = time.thread_time()
        verdicts = self._guard.screen_frame(frame, regions, stages=spent)
        total, beside = time.thread_time() - started, self._beside
        counted = Counted()
        self._guard.screen_frame(frame, regions, stages=counted)
        stored = Stored(self._guard, verdicts, pixels, regions)
        kept = [stored.run(frame, regions) for _ in range(5)]
        if [(v.released, v.scores) for v in kept[-1][1]] != [(v.released, v.scores) for v in verdicts]:
            raise SystemExit(f"stored answers gave other verdicts in frame {number} with {count} regions")
        times = {
            "policy": spent["policy"] - counted.entered["policy"] * self._inner,
            "between": total - sum(spent.values()) - counted.entered.total() * self._outer,
            "python": total - beside - counted.entered.total() * (self._inner + self._outer),
            "stored": statistics.median(seconds for seconds, _ in kept),
            "all": total,
        }
        return {"ms": {name: 1e3 * seconds for name, seconds in times.items()}, "verdicts": [told(v) for v in verdicts]}

    def serve(self) -> None:
        """Answer what is asked on standard input."""
        for line in sys.stdin:
            sys.stdout.write(json.dumps(self.run(*json.loads(line))) + "\n")
            sys.stdout.flush()

    def profile(self) -> None:
        """Where Python spends the stored pass of four regions."""
        pixels, regions = self.frame(4, 0)
        frame = Frame(pixels, "test", 0, time.monotonic())
        stored = Stored(self._guard, self._guard.screen_frame(frame, regions), pixels, regions)
        profiler = cProfile.Profile()
        profiler.enable()
        for _ in range(1000):
            stored.run(frame, regions)
        profiler.disable()
        pstats.Stats(profiler).sort_stats("tottime").print_stats(40)


class Counted(Stages):
    """Counts how often each stage is entered."""

    def __init__(self) -> None:
        super().__init__()
        self.entered: Counter[str] = Counter()

    def timed(self, stage: str) -> AbstractContextManager[None]:
        """As Stages.timed."""
        self.entered[stage] += 1
        return super().timed(stage)


def clock_costs() -> tuple[float, float]:
    """Seconds that an empty stage adds to itself, and to what surrounds it."""
    spent, count = Stages(), 20_000
    started = time.thread_time()
    for _ in range(count):
        with spent.timed("empty"):
            pass
    whole = time.thread_time() - started
    return spent["empty"] / count, (whole - spent["empty"]) / count


class Stored:
    """A firewall whose networks and detectors answer from memory; see `run`."""

    def __init__(self, guard: Firewall, verdicts: list[Verdict], pixels: Pixels, regions: list[Region]) -> None:
        self._guard, size = guard, guard.bundle.manifest.classifier.input
        images = crops(pixels, regions, size.width, size.height)
        logits = guard.engine.classify(images)
        copies = np.zeros((200, logits.shape[1]), np.float32)
        #: The logits' first number -> the region's scores: it tells regions apart, and costs nothing to ask.
        scores = {row.item(0): verdict.scores for row, verdict in zip(logits, verdicts, strict=True)}
        self._answers = {
            "engine": SimpleNamespace(classify=lambda _: logits),
            "copies": SimpleNamespace(classify=lambda _image, operations, _timed: copies[: len(operations)]),
            "detectors": [
                SimpleNamespace(
                    name=detector.name,
                    operations=detector.operations,
                    score=lambda evidence, name=detector.name: scores[evidence.logits.item(0)][name],
                )
                for detector in guard.detectors
            ],
        }

    def run(self, frame: Frame, regions: list[Region]) -> tuple[float, list[Verdict]]:
        """Seconds and verdicts."""
        guard = self._guard
        before = {name: getattr(guard, name) for name in self._answers}
        for name, answer in self._answers.items():
            setattr(guard, name, answer)
        try:
            started = time.thread_time()
            verdicts = guard.screen_frame(frame, regions)
            return time.thread_time() - started, verdicts
        finally:
            for name, answer in before.items():
                setattr(guard, name, answer)


def told(verdict: Verdict) -> str:
    """All of a verdict but how long it took, with numbers to the last bit."""
    fields = {
        name: getattr(verdict, name) for name in Verdict.__dataclass_fields__ if name not in ("latency_ms", "stamp")
    }
    return json.dumps(fields, default=str, sort_keys=True)


if __name__ == "__main__":
    main()
