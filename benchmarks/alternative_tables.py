"""Tables of what a user would pick instead of the firewall, the worst first: `python -m benchmarks.alternatives`."""

from __future__ import annotations

import math
from typing import Any

from benchmarks import cells

__all__ = ["alternatives", "alternatives_copies", "alternatives_guard", "alternatives_held"]

FILE = "alternatives.json"
#: Times as long as ours that the others are to take; share that the guard may add.
LOOP_GOAL, ART_GOAL, COPIES_GOAL, GUARD_GOAL = 25, 5, 5, 0.15


def alternatives() -> str:
    """How many times as long as ours each way takes; the farthest from its goal first."""
    found = cells.read(FILE)
    loop, art = found["loop"], found["art"]
    pillow, times = loop["times"]["loop"], loop["times"]
    names = {
        "whole guard": "a verdict of the default bundle",
        "without its jury": "a verdict without the jury",
        "one classification": "a verdict of the classifier and its own confidence alone",
        "the same 39 labels": "the same 39 labels by our sweep and one batch",
    }
    rows = [
        _row("(a) 38 Pillow copies, 39 single classifications", names[name], pillow, times[name], entry, LOOP_GOAL)
        for name, entry in loop["ratios"].items()
        if name in names
    ]
    copies = "the 38 copies"
    rows.append(
        _row("(a) 38 Pillow copies", copies, times[f"{copies} by Pillow"], times[copies], loop["ratios"][copies], None)
    )
    ours = next(row for row in art["rows"] if row["way"] == "the firewall")
    rows += [
        _row(f"(b) {row['way']}", names["whole guard"], row, ours, row["against_ours"], ART_GOAL)
        for row in art["rows"]
        if row["way"].startswith("ART")
    ]
    same = art["same_work"]
    rows.append(
        _row("(b) ART, 16 JPEG copies and 17 labels", "the same 17 labels", same["art"], same["ours"], same, ART_GOAL)
    )
    best: dict[tuple[str, str], dict[str, Any]] = {}
    for row in sorted(found["copies"], key=lambda row: row["ratio"]):
        best.setdefault((row["library"], row["operation"]), row)
    for (library, kind), row in best.items():
        many = f"{row['images']} image{'s' * (row['images'] > 1)} of {row['side']}x{row['side']}"
        what = f"(c) {library}, {_KINDS[kind]}; its best of all sizes: {many}"
        rows.append(_row(what, "the same copies", row["theirs"], row["ours"], row, COPIES_GOAL))
    rows.sort(key=lambda row: row[0])
    head = ["instead", "ours", "theirs, ms", "ours, ms", "times as long (95 % interval)", "goal"]
    return cells.table(head, [row[1] for row in rows])


_KINDS = {"jpeg": "JPEG at 16 qualities", "rotations": "8 rotations"}


def _row(
    instead: str, what: str, theirs: dict[str, Any], ours: dict[str, Any], found: dict[str, Any], goal: float | None
) -> tuple[float, list[str]]:
    """The row, behind its share of the goal."""
    row = [instead, what, _ms(theirs), _ms(ours), _ratio(found), "" if goal is None else f"{goal:g}"]
    return (found["ratio"] / goal if goal else math.inf), row


def _ratio(found: dict[str, Any]) -> str:
    low, high = found["ci95"]
    return f"**{found['ratio']:.3g}** ({low:.3g} - {high:.3g})"


def _ms(spent: dict[str, Any]) -> str:
    return f"{spent['processor_ms']:.3g}"


def alternatives_held() -> str:
    """What each way lets out of attacked signs, the worst first, and what it takes for one."""
    art = cells.read(FILE)["art"]
    many = art["images"]
    rows = [
        [
            row["way"],
            f"**{cells.share(row['worst'], many['attacked'])}**, {cells.called(row['attack'])}",
            cells.percent(row["mean_wrong_release"]),
            cells.share(row["benign_right"], many["benign"]),
            cells.share(row["benign_withheld"]),
            _ms(row),
        ]
        for row in art["rows"]
    ]
    head = ["way", "wrong label goes out, worst attack", "mean of the attacks", "benign signs: right label goes out"]
    return cells.table([*head, "withheld", "ms a sign"], rows)


def alternatives_copies() -> str:
    """Other libraries' JPEG and rotations: how far from libjpeg's and Pillow's bytes, how long; the worst first."""
    rows = []
    for row in sorted(cells.read(FILE)["copies"], key=lambda row: row["ratio"]):
        psnr = "equal" if row["psnr"] is None else f"{row['psnr']:.1f} dB, {row['most']}"
        cell = [row["library"], _KINDS[row["operation"]], f"{row['images']} of {row['side']}x{row['side']}", psnr]
        rows.append([*cell, _ms(row["theirs"]), _ms(row["ours"]), _ratio(row)])
    head = ["library", "copies", "images", "PSNR and largest difference to ours", "theirs, ms", "ours, ms"]
    return cells.table([*head, "times as long (95 % interval)"], rows)


def alternatives_guard() -> str:
    """What the guard adds to detector and classifier, the worst first; beside it what lighter guards add."""
    measured, rows = cells.read(FILE)["guard"]["rows"], []
    for row in sorted(measured, key=lambda row: -row["added"]["whole guard"]["share"]):
        whole, *lighter = row["added"].values()
        low, high = whole["ci95"]
        share = f"**{100 * whole['share']:.0f} %** ({100 * low:.0f} - {100 * high:.0f})"
        spent = [f"{row['processor_ms'][way]:.3g}" for way in ("without", "whole guard")]
        each = f"{whole['ms_a_frame'] / row['signs']:.1f}"
        rest = [f"{100 * one['share']:.2g} %" for one in lighter]
        rows.append([row["finder"], str(row["signs"]), *spent, share, each, *rest])
    head = ["detector", "signs in the frame", "without guard, ms a frame", "with it", "added (95 % interval)"]
    ways = [f"added, {way}" for way in measured[0]["added"] if way != "whole guard"]
    return cells.table([*head, "ms a sign", *ways], rows)
