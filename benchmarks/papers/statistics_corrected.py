"""Table 5 of Nguyen H., Kuribayashi et al., and weighted votes."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.papers.cells import Cell, row, share
from firewall.detectors.statistics import TOP
from firewall.lab.database.swept import Swept
from firewall.lab.training.detectors.correction import MARGINS, choose, lead, repairs, true_ranks
from firewall.lab.training.detectors.statistics import GROUPS

__all__ = ["correction_tables"]

#: Table 5, in %: normal and adversarial images whose label is among the corrected five.
_TABLE5 = {"jpeg": ("96.30 %", "88.63 %"), "scaling": ("97.82 %", "85.69 %"), "jpeg+scaling": ("98.12 %", "89.91 %")}


def correction_tables(known: Swept, other: Swept) -> dict[str, Any]:
    """tables and figures. known: what is learnt from, its eval split being "same"; other: all of it "honest"."""
    weights, _ = choose(known)
    votes = [weights.votes(swept.variants) for swept in (known, other)]
    places = [known.split == "eval", np.ones(len(other), bool)]
    rows = []
    for group in (*_TABLE5, "all"):
        found = [_rates(swept, np.ones(len(swept), bool), *_paper(swept, group)) for swept in (known, other)]
        theirs = _TABLE5.get(group, (None, None))
        rows += [
            row([f"vote of {group}", name], text, *(cell[place] for cell in found))
            for place, (name, text) in enumerate(zip(_MEASURES, (*theirs, None, None), strict=True))
        ]
    ranks = [true_ranks(found, swept.labels) for found, swept in zip(votes, (known, other), strict=True)]
    ours = [
        _rates(swept, where, rank < TOP, rank == 0)
        for swept, where, rank in zip((known, other), places, ranks, strict=True)
    ]
    rows += [
        row(["weighted votes (ours)", name], None, *(cell[place] for cell in ours))
        for place, name in enumerate(_MEASURES)
    ]
    return {
        "tables": [
            {
                "title": "Table 5: images that have the right label after correction",
                "note": "Among the first five, as the paper, or in the first place. The paper's votes are of whole "
                "databases, since nothing is learnt; the weighted ones of the eval split, and of the other database.",
                "columns": ["correction", "images"],
                "rows": rows,
            },
            {
                "title": "Weighted votes by attack, and with abstention",
                "note": "First label. A vote is clear if the first class leads the second by a log-probability of 1.5.",
                "columns": ["images", "measure"],
                "rows": _abstaining((known, other), places, votes, ranks),
            },
        ],
        "figures": [_figure(other, votes[1], ranks[1])],
    }


_MEASURES = (
    "normal, first five",
    "adversarial, first five",
    "normal, first label",
    "adversarial, first label",
)
_CLEAR = 1.5

Mask = npt.NDArray[np.bool_]


def _paper(swept: Swept, group: str) -> tuple[Mask, Mask]:
    return repairs(swept, GROUPS[group])


def _rates(swept: Swept, where: Mask, five: Mask, first: Mask) -> list[Cell]:
    normal, bad = where & ~swept.adversarial, where & swept.adversarial
    return [share(right[kind], swept.group[kind]) for right in (five, first) for kind in (normal, bad)]


def _abstaining(
    sets: tuple[Swept, Swept],
    places: list[Mask],
    votes: list[npt.NDArray[np.float64]],
    ranks: list[npt.NDArray[np.int64]],
) -> list[Cell]:
    rows = []
    for attack in ("", *sets[0].attacks):
        cells: dict[str, list[Cell]] = {"right": [], "right and clear": [], "wrong and clear": []}
        for swept, where, found, rank in zip(sets, places, votes, ranks, strict=True):
            here = where & (swept.attack == attack)
            clear, right = lead(found) >= _CLEAR, rank == 0
            for name, mask in zip(cells, (right, clear & right, clear & ~right), strict=True):
                cells[name].append(share(mask[here], swept.group[here]))
        rows += [row([attack or "normal", name], None, *pair) for name, pair in cells.items()]
    return rows


def _figure(swept: Swept, votes: npt.NDArray[np.float64], ranks: npt.NDArray[np.int64]) -> dict[str, Any]:
    bad, gap = swept.adversarial, lead(votes)
    return {
        "title": "Correction with abstention",
        "kind": "lines",
        "x": list(MARGINS),
        "series": {
            "adversarial: right label": [float(((gap >= margin) & (ranks == 0))[bad].mean()) for margin in MARGINS],
            "adversarial: wrong label": [float(((gap >= margin) & (ranks > 0))[bad].mean()) for margin in MARGINS],
            "normal: wrong label": [float(((gap >= margin) & (ranks > 0))[~bad].mean()) for margin in MARGINS],
        },
        "xlabel": "least lead of the first class (log-probability)",
        "ylabel": "share of images",
        "caption": "GTSRB's test images; where the lead is smaller no corrected label is given.",
    }
