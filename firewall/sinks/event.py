"""What happens to the guard itself, besides the verdicts: a record of its own kind in the audit log."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from firewall.verdict import Stamp

__all__ = ["Event", "now"]


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened.

    Attributes:
        kind: What, as `event` says in the audit log: `state`, `integrity` ...; docs/outputs.md has all of them.
        told: What there is to say of it, ready for JSON.
        when: By both clocks, see `now`.
    """

    kind: str
    told: Mapping[str, Any]
    when: Mapping[str, Any]

    @classmethod
    def of(cls, kind: str, **told: Any) -> Event:
        """What happens now."""
        return cls(kind, told, now())

    def record(self) -> dict[str, Any]:
        """As the audit log has it."""
        return {"event": self.kind, **self.told, **self.when}


def now() -> dict[str, Any]:
    """This moment by both clocks: `time` in UTC as RFC 3339, `monotonic_ns` of this machine."""
    return {"time": Stamp(time_us=time.time_ns() // 1000).time, "monotonic_ns": time.monotonic_ns()}
