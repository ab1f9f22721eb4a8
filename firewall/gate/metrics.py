"""What the operator may scrape: counts and times, no evidence. Units are seconds."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from firewall.host.pinning import Cores
from firewall.server.metrics import BUCKETS, CoresCollector

__all__ = ["GateMetrics"]


class GateMetrics:
    """One set of series in a registry of its own."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        self._requests = Counter(
            "firewall_gate_requests", "Requests for a label, by what was answered.", ["code"], registry=registry
        )
        self._images = Counter(
            "firewall_gate_images",
            "Images that were judged, by decision and reason.",
            ["decision", "reason"],
            registry=registry,
        )
        self._seconds = Histogram(
            "firewall_gate_request_seconds", "From a request to its answer.", buckets=BUCKETS, registry=registry
        )
        self._upstream = Histogram(
            "firewall_gate_upstream_seconds", "Waiting for the upstream.", buckets=BUCKETS, registry=registry
        )
        self._near = Counter(
            "firewall_gate_near_identical_images",
            "Images that are nearly, but not quite, one that was sent before.",
            registry=registry,
        )
        self._probing = Counter(
            "firewall_gate_probing", "Series of near-identical images that were reported as probing.", registry=registry
        )
        self._in_hand = Gauge("firewall_gate_requests_in_hand", "Requests that are worked on.", registry=registry)

    def answered(self, code: str, seconds: float) -> None:
        """Count a request.

        Args:
            code: `ok`, or that of the refusal.
            seconds: From the request to its answer.
        """
        self._requests.labels(code).inc()
        self._seconds.observe(seconds)

    def judged(self, decision: str, reason: str) -> None:
        """Count an image.

        Args:
            decision: `release` or `withhold`.
            reason: A verdict's.
        """
        self._images.labels(decision, reason).inc()

    def waited(self, seconds: float) -> None:
        """Take the time of one call of the upstream."""
        self._upstream.observe(seconds)

    def near_identical(self) -> None:
        """Count an image that is nearly one that was sent before."""
        self._near.inc()

    def probing(self) -> None:
        """Count a series that was reported."""
        self._probing.inc()

    def in_hand(self, count: Callable[[], float]) -> None:
        """Who says how many requests are worked on."""
        self._in_hand.set_function(count)

    def set_cores(self, cores: Cores) -> None:
        """Where threads were put; without there are no such series."""
        self._registry.register(CoresCollector(cores))

    def exposition(self) -> bytes:
        """All series in the Prometheus text format 0.0.4."""
        return generate_latest(self._registry)
