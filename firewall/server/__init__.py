"""The web side: live page, health, metrics. It tells what was released and what was withheld, never a score."""

from firewall.server.app import create_app
from firewall.server.camera_view import Watched
from firewall.server.connection import Limits
from firewall.server.hosts import HostNames
from firewall.server.http import HttpServer, parse_address
from firewall.server.monitor import Monitor
from firewall.server.states import Change, State

__all__ = [
    "Change",
    "HostNames",
    "HttpServer",
    "Limits",
    "Monitor",
    "State",
    "Watched",
    "create_app",
    "parse_address",
]
