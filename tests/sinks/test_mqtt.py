"""Against a real mosquitto, which is killed and started again, and a reader of its own (mosquitto's library, paho)."""

from __future__ import annotations

import gc
import json
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pytest

from firewall.errors import FirewallError
from firewall.sinks import Outlet, outlet
from firewall.sinks.mqtt import MqttTarget
from tests.sinks.making import WITHHELD, failure, report, until


class Broker:
    """mosquitto on a port of its own."""

    def __init__(self, folder: Path, program: str, more: str = "") -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.config = folder / "mosquitto.conf"
        self.config.write_text(f"listener {self.port} 127.0.0.1\nuser root\n{more or 'allow_anonymous true'}\n")
        self.program = program
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Until it takes connections."""
        self.process = subprocess.Popen([self.program, "-c", self.config], stderr=subprocess.DEVNULL)

        def answers() -> bool:
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", self.port)) == 0

        until(answers)

    def kill(self) -> None:
        """kill -9."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    @property
    def uri(self) -> str:
        return f"mqtt://127.0.0.1:{self.port}"


class Reader:
    """A planner: all that comes below a prefix."""

    def __init__(self, port: int, prefix: str = "firewall/front") -> None:
        self.got: list[tuple[str, str, bool, int]] = []
        self.client = paho.Client(paho.CallbackAPIVersion.VERSION2)
        self.client.on_message = self._took
        ready = threading.Event()
        self.client.on_subscribe = lambda *_: ready.set()
        self.client.connect("127.0.0.1", port)
        self.client.subscribe(f"{prefix}/#", qos=1)
        self.client.loop_start()
        assert ready.wait(30)

    def _took(self, client: Any, data: Any, message: Any) -> None:
        self.got.append((message.topic.rsplit("/", 1)[1], message.payload.decode(), message.retain, message.qos))

    def states(self) -> list[str]:
        return [payload for topic, payload, _, _ in self.got if topic == "state"]

    def sequences(self) -> list[int]:
        return [json.loads(payload)["sequence"] for topic, payload, _, _ in self.got if topic == "verdict"]

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()


@pytest.fixture
def program() -> str:
    """The broker."""
    found = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin")
    if found is None:
        pytest.skip("mosquitto is not installed: apt-get install mosquitto")
    return found


@pytest.fixture
def broker(tmp_path: Path, program: str) -> Iterator[Broker]:
    """A broker that runs."""
    broker = Broker(tmp_path, program)
    broker.start()
    yield broker
    broker.kill()


@pytest.fixture
def reader(broker: Broker) -> Iterator[Reader]:
    """Of all that the guard says."""
    reader = Reader(broker.port)
    yield reader
    reader.close()


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outlet, "_FIRST_DELAY", 0.1)
    monkeypatch.setattr(outlet, "_LONGEST_DELAY", 0.1)


def target(uri: str, **given: Any) -> MqttTarget:
    return MqttTarget(uri, camera="front", **given)


def test_state_is_kept_and_verdicts_are_not(broker: Broker, reader: Reader) -> None:
    """`guarding` while fresh frames come; `withhold` before, on a failed source, when the newest frame grows old, and
    at the end. Who subscribes later learns the state and no old verdict. All with QoS 1."""
    connection = target(f"{broker.uri}?stale_ms=400").connect()
    connection.report(report(1))
    connection.report(report(2))
    until(lambda: reader.sequences() == [1, 1, 2, 2])
    assert reader.states() == ["withhold", "guarding"]
    late = Reader(broker.port)
    until(lambda: late.got)
    assert late.got == [("state", "guarding", True, 1)]
    late.close()
    connection.report(failure(3))
    until(lambda: reader.states()[2:] == ["withhold"])
    connection.report(report(4))
    until(lambda: reader.states()[3:] == ["guarding"])
    connection.tick()
    time.sleep(0.5)
    connection.tick()
    until(lambda: reader.states()[4:] == ["withhold"])
    connection.report(report(5))
    connection.close()
    until(lambda: reader.states()[5:] == ["guarding", "withhold"])
    assert {qos for *_, qos in reader.got} == {1}
    lines = [json.loads(payload) for topic, payload, _, _ in reader.got if topic == "verdict"]
    assert lines[0]["label_name"] == "stop" and "scores" not in lines[0] and lines[0]["camera"] == "front"
    assert [line["label"] for line in lines if line["decision"] == "withhold"] == [None] * 5


def test_the_broker_says_withhold_when_the_guard_dies(broker: Broker, reader: Reader) -> None:
    """A connection that just ends, as with kill -9 or a machine that loses power: the last will, retained."""
    connection = target(broker.uri, operator=True).connect()
    connection.report(report(1))
    until(lambda: reader.states() == ["withhold", "guarding"])
    channel: Any = connection._client.socket()
    connection._client.loop_stop  # noqa: B018 - left running: nobody says goodbye
    channel.shutdown(socket.SHUT_RDWR)
    until(lambda: reader.states()[2:] == ["withhold"])
    late = Reader(broker.port)
    until(lambda: late.got)
    assert late.got[0][:3] == ("state", "withhold", True)
    late.close()
    assert "scores" in json.loads(next(payload for topic, payload, *_ in reader.got if topic == "verdict"))
    with pytest.raises(FirewallError, match="the connection is lost"):
        connection.report(report(2))
    connection.close()


def test_a_broker_that_is_killed_and_started_again(broker: Broker) -> None:
    """Verdicts that came while it was away are counted and never sent; then `withhold`, then `guarding` and the new
    ones; the frame loop waited for none of it."""
    said: list[str] = []
    wanted = target(broker.uri)
    queue = Outlet(wanted.name, wanted.connect, network=True, say=said.append)
    queue.report(report(1))
    until(lambda: queue.health().taken == 1)
    broker.kill()
    until(lambda: not queue.health().healthy)
    for number in range(2, 50):
        queue.report(report(number))
    assert queue.failed is None
    broker.start()
    reader = Reader(broker.port)
    until(lambda: queue.health().healthy)
    queue.report(report(50))
    until(reader.sequences)
    queue.close()
    until(lambda: reader.states()[-3:] == ["withhold", "guarding", "withhold"])
    assert set(reader.sequences()) == {50}
    health = queue.health()
    assert health.dropped == 48 and health.taken == 2
    assert "connection is lost" in said[0] and any("works again" in line for line in said)
    reader.close()


def test_a_broker_that_hangs_holds_nobody(broker: Broker) -> None:
    """Stopped in its tracks (SIGSTOP): when too much is unconfirmed the connection counts as lost, and it is left in
    time."""
    connection = target(f"{broker.uri}?keepalive=60").connect()
    assert broker.process is not None
    broker.process.send_signal(signal.SIGSTOP)
    try:
        with pytest.raises(FirewallError, match="confirms no messages"):
            connection.report(report(1, *[WITHHELD] * 4000))
        connection.close()
    finally:
        broker.process.send_signal(signal.SIGCONT)


def test_a_broker_that_gives_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes the connection and says nothing; or none listens; or its name is unknown; or it speaks no TLS."""
    monkeypatch.setattr("firewall.sinks.mqtt._PATIENCE", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as mute:
        port = mute.getsockname()[1]
        with pytest.raises(FirewallError, match=r"gives no answer within 0\.3 s"):
            target(f"mqtt://127.0.0.1:{port}").connect()
    for uri in (f"mqtt://127.0.0.1:{port}", "mqtt://no-such-broker.invalid"):
        with pytest.raises(FirewallError, match="can't connect to mqtt://"):
            target(uri).connect()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # paho leaves a refused socket open
def test_passwords_and_tls(tmp_path: Path, program: str) -> None:
    """A broker that asks for both: a wrong password is refused in one line without it, the right one is taken, over TLS
    with the authority that is named and with no other."""
    openssl = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    certificate, key, users = tmp_path / "c.pem", tmp_path / "k.pem", tmp_path / "users"
    subject = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed: apt-get install openssl")
    subprocess.run([*openssl, *subject, "-out", certificate, "-keyout", key], check=True, capture_output=True)
    users.write_text("guard:right\n")
    subprocess.run([Path(program).parent.parent / "bin" / "mosquitto_passwd", "-U", users], check=True)
    broker = Broker(
        tmp_path, program, f"allow_anonymous false\npassword_file {users}\ncertfile {certificate}\nkeyfile {key}"
    )
    broker.start()
    try:
        place = f"127.0.0.1:{broker.port}/car%201/front?ca={certificate}"
        with pytest.raises(FirewallError, match="the broker refuses: not authori") as caught:
            target(f"mqtts://guard:wrong@{place}").connect()
        assert "wrong" not in str(caught.value)
        right = target(f"mqtts://guard:right@{place}")
        assert right.name == f"mqtts://127.0.0.1:{broker.port}/car 1/front"
        connection = right.connect()
        connection.report(report(1))
        connection.close()
        with pytest.raises(FirewallError, match=r"can't connect to mqtts://.*CERTIFICATE_VERIFY_FAILED"):
            target(f"mqtts://guard:right@127.0.0.1:{broker.port}").connect()
    finally:
        broker.kill()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # paho leaves a refused socket open
@pytest.mark.parametrize("kind", ["left", "killed", "refused", "mute", "no TLS"])
def test_a_connection_that_is_gone_leaves_nothing_open(
    broker: Broker, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """Left in peace, killed, refused, never answered, no TLS: as many files and threads are open as before, at once;
    not only when Python looks for cycles, which a guard in its daily work may not do for hours."""
    monkeypatch.setattr("firewall.sinks.mqtt._PATIENCE", 0.2)
    mute = socket.create_server(("127.0.0.1", 0))

    def once() -> None:
        if kind == "left":
            target(broker.uri).connect().close()
            return
        if kind == "killed":
            broker.start()
            connection = target(broker.uri).connect()
            broker.kill()
            until(lambda: connection._lost)
            connection.close()
            return
        port = mute.getsockname()[1] if kind == "mute" else broker.port if kind == "no TLS" else 1
        with pytest.raises(FirewallError):
            target(f"{'mqtts' if kind == 'no TLS' else 'mqtt'}://127.0.0.1:{port}").connect()

    if kind == "killed":
        broker.kill()
    once()
    gc.collect()
    gc.disable()
    try:
        before, threads = len(list(Path("/proc/self/fd").iterdir())), threading.active_count()
        for _ in range(4):
            once()
        if kind == "mute":
            until(lambda: threading.active_count() <= threads)
        assert len(list(Path("/proc/self/fd").iterdir())) <= before
        assert threading.active_count() <= threads
    finally:
        gc.enable()
        mute.close()
