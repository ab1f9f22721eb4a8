"""A start that was refused leaves a record in the audit log, though no output was opened yet."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from firewall.errors import FirewallError
from firewall.sinks.audit_check import audit_records
from firewall.sinks.event import Event
from firewall.sinks.opening import AUDIT_OPTIONS, open_outputs
from firewall.sinks.options import path_and_options

__all__ = ["leave_refusal"]

#: Seconds in which the same refusal is written once: a service manager tries again every few seconds, and each try has
#: a file of its own, for which older ones would have to go.
AGAIN = 3600.0


def leave_refusal(named: Sequence[str], why: str, about: Mapping[str, Any]) -> None:
    """Write it to all audit logs. One that can't be written is left alone: why the start was refused is said anyhow.

    Args:
        named: All outputs, as settings name them.
        why: One line.
        about: As of AuditLog.
    """
    for text in named:
        if not text.startswith("audit:"):
            continue
        with suppress(FirewallError, OSError):
            if _said(path_and_options(text, AUDIT_OPTIONS)[0], why):
                continue
            log = open_outputs([text], camera="", lossless=True, about=about)
            log.event(Event.of("refused", why=why))
            log.close()


def _said(folder: Path, why: str) -> bool:
    """Whether the newest file says nothing else, a short while ago."""
    try:
        *_, (last, _) = audit_records(folder)
        told = [record for file, record in audit_records(folder) if file == last and record["event"] == "refused"]
        when = datetime.strptime(told[-1]["time"], "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=timezone.utc)
    except (FirewallError, ValueError, IndexError, TypeError):  # no log yet; or its newest file is of a guard that ran
        return False
    return bool(told[-1]["why"] == why and 0 <= time.time() - when.timestamp() < AGAIN)
