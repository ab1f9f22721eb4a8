"""Under which hosts the page answers: any address, localhost, and the names that its user allows.

A page elsewhere can have its own name point to this machine (DNS rebinding) and then read answers as its own. It needs
a name for that, so a request that names an address, or no host at all, is none of those.
"""

from __future__ import annotations

import ipaddress
import re
import socket
import unicodedata
from collections.abc import Iterable
from urllib.parse import unquote

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from firewall.errors import UsageError

__all__ = ["SECURITY_HEADERS", "Guard", "HostNames", "is_any_address"]

SECURITY_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}

_NAME = re.compile(r"[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*")
_AUTHORITY = re.compile(r"(?:\[(?P<v6>[^\[\]]*)\]|(?P<name>[^:\[\]]*))(?::(?P<port>[0-9]{0,5}))?")
_ABSOLUTE = re.compile(rb"https?://(?P<authority>[^/]*)(?P<path>/.*)?", re.IGNORECASE | re.DOTALL)


def is_any_address(host: str) -> bool:
    """`host` stands for all addresses of this machine, such as 0.0.0.0 or ::."""
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False


class HostNames:
    """The hosts that are served."""

    def __init__(self, bound: str, allowed: Iterable[str] = ()) -> None:
        """Take the names that are allowed.

        Args:
            bound: What the server binds, a name or an address.
            allowed: Further names; '*.example.org' stands for all names below example.org, '*' for every name.

        Raises:
            UsageError: If one of them is not a host name.
        """
        self._names, self._below, self._all = {"localhost", bound.lower()}, [], False
        if is_any_address(bound):  # then people use the machine's name
            name = socket.gethostname().lower()
            self._names |= {name, f"{name}.local"}
        for text in allowed:
            name = _allowed(text)
            if name == "*":
                self._all = True
            elif name.startswith("*."):
                self._below.append(name[1:])
            else:
                self._names.add(name)

    def refusal(self, authority: str) -> str:
        """Why a request for that host isn't answered, for its sender to read; empty if it is.

        Args:
            authority: Value of a Host header, with or without port.
        """
        match = _AUTHORITY.fullmatch(authority.strip())
        if match is None or int(match["port"] or 0) > 65535:
            return "the host of this request is neither a name nor an address"
        if match["v6"] is not None:
            return "" if _is_v6(match["v6"]) else "the host of this request is no IPv6 address"
        name = match["name"].lower().removesuffix(".")
        if not name or _is_v4(name) or name in self._names:
            return ""
        if not _NAME.fullmatch(name):
            return "the host of this request is neither a name nor an address"
        if self._all or any(name.endswith(suffix) for suffix in self._below):
            return ""
        return (
            f"this firewall does not answer to the name {name}, so that no page elsewhere can read it; use its IP "
            f"address, or allow the name: --http-name {name} (in the settings file http_names, in the environment "
            "FIREWALL_HTTP_NAMES)"
        )


class Guard:
    """Refuses requests for hosts that aren't served, and puts the security headers on every answer."""

    def __init__(self, app: ASGIApp, names: HostNames) -> None:
        self._app, self._names = app, names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it with 421 or 400."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in SECURITY_HEADERS.items():
                    headers[name] = value
            await send(message)

        asked = Headers(scope=scope).getlist("host")
        target: bytes = scope["raw_path"]
        if len(asked) > 1:
            await PlainTextResponse("more than one Host header", 400)(scope, receive, send_guarded)
            return
        host = asked[0] if asked else ""
        if absolute := _ABSOLUTE.fullmatch(target):  # as sent to a proxy: its host counts, whatever the header says
            host = absolute["authority"].decode("latin-1")
            path = absolute["path"] or b"/"
            scope = {**scope, "raw_path": path, "path": unquote(path.decode("latin-1"))}
            if not host or "@" in host:
                await PlainTextResponse("the request's URL names no host", 400)(scope, receive, send_guarded)
                return
        refusal = self._names.refusal(host)
        if refusal:
            await PlainTextResponse(refusal, 421)(scope, receive, send_guarded)
        else:
            await self._app(scope, receive, send_guarded)


def _allowed(text: str) -> str:
    """A name that a user allows, as a Host header would give it."""
    name = unicodedata.normalize("NFC", text.strip().lower())
    if name == "*":
        return name
    stars, rest = ("*.", name[2:]) if name.startswith("*.") else ("", name)
    labels = rest.removesuffix(".").split(".")
    plain = ".".join(each if each.isascii() else f"xn--{each.encode('punycode').decode()}" for each in labels)
    if _is_v4(plain) or not _NAME.fullmatch(plain):
        raise UsageError(
            f"{text!r} is no name for --http-name; give a host name such as firewall.example or *.example, without "
            "http://, port or path; addresses need not be named"
        )
    return stars + plain


def _is_v4(text: str) -> bool:
    try:
        ipaddress.IPv4Address(text)
    except ValueError:
        return False
    return True


def _is_v6(text: str) -> bool:
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return True
