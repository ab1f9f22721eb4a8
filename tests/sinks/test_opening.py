from __future__ import annotations

import json
import os
import sys
import threading
from contextlib import suppress
from pathlib import Path

import pytest

from firewall.errors import FirewallError, MissingExtraError, UsageError
from firewall.sinks import Outlets, open_outputs
from firewall.sinks.guarding import Guarding
from firewall.sinks.rotation import numbered, rotate
from firewall.verdict import Reason, Verdict
from tests.sinks.making import failure, report, until


@pytest.mark.parametrize(
    ("named", "words"),
    [
        ("xml:x", "--output must be '-' .stdout., 'off', jsonl:PATH, video:PATH.mp4, .* got 'xml:x'"),
        ("jsonl:", "got 'jsonl:'"),
        ("jsonl", "got 'jsonl'"),
        ("mqtt:host", "got 'mqtt:host'"),
        ("", "got ''"),
        ("jsonl:v?size=0", "option 'size' of --output jsonl:v must be a size of 4K or more such as 10M, got '0'"),
        ("jsonl:v?size=ten", "got 'ten'"),
        ("jsonl:v?size=10M&keep=0", "'keep' of --output jsonl:v must be a whole number from 1 to 10000, got '0'"),
        ("jsonl:v?keep=many", "got 'many'"),
        ("jsonl:v?days=3", "has no option 'days'; it knows size, keep"),
        ("jsonl:v?keep=3&keep=4", "has an option twice"),
        ("jsonl:?keep=3", "names no file; give jsonl:PATH"),
        ("quarantine:", "got 'quarantine:'"),
        ("quarantine:q?size=4K", "'size' of --output quarantine:q must be a size of 1M or more such as 10M, got '4K'"),
        ("quarantine:q?days=0", "'days' of --output quarantine:q must be a whole number from 1 to 36500, got '0'"),
        ("quarantine:q?rate=-1", "'rate' of --output quarantine:q must be a whole number from 1 to 100000, got '-1'"),
        ("quarantine:q?keep=3", "has no option 'keep'; it knows size, days, rate"),
        ("quarantine:nowhere/q", "can't keep evidence in nowhere/q: No such file"),
        ("video:v.avi", "must end with .mp4"),
        ("mcap:v", "must end with .mcap"),
        ("jsonl:nowhere/v", "can't write verdict lines to nowhere/v: No such file"),
        ("video:nowhere/v.mp4", "can't write video to nowhere/v.mp4: No such file"),
        ("mcap:nowhere/v.mcap", "can't write to nowhere/v.mcap: No such file"),
        ("mqtt://", "names no broker; give mqtt://HOST"),
        ("mqtt://user:secret@:1883/x", "names no broker"),
        ("mqtt://host:0", "names no broker"),
        ("mqtt://host:port", "the port must be a number from 1 to 65535"),
        ("mqtt://host/a/+/b", "a topic can't hold"),
        ("mqtt://host/a#b", "a topic can't hold"),
        ("mqtt://host/$SYS", "begin with"),
        ("mqtt://[::1", "is no valid URI: Invalid IPv6 URL"),
        ("mqtt://guard:secret@[::1", "is no valid URI"),
        ("mqtt://host/\udcff", "is no valid URI: 'utf-8' codec can't encode"),
        ("can://[::1", "is no valid URI"),
        ("mqtt:/guard:secret@host", "got 'mqtt:...@host'"),
        ("mqtt://host?qos=2", "has no option 'qos'; it knows stale_ms"),
        ("mqtt://host?keepalive=0", "from 1 to 3600, got '0'"),
        ("mqtts://host?ca=nowhere.pem", "there is no file nowhere.pem"),
        ("mqtts://host?ca=", "option 'ca' of --output mqtts://host:8883/firewall/front is empty"),
        ("can://", "names no channel; give can://can0"),
        ("can://can0?interface=pigeon", "python-can has no interface 'pigeon'; it has .*socketcan"),
        ("can://can0?dbc=nowhere.dbc", "can't read the DBC nowhere.dbc"),
    ],
)
def test_what_can_not_be_used_is_one_line(
    named: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It names the value, what is allowed and what to do; a password is never repeated; what was opened before it is
    closed again."""
    monkeypatch.chdir(tmp_path)
    before = threading.active_count()
    with pytest.raises(FirewallError, match=words) as caught:
        open_outputs(["jsonl:first", named], camera="front")
    assert "\n" not in str(caught.value) and "secret" not in str(caught.value)
    assert threading.active_count() == before


@pytest.mark.parametrize(
    "named",
    [
        ["-", "jsonl:-"],
        ["jsonl:v", "-", "jsonl:v"],
        ["jsonl:v", "jsonl:./v?size=1M"],
        ["jsonl:v.mp4", "video:v.mp4"],
        ["can://twice?interface=virtual", "can://twice?interface=virtual"],
    ],
)
def test_an_output_that_is_named_twice_is_refused(
    named: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lines would be mixed up; also where a file is spelt in two ways."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="is named twice"):
        open_outputs(named, camera="front")


def test_a_named_pipe_whose_reader_comes_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A live camera waits for nobody: lines are dropped and counted until a reader is there, and again when it has
    gone; a file waits for its reader and loses none."""
    monkeypatch.setattr("firewall.sinks.outlet._FIRST_DELAY", 0.05)
    path = tmp_path / "pipe"
    os.mkfifo(path)
    outlets = open_outputs([f"jsonl:{path}"], camera="front")
    outlets.report(report(0))
    assert not outlets.health()[0].healthy
    with path.open() as reader:
        until(lambda: outlets.health()[0].healthy)
        outlets.report(report(1))
        assert json.loads(reader.readline())["sequence"] == 1
    got: list[str] = []
    thread = threading.Thread(target=lambda: got.extend(path.read_text().splitlines()))
    outlets.close()
    thread.start()
    waiting = open_outputs([f"jsonl:{path}"], camera="front", lossless=True)
    for number in range(5):
        waiting.report(report(number))
    waiting.close()
    thread.join()
    assert len(got) == 10 and outlets.health()[0].dropped == 1


@pytest.mark.parametrize(
    ("module", "named", "extra"),
    [
        ("paho.mqtt.client", "mqtt://host", "mqtt"),
        ("can", "can://can0", "can"),
        ("cantools", "can://can0", "can"),
        ("mcap", "mcap:v.mcap", "mcap"),
    ],
)
def test_a_missing_package_is_named_with_its_extra(
    module: str, named: str, extra: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line that says what to install."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError, match=rf"pip install 'perception-firewall\[{extra}\]'$"):
        open_outputs([named], camera="front")


def test_off_is_nothing_and_files_are_opened(tmp_path: Path) -> None:
    """Each with its name; a question mark that no option follows is part of a file's name."""
    assert open_outputs(["off"], camera="front").outlets == ()
    odd = tmp_path / "what?.jsonl"
    outlets = open_outputs([f"jsonl:{odd}", f"jsonl:{tmp_path}/b.jsonl?size=1MiB&keep=2"], camera="front")
    outlets.report(report(1))
    outlets.close()
    assert [each.name for each in outlets.health()] == [f"jsonl:{odd}", f"jsonl:{tmp_path}/b.jsonl"]
    assert odd.read_text().count("\n") == (tmp_path / "b.jsonl").read_text().count("\n") == 2


def test_brokers_and_buses_are_opened() -> None:
    """A broker that isn't there is said and tried again; a bus takes messages at once."""
    said: list[str] = []
    outlets = open_outputs(
        ["mqtt://guard:secret@127.0.0.1:1/car", "can://opening?interface=virtual"], camera="front", say=said.append
    )
    outlets.report(report(1))
    outlets.close()
    broker, bus = outlets.health()
    assert (broker.name, broker.healthy, broker.dropped) == ("mqtt://127.0.0.1:1/car", False, 1)
    assert (bus.name, bus.healthy, bus.taken) == ("can://opening", True, 1)
    assert "can't connect to mqtt://127.0.0.1:1/car: " in said[0] and not any("secret" in line for line in said)


def test_standard_output_takes_lines_and_is_not_opened_again(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`-`: as before, and a closed one is a failure for good."""
    outlets = open_outputs(["-"], camera="front", operator=True)
    outlets.report(report(1))
    outlets.close()
    first, second = map(json.loads, capsys.readouterr().out.splitlines())
    assert first["decision"] == "release" and "scores" in second
    full = Path("/dev/full").open("w", encoding="utf-8")  # noqa: SIM115
    monkeypatch.setattr("sys.stdout", full)
    outlets = open_outputs(["-"], camera="front")
    outlets.report(report(1))
    until(lambda: outlets.outlets[0].failed)
    with pytest.raises(FirewallError, match="No space left"):
        outlets.close()
    assert not full.closed
    with suppress(OSError):  # closing tries to write once more
        full.close()


def test_a_full_disk_ends_the_guard_only_where_nobody_else_listens(tmp_path: Path) -> None:
    """/dev/full and a file: the file gets every line, the failure is said and stands in the exit code; alone it ends
    the guard."""
    said: list[str] = []
    outlets = open_outputs(["jsonl:/dev/full", f"jsonl:{tmp_path}/v"], camera="front", say=said.append)
    for number in range(30):
        outlets.report(report(number))
    with pytest.raises(FirewallError, match="can't write verdict lines to /dev/full: No space left"):
        outlets.close()
    assert (tmp_path / "v").read_text().count("\n") == 60
    assert said[0].startswith("output jsonl:/dev/full failed: can't write") and outlets.health()[1].dropped == 0
    alone = open_outputs(["jsonl:/dev/full"], camera="front")

    def ended(alone: Outlets = alone) -> bool:
        try:
            alone.report(report(0))
        except FirewallError:
            return True
        return False

    until(ended)
    alone.close()  # said once


def test_files_are_moved_up(tmp_path: Path) -> None:
    """log.jsonl becomes log.1.jsonl, older ones move up, the oldest goes; a gap harms nothing."""
    path = tmp_path / "log.jsonl"
    for content in "abcde":
        path.write_text(content)
        rotate(path, 3)
    assert [numbered(path, number).read_text() for number in (1, 2, 3)] == ["e", "d", "c"]
    assert sorted(each.name for each in tmp_path.iterdir()) == ["log.1.jsonl", "log.2.jsonl", "log.3.jsonl"]
    numbered(path, 1).unlink()
    rotate(path, 3)  # there is none to move
    assert [each.name for each in tmp_path.iterdir()] == ["log.3.jsonl"]


def test_labels_may_be_used_while_fresh_frames_come() -> None:
    """Not before the first frame, not after a failure, not when the newest frame is old or a self-test has failed."""
    guarding = Guarding(5.0)
    assert not guarding
    guarding.seen(report(1))
    assert guarding
    guarding.seen(failure(2))
    assert not guarding
    guarding.seen(report(3, age=6.0))
    assert not guarding
    guarding.seen(report(4, Verdict("cam", 4, (0, 0, 9, 9), reason=Reason.SELF_TEST)))
    assert not guarding
