"""What the audit log says of a guard besides verdicts: what is in use, what was checked, and a start that failed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from firewall.bundle import Bundle
from firewall.config import Settings
from firewall.decision.golden import GoldenState
from firewall.host.commit import built_from
from firewall.host.output import json_text
from firewall.sinks import Event, Outlets
from firewall.sinks.options import shown
from firewall.sinks.refusal import leave_refusal
from firewall.sources import without_credentials

__all__ = ["about", "bundle_checks", "golden_check", "network_checks", "time_check", "told_if_refused"]

_STANDINGS = {
    "package": "it came with the package",
    "unsigned": "nobody who is trusted here vouches for it; that was allowed",
}


def about(settings: Settings, bundle: Bundle | None = None) -> dict[str, Any]:
    """What the first record of a file says is in use.

    Args:
        settings: As they hold, wherever each was set.
        bundle: What judges; None: it could not be loaded.

    Returns:
        `commit` that the package was built from, if that is known; `settings` without passwords and without the
        contents of keys, keys in order; `settings_sha256`, of just these as compact JSON in UTF-8; and `bundle`.
    """
    told = settings.model_dump(mode="json")
    told["source"] = without_credentials(settings.source)
    told["output"] = [_without_password(text) for text in settings.output]
    for camera in told["cameras"] or ():
        camera["source"] = without_credentials(camera["source"])
    told = json.loads(json.dumps(told, sort_keys=True))
    found = {
        "commit": built_from(),
        "settings": told,
        "settings_sha256": hashlib.sha256(json_text(told, compact=True).encode()).hexdigest(),
    }
    if bundle is not None:
        found["bundle"] = {
            "name": bundle.manifest.name,
            "version": bundle.manifest.version,
            "sha256": bundle.sha256,
            "standing": bundle.standing,
            "signer": bundle.key or None,
        }
    return found


def _without_password(output: str) -> str:
    return shown(output) if "//" in output.partition(":")[2][:2] else output


def bundle_checks(bundle: Bundle) -> list[Event]:
    """What was checked before the bundle was used."""
    files = f"{len(bundle.files)} files are those that the manifest lists"
    standing = _STANDINGS.get(bundle.standing, f"signed by {bundle.key}, which is trusted here")
    return [_check("bundle", files), _check("trust", standing)]


def network_checks(engine: object, networks: Mapping[str, str]) -> list[Event]:
    """What each network runs on, which was proved when it was opened, and the plan that was opened if there is one.

    Args:
        engine: What classifies.
        networks: File -> what runs it.
    """
    checks = [_check("networks", "; ".join(f"{file} on {provider}" for file, provider in networks.items()))]
    plan = getattr(engine, "plan", None)
    if plan is not None:
        sha256 = hashlib.sha256(plan.content).hexdigest()
        checks.append(_check("plan", f"{plan.key.name} was built here and is as it was built", sha256=sha256))
    return checks


def golden_check(state: GoldenState) -> Event:
    """A round of golden frames that has ended."""
    detail = state.fault or f"{state.frames} golden frames have the verdicts that they should"
    return Event.of("integrity", what="golden frames", ok=not state.fault, detail=detail, rounds=state.rounds)


def time_check(state: GoldenState, deadline_ms: float | None) -> Event | None:
    """Whether verdicts can come in time, by the golden frames; None if there is no deadline, or nothing was measured.

    It is a lower bound: a live frame is also decoded and waited for, and others are judged beside it.

    Args:
        state: After the first round.
        deadline_ms: The shortest that a camera has, in milliseconds after capture.
    """
    if deadline_ms is None or not state.rounds:
        return None
    took = f"a golden frame takes {state.median_ms:g} ms (median; the slowest {state.slowest_ms:g} ms)"
    ok = state.median_ms <= deadline_ms
    than = f"the deadline is {deadline_ms:g} ms after capture"
    return _check("time per verdict", f"{took}, {than}" + ("" if ok else ": most labels will be late"), ok=ok)


def _check(what: str, detail: str, *, ok: bool = True, **more: Any) -> Event:
    return Event.of("integrity", what=what, ok=ok, detail=detail, **more)


@contextmanager
def told_if_refused(settings: Settings, outputs: Outlets | None = None) -> Iterator[None]:
    """Inside the block whatever fails leaves a record in the audit log, if there is one.

    Args:
        settings: Where it is named.
        outputs: The outputs, as soon as they are open.
    """
    try:
        yield
    except Exception as error:
        why = " ".join(str(error).split()) or type(error).__name__
        if outputs is None:
            leave_refusal(settings.output, why, about(settings))
        else:
            outputs.event(Event.of("refused", why=why))
        raise
