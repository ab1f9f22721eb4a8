"""Files of a bundle that say how evidence about one sign adds up over time, and what usual traffic looks like."""

from __future__ import annotations

from firewall.bundle import Bundle
from firewall.decision.drift import DriftSpec
from firewall.decision.tracks import TracksSpec

__all__ = ["CONFIRM", "CONFIRM_LARGE", "DRIFT_FILE", "TRACKS_FILE", "over_time", "served"]

TRACKS_FILE, DRIFT_FILE = "tracks.json", "drift.json"

#: Frames that have to agree where signs are followed, unless the bundle asks for more. A large sign has been in sight
#: for long, or has come up suddenly: then it has to stay a little.
CONFIRM, CONFIRM_LARGE = 3, 5
#: For bundles without `tracks.json`: frames have to agree, and nothing is known of their evidence, which stays 0.
_AGREEMENT = TracksSpec(typical=-1.0, cap=1.0, flip=0.0, allowance=1.0, limit=0.0, false_alarm_rate=0.5, tracks=1)


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


def served(spec: TracksSpec | None, confirm: int | None = None) -> TracksSpec:
    """How evidence adds up where a stream is guarded and its signs are followed.

    Args:
        spec: What the bundle says; None if it says nothing.
        confirm: Frames that have to agree before a label goes out, for signs of all sizes; None: CONFIRM, and
            CONFIRM_LARGE for large ones, or what the bundle asks for if that is more.

    Returns:
        The bundle's specification, or one that only asks for agreement.
    """
    spec = _AGREEMENT if spec is None else spec
    if confirm is not None:
        return spec.model_copy(update={"confirm": confirm, "confirm_large": confirm})
    large = max(spec.confirm_large, CONFIRM_LARGE)
    return spec.model_copy(update={"confirm": max(spec.confirm, CONFIRM), "confirm_large": large})
