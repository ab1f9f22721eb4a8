"""On python-can's virtual bus, read by a receiver that knows only the DBC that ships."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import can
import cantools
import pytest

from firewall.errors import FirewallError, UsageError
from firewall.sinks.can_bus import DBC, CanBus, CanTarget, checksum
from firewall.verdict import Reason, Verdict
from tests.sinks.making import RELEASED, WITHHELD, failure, report

_CHANNELS = itertools.count()


class Receiver:
    """A control unit: what it takes from the bus by the DBC, after it has checked the checksum itself."""

    def __init__(self, channel: str) -> None:
        self.bus = can.Bus(interface="virtual", channel=channel)
        self.database = cantools.database.load_file(DBC)

    def take(self) -> list[tuple[str, dict[str, Any]]]:
        """All that has come."""
        messages = []
        while (got := self.bus.recv(0.05)) is not None:
            message: Any = self.database.get_message_by_frame_id(got.arbitration_id)
            assert got.data[7] == self.crc(got.arbitration_id, bytes(got.data[:7]) + b"\0")
            assert len(got.data) == 8 and not got.is_extended_id
            signals = message.decode(got.data, decode_choices=False)
            messages.append((message.name, signals))
        return messages

    @staticmethod
    def crc(identifier: int, data: bytes) -> int:
        """CRC-8 SAE J1850, bit by bit, as the DBC's comment says."""
        bits = "".join(f"{byte:08b}" for byte in identifier.to_bytes(4, "little") + data)
        register = 0xFF
        for bit in bits:
            high = (register >> 7) ^ int(bit)
            register = (register << 1) & 0xFF ^ (0x1D if high else 0)
        return register ^ 0xFF


@pytest.fixture
def channel() -> str:
    """One that no other test uses."""
    return f"test{next(_CHANNELS)}"


@pytest.fixture
def receiver(channel: str) -> Iterator[Receiver]:
    """On that channel."""
    receiver = Receiver(channel)
    yield receiver
    receiver.bus.shutdown()


def connect(channel: str, more: str = "") -> CanBus:
    return CanTarget(f"can://{channel}?interface=virtual{more}").connect()


def of(messages: list[tuple[str, dict[str, Any]]], name: str) -> list[dict[str, Any]]:
    return [signals for message, signals in messages if message == name]


def test_a_receiver_with_the_dbc_reads_all(channel: str, receiver: Receiver) -> None:
    """Released and withheld regions, with box, track, age and bundle; a withheld one's label is the value for none;
    values that don't fit a signal stand at its end."""
    bus = connect(channel)
    far = Verdict("cam", 0, (-3, 9000, 9000, 50), True, 43, "x", Reason.BENIGN, track=0x1002, frames_seen=9)
    bus.report(report(70_000, RELEASED, WITHHELD, far, age=10.0))
    messages = receiver.take()
    bus.close()
    assert [name for name, _ in messages] == ["FirewallState", *["FirewallVerdict", "FirewallRegion"] * 3]
    (state,) = of(messages, "FirewallState")
    assert (state["Guarding"], state["Sequence"], state["BundleVersion"]) == (0, 70_000 & 0xFFFF, 4)  # it is 10 s old
    assert state["BundleHash"] == 0x128A7B
    released, withheld, clipped = of(messages, "FirewallVerdict")
    reasons = {choice.value: str(choice) for choice in _reasons(receiver.database)}
    assert (released["Released"], released["Label"], released["Track"], released["FramesSeen"]) == (1, 14, 7, 3)
    assert (withheld["Released"], withheld["Label"], withheld["Track"], withheld["FramesSeen"]) == (0, 1023, 8, 255)
    assert (reasons[released["Reason"]], reasons[withheld["Reason"]]) == ("benign", "suspicious")
    assert released["Age"] == 4095 and clipped["Track"] == 2
    first, _, last = of(messages, "FirewallRegion")
    assert [first[f"Region{side}"] for side in ("X", "Y", "Width", "Height")] == [10, 12, 30, 40]
    assert [last[f"Region{side}"] for side in ("X", "Y", "Width", "Height")] == [0, 8191, 8191, 50]
    for verdict, region in zip(of(messages, "FirewallVerdict"), of(messages, "FirewallRegion"), strict=True):
        assert verdict["VerdictCounter"] == region["RegionCounter"]


def _reasons(database: Any) -> list[Any]:
    signal = database.get_message_by_name("FirewallVerdict").get_signal_by_name("Reason")
    return list(signal.choices.values())


def test_every_reason_has_a_value() -> None:
    """A reason without a number of its own in the DBC is a mistake; no number ever changes its meaning."""
    values = {str(choice): choice.value for choice in _reasons(cantools.database.load_file(DBC))}
    assert set(values) == {reason.value for reason in Reason}
    assert len(set(values.values())) == len(values) and max(values.values()) < 32


def test_counters_go_on_and_the_state_comes_by_itself(channel: str, receiver: Receiver) -> None:
    """Each tick says whether labels may be used: yes while the newest frame is fresh, no after a failure, when it is
    old, and as the last word; so a receiver notices a guard that is gone, too."""
    bus = connect(channel, "&stale_ms=300")
    bus.tick()
    for number in range(20):
        bus.report(report(number))
    bus.tick()
    bus.report(failure(20))
    bus.report(report(21))
    time.sleep(0.35)
    bus.tick()
    bus.report(report(22))
    bus.close()
    messages = receiver.take()
    states = of(messages, "FirewallState")
    assert [state["Guarding"] for state in states] == [0, *[1] * 21, 0, 1, 0, 1, 0]
    assert [state["StateCounter"] for state in states] == [number % 16 for number in range(len(states))]
    counters = [verdict["VerdictCounter"] for verdict in of(messages, "FirewallVerdict")]
    assert counters == [number % 16 for number in range(len(counters))] and len(counters) == 45


def test_a_label_that_the_message_can_not_hold_is_withheld(channel: str, receiver: Receiver) -> None:
    """1023 is the value for no label; a class of that number or more can't be said. Without a stamp it is old."""
    bus = connect(channel)
    big = Verdict("cam", 0, (0, 0, 9, 9), True, 1500, "x", Reason.BENIGN)
    bus.report(report(1, big, stamped=False))
    bus.close()
    ((_, verdict),) = [each for each in receiver.take() if each[0] == "FirewallVerdict"]
    assert (verdict["Released"], verdict["Label"], verdict["Age"]) == (0, 1023, 4095)


def test_the_checksum_is_that_of_the_standard() -> None:
    """The check value of CRC-8 SAE J1850 over '123456789' is 0x4B."""
    assert checksum(int.from_bytes(b"1234", "little"), b"56789") == 0x4B == Receiver.crc(0x34333231, b"56789")


def changed(tmp_path: Path, *pairs: tuple[str, str]) -> Path:
    text = DBC.read_text()
    for before, after in pairs:
        assert before in text
        text = text.replace(before, after)
    (tmp_path / "own.dbc").write_text(text)
    return tmp_path / "own.dbc"


def test_a_dbc_of_the_users_own(tmp_path: Path, channel: str) -> None:
    """Other identifiers and another layout: encoded by it, with an extended identifier too."""
    own = changed(
        tmp_path,
        ("BO_ 1777 FirewallVerdict", f"BO_ {0x80000000 + 0x18FF1234} FirewallVerdict"),
        ("_ 1777 ", f"_ {0x80000000 + 0x18FF1234} "),
        ("Label : 10|10@1+", "Label : 20|10@1+"),
        ("Track : 20|12@1+", "Track : 10|10@1+"),
        ("FramesSeen : 32|8@1+", "FramesSeen : 30|8@1+"),
        ('[0|4095] "" Vector__XXX\n SG_ Fr', '[0|1023] "" Vector__XXX\n SG_ Fr'),
    )
    receiver = can.Bus(interface="virtual", channel=channel)
    bus = connect(channel, f"&dbc={own}&bitrate=500000")
    bus.report(report(1, RELEASED))
    bus.close()
    got = [receiver.recv(1.0) for _ in range(2)][1]
    receiver.shutdown()
    assert got is not None and got.is_extended_id and got.arbitration_id == 0x18FF1234
    message: Any = cantools.database.load_file(own)
    decoded = message.decode_message("FirewallVerdict", got.data)
    assert decoded["Label"] == 14 and decoded["Released"] == 1


@pytest.mark.parametrize(
    ("pairs", "words"),
    [
        ([("1778 FirewallRegion", "1778 Region")], "has no message FirewallRegion .it has FirewallState, FirewallVer"),
        ([(' SG_ Released : 4|1@1+ (1,0) [0|1] "" Vector__XXX\n', "")], "FirewallVerdict of .* lacks Released"),
        ([("SG_ Age : 40|12", 'SG_ Mood : 52|4@1+ (1,0) [0|15] "" Vector__XXX\n SG_ Age : 40|12')], "can't be filled"),
        ([('15 "unknown" ', "")], "FirewallVerdict of .* can't be filled"),
        ([("BO_ ", "BOO ")], "can't read the DBC"),
    ],
)
def test_a_dbc_that_does_not_fit_is_one_line(tmp_path: Path, pairs: list[tuple[str, str]], words: str) -> None:
    """It names the file, what is missing, and the DBC to begin with."""
    own = changed(tmp_path, *pairs)
    with pytest.raises(UsageError, match=words) as caught:
        CanTarget(f"can://can0?dbc={own}")
    assert str(own) in str(caught.value) and "\n" not in str(caught.value)


def test_a_bus_that_is_not_there_or_takes_nothing(channel: str) -> None:
    """No such device: an error that is tried again; a bus that refuses a message: a failure of this output."""
    with pytest.raises(FirewallError, match=r"can't open can://no_such_bus .socketcan.: "):
        CanTarget("can://no_such_bus").connect()
    bus = connect(channel)
    bus.report(report(1))
    real, bus._bus = bus._bus, _Full()
    with pytest.raises(FirewallError, match=f"can://{channel} takes no message: Transmit buffer full"):
        bus.report(report(2))
    with pytest.raises(FirewallError, match="takes no message"):
        bus.close()
    assert json.dumps(bus._bus.calls) == '["send", "send", "shutdown"]'  # type: ignore[attr-defined]
    real.shutdown()


class _Full:
    """A bus without a second participant: nobody acknowledges, and the transmit buffer fills up."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def send(self, message: object, timeout: float) -> None:
        self.calls.append("send")
        raise can.CanOperationError("Transmit buffer full")

    def shutdown(self) -> None:
        self.calls.append("shutdown")
