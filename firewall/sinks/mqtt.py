"""Verdicts over MQTT 3.1.1, for planners and dashboards on other machines.

Below a prefix, `firewall/CAMERA` unless it is named; of several cameras each has a connection, and so a last will, of
its own, below `PREFIX/CAMERA`:

* `PREFIX/state`, retained, QoS 1: `guarding` while fresh frames are judged, else `withhold`. It is also the last will:
  when the guard or its machine dies, the broker itself says `withhold`.
* `PREFIX/verdict`, QoS 1, not retained: the verdict lines. A label that a broker kept would be used when it is old.

While the broker is away verdicts are dropped and counted. None is sent later: every connection begins with a client of
its own that knows nothing of the last one's messages.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, unquote

from firewall.errors import FirewallError, MissingExtraError, UsageError
from firewall.host.output import json_text
from firewall.sinks.guarding import Guarding
from firewall.sinks.options import Options, split_uri
from firewall.sinks.report import FrameReport, Output

if TYPE_CHECKING:
    import paho.mqtt.client as paho

__all__ = ["Mqtt", "MqttTarget"]

GUARDING, WITHHOLD = "guarding", "withhold"
_PATIENCE = 5.0  # seconds for a broker to answer
_GOODBYE = 1.0  # seconds for the last message
_MOST_UNANSWERED = 100  # messages; a broker that confirms none of them is as good as gone
_KNOWN = ("stale_ms", "keepalive", "ca", "client_id")


class MqttTarget:
    """A broker and what goes there: `mqtt://[USER:PASSWORD@]HOST[:PORT][/PREFIX]`, mqtts:// with TLS.

    Args:
        uri: As above.
        camera: Name of the camera.
        below: Whether it stands below a prefix that is named, too, and its client's name ends with it: there are
            others.
        operator: Add suspicion and detector scores to the verdict lines.

    Attributes:
        name: The URI without credentials and options.
        prefix: Of the topics.

    Raises:
        UsageError: If the URI can't be used.
        MissingExtraError: If paho-mqtt is not installed.
    """

    def __init__(self, uri: str, *, camera: str, below: bool = False, operator: bool = False) -> None:
        parts = split_uri(uri)
        self.host, self.port, self.tls = _address(parts)
        named = unquote(parts.path.strip("/"))
        self.prefix = f"{named or 'firewall'}/{camera}" if below or not named else named
        self.name = f"{parts.scheme}://{self.host}:{self.port}/{self.prefix}"
        if parts.fragment or self.prefix.startswith("$") or any(wild in self.prefix for wild in "+#\0"):
            raise UsageError(f"--output {self.name}: a topic can't hold + or # or begin with $; name a plain prefix")
        self.user = None if parts.username is None else unquote(parts.username)
        self.password = None if parts.password is None else unquote(parts.password)
        options = Options(self.name, parts.query, _KNOWN)
        self.stale = options.whole("stale_ms", 500, 10, 60_000) / 1e3
        self.keepalive = options.whole("keepalive", 5, 1, 3600)
        self.authority = options.text("ca", "") or None
        if self.authority is not None and not Path(self.authority).is_file():
            raise UsageError(f"option 'ca' of --output {self.name}: there is no file {self.authority}")
        self.client_id = options.text("client_id", "")
        if below and self.client_id:
            self.client_id += f"-{camera}"
        self.operator = operator
        try:
            import paho.mqtt.client as paho
        except ImportError as error:
            raise MissingExtraError(
                f"--output {self.name} needs paho-mqtt, which is not installed: pip install 'perception-firewall[mqtt]'"
            ) from error
        self._paho = paho

    def connect(self) -> Mqtt:
        """A connection on which the state has been set.

        Raises:
            FirewallError: If the broker can't be reached, or refuses.
        """
        paho = self._paho
        client = paho.Client(paho.CallbackAPIVersion.VERSION2, client_id=self.client_id, reconnect_on_failure=False)
        if self.user is not None:
            client.username_pw_set(self.user, self.password)
        client.connect_timeout = _PATIENCE
        client.max_queued_messages_set(_MOST_UNANSWERED)
        client.will_set(f"{self.prefix}/state", WITHHOLD, qos=1, retain=True)
        connection = Mqtt(self, client)
        try:
            if self.tls:
                client.tls_set(ca_certs=self.authority)
            client.connect(self.host, self.port, self.keepalive)
        except (OSError, ValueError) as error:
            connection.forget()
            raise FirewallError(f"can't connect to {self.name}: {error}") from error
        client.loop_start()
        try:
            connection.wait()
        except FirewallError:
            connection.close()
            raise
        return connection


class Mqtt(Output):
    """A connection to a broker. Made by MqttTarget.connect."""

    every = 0.1

    def __init__(self, target: MqttTarget, client: paho.Client) -> None:
        self._target, self._client = target, client
        self._guarding = Guarding(target.stale)
        self._said: str | None = None
        self._connected, self._ended = threading.Event(), threading.Event()
        self._lost = ""
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect

    def wait(self) -> None:
        """Wait for the broker's answer.

        Raises:
            FirewallError: If it refuses or doesn't answer.
        """
        if not self._connected.wait(_PATIENCE):
            raise FirewallError(f"{self._target.name} takes connections, but gives no answer within {_PATIENCE:g} s")
        self._check()
        self._state()

    def report(self, report: FrameReport) -> None:
        """Send the state, if it is another, and the verdicts."""
        self._check()
        self._guarding.seen(report)
        self._state()
        for verdict in report.verdicts:
            self._send("verdict", json_text(verdict.line(operator=self._target.operator)))

    def tick(self) -> None:
        """Take the state back if no fresh frame came."""
        self._check()
        self._state()

    def close(self) -> None:
        """Say `withhold` and leave."""
        if not self._lost:
            last = self._client.publish(f"{self._target.prefix}/state", WITHHOLD, qos=1, retain=True)
            if last.rc == 0:
                last.wait_for_publish(_GOODBYE)
        self._client.disconnect()
        self._ended.wait(_GOODBYE)
        self._client.loop_stop()
        self.forget()

    def forget(self) -> None:
        """Let go of the client, whose sockets are closed with it: at once, and not when Python looks for cycles."""
        self._client.on_connect = self._client.on_disconnect = None

    def _state(self) -> None:
        state = GUARDING if self._guarding else WITHHOLD
        if state != self._said:
            self._send("state", state, retain=True)
            self._said = state

    def _send(self, topic: str, payload: str, *, retain: bool = False) -> None:
        sent = self._client.publish(f"{self._target.prefix}/{topic}", payload, qos=1, retain=retain)
        if sent.rc != 0:
            raise FirewallError(f"{self._target.name} confirms no messages (error {int(sent.rc)} of paho-mqtt)")

    def _check(self) -> None:
        if self._lost:
            raise FirewallError(f"{self._target.name}: {self._lost}")

    def _on_connect(self, client: Any, data: Any, flags: Any, reason: Any, properties: Any) -> None:
        if reason.is_failure:
            self._lost = f"the broker refuses: {str(reason).lower()}"
        self._connected.set()

    def _on_disconnect(self, client: Any, data: Any, flags: Any, reason: Any, properties: Any) -> None:
        self._lost = self._lost or f"the connection is lost ({str(reason).lower()})"
        self._connected.set()
        self._ended.set()


def _address(parts: SplitResult) -> tuple[str, int, bool]:
    """(host, port, with TLS)."""
    tls = parts.scheme == "mqtts"
    shown = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
    try:
        port = parts.port
    except ValueError as error:
        raise UsageError(f"--output {shown}: the port must be a number from 1 to 65535") from error
    if not parts.hostname or port == 0:
        raise UsageError(f"--output {shown} names no broker; give {parts.scheme}://HOST[:PORT][/PREFIX]")
    return parts.hostname, port or (8883 if tls else 1883), tls
