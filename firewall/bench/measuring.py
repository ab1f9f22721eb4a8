"""The whole benchmark, part after part; what has been measured until an interruption is kept."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress

from firewall.bench.cold_start import cold_starts, gpu_memory, middle
from firewall.bench.device_times import device_times
from firewall.bench.fixed_rate import FixedRateRun
from firewall.bench.full_rate import FullRateRun
from firewall.bench.inputs import Inputs
from firewall.bench.jetson import Jetson, changes, look
from firewall.bench.machine import NOT_A_JETSON, describe, peak_memory
from firewall.bench.power import Meter, source
from firewall.bench.report import ColdStart, DeviceTimes, Energy, FixedRate, FullRate, Memory, Report
from firewall.bench.subjects import INSIDE, OUTSIDE, Guarded, Subject, Unguarded
from firewall.engines import what_runs
from firewall.engines.sessions import threads_of
from firewall.frame import Pixels
from firewall.regions import build
from firewall.screening import Firewall

__all__ = ["FPS", "Plan", "measure"]

#: Cameras' rates, in frames a second.
FPS = (10.0, 30.0, 60.0)
_ROOT = Path("/")


@dataclass(frozen=True)
class Plan:
    """What is to be measured.

    Attributes:
        bundle: The bundle, as the firewall was loaded with it; so are the next four.
        trust: File of public keys.
        allow_unsigned: Whether an unsigned bundle may be used.
        device: "cpu", "cuda" or "tensorrt".
        threads: Threads on the processor; 0 = one for each core.
        cores: What the process was pinned to, see firewall.host.pinning; None: nothing.
        regions: Where to look, as of `firewall serve`.
        exhaustive: Ask every detector, even if the verdict is settled.
        samples: Frames of each kind, with and without the firewall.
        warm_up: Frames before that, which don't count.
        fps: Rates of cameras to simulate, frames a second.
        fps_frames: Frames that become due at each rate.
        deadline_ms: Deadline of a frame at each rate in milliseconds; None = one period.
        cold_starts: Fresh processes that are timed.
        energy_seconds: Length of each energy measurement, where power can be read.
    """

    bundle: str = "default"
    trust: str | None = None
    allow_unsigned: bool | None = None
    device: str = "cpu"
    threads: int = 0
    cores: str | None = None
    regions: str = "signs"
    exhaustive: bool = False
    samples: int = 700
    warm_up: int = 50
    fps: tuple[float, ...] = FPS
    fps_frames: int = 130
    deadline_ms: float | None = None
    cold_starts: int = 3
    energy_seconds: float = 5.0


class _Parts:
    """What has been measured so far."""

    def __init__(self, guard: Firewall, inputs: Inputs, plan: Plan, root: Path) -> None:
        finder = build(plan.regions, device=plan.device, threads=plan.threads, bundle=guard.bundle)
        self.inputs, self.plan = inputs, plan
        self._guard, self._root = guard, root
        self._guarded = {kind: Guarded(guard, finder) for kind in inputs.kinds}
        self._paced = Guarded(guard, finder)
        self._unguarded = Unguarded(guard, finder)
        self._full = FullRateRun(self._guarded, self._unguarded, inputs)
        self._rates = [FixedRateRun(self._paced, inputs, fps, plan.deadline_ms) for fps in plan.fps]
        self.device_times = DeviceTimes(reason="not measured: the benchmark was stopped before")
        self.cold: list[dict[str, float | None]] = []
        self.energy: dict[str, Energy] | None = None
        self.started = look(root)

    def steps(self) -> Iterator[tuple[str, int, Callable[[Callable[..., None]], None]]]:
        """Name, length and work of each part, in order."""
        plan = self.plan
        if plan.warm_up:
            yield "warm up", plan.warm_up, partial(self._full.warm_up, plan.warm_up)
        yield "full rate", plan.samples, partial(self._full.run, plan.samples)
        for rate in self._rates:
            yield f"{rate.fps:g} fps", plan.fps_frames, partial(rate.run, plan.fps_frames)
        yield "device", 100, self._device
        if plan.cold_starts:
            yield "cold start", plan.cold_starts, self._cold
        if self.started is not None and plan.energy_seconds > 0:
            yield "energy", len(self._windows()), self._energy

    def full_rate(self) -> dict[str, FullRate]:
        return self._full.result()

    def fixed_rate(self) -> list[FixedRate]:
        return [found for found in (rate.result() for rate in self._rates) if found is not None]

    def _device(self, step: Callable[..., None]) -> None:
        self.device_times = device_times(self._guard, 100, step)

    def _cold(self, step: Callable[..., None]) -> None:
        plan = self.plan
        given = ("bundle", "trust", "allow_unsigned", "device", "threads", "cores")
        orders = {name: getattr(plan, name) for name in given}
        picture = next(iter(self.inputs.kinds.values()))[0]
        for _ in range(plan.cold_starts):
            self.cold += cold_starts({**orders, "regions": plan.regions}, picture, 1)
            step()

    def _windows(self) -> dict[str, Callable[[int], object] | None]:
        """Window -> work on the frame of a number; None is waiting."""
        windows: dict[str, Callable[[int], object] | None] = {"idle": None}
        for kind, pictures in self.inputs.kinds.items():
            for name, subject in (("without_firewall", self._unguarded), ("with_firewall", self._paced)):
                windows[f"{kind}, {name}"] = partial(_work, subject, pictures)
        return windows

    def _energy(self, step: Callable[..., None]) -> None:
        readings = source(self._root)
        if readings is None:
            return
        self.energy = {}
        with readings as read:
            for name, work in self._windows().items():
                frames = 0
                with Meter(read) as meter:
                    # counted from the meter's own start, so that no window is shorter than asked for
                    ends = time.monotonic() + self.plan.energy_seconds
                    while time.monotonic() < ends:
                        if work is None:
                            time.sleep(max(0.0, ends - time.monotonic()))
                        else:
                            work(frames)
                            frames += 1
                found = meter.energy(frames)
                if found is not None:
                    self.energy[name] = found
                step()


def _work(subject: Subject, pictures: list[Pixels], number: int) -> None:
    subject.run(pictures[number % len(pictures)])


def measure(guard: Firewall, inputs: Inputs, plan: Plan, *, progress: bool = True, root: Path = _ROOT) -> Report:
    """Run every part of the plan. Ctrl-C ends it early, and the report says so.

    Args:
        guard: The firewall, loaded as the plan says.
        inputs: The pictures.
        plan: What is measured.
        progress: Show progress bars.
        root: Folder with the files that describe the board, for tests.

    Returns:
        The report.

    Raises:
        EngineError: If the firewall fails on a picture, or a fresh process can't load it.
        FirewallError: If the region finder can't use the pictures.
    """
    exhaustive, guard.exhaustive = guard.exhaustive, plan.exhaustive
    stopped = "the start"
    parts = _Parts(guard, inputs, plan, root)
    machine = describe(parts.started, root)
    try:
        with _bars(progress) as bar:
            for name, length, work in parts.steps():
                stopped = name
                work(bar(name, length))
        stopped = ""
    except KeyboardInterrupt:
        pass
    finally:
        guard.exhaustive = exhaustive
    return _report(guard, parts, machine, stopped, look(root))


@contextmanager
def _bars(shown: bool) -> Iterator[Callable[[str, int], Callable[..., None]]]:
    """A bar for each part on stderr. It is drawn between two frames, never by a thread while one is timed."""
    with Progress(console=Console(stderr=True), transient=True, auto_refresh=False, disable=not shown) as progress:

        def begin(name: str, length: int) -> Callable[..., None]:
            task, drawn = progress.add_task(name, total=length), 0.0
            progress.refresh()

            def step(done: int | None = None) -> None:
                nonlocal drawn
                progress.update(task, advance=1 if done is None else None, completed=done)
                if time.monotonic() - drawn > 0.5:
                    progress.refresh()
                    drawn = time.monotonic()

            return step

        yield begin


def _report(guard: Firewall, parts: _Parts, machine: dict[str, Any], stopped: str, after: Jetson | None) -> Report:
    plan, inputs, before = parts.plan, parts.inputs, parts.started
    full = parts.full_rate()
    normal = full.get("normal") or next(iter(full.values()), None)
    guarded = normal.guarded if normal else None
    latency = guarded.latency if guarded else None
    settings = {name: value for name, value in asdict(plan).items() if name not in ("trust", "allow_unsigned")}
    return Report(
        complete=not stopped,
        stopped=stopped or None,
        platform=before.label if before else NOT_A_JETSON,
        machine=machine,
        jetson=before.model_dump() if before else None,
        jetson_after=after.model_dump() if after else None,
        jetson_events=changes(before, after) if before and after else [],
        bundle=_bundle(guard, plan.device),
        settings={
            **settings,
            "pictures": inputs.name,
            "left_out": inputs.left_out,
            "clock_covers": INSIDE,
            "clock_leaves_out": OUTSIDE,
            "transfers": "copies to the device and back are inside the clock",
        },
        full_rate=full,
        not_measured=inputs.why_not,
        fixed_rate=parts.fixed_rate(),
        device_times=parts.device_times,
        cold_start=_cold_start(parts.cold),
        memory=_memory(parts.cold, plan.device),
        energy=parts.energy,
        image=inputs.name,
        threads=threads_of(plan.threads),
        warm_up=plan.warm_up,
        samples=latency.samples if latency else 0,
        classified=guarded.classified / guarded.verdicts if guarded else 0.0,
        minimum=latency.minimum if latency else None,
        mean=latency.mean if latency else None,
        p50=latency.median if latency else None,
        p90=latency.p90 if latency else None,
        p99=latency.p99 if latency else None,
        maximum=latency.maximum if latency else None,
        stages=guarded.shares if guarded else {},
        samples_ms=guarded.samples_ms if guarded else [],
    )


def _bundle(guard: Firewall, device: str) -> dict[str, Any]:
    manifest = guard.bundle.manifest
    return {
        "name": manifest.name,
        "version": manifest.version,
        "sha256": guard.bundle.sha256,
        "classifier_sha256": manifest.files[manifest.classifier.file].sha256,
        "input": f"{manifest.classifier.input.width}x{manifest.classifier.input.height}",
        "detectors": [spec.name for spec in manifest.detectors],
        "device": device,
        "provider": guard.engine.provider,
        "networks": what_runs(guard.bundle, guard.engine, guard.under_masks, guard.networks),
        "unsigned": guard.bundle.unsigned,
    }


def _cold_start(found: list[dict[str, float | None]]) -> ColdStart | None:
    if not found:
        return None
    parts = {name: middle(found, name) or 0.0 for name in ("interpreter", "imports", "load", "first_verdict", "total")}
    return ColdStart(
        runs=len(found),
        **{name: round(seconds, 4) for name, seconds in parts.items()},
        totals=[round(told["total"] or 0.0, 4) for told in found],
    )


def _memory(found: list[dict[str, float | None]], device: str) -> Memory:
    gpu = middle(found, "gpu") if found else None
    reason = ""
    if device == "cpu":
        reason = "the classifier runs on the processor"
    elif gpu is None:
        reason = gpu_memory()[1] or "no fresh process told"
    return Memory(
        loaded=middle(found, "loaded") if found else None,
        peak=middle(found, "peak") if found else None,
        gpu=gpu,
        gpu_reason=reason,
        benchmark_peak=peak_memory(),
    )
