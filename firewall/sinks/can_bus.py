"""Verdicts on a CAN bus, as the DBC that ships (firewall/assets/firewall.dbc) or one of the user's describes them.

`FirewallState` goes out with every frame and every 100 ms while there is none: a receiver that misses it, or reads
`Guarding` 0 in it, uses no label. Each region is a `FirewallVerdict` and a `FirewallRegion` of the same counter. Every
message has a counter and a checksum. Of several cameras the first has the DBC's identifiers, each other one those of
the camera before it plus `step`.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from firewall.errors import FirewallError, MissingExtraError, UsageError
from firewall.sinks.guarding import Guarding
from firewall.sinks.options import Options, split_uri
from firewall.sinks.report import FrameReport, Output
from firewall.verdict import Verdict

__all__ = ["DBC", "CanBus", "CanTarget", "checksum"]

#: The messages as they are shipped.
DBC = Path(__file__).parents[1] / "assets" / "firewall.dbc"
_SIGNALS = {
    "FirewallState": ("StateCounter", "Guarding", "Sequence", "BundleHash", "BundleVersion", "StateChecksum"),
    "FirewallVerdict": (
        *("VerdictCounter", "Released", "Reason", "Label", "Track", "FramesSeen", "Age", "VerdictChecksum"),
    ),
    "FirewallRegion": ("RegionX", "RegionY", "RegionWidth", "RegionHeight", "RegionCounter", "RegionChecksum"),
}
_NO_LABEL, _LONGEST_AGE, _MOST_FRAMES, _LAST_PIXEL = 1023, 4095, 255, 8191
_KNOWN = ("interface", "bitrate", "dbc", "stale_ms", "step")
_LAST = {False: (1 << 11) - 1, True: (1 << 29) - 1}  # identifier, of a standard and an extended frame


class CanTarget:
    """A bus and its messages: `can://CHANNEL[?interface=socketcan&bitrate=N&dbc=FILE&stale_ms=500&step=4]`.

    Args:
        uri: As above.
        cameras: Names of the cameras, in order; empty counts as one.

    Attributes:
        name: `can://CHANNEL`.

    Raises:
        UsageError: If the URI or the DBC can't be used.
        MissingExtraError: If python-can or cantools is not installed.
    """

    def __init__(self, uri: str, cameras: Sequence[str] = ()) -> None:
        parts = split_uri(uri)
        self.channel = parts.netloc + parts.path
        self.name = f"can://{self.channel}"
        if not self.channel:
            raise UsageError("--output can:// names no channel; give can://can0")
        options = Options(self.name, parts.query, _KNOWN)
        self.interface = options.text("interface", "socketcan")
        self.bitrate = options.whole("bitrate", 0, 0, 8_000_000) or None
        self.stale = options.whole("stale_ms", 500, 10, 60_000) / 1e3
        step = options.whole("step", 4, 1, 1 << 20)
        self.cameras: dict[str | None, int] = {name: place * step for place, name in enumerate(cameras)} or {None: 0}
        dbc = Path(options.text("dbc", str(DBC)))
        try:
            import can
            import cantools
        except ImportError as error:
            raise MissingExtraError(
                f"--output {self.name} needs {error.name}, which is not installed: "
                "pip install 'perception-firewall[can]'"
            ) from error
        self._can = can
        if self.interface not in can.VALID_INTERFACES:
            known = ", ".join(sorted(can.VALID_INTERFACES))
            raise UsageError(f"python-can has no interface {self.interface!r}; it has {known}")
        try:
            database = cantools.database.load_file(dbc)
        except Exception as error:  # what its parser raises has no common base
            raise UsageError(f"can't read the DBC {dbc}: {' '.join(str(error).split())[:200]}") from error
        self.messages = {name: _message(database, name, dbc) for name in _SIGNALS}
        self._check_identifiers(dbc)

    def connect(self) -> CanBus:
        """The bus, opened.

        Raises:
            FirewallError: If it can't be opened.
        """
        more: dict[str, Any] = {} if self.bitrate is None else {"bitrate": self.bitrate}
        try:
            bus = self._can.Bus(interface=self.interface, channel=self.channel, **more)
        except Exception as error:  # each interface raises its own: OSError, CanError, ImportError of its driver ...
            raise FirewallError(f"can't open {self.name} ({self.interface}): {error}") from error
        return CanBus(self, bus, self._can)

    def _check_identifiers(self, dbc: Path) -> None:
        taken: dict[tuple[bool, int], str] = {}
        for camera, offset in self.cameras.items():
            for name, message in self.messages.items():
                extended, identifier = bool(message.is_extended_frame), message.frame_id + offset
                owner = taken.setdefault((extended, identifier), f"{name} of camera {camera}")
                if identifier > _LAST[extended]:
                    raise UsageError(
                        f"--output {self.name}: {owner} would have the identifier 0x{identifier:X}, past the last one "
                        f"0x{_LAST[extended]:X}; give a smaller step=, or lower identifiers in the DBC {dbc}"
                    )
                if owner != f"{name} of camera {camera}":
                    raise UsageError(
                        f"--output {self.name}: {name} of camera {camera} and {owner} would have one identifier, "
                        f"0x{identifier:X}; give another step=, such as 16"
                    )


def _message(database: Any, name: str, dbc: Path) -> Any:
    try:
        message = database.get_message_by_name(name)
    except KeyError:
        there = ", ".join(each.name for each in database.messages) or "none"
        raise UsageError(
            f"the DBC {dbc} has no message {name} (it has {there}); begin with the one that ships, {DBC.name}"
        ) from None
    missing = [signal for signal in _SIGNALS[name] if signal not in message.signal_tree]
    if missing:
        raise UsageError(f"message {name} of the DBC {dbc} lacks {', '.join(missing)}; see {DBC.name}")
    try:
        message.encode({**dict.fromkeys(_SIGNALS[name], 0), **({"Reason": "unknown"} if "Verdict" in name else {})})
    except Exception as error:  # a signal that we don't know, a range that 0 isn't in, a reason that is missing
        raise UsageError(f"message {name} of the DBC {dbc} can't be filled: {error}; see {DBC.name}") from error
    return message


class _Lane:
    """What one camera has said on the bus so far."""

    def __init__(self, offset: int, stale: float) -> None:
        self.offset = offset
        self.guarding = Guarding(stale)
        self.counters = dict.fromkeys(_SIGNALS, 0)
        self.newest: Verdict | None = None
        self.told_at = float("-inf")


class CanBus(Output):
    """A bus that was opened. Made by CanTarget.connect."""

    every = 0.1

    def __init__(self, target: CanTarget, bus: Any, can: Any) -> None:
        self._target, self._bus, self._can = target, bus, can
        self._lanes = {name: _Lane(offset, target.stale) for name, offset in target.cameras.items()}

    def report(self, report: FrameReport) -> None:
        """Send the state and, for each verdict, its two messages."""
        lane = self._lanes.get(report.camera) or next(iter(self._lanes.values()))
        lane.guarding.seen(report)
        lane.newest = report.verdicts[0]
        self._state(lane)
        for verdict in report.verdicts:
            label = verdict.label if verdict.released else None
            self._send(
                lane,
                "FirewallVerdict",
                {
                    "Released": int(label is not None and label < _NO_LABEL),
                    "Reason": str(verdict.reason),
                    "Label": _NO_LABEL if label is None else min(label, _NO_LABEL),
                    "Track": (verdict.track or 0) & 0xFFF,
                    "FramesSeen": min(verdict.frames_seen or 0, _MOST_FRAMES),
                    "Age": int(min(_age_ms(verdict), _LONGEST_AGE)),
                },
            )
            x, y, width, height = (min(max(side, 0), _LAST_PIXEL) for side in verdict.region)
            box = {"RegionX": x, "RegionY": y, "RegionWidth": width, "RegionHeight": height}
            self._send(lane, "FirewallRegion", box)
        for other in self._lanes.values():  # of which nothing comes, while this one leaves no time for ticks
            if time.monotonic() - other.told_at >= self.every:
                self._state(other)

    def tick(self) -> None:
        """Say that we are there, and whether frames are fresh."""
        for lane in self._lanes.values():
            self._state(lane)

    def close(self) -> None:
        """Take the state back and leave the bus."""
        try:
            for lane in self._lanes.values():
                lane.guarding = Guarding(-1.0)
                self._state(lane)
        finally:
            self._bus.shutdown()

    def _state(self, lane: _Lane) -> None:
        lane.told_at = time.monotonic()
        stamp = None if lane.newest is None else lane.newest.stamp
        bundle = None if stamp is None else stamp.bundle
        self._send(
            lane,
            "FirewallState",
            {
                "Guarding": int(bool(lane.guarding)),
                "Sequence": 0 if lane.newest is None else lane.newest.sequence & 0xFFFF,
                "BundleHash": 0 if bundle is None else int(bundle.hash[:6], 16),
                "BundleVersion": 0 if bundle is None else bundle.version & 0xFF,
            },
        )

    def _send(self, lane: _Lane, name: str, values: dict[str, Any]) -> None:
        message, prefix = self._target.messages[name], name.removeprefix("Firewall")
        identifier, counter = message.frame_id + lane.offset, lane.counters[name]
        lane.counters[name] = (counter + 1) % 16
        values = {**values, f"{prefix}Counter": counter, f"{prefix}Checksum": 0}
        values[f"{prefix}Checksum"] = checksum(identifier, message.encode(values))
        try:
            self._bus.send(
                self._can.Message(
                    arbitration_id=identifier,
                    is_extended_id=message.is_extended_frame,
                    is_fd=message.is_fd,
                    data=message.encode(values),
                ),
                timeout=0.1,
            )
        except self._can.CanError as error:
            raise FirewallError(f"{self._target.name} takes no message: {error}") from error


def checksum(identifier: int, data: bytes) -> int:
    """CRC-8 SAE J1850 (polynomial 0x1D, start and final XOR 0xFF).

    Args:
        identifier: The message's, taken as 4 bytes, the low one first.
        data: The message with 0 for its checksum.

    Returns:
        0 to 255.
    """
    crc = 0xFF
    for byte in identifier.to_bytes(4, "little") + data:
        crc ^= byte
        for _ in range(8):
            crc = (crc << 1 ^ 0x1D if crc & 0x80 else crc << 1) & 0xFF
    return crc ^ 0xFF


def _age_ms(verdict: Verdict) -> float:
    age = None if verdict.stamp is None else verdict.stamp.age_ms
    return float(_LONGEST_AGE) if age is None else age
