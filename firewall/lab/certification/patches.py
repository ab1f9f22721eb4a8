"""Patch certificates of a classifier on a data set: `firewall lab certify patch`.

What is certified, and what isn't, stands in firewall.decision.masking and firewall.decision.dial, whose masks and rules
these are.
"""

from __future__ import annotations

import time
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.progress import track

from firewall.decision.dial import Dial, against, named
from firewall.decision.masking import Masks, masks_for
from firewall.decision.steps import kept_in_steps
from firewall.errors import UsageError
from firewall.lab.certification.classifier import Images, Subject
from firewall.lab.certification.journal import Journal
from firewall.lab.certification.sticker_curve import TAUS, curve
from firewall.lab.certification.sticker_steps import images_asked, steps_row
from firewall.lab.measurement import metrics
from firewall.transforms import resize

__all__ = ["certify_patches"]

#: Images on which the time of a verdict's masks is measured.
_TIMED = 20


def certify_patches(
    subject: Subject,
    images: Images,
    count: int,
    area: float,
    along: int = 6,
    fill: int = 128,
    rounds: int = 2,
    finer: int = 0,
    journal: Journal | None = None,
) -> dict[str, Any]:
    """Certificates against square patches.

    Rows have: predicted, the label without masks; unanimous, whether every single mask names the plain label, as the
    edge's one round without a dial asks; named and against, the least and the most over all masks of what
    firewall.decision.dial calls so, of the plain label and of the true one (`_true`), None for -inf: every dial can be
    set on them. With two rounds also: recovered, double masking's label; certified, whether every two masks give the
    true label, so that double masking names it under any patch.

    Args:
        subject: The classifier.
        images: Index, pixels of any size, label.
        count: How many images.
        area: Of the patch, as a share of the input.
        along: Masks along a side.
        fill: Value under a mask, 0..255.
        rounds: 1: without double masking, which takes by far the most time.
        finer: Masks along a side of an unsure mask, 2 to 6, in one round; 0: one step. Rows then have `steps` too.
        journal: Rows that it knows are not made again.

    Returns:
        What JSON holds: about, summary with the curve over tau, cost, rows.

    Raises:
        UsageError: The area or masks are out of range.
    """
    height, width = subject.size_under_masks
    masks = masks_for(height, width, area, along, fill)
    if finer and (rounds != 1 or not 2 <= finer <= 6):
        raise UsageError(f"finer masks are 2 to 6 along a side, in one round (--rounds 1); got {finer} with {rounds}")
    rows, cost, journal = [], _Cost(rounds, finer), journal or Journal()
    for index, pixels, label in track(images, "certifying", count, transient=True):
        shown = resize(pixels, width, height)
        rows.append(journal.row(index, partial(_row, subject, masks, pixels, shown, label, rounds, finer)))
        if len(rows) <= _TIMED:
            cost.measure(subject, masks, shown, int(rows[-1]["predicted"]))
    return {
        "about": {
            **subject.about,
            "threat": f"any change within one axis-parallel square of {masks.side}x{masks.side} pixels of the "
            f"{width}x{height} input ({area:.2%} of it), anywhere, of any content",
            "area": area,
            "side": masks.side,
            "input": [width, height],
            "masks": len(masks),
            "along": along,
            "mask_side": max(masks.boxes[0][2:]),
            "fill": fill,
            "rounds": rounds,
            **({"finer": finer} if finer else {}),
        },
        "summary": {
            **_summary(rows),
            "curve": curve(rows),
            **({"images_asked": images_asked(rows, masks, finer, TAUS)} if finer else {}),
            "by_class": _by_class(rows, subject.labels),
        },
        "cost": cost.summary(),
        "rows": rows,
    }


def _row(
    subject: Subject,
    masks: Masks,
    pixels: npt.NDArray[np.uint8],
    shown: npt.NDArray[np.uint8],
    label: int,
    rounds: int,
    finer: int,
) -> dict[str, Any]:
    classify = subject.under_masks.classify
    predicted = int(subject.engine.classify(resize(pixels, subject.width, subject.height)[None]).argmax())
    logits = masks.logits(shown, classify)
    row: dict[str, Any] = {
        "label": label,
        "predicted": predicted,
        "unanimous": bool(Dial().permits(logits, predicted).all()),
        "named": _number(named(logits, predicted).min()),
        "against": _number(against(logits, predicted).max()),
        "named_true": _number(named(logits, label).min()),
        "against_true": _number(against(logits, label).max()),
    }
    if finer:
        row["steps"] = steps_row(masks, finer, shown, logits, classify, (predicted, label))
    if rounds == 1:
        return row
    alone = bool((logits.argmax(axis=1) == label).all())
    certified = alone and masks.kept(shown, label, classify, 2).holds is True
    return {**row, "recovered": label if certified else masks.recovered(shown, classify), "certified": certified}


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None if value < 0 else 1e9


def _summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Shares with 95 % intervals for independent images."""

    def share(hits: list[bool]) -> dict[str, Any]:
        low, high = metrics.rate_interval(sum(hits), len(hits))
        return {"value": sum(hits) / len(hits), "hits": sum(hits), "total": len(hits), "ci95": [low, high]}

    found = {
        "clean_accuracy": share([row["predicted"] == row["label"] for row in rows]),
        "one_round_released_right": share([row["unanimous"] and row["predicted"] == row["label"] for row in rows]),
        "one_round_released_wrong": share([row["unanimous"] and row["predicted"] != row["label"] for row in rows]),
    }
    if "certified" in rows[0]:
        found["clean_accuracy_double_masking"] = share([row["recovered"] == row["label"] for row in rows])
        found["certified"] = share([row["certified"] for row in rows])
    return found


def _by_class(rows: list[dict[str, Any]], labels: tuple[str, ...]) -> dict[str, dict[str, int]]:
    """Counts for each class that was met: where a sign differs from another in a small place, no sticker there can be
    certified against."""
    found: dict[str, dict[str, int]] = {}
    for row in sorted(rows, key=lambda row: int(row["label"])):
        counts = found.setdefault(labels[row["label"]], {"images": 0, "certified": 0, "one_round_right": 0})
        counts["images"] += 1
        counts["certified"] += row.get("certified", row["named_true"] is not None)
        counts["one_round_right"] += row["unanimous"] and row["predicted"] == row["label"]
    return found


class _Cost:
    """Images classified, and milliseconds, that the edge's masks add to a verdict; it stops at the first mask that
    disagrees. Two steps are asked by rule object at the highest tau of the curve."""

    def __init__(self, rounds: int, finer: int) -> None:
        self._finer = finer
        self._seen: dict[int, list[tuple[int, float, float]]] = {number: [] for number in range(1, rounds + 1)}

    def measure(self, subject: Subject, masks: Masks, pixels: npt.NDArray[np.uint8], label: int) -> None:
        """Ask all rounds about one image."""
        for rounds, found in self._seen.items():
            started, busy = time.perf_counter(), time.process_time()
            classify = subject.under_masks.classify
            if self._finer:
                seen = kept_in_steps(masks, self._finer, pixels, label, classify, Dial("object", TAUS[-1])).seen
            else:
                seen = masks.kept(pixels, label, classify, rounds).seen
            found.append((seen, (time.perf_counter() - started) * 1e3, (time.process_time() - busy) * 1e3))

    def summary(self) -> dict[str, Any]:
        """By rounds: mean images, and milliseconds of wall clock and of processor time; the latter depends less on
        other load."""
        return {
            f"rounds_{rounds}": {
                "images": float(np.mean([seen for seen, _, _ in found])),
                "ms_p50": float(np.median([clock for _, clock, _ in found])),
                "ms_max": float(max(clock for _, clock, _ in found)),
                "processor_ms_p50": float(np.median([processor for _, _, processor in found])),
                "processor_ms_max": float(max(processor for _, _, processor in found)),
                "measured_on": len(found),
            }
            for rounds, found in self._seen.items()
        }
