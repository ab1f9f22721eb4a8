"""Who asks, whether they may, and how often: tokens, certificates, rates, places."""

from __future__ import annotations

import hmac
import ssl
import time
from collections import Counter, OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from ipaddress import ip_address
from pathlib import Path

from starlette.requests import Request

from firewall.config.secret import named_secret, read_secret
from firewall.errors import UsageError
from firewall.gate.refusal import Code, Refusal
from firewall.server.connection import Connection, network

__all__ = ["Places", "Rates", "Tokens", "client_of", "is_loopback", "tls_context"]

_SHORTEST_TOKEN = 16
_LONGEST_FILE = 1 << 16
_MAKE = "make a token with: (umask 077; openssl rand -hex 32 > FILE)"
_MOST_CLIENTS = 4096


class Tokens:
    """The bearer tokens that are let in. Only their digests are kept."""

    def __init__(self, where: str) -> None:
        """Read them.

        Args:
            where: A file with one token a line, or a client's name, a space and its token; or `env:NAME`.

        Raises:
            UsageError: If there is none, one is too short, or others may read the file.
        """
        content = read_secret(where, option="--token", holds="token", make=_MAKE, most=_LONGEST_FILE + 1)
        named = f"--token {named_secret(where)}"
        if len(content) > _LONGEST_FILE:
            raise UsageError(f"{named} is longer than {_LONGEST_FILE} bytes; {_MAKE}")
        self._names: dict[bytes, str] = {}
        for number, line in enumerate(content.decode("utf-8", "replace").splitlines(), 1):
            words = line.split()
            if not words:
                continue
            token = words[-1]
            if len(words) > 2 or len(token) < _SHORTEST_TOKEN or not token.isascii() or not token.isprintable():
                raise UsageError(
                    f"{named}: line {number} holds no token: at least {_SHORTEST_TOKEN} characters of ASCII without "
                    f"space, after the client's name and a space if it has one; {_MAKE}"
                )
            self._names[sha256(token.encode()).digest()] = _plain(words[0]) if len(words) == 2 else f"token {number}"
        if not self._names:
            raise UsageError(f"{named} holds no token; {_MAKE}")

    def client(self, header: str | None) -> str:
        """The name of the client that has this Authorization header.

        Raises:
            Refusal: If it has none, or another than 'Bearer TOKEN' with a token that is let in.
        """
        scheme, _, token = (header or "").partition(" ")
        digest = sha256(token.strip().encode("utf-8", "surrogateescape")).digest()
        found = ""
        for known, name in self._names.items():  # all of them, so that the time tells nothing
            if hmac.compare_digest(known, digest):
                found = name
        if scheme.lower() != "bearer" or not found:
            raise Refusal(
                Code.UNAUTHORIZED,
                "this gate wants the header 'Authorization: Bearer TOKEN'",
                headers={"WWW-Authenticate": "Bearer"},
            )
        return found


def client_of(request: Request, tokens: Tokens | None) -> str:
    """Who asks: the token's name, else the certificate's, else the address.

    Raises:
        Refusal: If a token is wanted and there is none that is let in.
    """
    if tokens is not None:
        given = request.headers.getlist("authorization")
        return tokens.client(given[0] if len(given) == 1 else None)
    connection: Connection = request.state.connection
    certificate = connection.transport.get_extra_info("peercert")
    if certificate:
        names = [value for part in certificate.get("subject", ()) for key, value in part if key == "commonName"]
        return f"certificate {_plain(names[0] if names else certificate.get('serialNumber', ''))}"
    return network(request.client.host) if request.client else "nobody"


def _plain(name: str) -> str:
    """A certificate's name as one word of a log line."""
    return "".join(each if each.isprintable() and not each.isspace() else "_" for each in name[:64])


def is_loopback(host: str) -> bool:
    """Whether a host to bind is this machine's own: only its own programs reach it."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def tls_context(certificate: Path | None, key: Path | None, client_ca: Path | None) -> ssl.SSLContext | None:
    """What HTTPS is spoken with; None for HTTP.

    Args:
        certificate: The server's certificate and those above it, in PEM.
        key: Its private key in PEM, not encrypted.
        client_ca: Who signs the certificates of clients. None: clients need none.

    Raises:
        UsageError: If a file is missing or can't be used.
    """
    if certificate is None or key is None:
        if certificate or key or client_ca:
            raise UsageError("--tls-cert and --tls-key go together, and --client-ca needs both; name the missing file")
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(certificate, key, password=_no_password)
    except (OSError, ssl.SSLError, ValueError) as error:
        raise UsageError(f"can't use --tls-cert {certificate} with --tls-key {key}: {_why(error)}") from None
    if client_ca is not None:
        try:
            context.load_verify_locations(client_ca)
        except (OSError, ssl.SSLError) as error:
            raise UsageError(f"can't use --client-ca {client_ca}: {_why(error)}") from None
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def _no_password() -> str:
    raise ValueError("the key is encrypted; give one that is not, readable by the firewall's user alone")


def _why(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        return f"{error.reason or 'no certificate or key in PEM'}"
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


class Rates:
    """How many images a client may have judged a second: a bucket of one second's worth for each client."""

    def __init__(self, rate: float) -> None:
        """Take a rate.

        Args:
            rate: Images a second; 0: no limit.
        """
        self._rate = rate
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, client: str, images: int) -> None:
        """Count some images.

        Args:
            client: Who asks.
            images: How many.

        Raises:
            Refusal: If the bucket was empty before. A request may empty it beyond zero, and then waits longer.
        """
        if not self._rate:
            return
        now, most = time.monotonic(), max(1.0, self._rate)
        left, then = self._buckets.pop(client, (most, now))
        left = min(most, left + (now - then) * self._rate)
        allowed = left > 0
        self._buckets[client] = (left - images if allowed else left, now)
        if len(self._buckets) > _MOST_CLIENTS:
            self._buckets.popitem(last=False)
        if not allowed:
            raise Refusal(
                Code.TOO_MANY_REQUESTS,
                f"more than {self._rate:g} images a second; ask again later",
                headers={"Retry-After": str(max(1, round((1 - left) / self._rate)))},
            )


class Places:
    """How many whole requests are in hand at a time, and how many of these of one client."""

    def __init__(self, most: int) -> None:
        """Take a number.

        Args:
            most: Requests in hand; one client has at most half of the places, and one at least.
        """
        self._most, self._for_client = most, max(1, most // 2)
        self._taken: Counter[str] = Counter()

    @property
    def taken(self) -> int:
        """Requests in hand."""
        return sum(self._taken.values())

    @contextmanager
    def one(self, client: str) -> Iterator[None]:
        """A place, inside the block.

        Raises:
            Refusal: If there is none.
        """
        if self.taken >= self._most or self._taken[client] >= self._for_client:
            whose = "of this client " if self.taken < self._most else ""
            raise Refusal(
                Code.BUSY, f"too many requests {whose}are in hand; ask again later", headers={"Retry-After": "1"}
            )
        self._taken[client] += 1
        try:
            yield
        finally:
            self._taken[client] -= 1
            if not self._taken[client]:
                del self._taken[client]
