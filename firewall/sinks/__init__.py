"""Where verdicts go."""

from firewall.sinks.json_lines import JsonLines
from firewall.sinks.report import FrameReport, Sink

__all__ = ["FrameReport", "JsonLines", "Sink"]
