"""What trtexec tells of a device: copies to it and from it, computing, and how long queueing takes the host."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from firewall.bench.fields import summary
from firewall.bench.report import DeviceTimes
from firewall.engines import Engine
from firewall.screening import Firewall

__all__ = ["device_times", "sweep_batch"]


def sweep_batch(guard: Firewall) -> int:
    """Size of the largest batch that one region asks for: the copies of all its detectors.

    Args:
        guard: The firewall.

    Returns:
        Number of images, at least 1.
    """
    return max(1, len({operation for detector in guard.detectors for operation in detector.operations}))


def device_times(guard: Firewall, samples: int, step: Callable[[], None]) -> DeviceTimes:
    """Time the parts of classifying a sweep's batch on a device.

    The host's clock is used, with a wait for the device after each part; together the parts take longer than a
    classification that doesn't wait. Only engines that queue on a stream of firewall.engines.device_memory can be
    timed.

    Args:
        guard: The firewall whose classifier is timed.
        samples: How many batches.
        step: Called after each batch.

    Returns:
        The times; for other engines None for each part, and the reason.

    Raises:
        EngineError: If the classifier fails.
    """
    memory = getattr(guard.engine, "memory", None)
    if memory is None:
        if "CPU" in guard.engine.provider:
            return DeviceTimes(reason="the classifier runs on the processor: nothing is copied or queued")
        return DeviceTimes(
            reason=f"{guard.engine.provider} copies and computes in one call: its parts can't be told apart"
        )
    spec, batch = guard.bundle.manifest.classifier.input, sweep_batch(guard)
    images = np.random.default_rng(0).integers(0, 256, (batch, spec.height, spec.width, 3), np.uint8)
    watch = _Watch(memory)
    parts: dict[str, list[float]] = {name: [] for name in watch.parts}
    engine: Any = guard.engine
    holders = [engine, *([engine.batch] if hasattr(engine, "batch") else [])]
    for holder in holders:
        holder.memory = watch
    try:
        for _ in range(samples):
            _once(guard.engine, images, watch)
            for name, seconds in watch.parts.items():
                parts[name].append(1e3 * seconds)
            step()
    finally:
        for holder in holders:
            holder.memory = memory
    return DeviceTimes(
        batch=batch,
        host_to_device=summary(parts["host_to_device"]),
        compute=summary(parts["compute"]),
        device_to_host=summary(parts["device_to_host"]),
        enqueue=summary(parts["enqueue"]),
    )


def _once(engine: Engine, images: np.ndarray[Any, np.dtype[np.uint8]], watch: _Watch) -> None:
    watch.parts = dict.fromkeys(watch.parts, 0.0)
    engine.classify(images)


class _Watch:
    """Device memory that waits after each part and writes down how long it took."""

    def __init__(self, memory: Any) -> None:
        self._memory = memory
        self._since = 0.0
        self.parts = dict.fromkeys(("host_to_device", "enqueue", "compute", "device_to_host"), 0.0)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._memory, name)

    def to_device(self, address: int, array: Any) -> None:
        started = time.perf_counter()
        self._memory.to_device(address, array)
        self._memory.wait()
        self._since = time.perf_counter()
        self.parts["host_to_device"] += self._since - started

    def to_host(self, array: Any, address: int) -> None:
        # What was queued since the last copy is the network.
        queued = time.perf_counter()
        self._memory.wait()
        computed = time.perf_counter()
        self._memory.to_host(array, address)
        self._memory.wait()
        self.parts["enqueue"] += queued - self._since
        self.parts["compute"] += computed - self._since
        self.parts["device_to_host"] += time.perf_counter() - computed
