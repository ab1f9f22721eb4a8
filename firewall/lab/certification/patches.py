"""Patch certificates of a classifier on a data set: `firewall lab certify patch`.

What is certified, and what isn't, stands in firewall.decision.masking, whose masks these are.
"""

from __future__ import annotations

import time
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.progress import track

from firewall.decision.masking import Masks, masks_for
from firewall.lab.certification.classifier import Images, Subject
from firewall.lab.certification.journal import Journal
from firewall.lab.measurement import metrics

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
    journal: Journal | None = None,
) -> dict[str, Any]:
    """Certificates against square patches.

    Rows have: predicted, the label without masks; recovered, double masking's; unanimous, whether every single mask
    gives the plain label, as the edge's one round asks; certified, whether every two masks give the true label, so that
    double masking names it under any patch.

    Args:
        subject: The classifier.
        images: Index, pixels, label.
        count: How many images.
        area: Of the patch, as a share of the input.
        along: Masks along a side.
        fill: Value under a mask, 0..255.
        journal: Rows that it knows are not made again.

    Returns:
        What JSON holds: about, summary with clean and certified accuracy, cost, rows.

    Raises:
        UsageError: The area or masks are out of range.
    """
    masks = masks_for(subject.height, subject.width, area, along, fill)
    rows, cost, journal = [], _Cost(), journal or Journal()
    for index, pixels, label in track(images, "certifying", count, transient=True):
        rows.append(journal.row(index, partial(_row, subject, masks, pixels, label)))
        if len(rows) <= _TIMED:
            cost.measure(subject, masks, pixels, int(rows[-1]["predicted"]))
    return {
        "about": {
            **subject.about,
            "threat": f"any change within one axis-parallel square of {masks.side}x{masks.side} pixels of the "
            f"{subject.width}x{subject.height} input ({area:.2%} of the region), anywhere, of any content",
            "area": area,
            "side": masks.side,
            "masks": len(masks),
            "mask_side": max(masks.boxes[0][2:]),
            "fill": fill,
        },
        "summary": {**_summary(rows), "by_class": _by_class(rows, subject.labels)},
        "cost": cost.summary(),
        "rows": rows,
    }


def _row(subject: Subject, masks: Masks, pixels: npt.NDArray[np.uint8], label: int) -> dict[str, Any]:
    classify = subject.under_masks.classify
    predicted = int(subject.engine.classify(pixels[None]).argmax())
    singles = masks.singles(pixels, classify)
    certified = bool((singles == label).all()) and masks.kept(pixels, label, classify, 2)[0] is True
    return {
        "label": label,
        "predicted": predicted,
        "recovered": label if certified else masks.recovered(pixels, classify),
        "unanimous": bool((singles == predicted).all()),
        "certified": certified,
    }


def _summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Shares with 95 % intervals for independent images."""

    def share(hits: list[bool]) -> dict[str, Any]:
        low, high = metrics.rate_interval(sum(hits), len(hits))
        return {"value": sum(hits) / len(hits), "hits": sum(hits), "total": len(hits), "ci95": [low, high]}

    return {
        "clean_accuracy": share([row["predicted"] == row["label"] for row in rows]),
        "clean_accuracy_double_masking": share([row["recovered"] == row["label"] for row in rows]),
        "certified": share([row["certified"] for row in rows]),
        "one_round_released_right": share([row["unanimous"] and row["predicted"] == row["label"] for row in rows]),
        "one_round_released_wrong": share([row["unanimous"] and row["predicted"] != row["label"] for row in rows]),
    }


def _by_class(rows: list[dict[str, Any]], labels: tuple[str, ...]) -> dict[str, dict[str, int]]:
    """Counts for each class that was met: where a sign differs from another in a small place, no sticker there can be
    certified against."""
    found: dict[str, dict[str, int]] = {}
    for row in sorted(rows, key=lambda row: int(row["label"])):
        counts = found.setdefault(labels[row["label"]], {"images": 0, "certified": 0, "one_round_right": 0})
        counts["images"] += 1
        counts["certified"] += row["certified"]
        counts["one_round_right"] += row["unanimous"] and row["predicted"] == row["label"]
    return found


class _Cost:
    """Images classified, and milliseconds, that the edge's masks add to a verdict; it stops at the first mask that
    disagrees."""

    def __init__(self) -> None:
        self._seen: dict[int, list[tuple[int, float, float]]] = {1: [], 2: []}

    def measure(self, subject: Subject, masks: Masks, pixels: npt.NDArray[np.uint8], label: int) -> None:
        """Ask both rounds about one image."""
        for rounds, found in self._seen.items():
            started, busy = time.perf_counter(), time.process_time()
            _, seen = masks.kept(pixels, label, subject.under_masks.classify, rounds)
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
