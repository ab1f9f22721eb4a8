"""What Prometheus may scrape: counts and times, no evidence. Units are seconds."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from firewall.decision.drift import DriftState
from firewall.decision.golden import GoldenState
from firewall.host.pinning import Cores, judge_stays
from firewall.host.sensors import Readings, Sensors
from firewall.server.states import State
from firewall.sinks.outlet import OutputHealth
from firewall.sinks.report import FrameReport
from firewall.verdict import Reason

__all__ = ["BUCKETS", "CoresCollector", "Metrics"]

_Metric = TypeVar("_Metric", Counter, Gauge, Histogram)

#: Upper bounds in seconds. 33 ms, the usual deadline, is a bound of its own.
BUCKETS = (0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.015, 0.02, 0.025, 0.033, 0.05, 0.1, 0.2, 0.5, 1.0)


class Metrics:
    """One set of series in a registry of its own, so that two firewalls in one process don't mix.

    Args:
        version: Of this package.
        cameras: Names of several cameras, which the series are then labelled by; empty for one.
        sensors: Reads the machine's sensors; another than its own is for tests.
    """

    def __init__(
        self, version: str, cameras: Sequence[str] = (), sensors: Callable[[], Readings] | None = None
    ) -> None:
        self._registry = registry = CollectorRegistry()
        self._golden: _Golden | None = None
        registry.register(_Sensors(sensors or Sensors()))
        each = ["camera"] if cameras else []
        frames = Counter(
            "firewall_frames",
            "Verdicts: one for each region that was judged.",
            [*each, "decision", "reason"],
            registry=registry,
        )
        dropped = Counter(
            "firewall_frames_dropped", "Frames of a live source that nobody looked at.", each, registry=registry
        )
        restarts = Counter(
            "firewall_capture_restarts", "Capture processes that had to be started again.", each, registry=registry
        )
        stages = Histogram(
            "firewall_stage_duration_seconds",
            "Time spent in one stage of screening a frame.",
            [*each, "stage"],
            buckets=BUCKETS,
            registry=registry,
        )
        latency = Histogram(
            "firewall_verdict_latency_seconds", "From capture to verdict.", each, buckets=BUCKETS, registry=registry
        )
        last_frame = Gauge(
            "firewall_last_frame_timestamp_seconds",
            "Unix time at which the newest frame was captured; 0 before the first.",
            each,
            registry=registry,
        )
        Gauge("firewall_build_info", "1; the version is a label.", ["version"], registry=registry).labels(version).set(
            1
        )
        state = Gauge(
            "firewall_state",
            "1 for the state that a camera's guard is in, 0 for all others.",
            [*each, "state"],
            registry=registry,
        )
        drift = Gauge(
            "firewall_drift",
            "1 once traffic was found to differ from the calibration set, until then 0.",
            each,
            registry=registry,
        )
        drift_signs = Counter(
            "firewall_drift_signs",
            "Signs that the drift monitor was given, one frame of each.",
            each,
            registry=registry,
        )
        drift_failures = Counter(
            "firewall_drift_failures",
            "Of these, signs of which something was missing or not finite.",
            each,
            registry=registry,
        )
        labels: list[tuple[str | None, tuple[str, ...]]] = [(name, (name,)) for name in cameras]
        self._series = {
            name: _Series(
                label, frames, dropped, restarts, stages, latency, last_frame, state, drift, drift_signs, drift_failures
            )
            for name, label in labels or [(None, ())]
        }
        self._first = next(iter(self._series.values()))

    def observe(self, report: FrameReport) -> None:
        """Count one report; called from one thread."""
        self._series.get(report.camera, self._first).observe(report)

    def set_outputs(self, health: Callable[[], list[OutputHealth]]) -> None:
        """Who says how the outputs are; asked when the series are."""
        self._registry.register(_Outputs(health))

    def set_cores(self, cores: Cores) -> None:
        """Where threads were put; without there are no such series."""
        self._registry.register(CoresCollector(cores))

    def state(self, state: State, camera: str | None = None) -> None:
        """A camera's guard is in this state now."""
        self._series.get(camera, self._first).state(state)

    def drift(self, state: DriftState, camera: str | None = None) -> None:
        """Take the state of a camera's drift monitor; called from one thread."""
        self._series.get(camera, self._first).drift(state)

    def golden(self, state: GoldenState) -> None:
        """Take what the golden frames say; without any there are no such series."""
        if self._golden is None:
            self._golden = _Golden()
            self._registry.register(self._golden)
        self._golden.state = state

    def exposition(self) -> bytes:
        """All series in the Prometheus text format 0.0.4."""
        return generate_latest(self._registry)


class _Series:
    """The series of one camera, and what they have been told."""

    def __init__(
        self,
        label: tuple[str, ...],
        frames: Counter,
        dropped: Counter,
        restarts: Counter,
        stages: Histogram,
        latency: Histogram,
        last_frame: Gauge,
        state: Gauge,
        drift: Gauge,
        drift_signs: Counter,
        drift_failures: Counter,
    ) -> None:
        def own(metric: _Metric) -> _Metric:
            return metric.labels(*label) if label else metric

        self._label, self._frames, self._stages = label, frames, stages
        self._verdicts = {
            (released, reason): frames.labels(*label, "release" if released else "withhold", reason.value)
            for reason in Reason
            for released in ([True] if reason is Reason.BENIGN else [False])
        }
        self._dropped, self._restarts = own(dropped), own(restarts)
        self._latency, self._last_frame = own(latency), own(last_frame)
        self._drift, self._drift_signs, self._drift_failures = own(drift), own(drift_signs), own(drift_failures)
        self._states = {each: state.labels(*label, each.value) for each in State}
        self.state(State.STARTING)
        self._dropped_total = 0
        self._restarts_total = 0
        self._drift_total = DriftState()

    def observe(self, report: FrameReport) -> None:
        """Count one report."""
        for verdict in report.verdicts:
            series = self._verdicts.get((verdict.released, verdict.reason))
            (series or self._frames.labels(*self._label, verdict.decision, verdict.reason.value)).inc()
            # Without a frame there was no capture to count from.
            if report.frame is not None and math.isfinite(verdict.latency_ms):
                self._latency.observe(verdict.latency_ms / 1000)
        for stage, seconds in report.stages.items():
            self._stages.labels(*self._label, stage).observe(seconds)
        self._dropped.inc(max(0, report.dropped - self._dropped_total))
        self._restarts.inc(max(0, report.restarts - self._restarts_total))
        self._dropped_total = max(self._dropped_total, report.dropped)
        self._restarts_total = max(self._restarts_total, report.restarts)
        if report.frame is not None:
            self._last_frame.set(time.time() - max(0.0, time.monotonic() - report.frame.captured_at))

    def state(self, state: State) -> None:
        """This state and no other."""
        for each, series in self._states.items():
            series.set(each is state)

    def drift(self, state: DriftState) -> None:
        """Take the state of the drift monitor."""
        self._drift.set(state.spoken)
        self._drift_signs.inc(max(0, state.values - self._drift_total.values))
        self._drift_failures.inc(max(0, state.failures - self._drift_total.failures))
        self._drift_total = state


class _Outputs(Collector):
    """What the outputs count themselves, in threads of their own."""

    def __init__(self, health: Callable[[], list[OutputHealth]]) -> None:
        self._health = health

    def collect(self) -> Iterable[Metric]:
        """All series, each labelled by the output."""
        health = self._health()
        for name, help_, values in (
            ("taken", "Reports that an output took.", [each.taken for each in health]),
            (
                "dropped",
                "Reports that an output missed: it was too slow, or failed.",
                [each.dropped for each in health],
            ),
            ("failures", "How often an output failed.", [each.failures for each in health]),
        ):
            counter = CounterMetricFamily(f"firewall_output_{name}", help_, labels=["output"])
            for each, value in zip(health, values, strict=True):
                counter.add_metric([each.name], value)
            yield counter
        for name, help_, values in (
            ("healthy", "1 while an output takes reports, else 0.", [int(each.healthy) for each in health]),
            ("waiting", "Reports in an output's queue.", [each.waiting for each in health]),
        ):
            gauge = GaugeMetricFamily(f"firewall_output_{name}", help_, labels=["output"])
            for each, value in zip(health, values, strict=True):
                gauge.add_metric([each.name], value)
            yield gauge


class CoresCollector(Collector):
    """Which cores the threads of this process were put on.

    Args:
        cores: These.
    """

    def __init__(self, cores: Cores) -> None:
        self._cores = cores

    def collect(self) -> Iterable[Metric]:
        """All series."""
        gauge = GaugeMetricFamily("firewall_core", "1 for a core and what runs there.", labels=["core", "use"])
        for use, cores in (("judging", self._cores.judging), ("others", sorted(self._cores.others))):
            for core in cores:
                gauge.add_metric([f"{core}", use], 1)
        yield gauge
        yield GaugeMetricFamily(
            "firewall_judging_stays",
            "1 while the judging thread is on the core where it was put, else 0.",
            judge_stays(),
        )


class _Golden(Collector):
    """What the golden frames of the bundle say."""

    def __init__(self) -> None:
        self.state = GoldenState(0)

    def collect(self) -> Iterable[Metric]:
        """All series."""
        state = self.state
        yield GaugeMetricFamily("firewall_golden_frames", "Golden frames of the bundle.", state.frames)
        yield GaugeMetricFamily(
            "firewall_golden_passed",
            "1 while all golden frames have the verdicts that they should, else 0.",
            not state.fault,
        )
        yield CounterMetricFamily(
            "firewall_golden_rounds", "How often all golden frames were judged.", value=state.rounds
        )
        yield CounterMetricFamily(
            "firewall_golden_failures",
            "How often a golden frame had another verdict than it should.",
            value=state.failures,
        )
        yield GaugeMetricFamily(
            "firewall_golden_timestamp_seconds", "Unix time of the newest round; 0 before the first.", state.checked_at
        )


class _Sensors(Collector):
    """What the sensors of the machine say; what there is no sensor for has no series."""

    def __init__(self, sensors: Callable[[], Readings]) -> None:
        self._sensors = sensors

    def collect(self) -> Iterable[Metric]:
        """All series that there are."""
        now = self._sensors()
        for name, help_, label, values in (
            ("temperature_celsius", "Temperature of a thermal zone or GPU.", "zone", now.temperatures),
            ("power_watts", "Power of a rail of the board, or of a GPU.", "rail", now.power),
            ("gpu_load_ratio", "Share of the time that a GPU is busy, 0 to 1.", "gpu", now.load),
            ("gpu_clock_hertz", "Clock of a GPU.", "gpu", now.clocks),
            ("throttled", "1 while a cooling device holds clocks back, else 0.", "device", now.throttling),
        ):
            if values:
                gauge = GaugeMetricFamily(f"firewall_{name}", help_, labels=[label])
                for each, value in values.items():
                    gauge.add_metric([each], value)
                yield gauge
