"""The page of a run sheet, in Markdown: what the board is, what was checked, and what a verdict takes in each mode."""

from __future__ import annotations

from typing import Any

__all__ = ["page"]

_HELD: dict[bool | None, str] = {True: "yes", False: "no", None: "not told"}


def page(told: dict[str, Any]) -> str:
    """The page.

    Args:
        told: What sheet.json holds.

    Returns:
        Markdown.
    """
    machine, steps = told.get("machine", {}), told.get("steps", {})
    lines = ["# Run sheet of a Jetson", ""]
    state = "complete" if told.get("complete") else "stopped before its end" if told.get("stopped") else "not complete"
    lines += [f"perception-firewall {told.get('firewall', '')}; {state}.", "", *_board(machine), ""]
    if told.get("modes_not_changed"):
        lines += [f"The power mode was left as it is: {told['modes_not_changed']}.", ""]
    lines += ["| step | | seconds | |", "| --- | --- | --- | --- |"]
    for name, step in steps.items():
        lines.append(f"| {name} | {step['status']} | {step.get('seconds', '')} | {_cell(step.get('why', ''))} |")
    lines += ["", *_verified(steps.get("verify", {}).get("found")), *_measured(steps)]
    return "\n".join(lines).rstrip() + "\n"


def _board(machine: dict[str, Any]) -> list[str]:
    if not machine:
        return []
    jetpack = machine.get("jetpack") or {}
    rows = {
        "module": machine.get("module"),
        "JetPack": f"{jetpack.get('version') or 'unknown'} (L4T {jetpack.get('l4t') or 'unknown'})",
        "memory": f"{machine.get('memory_mb') or 0:.0f} MB",
        "power mode at the start": machine.get("power_mode") or machine.get("power_mode_id"),
        "modes": ", ".join(mode["name"] for mode in machine.get("modes", ())) or "not told",
        "clocks held (jetson_clocks)": _HELD[machine.get("jetson_clocks")],
        "libraries": ", ".join(f"{name} {version}" for name, version in machine.get("libraries", {}).items()) or "none",
        "not read": ", ".join(machine.get("missing", ())) or "nothing",
    }
    return ["| board | |", "| --- | --- |", *(f"| {name} | {_cell(value)} |" for name, value in rows.items())]


def _verified(found: dict[str, Any] | None) -> list[str]:
    if not found:
        return []
    lines = ["| network | on | against | largest difference | allowed | other verdicts |", "| --- " * 6 + "|"]
    for each in found.get("compared", ()):
        parity = each.get("logits") or each.get("maps") or {}
        apart = each.get("verdicts", {}).get("different", each.get("apart"))
        lines.append(
            f"| {each['network']} | {each['runtime']} | {each['reference']} | {parity.get('largest', 0):.3g} | "
            f"{parity.get('allowed', 0):.3g} | {'' if apart is None else len(apart)} |"
        )
    return [*lines, ""]


def _measured(steps: dict[str, Any]) -> list[str]:
    """Median, p99 and what the firewall adds, in milliseconds; joules a frame; what happened to the clocks."""
    lines = ["| mode, device | median ms | p99 ms | added ms | frames/s | J a frame | W | events |", "| --- " * 8 + "|"]
    for name, step in steps.items():
        found = step.get("found")
        rate = found.get("full_rate", {}).get("normal") if isinstance(found, dict) else None
        if rate is None:
            continue
        guarded = rate["with_firewall"]
        summary = guarded["latency"]
        energy = (found.get("energy") or {}).get("normal, with_firewall") or {}
        lines.append(
            f"| {name} | {_number(summary.get('median'))} | {_number(summary.get('p99'))} | "
            f"{_number(rate.get('added', {}).get('median'))} | {_number(guarded.get('throughput'))} | "
            f"{_number(energy.get('a_frame'))} | {_number(energy.get('power'), 1e-3)} | "
            f"{_cell('; '.join(found.get('jetson_events', ())))} |"
        )
    return lines if len(lines) > 2 else []


def _number(value: Any, unit: float = 1.0) -> str:
    return f"{value * unit:.3g}" if isinstance(value, int | float) else ""


def _cell(value: Any) -> str:
    return " ".join(str(value).split()).replace("|", "\\|")
