"""The verdict on one region of one frame, and the line that tells of it."""

from firewall.verdict.line import SCHEMA, VerdictLine, verdict_schema
from firewall.verdict.stamp import BundleStamp, Stamp, Stamps
from firewall.verdict.verdict import Reason, Verdict

__all__ = ["SCHEMA", "BundleStamp", "Reason", "Stamp", "Stamps", "Verdict", "VerdictLine", "verdict_schema"]
