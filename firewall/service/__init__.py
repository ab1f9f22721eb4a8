"""The firewall around a stream: capture -> regions -> screening -> sinks. `firewall serve` runs it."""

from firewall.decision.over_time import DRIFT_FILE, TRACKS_FILE, over_time
from firewall.service.loop import Service, Summary
from firewall.service.signals import reopen_on_hangup, stop_on_signals

__all__ = [
    "DRIFT_FILE",
    "TRACKS_FILE",
    "Service",
    "Summary",
    "over_time",
    "reopen_on_hangup",
    "stop_on_signals",
]
