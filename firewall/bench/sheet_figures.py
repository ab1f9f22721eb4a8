"""What a run sheet keeps of the JSON that a step tells: the figures, not the samples, and no folders."""

from __future__ import annotations

from typing import Any

__all__ = ["checks", "compared", "figures", "plans"]


def checks(told: Any) -> dict[str, bool]:
    """Of `firewall doctor --json`: name -> whether it is well."""
    return {str(check["name"]): bool(check["ok"]) for check in told}


def plans(told: Any) -> list[dict[str, Any]]:
    """Of `firewall export tensorrt --json`: what was built, and how long it took."""
    return [
        {
            "network": plan["network"],
            "bytes": plan["bytes"],
            "layers": plan["layers"],
            "seconds": plan["made"]["seconds"],
        }
        for plan in told["plans"]
    ]


def compared(told: Any) -> dict[str, Any]:
    """Of `firewall export verify --json`: all but what the bundle is called."""
    return {key: value for key, value in told.items() if key != "bundle"}


def figures(told: Any) -> dict[str, Any]:
    """A benchmark's report without its samples, and without what the owner's folders are called."""
    kept = ("complete", "jetson_after", "jetson_events", "full_rate", "fixed_rate", "device_times", "cold_start")
    found = {key: _without_samples(told[key]) for key in (*kept, "memory", "energy", "machine")}
    return {**found, "bundle": {key: told["bundle"][key] for key in ("name", "sha256", "device", "networks")}}


#: Every single time of a benchmark; the summaries of them stay.
_SAMPLES = ("samples_ms", "ages_ms", "stages_ms")


def _without_samples(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_samples(each) for key, each in value.items() if key not in _SAMPLES}
    return [_without_samples(each) for each in value] if isinstance(value, list) else value
