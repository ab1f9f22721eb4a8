"""Requests byte for byte, as no well-behaved client would send them."""

from __future__ import annotations

import socket
from urllib.parse import urlsplit

from firewall.server import HttpServer

PATIENT = 30.0  # seconds: the machine may be busy


def dial(server: HttpServer, *, source: str = "127.0.0.1") -> socket.socket:
    """A connection to it. source: which address of this machine it comes from."""
    address = urlsplit(server.url)
    return socket.create_connection((address.hostname or "", address.port or 0), PATIENT, (source, 0))


def answer(server: HttpServer, request: bytes) -> tuple[int, str]:
    """(status, all that came after the status line) of one request; it must have the server close the connection."""
    with dial(server) as client:
        client.sendall(request)
        received = b""
        while data := client.recv(65536):
            received += data
    line, _, rest = received.decode("latin-1").partition("\r\n")
    return int(line.split()[1]), rest


def is_closed(client: socket.socket) -> bool:
    """The server ends it; waits for that. False if it stays open."""
    try:
        while client.recv(65536):
            pass
    except TimeoutError:
        return False
    except ConnectionError:
        return True
    return True
