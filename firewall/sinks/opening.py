"""What `--output` says, opened; GRAMMAR has all that can be said."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from firewall.errors import UsageError
from firewall.sinks.event import Event
from firewall.sinks.json_lines import JsonLines
from firewall.sinks.options import path_and_options, shown
from firewall.sinks.outlet import Outlet, Outlets
from firewall.sinks.report import Output

__all__ = ["AUDIT_OPTIONS", "GRAMMAR", "open_outputs"]

#: What can be named.
GRAMMAR = (
    "'-' (stdout), 'off', jsonl:PATH, video:PATH.mp4, mcap:PATH.mcap, audit:FOLDER, quarantine:FOLDER, "
    "mqtt://HOST[:PORT][/PREFIX], mqtts://... or can://CHANNEL"
)
_STREAMS = ("-", "jsonl:-")
_ROTATED = ("size", "keep")
#: What may follow audit:FOLDER.
AUDIT_OPTIONS = (*_ROTATED, "key", "passphrase_file", "sign_records", "sign_s", "fsync_s")
_SUFFIX = {"video": "mp4", "mcap": "mcap"}
_OF_ONE_CAMERA = ("mqtt", "mqtts", "video")
_PICTURES = 8  # reports with pixels in a queue, each some megabytes


def open_outputs(
    named: Sequence[str],
    *,
    camera: str,
    others: Sequence[str] = (),
    operator: bool = False,
    lossless: bool = False,
    about: Mapping[str, Any] | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> Outlets:
    """Open all outputs, each with a queue and thread of its own. Of several cameras each has a video, and a connection
    to a broker, of its own; lines, audit log, MCAP and bus are common, and tell them apart.

    Args:
        named: What GRAMMAR has; `off` is nothing.
        camera: Name of the camera, for topics.
        others: Names of the cameras besides.
        operator: Add suspicion and detector scores to the verdict lines.
        lossless: Whether the source waits, so that no report need be dropped.
        about: What the audit log says at its start, see AuditLog.
        say: Prints one line for the operator.

    Returns:
        The outputs.

    Raises:
        UsageError: If one can't be understood or written, or stands there twice.
        MissingExtraError: If the package that one needs is not installed.
    """
    wanted = [text for text in named if text != "off"]
    opened: list[Outlet] = []

    def tell(event: Event) -> None:
        for outlet in opened:
            outlet.event(event)

    try:
        for text in wanted:
            alone = others and text.partition(":")[0] in _OF_ONE_CAMERA
            for only in (camera, *others) if alone else (None,):
                if text.startswith("audit:") and text != "audit:":
                    outlet = _audit(text, operator, lossless, about, say)
                elif text.startswith("quarantine:") and text != "quarantine:":
                    outlet = _quarantine(text, operator, lossless, tell, say)
                else:
                    outlet = _open(text, (camera, *others), only, operator, lossless, say)
                places = [_place(each.name) for each in opened]
                opened.append(outlet)
                if _place(outlet.name) in places:
                    raise UsageError(f"--output {outlet.name} is named twice; name each output once")
    except BaseException:
        Outlets(opened).close()
        raise
    return Outlets(opened)


def _place(name: str) -> str:
    """Where an output of this name ends up; the same for two spellings of one file."""
    path = name.partition(":")[2]
    return name if not path or path.startswith("//") else str(Path(path).resolve())


def _open(
    text: str,
    cameras: tuple[str, ...],
    only: str | None,
    operator: bool,
    lossless: bool,
    say: Callable[[str], None],
) -> Outlet:
    """The output that `text` names; of several cameras for all, or for `only` one."""
    scheme, colon, rest = text.partition(":")
    if text in _STREAMS:
        return Outlet("-", lambda: JsonLines(sys.stdout, operator=operator), again=False, lossless=lossless, say=say)
    if scheme in ("mqtt", "mqtts") and rest.startswith("//"):
        from firewall.sinks.mqtt import MqttTarget

        broker = MqttTarget(text, camera=only or cameras[0], below=only is not None, operator=operator)
        return Outlet(broker.name, broker.connect, network=True, lossless=lossless, camera=only, say=say)
    if scheme == "can" and rest.startswith("//"):
        from firewall.sinks.can_bus import CanTarget

        bus = CanTarget(text, cameras)
        return Outlet(bus.name, bus.connect, network=True, lossless=lossless, say=say)
    if scheme not in ("jsonl", "video", "mcap") or not colon or not rest:
        raise UsageError(f"--output must be {GRAMMAR}, got {shown(text)!r}")
    path, options = path_and_options(text, _ROTATED)
    size, keep = options.size("size"), options.whole("keep", 5 if scheme == "jsonl" else 10, 1, 10_000)
    try:
        if scheme == "jsonl":
            lines = partial(JsonLines.append, path, operator=operator, size=size, keep=keep, wait=lossless)
            # A pipe's reader may come later, and come back.
            return Outlet(f"jsonl:{path}", lines, network=path.is_fifo() and not lossless, lossless=lossless, say=say)
        if path.suffix.lower() != f".{_SUFFIX[scheme]}":
            raise UsageError(f"--output {text}: the file's name must end with .{_SUFFIX[scheme]}")
        if scheme == "video":
            from firewall.sinks.video import AnnotatedVideo

            path = path if only is None else path.with_name(f"{path.stem}-{only}{path.suffix}")
            recording: Callable[[], Output] = partial(AnnotatedVideo, path, size=size, keep=keep)
        else:
            from firewall.sinks.mcap_file import McapFile

            recording = partial(
                McapFile, path, camera=cameras[0], others=cameras[1:], operator=operator, size=size, keep=keep
            )
        name = f"{scheme}:{path}"
        return Outlet(name, recording, limit=_PICTURES, pixels=True, lossless=lossless, camera=only, say=say)
    except OSError as error:
        what = "verdict lines" if scheme == "jsonl" else scheme
        raise UsageError(f"can't write {what} to {path}: {error.strerror}") from error


def _audit(
    text: str, operator: bool, lossless: bool, about: Mapping[str, Any] | None, say: Callable[[str], None]
) -> Outlet:
    from firewall.bundle.signature import read_passphrase, read_private
    from firewall.sinks.audit_log import AuditLog

    folder, options = path_and_options(text, AUDIT_OPTIONS)
    size, keep = options.size("size") or 16 << 20, options.whole("keep", 100, 2, 100_000)
    file, passphrase = options.text("key", ""), options.text("passphrase_file", "")
    key = read_private(Path(file), read_passphrase(Path(passphrase) if passphrase else None)) if file else None
    often = {
        "sign_records": options.whole("sign_records", 1000, 1, 1_000_000),
        "sign_seconds": options.whole("sign_s", 60, 1, 86_400),
        "sync_seconds": options.whole("fsync_s", 10, 0, 86_400),
    }
    log = partial(AuditLog, folder, operator=operator, size=size, keep=keep, key=key, about=about, **often)
    return Outlet(f"audit:{folder}", log, events=True, lossless=lossless, say=say)


def _quarantine(
    text: str, operator: bool, lossless: bool, tell: Callable[[Event], None], say: Callable[[str], None]
) -> Outlet:
    from firewall.sinks.quarantine import Quarantine

    folder, options = path_and_options(text, ("size", "days", "rate"))
    size = options.size("size", least=1 << 20) or 1 << 30
    days, rate = options.whole("days", 30, 1, 36_500), options.whole("rate", 60, 1, 100_000)
    keep = partial(Quarantine, folder, operator=operator, size=size, days=days, rate=rate, told=tell)
    return Outlet(f"quarantine:{folder}", keep, limit=_PICTURES, pixels=True, aside=True, lossless=lossless, say=say)
