"""Where the time of a frame goes on one core: finder, resize, classifier, jury, sweep, masks, policy, sinks.

    python benchmarks/where_time_goes.py --data DATA [--against CHECKOUT] [--within PART] [--masks] [--json FILE]
        [--flame FILE.svg]

DATA: folder of GTSDB, whose frames of 1360x800 are taken as they are, and enlarged to 1920x1080. Everything is on but
stickers; `--masks` turns those on. One thread; what is counted is its processor time, so that what else the machine
does counts less. `--against CHECKOUT` runs each frame by another checkout (its `.venv`) too, in turns, and gives the
medians of the ratios of the pairs, and how many verdicts are the same; `--within X,Y,W,H` does so for a part of each
frame and whole frames. `--flame` draws what Python's stack was, sampled
once a millisecond: each box is as wide as its share of the processor time; native code counts for its caller.
"""

from __future__ import annotations

import argparse
import html
import json
import os
import statistics
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
from checkout import Worker

from firewall import Firewall
from firewall.bundle import PatchSpec, load_bundle
from firewall.decision import look
from firewall.engines import open_engine
from firewall.frame import Frame, Pixels
from firewall.lab.datasets.gtsdb import scenes_of_pack
from firewall.regions.sign_finder import SignFinder
from firewall.sinks.json_lines import JsonLines
from firewall.sinks.report import FrameReport

SIZES = ((1360, 800), (1920, 1080))
_WIDTH, _LINE = 960, 15  # of the flame graph, in pixels


def main() -> None:
    """Measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--frames", type=int, default=60)
    parser.add_argument("--against", type=Path, help="another checkout")
    parser.add_argument(
        "--within", help="X,Y,W,H: only this part of each frame is looked at; whole frames in turns, unless --against"
    )
    parser.add_argument("--masks", action="store_true", help="stickers of 2 %% too")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--flame", type=Path)
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        Subject(arguments).serve()
        return
    from machine import machine

    result: dict[str, Any] = {"machine": machine(), "frames": arguments.frames, "masks": arguments.masks, "sizes": {}}
    here = Path(__file__).parents[1]
    other = arguments.against or (here if arguments.within else None)
    workers = {"here": worker(here, arguments, arguments.within)}
    if other is not None:
        workers["against"] = worker(other, arguments)
    if arguments.within:
        result["within"] = arguments.within
    for size in SIZES:
        rows: dict[str, list[dict[str, Any]]] = {name: [] for name in workers}
        for number in range(-3, arguments.frames):  # the first three warm up
            names = list(workers) if number % 2 else list(workers)[::-1]
            for name in names:
                answer = workers[name].ask([*size, max(number, 0)])
                if number >= 0:
                    rows[name].append(answer)
        result["sizes"]["x".join(map(str, size))] = table(rows)
    if arguments.flame is not None:
        arguments.flame.write_text(flame(Subject(arguments)), encoding="utf-8")
    sys.stdout.write(json.dumps(result, indent=1) + "\n")
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def worker(checkout: Path, arguments: argparse.Namespace, within: str | None = None) -> Worker:
    """This file, run by a checkout's own Python."""
    options = ["--data", str(arguments.data.resolve()), "--worker", *(["--masks"] if arguments.masks else [])]
    return Worker(checkout, __file__, [*options, *(["--within", within] if within else [])])


class Subject:
    """The firewall of the checkout that runs this, and what it is shown."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        # Stages are counted in processor time of this thread.
        look.time = SimpleNamespace(perf_counter=time.thread_time, monotonic=time.monotonic)  # type: ignore[assignment]
        bundle = load_bundle()
        patches = PatchSpec(area=0.02) if arguments.masks else None
        self._guard = Firewall(bundle, open_engine(bundle, threads=1), threads=1, patches=patches)
        self._finder: Any = SignFinder.of(bundle, threads=1)
        if arguments.within:  # which another checkout may not know
            from firewall.config import Part
            from firewall.regions import looking_within

            self._finder = looking_within(self._finder, Part.parse(arguments.within), "signs")
        self._scenes = scenes_of_pack(arguments.data / "gtsdb_train.npz")
        self._sink = JsonLines.append(Path(os.devnull), operator=True)

    def pixels(self, width: int, height: int, number: int) -> Pixels:
        """A frame; each number another, ten apart, so that many places are seen."""
        frame = np.ascontiguousarray(self._scenes.frames[10 * number % len(self._scenes)])
        if frame.shape[:2] == (height, width):
            return frame
        return np.asarray(cv2.resize(frame, (width, height), interpolation=cv2.INTER_LINEAR), np.uint8)

    def run(self, pixels: Pixels) -> dict[str, Any]:
        """Judge a frame."""
        spent, started = look.Stages(), time.thread_time()
        with spent.timed("finder"):
            regions = self._finder.find(pixels)
        frame = Frame(pixels, "test", 0, time.monotonic())
        verdicts = self._guard.screen_frame(frame, regions, stages=spent)
        with spent.timed("sinks"):
            self._sink.report(FrameReport(frame, verdicts, spent))
        total = time.thread_time() - started
        times = {stage: 1e3 * seconds for stage, seconds in spent.items()}
        times["other"] = 1e3 * total - sum(times.values())
        said = [[list(each.region), each.released, each.label, str(each.reason)] for each in verdicts]
        return {"total": 1e3 * total, "stages": times, "regions": len(regions), "verdicts": said}

    def serve(self) -> None:
        """Answer what is asked on standard input."""
        for line in sys.stdin:
            sys.stdout.write(json.dumps(self.run(self.pixels(*json.loads(line)))) + "\n")
            sys.stdout.flush()


def table(rows: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Milliseconds a frame, by stage, and what a region costs: the slope of the time without the finder."""
    found: dict[str, Any] = {}
    for name, answers in rows.items():
        total = [answer["total"] for answer in answers]
        stages = dict.fromkeys(stage for answer in answers for stage in answer["stages"])
        found[name] = {
            "ms": spread(total),
            "stages_mean": {s: statistics.mean(a["stages"].get(s, 0.0) for a in answers) for s in stages},
            "regions": statistics.mean(answer["regions"] for answer in answers),
            "by_regions": {
                str(count): statistics.mean(values)
                for count in sorted({answer["regions"] for answer in answers})
                if (values := [a["total"] - a["stages"]["finder"] for a in answers if a["regions"] == count])
            },
        }
    if "against" in rows:
        pairs = list(zip(rows["against"], rows["here"], strict=True))
        seen = [pair for pair in pairs if pair[0]["regions"]]
        found["verdicts_equal"] = sum(a["verdicts"] == b["verdicts"] for a, b in pairs) / len(pairs)
        found["ratio"] = {"frame": statistics.median(a["total"] / b["total"] for a, b in pairs)}
        found["ratio"]["finder"] = statistics.median(a["stages"]["finder"] / b["stages"]["finder"] for a, b in pairs)
        found["less_ms"] = {
            "frame": resampled([a["total"] - b["total"] for a, b in pairs]),
            "finder": resampled([a["stages"]["finder"] - b["stages"]["finder"] for a, b in pairs]),
        }
        found["ratio"]["screening"] = statistics.median(
            (a["total"] - a["stages"]["finder"]) / (b["total"] - b["stages"]["finder"]) for a, b in seen
        )
        for stage in ("resize", "classify", "detect", "policy", "masks"):
            values = [a["stages"][stage] / b["stages"][stage] for a, b in seen if a["stages"].get(stage, 0) > 0.01]
            if values:
                found["ratio"][stage] = statistics.median(values)
    return found


def resampled(values: list[float]) -> dict[str, Any]:
    """Mean, and its 95 % interval by drawing frames again (percentiles of 10,000 draws)."""
    drawn = np.random.default_rng(0).choice(np.array(values), (10_000, len(values))).mean(axis=1)
    return {"mean": statistics.mean(values), "ci95": [float(end) for end in np.percentile(drawn, (2.5, 97.5))]}


def spread(values: list[float]) -> dict[str, float]:
    """Mean and percentiles."""
    return {"mean": statistics.mean(values), **{f"p{p}": float(np.percentile(values, p)) for p in (50, 90, 99)}}


def flame(subject: Subject) -> str:
    """A flame graph of frames of 1360x800 that have signs, as SVG."""
    frames = [subject.pixels(*SIZES[0], number) for number in range(20)]
    folded: Counter[tuple[str, ...]] = Counter()
    stop, watched = threading.Event(), threading.get_ident()
    clock = time.pthread_getcpuclockid(watched)

    def sample() -> None:
        before = time.clock_gettime_ns(clock)
        while not stop.wait(0.001):
            stack, frame = [], sys._current_frames().get(watched)
            while frame is not None:
                code = frame.f_code
                if "firewall" in code.co_filename or "onnxruntime" in code.co_filename:
                    stack.append(getattr(code, "co_qualname", code.co_name))
                frame = frame.f_back
            now = time.clock_gettime_ns(clock)
            folded[tuple(reversed(stack))] += now - before
            before = now

    watcher = threading.Thread(target=sample)
    watcher.start()
    for _ in range(3):
        for pixels in frames:
            subject.run(pixels)
    stop.set()
    watcher.join()
    return svg(folded)


def svg(folded: Counter[tuple[str, ...]]) -> str:
    """Boxes, the root at the top; what is narrower than 4 pixels is left out."""
    total, boxes = sum(folded.values()), []
    deepest = 0

    def draw(prefix: tuple[str, ...], left: float) -> None:
        nonlocal deepest
        depth = len(prefix)
        children: Counter[str] = Counter()
        for stack, time_ in folded.items():
            if stack[:depth] == prefix and len(stack) > depth:
                children[stack[depth]] += time_
        for name, time_ in children.most_common():
            wide = _WIDTH * time_ / total
            if wide >= 4:
                deepest = max(deepest, depth)
                label = name.rpartition("<locals>.")[2]
                shown = html.escape(label[: int(wide / 6.4)]) if wide > 24 else ""
                colour = f"hsl({20 + 4 * depth % 30},80%,{72 + 3 * (depth % 4)}%)"
                boxes.append(
                    f'<g><title>{html.escape(label)} {100 * time_ / total:.1f} %</title><rect x="{left:.1f}" '
                    f'y="{_LINE * depth}" width="{wide:.1f}" height="{_LINE - 1}" fill="{colour}"/>'
                    f'<text x="{left + 2:.1f}" y="{_LINE * depth + 11}">{shown}</text></g>'
                )
                draw((*prefix, name), left)
            left += wide

    draw((), 0.0)
    high = _LINE * (deepest + 1)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {high}" font-family="monospace" '
        'font-size="10">\n' + "\n".join(boxes) + "\n</svg>\n"
    )


if __name__ == "__main__":
    main()
