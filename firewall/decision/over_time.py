"""Files of a bundle that say how evidence about one sign adds up over time, and what usual traffic looks like."""

from __future__ import annotations

from firewall.bundle import Bundle
from firewall.decision.drift import DriftSpec
from firewall.decision.tracks import TracksSpec

__all__ = ["DRIFT_FILE", "TRACKS_FILE", "over_time"]

TRACKS_FILE, DRIFT_FILE = "tracks.json", "drift.json"


def over_time(bundle: Bundle) -> tuple[TracksSpec | None, DriftSpec | None]:
    """What a bundle says about tracks and drift.

    Args:
        bundle: A verified bundle.

    Returns:
        The two specifications, each None if the bundle has no such file.

    Raises:
        BundleError: If one of the files doesn't fit its schema.
    """
    return (
        bundle.part(TRACKS_FILE, TracksSpec, "firewall lab tracks"),
        bundle.part(DRIFT_FILE, DriftSpec, "firewall lab drift"),
    )
