"""What the tables of README and docs are made of: results that are read, rates and names in words, rows."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

__all__ = ["NAMES", "RESULTS", "called", "count", "percent", "rate", "read", "share", "table"]

RESULTS = Path(__file__).parent / "results"

NAMES = {
    "fgsm": "FGSM, eps .03",
    "pgd-0.01": "PGD, eps .01",
    "pgd": "PGD, eps .03",
    "pgd-0.06": "PGD, eps .06",
    "pgd-high-confidence": "PGD, high confidence",
    "deepfool": "DeepFool",
    "newtonfool": "NewtonFool",
    "gradient": "gradient step",
    "bim": "BIM, least radius",
    "l2-bim": "BIM in L2, least radius",
    "pgd-targeted": "PGD, targeted, least radius",
}
#: What may stand behind an @ in an attack's name, and beginnings of its first part; others stand as they are.
_PARTS = {"input": "at the network's size", "known": "known to the attacker", "eot": "expecting any channel"}
_AIMED = {"aimed": "all frames to one class"}
_BASES = {
    "linf-": "L-infinity ",
    "low-frequency-": "low frequencies, ",
    "blurred-": "blurred change, ",
    "smooth-": "smooth, ",
}
_CHANNELS = {"jpeg-": "JPEG ", "h264-": "H.264, crf ", "resize": "resized", "blur": "blur", "noise": "noise"}


def read(name: str) -> Any:
    """A kept result: a file's path within benchmarks/results."""
    return json.loads((RESULTS / name).read_text(encoding="utf-8"))


def share(found: Sequence[float], n: int | None = None) -> str:
    """A rate with its interval: [rate, low, high], 0..1."""
    value, low, high = (100 * one for one in found)
    return f"{value:.1f} % ({low:.0f} - {high:.0f}{f'; n = {n}' if n else ''})"


def rate(entry: dict[str, Any], *, n: bool = False) -> str:
    """A rate as `firewall lab evaluate attacks` writes it."""
    return share([entry["rate"], *entry["ci95"]], entry["n"] if n else None)


def percent(value: float) -> str:
    """A rate without its interval."""
    return f"{100 * value:.3g} %"


def count(entry: dict[str, Any], *, n: bool = True) -> str:
    """A count for each unit."""
    low, high = entry["ci95"]
    many = f"; n = {entry['n']}" if n else ""
    each, low, high = (f"{value:.0f}" if value >= 100 else f"{value:.2g}" for value in (entry["rate"], low, high))
    return f"{each} ({low} - {high}{many})"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """The table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def called(attack: str) -> str:
    """An attack's name in words: linf-8@input@jpeg-90 is L-infinity 8/255, at the network's size, then JPEG 90."""
    base, *parts = attack.split("@")
    words = [NAMES.get(base, base.replace("-", " "))]
    for start, word in _BASES.items():
        if base.startswith(start):
            words = [f"{word}{base.removeprefix(start)}/255"]
    for part in "@".join(parts).replace("+", "@").split("@") if parts else ():
        known = next(
            (word + part.removeprefix(start) for start, word in _CHANNELS.items() if part.startswith(start)), ""
        )
        words.append((_PARTS | _AIMED).get(part) or f"then {known or part}")
    return ", ".join(words)
