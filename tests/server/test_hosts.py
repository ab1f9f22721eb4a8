"""Under which hosts the page answers, over real sockets and byte for byte."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from firewall.errors import UsageError
from firewall.server import HostNames, HttpServer, Monitor, create_app
from tests.server.wire import answer

LIVE = "/v2/health/live"


@pytest.fixture(scope="module")
def everywhere() -> Iterator[HttpServer]:
    """A server as in a container, bound to all addresses, whose user allows some names."""
    monitor = Monitor(source="test://", bundle="standing", live=False)
    app = create_app(monitor, host="0.0.0.0", names=["firewall", "*.lan", "Straße.example"])
    with HttpServer(app, "0.0.0.0", 0) as server:
        yield server


def ask(server: HttpServer, *hosts: str, target: str = LIVE, version: str = "1.1") -> tuple[int, str]:
    """The answer to one request with these Host headers."""
    lines = [f"GET {target} HTTP/{version}", *(f"Host: {host}" for host in hosts), "Connection: close", "", ""]
    return answer(server, "\r\n".join(lines).encode("latin-1"))


@pytest.mark.parametrize(
    "host",
    [
        *("192.0.2.7", "192.0.2.7:18080", "10.0.0.1:80", "127.0.0.1.", "0.0.0.0:8080", "255.255.255.255"),
        *("[2001:db8::7]", "[2001:DB8::7]:8080", "[fe80::1%eth0]:8080", "[fe80::1%25eth0]", "[::ffff:192.0.2.7]:80"),
        *("localhost", "LocalHost:8080", "localhost.", "localhost:", ""),
        *("firewall", "FIREWALL:8080", "firewall.", "cam.lan", "a.b.lan:80", "xn--strae-oqa.example"),
    ],
)
def test_addresses_and_allowed_names_pass(everywhere: HttpServer, host: str) -> None:
    """Behind a published port, by an address of the LAN, by an allowed name; in any case, with port or final dot."""
    assert ask(everywhere, host)[0] == 200
    for path in ("/", "/metrics"):
        assert ask(everywhere, host, target=path)[0] == 200


def test_the_machines_own_name_passes_where_all_addresses_are_bound(everywhere: HttpServer) -> None:
    """The hostname, and that name in .local."""
    for name in (socket.gethostname(), f"{socket.gethostname()}.local:8080"):
        assert ask(everywhere, name)[0] == 200


@pytest.mark.parametrize(
    "host",
    [
        *("evil.example", "evil.example:8080", "192.0.2.7.evil.example", "127.0.0.1.nip.io", "localhost.evil.example"),
        *("lan", "evil-lan", "cam.lan.evil.example", "notfirewall", "firewall.evil.example", "xn--80ak6aa92e.com"),
        *("0x7f.1", "2130706433", "127.1", "017700000001"),
        *(
            "[::1]evil",
            "[::1",
            "::1",
            "[127.0.0.1]",
            "[v1.x]",
            "[]",
            "192.0.2.7:99999",
            "192.0.2.7:x",
            "192.0.2.7:80:80",
        ),
        *(
            "user@192.0.2.7",
            "192.0.2.7@evil.example",
            "192.0.2.7,evil.example",
            "192.0.2.7 evil.example",
            "192.0.2.7/x",
        ),
        *("192.0.2.7:\xb2", "a..b", "\xe9.example"),
    ],
)
def test_a_foreign_name_is_refused(everywhere: HttpServer, host: str) -> None:
    """Also one that only looks like an address: a page elsewhere can't read this one under a name of its own."""
    status, rest = ask(everywhere, host)
    assert status in (400, 421)
    assert "live" not in rest.replace("live page", "")


def test_the_refusal_says_what_to_do(everywhere: HttpServer) -> None:
    """The name that was asked for, and how it is allowed on the command line, in the file and in the environment."""
    status, rest = ask(everywhere, "Guard.Example.:8080")
    assert status == 421
    assert "--http-name guard.example" in rest and "http_names" in rest and "FIREWALL_HTTP_NAMES" in rest
    assert "IP address" in rest


def test_a_request_without_a_host(everywhere: HttpServer) -> None:
    """HTTP/1.0 may leave the header out, as probes of orchestrators do; HTTP/1.1 may not; nobody may send two."""
    assert ask(everywhere, version="1.0")[0] == 200
    assert ask(everywhere, version="1.1")[0] == 400
    for version in ("1.0", "1.1"):
        assert ask(everywhere, "localhost", "localhost", version=version)[0] == 400
        assert ask(everywhere, "localhost", "evil.example", version=version)[0] == 400


@pytest.mark.parametrize(
    ("target", "host", "status"),
    [
        (f"http://192.0.2.7:8080{LIVE}", "evil.example", 200),
        (f"HTTP://firewall{LIVE}?x=1", "firewall", 200),
        (f"https://localhost{LIVE}", "localhost", 200),
        ("http://localhost", "localhost", 200),
        (f"http://evil.example{LIVE}", "localhost", 421),
        (f"http://localhost@evil.example{LIVE}", "localhost", 400),
        (f"http://{LIVE}", "localhost", 400),
        (f"ftp://localhost{LIVE}", "localhost", 404),
        ("*", "localhost", 404),
    ],
)
def test_a_whole_url_as_target_names_the_host(everywhere: HttpServer, target: str, host: str, status: int) -> None:
    """As sent to a proxy: the URL's host counts and not the header's (RFC 9112, 3.2.2)."""
    assert ask(everywhere, host, target=target)[0] == status


def test_loopback_still_refuses_names(server: HttpServer) -> None:
    """With the default address only localhost and addresses pass; a name of this machine doesn't."""
    assert ask(server, "127.0.0.1")[0] == ask(server, "localhost")[0] == 200
    assert ask(server, socket.gethostname() + ".example")[0] == ask(server, "firewall")[0] == 421


def test_every_name_can_be_allowed() -> None:
    """'*' is for who has a proxy in front that knows its names; what is no name stays refused."""
    names = HostNames("0.0.0.0", ["*"])
    assert names.refusal("evil.example:80") == ""
    assert names.refusal("evil example") and names.refusal("[::1")


@pytest.mark.parametrize(
    "name",
    ["", " ", "http://firewall", "firewall:8080", "firewall/x", "a b", "*.", "**", "a*", "10.0.0.1", "[::1]", "*.*"],
)
def test_what_is_no_name_is_refused_at_the_start(name: str) -> None:
    """In one line that names it, before anything is served."""
    with pytest.raises(UsageError, match="--http-name") as caught:
        HostNames("127.0.0.1", [name])
    assert "\n" not in str(caught.value)
