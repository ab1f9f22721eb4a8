"""What Prometheus sees."""

from __future__ import annotations

import math
import time

import pytest
from prometheus_client.parser import text_string_to_metric_families

from firewall.decision.drift import DriftState
from firewall.server.metrics import Metrics
from firewall.verdict import Reason
from tests.server.reports import Reports


def samples(metrics: Metrics) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """(name, sorted labels) -> value, as a scraper reads them."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(metrics.exposition().decode())
        for sample in family.samples
    }


def frames(reason: Reason, decision: str) -> tuple[str, tuple[tuple[str, str], ...]]:
    """The key of a verdict counter."""
    return "firewall_frames_total", (("decision", decision), ("reason", reason.value))


@pytest.mark.parametrize("reason", list(Reason))
def test_every_reason_is_there_from_the_start(reason: Reason) -> None:
    """A zero is visible, so that a rate over it is defined."""
    decision = "release" if reason is Reason.BENIGN else "withhold"
    assert samples(Metrics("1.2.3"))[frames(reason, decision)] == 0


def test_verdicts_are_counted_by_decision_and_reason(reports: Reports) -> None:
    """Two regions of one frame are two verdicts; a detail makes no series of its own."""
    metrics = Metrics("1.2.3")
    metrics.observe(reports.frame(reports.released, lambda: reports.withheld(Reason.LATE, detail="41 ms")))
    metrics.observe(reports.frame(lambda: reports.withheld(Reason.LATE, detail="42 ms")))
    seen = samples(metrics)
    assert seen[frames(Reason.BENIGN, "release")] == 1
    assert seen[frames(Reason.LATE, "withhold")] == 2
    assert len([key for key in seen if key[0] == "firewall_frames_total"]) == len(Reason)


def test_totals_of_the_report_become_counters(reports: Reports) -> None:
    """The counters follow the totals and never go down."""
    metrics = Metrics("1.2.3")
    for dropped, restarts in ((3, 0), (5, 1), (2, 1), (6, 1)):
        metrics.observe(reports.frame(dropped=dropped, restarts=restarts))
    seen = samples(metrics)
    assert seen[("firewall_frames_dropped_total", ())] == 6
    assert seen[("firewall_capture_restarts_total", ())] == 1


def test_times_are_in_seconds(reports: Reports) -> None:
    """Stages and latency are histograms in seconds; a failure to get a frame has no latency, nor has a NaN."""
    metrics = Metrics("1.2.3")
    metrics.observe(reports.frame(lambda: reports.released(latency_ms=8.0)))
    metrics.observe(reports.frame(lambda: reports.withheld(latency_ms=math.nan)))
    metrics.observe(reports.failure())
    seen = samples(metrics)
    assert seen[("firewall_verdict_latency_seconds_count", ())] == 1
    assert seen[("firewall_verdict_latency_seconds_sum", ())] == pytest.approx(0.008)
    assert seen[("firewall_verdict_latency_seconds_bucket", (("le", "0.005"),))] == 0
    assert seen[("firewall_verdict_latency_seconds_bucket", (("le", "0.01"),))] == 1
    assert seen[("firewall_stage_duration_seconds_count", (("stage", "classify"),))] == 2
    assert seen[("firewall_stage_duration_seconds_sum", (("stage", "regions"),))] == pytest.approx(0.0008)


def test_the_time_of_the_newest_frame_is_unix_time(reports: Reports) -> None:
    """The gauge tells when the frame was captured, not when it was reported."""
    metrics = Metrics("1.2.3")
    assert samples(metrics)[("firewall_last_frame_timestamp_seconds", ())] == 0
    metrics.observe(reports.frame(captured_at=time.monotonic() - 100.0))
    assert samples(metrics)[("firewall_last_frame_timestamp_seconds", ())] == pytest.approx(time.time() - 100.0, abs=30)


def test_the_build_is_named() -> None:
    """The version is a label of an info series."""
    assert samples(Metrics("1.2.3"))[("firewall_build_info", (("version", "1.2.3"),))] == 1


def test_two_firewalls_do_not_mix(reports: Reports) -> None:
    """Each has a registry of its own."""
    one, other = Metrics("1"), Metrics("1")
    one.observe(reports.frame())
    assert samples(one)[frames(Reason.BENIGN, "release")] == 1
    assert samples(other)[frames(Reason.BENIGN, "release")] == 0


def test_drift_is_a_gauge_and_two_counters() -> None:
    """0 until it speaks, then 1; signs and failures follow the monitor's totals; the sums of its bets stay inside."""
    metrics = Metrics("1.2.3")
    assert samples(metrics)[("firewall_drift", ())] == 0
    metrics.drift(DriftState(values=7, failures=2))
    metrics.drift(DriftState(spoken=True, since=8, property="suspicion", values=8, failures=2))
    seen = samples(metrics)
    assert seen[("firewall_drift", ())] == 1
    assert seen[("firewall_drift_signs_total", ())] == 8
    assert seen[("firewall_drift_failures_total", ())] == 2
    assert {name for name, _ in seen if "drift" in name and not name.endswith("_created")} == {
        "firewall_drift",
        "firewall_drift_signs_total",
        "firewall_drift_failures_total",
    }
