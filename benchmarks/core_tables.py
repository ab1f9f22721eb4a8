"""The table of what `--cores` gains and costs, the worst first: `python benchmarks/pinned.py`."""

from __future__ import annotations

from typing import Any

from benchmarks import cells
from firewall.bench.fields import least_samples

__all__ = ["pinned"]

FILE = "pinned.json"


def pinned() -> str:
    """Each way with the one that it is compared with, those that have the latest verdict first."""
    found = cells.read(FILE)
    pairs = [
        [(kind, before), (kind, row)]
        for kind in ("served", "judged")
        for before, row in zip(found[kind], found[kind][1:], strict=False)
        if "pairs" in row
    ]
    pairs.sort(key=lambda pair: -max(row["max"] for _, row in pair))
    head = ["measured", "load (load average)", "way", "frames", "max", "p99", "p50", "pairs: median (95 % interval)"]
    return cells.table(head, [_row(kind, row) for pair in pairs for kind, row in pair])


def _row(kind: str, row: dict[str, Any]) -> list[str]:
    p99 = f"{row['p99']:.0f}" if row["n"] >= least_samples(99) else f"({row['p99']:.0f})"
    change = ""
    if "pairs" in row:
        middle, low, high = row["pairs"]
        change = f"**{middle:+.1f}** ({low:+.1f} to {high:+.1f})"
    load = f"{row['load']} ({row['load_average']:g})"
    return [kind, load, row["way"], f"{row['n']}", f"{row['max']:.0f}", p99, f"{row['p50']:.1f}", change]
