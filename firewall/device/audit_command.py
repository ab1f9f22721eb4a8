"""`firewall audit`: is a log as it was written, and what does it say besides verdicts?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from firewall.errors import FirewallError
from firewall.host.output import json_text, print_line, readable

__all__ = ["audit_app"]

audit_app = typer.Typer(help="Check, or read, an audit log that 'serve --output audit:FOLDER' wrote.")

_Folder = Annotated[Path, typer.Argument(metavar="FOLDER", help="The audit log.")]
_Trust = Annotated[Path | None, typer.Option(metavar="KEY.pub", help="Public keys in PEM whose signatures count.")]
#: What each record has, and nobody has to read.
_OF_THE_CHAIN = ("number", "previous", "hash", "event", "time", "monotonic_ns")


@audit_app.command()
def verify(folder: _Folder, trust: _Trust = None) -> None:
    """Find lines that were changed, left out or moved. Exit code 1 if there are any."""
    _checked(folder, trust)


@audit_app.command()
def show(
    folder: _Folder,
    trust: _Trust = None,
    event: Annotated[
        list[str] | None,
        typer.Option(metavar="KIND", help="Only such records; may be repeated.  \\[default: all but verdict]"),
    ] = None,
) -> None:
    """Print the records: starts with their settings and bundle, changes of state, integrity checks, where evidence
    lies, what was missed, refused starts. Then as 'verify'."""
    from firewall.sinks.audit_check import audit_records

    for file, record in audit_records(folder):
        kind = str(record.get("event"))
        if kind in event if event else kind != "verdict":
            print_line(readable(f"{file}:{record.get('number')} {record.get('time') or '-'} {kind}{_told(record)}"))
    _checked(folder, trust)


def _told(record: dict[str, Any]) -> str:
    return "".join(
        f" {name}={value if isinstance(value, str) and value and ' ' not in value else json_text(value, compact=True)}"
        for name, value in record.items()
        if name not in _OF_THE_CHAIN
    )


def _checked(folder: Path, trust: Path | None) -> None:
    from firewall.bundle.signature import read_public
    from firewall.sinks.audit_check import check_audit

    found = check_audit(folder, () if trust is None else read_public(trust))
    for line in found.lines(signed=trust is not None):
        print_line(readable(line))
    if found.faults:
        raise FirewallError(f"the audit log {folder} is not as it was written: {len(found.faults)} faults")
