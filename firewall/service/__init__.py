"""The firewall around a stream: capture -> regions -> screening -> sinks. `firewall serve` runs it."""

from firewall.decision.over_time import DRIFT_FILE, TRACKS_FILE, over_time
from firewall.service.camera import Camera, Summary
from firewall.service.loop import Service
from firewall.service.signals import reopen_on_hangup, stop_on_signals
from firewall.service.together import Together

__all__ = [
    "DRIFT_FILE",
    "TRACKS_FILE",
    "Camera",
    "Service",
    "Summary",
    "Together",
    "over_time",
    "reopen_on_hangup",
    "stop_on_signals",
]
