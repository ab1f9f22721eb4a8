"""Where verdicts go."""

from firewall.sinks.event import Event
from firewall.sinks.json_lines import JsonLines
from firewall.sinks.opening import open_outputs
from firewall.sinks.outlet import Outlet, Outlets, OutputHealth
from firewall.sinks.report import FrameReport, Output, Sink

__all__ = ["Event", "FrameReport", "JsonLines", "Outlet", "Outlets", "Output", "OutputHealth", "Sink", "open_outputs"]
