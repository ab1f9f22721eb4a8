"""How long a verdict takes on this machine, and how much of that is the firewall's: `firewall bench`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from firewall.bench.fields import Summary, least_samples, summary
    from firewall.bench.measuring import Plan, measure
    from firewall.bench.report import Report, read
    from firewall.bench.tables import render

__all__ = ["Plan", "Report", "Summary", "least_samples", "measure", "read", "render", "summary"]

_HOMES = {
    "Plan": "measuring",
    "Report": "report",
    "Summary": "fields",
    "least_samples": "fields",
    "measure": "measuring",
    "read": "report",
    "render": "tables",
    "summary": "fields",
}


def __getattr__(name: str) -> Any:
    # Imported on first use: the command line has to start in a blink.
    if name not in _HOMES:
        raise AttributeError(f"module 'firewall.bench' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"firewall.bench.{_HOMES[name]}"), name)
