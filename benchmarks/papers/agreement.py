"""Higashi, Kuribayashi et al.: table 1 and figure 3, and the stability detector beside the paper's.

The paper's protocol, 100 normal and 100 adversarial images and fixed thresholds, is gone through on photographs and on
signs. Beside it thresholds are set on normal images of other tracks than those that are judged.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.papers.cells import area, balanced, row, share
from firewall.detectors.confidence import log_odds
from firewall.detectors.stability import StabilityScale, instability
from firewall.lab.database import Database
from firewall.lab.database.swept import Swept, sweep
from firewall.lab.measurement import metrics
from firewall.lab.models import Protected
from firewall.lab.training.detectors.agreement import PAPER_THRESHOLDS, agreement_counts, agreement_scores
from firewall.lab.training.detectors.stability import GROUPS, choose, usual
from firewall.transforms import OPERATIONS_38, SWEEP_76

__all__ = ["FITTED", "Signs", "agreement"]

Floats = npt.NDArray[np.float64]

#: Attacks that detectors of signs are fitted to, chosen by and judged on: complete in both databases.
FITTED = (
    *("fgsm", "deepfool", "pgd", "pgd-0.01", "pgd-0.06", "pgd-high-confidence", "gradient", "newtonfool"),
    *("l2-bim", "bim"),
)
#: Table 1 as printed: columns by ours that comes nearest; for each T, what it calls FP and FN, and accuracy, in %.
_COLUMNS = {
    "fgsm": "first column",
    "bim": "BIM",
    "pgd": "PGD",
    "l1-bim": "L1",
    "l2-bim": "L2",
}
_THEIRS: dict[int, tuple[tuple[int, ...], tuple[int, ...], tuple[float, ...]]] = {
    10: ((0, 9, 0, 30, 28), (3, 3, 3, 4, 3), (98.5, 94.5, 98.5, 83.0, 84.5)),
    15: ((0, 4, 0, 14, 16), (7, 7, 7, 10, 7), (96.5, 94.5, 96.5, 88.0, 88.5)),
    20: ((0, 1, 0, 10, 11), (11, 11, 11, 15, 11), (94.5, 94.0, 94.5, 87.5, 89.0)),
}
_COUNT = 100  # images of each kind, as the paper
_JPEG_76 = tuple(f"jpeg:{quality}" for quality in SWEEP_76)
_JPEG_16 = tuple(name for name in OPERATIONS_38 if name.startswith("jpeg:"))
_SIGN_ATTACKS = ("fgsm", "bim", "pgd", "l2-bim", "deepfool", "pgd-high-confidence")
_PHOTOS = (*_COLUMNS, "lbfgs", "pgd-targeted")
_RATE = 0.05
_FEW = 10  # with fewer images an attack is left out

_NOTES = """
Networks and images: MobileNet v1 0.25 (128 x 128) on images of the NIPS 2017 competition instead of VGG-19 on ILSVRC
2012, and the default sign classifier on GTSRB. Images are saved losslessly, normal ones as well as adversarial ones.

Table 1 of the paper calls FP what varies by attack and FN what hardly does. By its own definitions it should be the
other way round: FP is of normal images, and these are the same few. Here "normal withheld" is what is printed as FN,
and "adversarial missed" what is printed as FP. Accuracy is as printed.

The head of the table is damaged in the text that we have; its last four columns are BIM, PGD, L1 and L2, the first is
FGSM or L-BFGS. Ours of the first column is FGSM; L-BFGS has a row of its own.

Our BIM, L1, L2, L-BFGS and "pgd-targeted" drive a target class to 99 % (as Nguyen H., Kuribayashi et al.); the paper
took Foolbox's defaults, which stop once the class has changed. Such examples of high confidence survive compression
more often. PGD and FGSM are untargeted with the largest change of the registry's defaults.

Normal images are the first 100 in the database's order, the same for all attacks; the paper took the originals of each
attack's 100.

Signs: this classifier was trained with JPEG among its augmentations, so that compression hardly moves anything: the
paper's method is at its worst here.

"honest": everything was fitted to the train split of other tracks, chosen on their dev split, the threshold set on
normal images of the dev split, and judged on GTSRB's official test images, of which neither a detector nor the
classifier had seen a track. Operations and temperatures of the stability detector were chosen on the dev split after a
look at some thirty variants there; the eval split and the test images were looked at once, and the page made again to
add the photographs' detectors and the confidence alone: nothing was changed for the signs in between.

Agreement with two sides comes to the same as with one on signs: most normal images keep their label at all 16
qualities, so that no count can be too high.

How much of a detector's success is due to unusual confidence is shown by "confidence of the image alone", which sees no
copy. On photographs it is much of it: of the 140 normal images this network, which is right on 47 % of such images,
names none with 99 %, which the targeted attacks reach. An attacker who aims at the usual confidence has not been tried
here.
"""

_PAPER = (
    "A. Higashi, M. Kuribayashi, N. Funabiki, H. H. Nguyen, I. Echizen. Detecting adversarial example based on changes "
    "of CNN classification results caused by JPEG compression (in Japanese)"
)
_COMMANDS = (
    """firewall lab attack --dataset nips17 --classifier mobilenet_v1_0.25_128 --attacks fgsm,pgd --limit 300
    --out runs/databases/nips17-agreement""",
    """firewall lab attack --dataset nips17 --classifier mobilenet_v1_0.25_128 --attacks lbfgs,bim,pgd-targeted,l1-bim
    --limit 300 --out runs/databases/nips17-mobilenet-all""",
    """python -m benchmarks.papers agreement --database runs/databases/kept-out --judge runs/databases/gtsrb --photos
    runs/databases/nips17-agreement --photos runs/databases/nips17-mobilenet-all --wide runs/databases/gtsrb-all""",
)


@dataclass(frozen=True, eq=False)
class Signs:
    """The databases of signs.

    Args:
        fitting: Attacks on `classifier`.
        judging: The same, of tracks that `fitting` doesn't have.
        wide: Few images of many attacks.
        classifier: The attacked one.
    """

    fitting: Database
    judging: Database
    wide: Database | None
    classifier: Protected


def agreement(signs: Signs, photos: Sequence[Database], network: Protected) -> dict[str, Any]:
    """The paper's page.

    Args:
        signs: The databases of signs.
        photos: Databases of the same images of `network`, with different attacks.
        network: The classifier of the photographs.

    Returns:
        What `benchmarks/results/papers/agreement.json` holds.
    """
    named = _shared_out(photos)
    pictures = [
        sweep(database, network, _JPEG_76, names, _COUNT, _COUNT) for database, names in zip(photos, named, strict=True)
    ]
    tests = sweep(signs.judging, signs.classifier, _JPEG_76, _SIGN_ATTACKS, _COUNT, _COUNT)
    fitting = sweep(signs.fitting, signs.classifier, OPERATIONS_38, FITTED)
    judging = sweep(signs.judging, signs.classifier, OPERATIONS_38, FITTED)
    group, scales, _ = choose(fitting)
    chosen = f"stability: {group} at {' and '.join(f'{scale.temperature:g}' for scale in scales)}"
    detectors = {**_detectors(fitting), chosen: (GROUPS[group], scales)}
    tables = [
        {
            "title": "Table 1 on photographs",
            "note": "76 qualities; fewer than T equal labels: adversarial. Up to 100 images of each kind; accuracy is "
            "the mean of both kinds' shares that are judged correctly.",
            "columns": ["T", "attack", "measure"],
            "rows": [line for limit in PAPER_THRESHOLDS for part in pictures for line in _table1(part, limit, True)],
        },
        {
            "title": "Table 1 on traffic signs",
            "note": "GTSRB's test images, the same protocol.",
            "columns": ["T", "attack", "measure"],
            "rows": [line for limit in PAPER_THRESHOLDS for line in _table1(tests, limit, False)],
        },
        {
            "title": "Beyond the label: detectors on traffic signs",
            "note": "16 JPEG qualities for agreement. Withheld: at a threshold that 5 % of the dev split's normal "
            "images exceed; the row 'normal' is what it withholds of those judged. Stability is fitted to normal "
            "images; attacks only chose its operations and temperatures.",
            "columns": ["detector", "attack", "measure"],
            "rows": [line for name in detectors for line in _compared(name, detectors[name], fitting, judging)],
        },
    ]
    tables.insert(2, _photographs(photos, named, network, group, scales))
    if signs.wide is not None:
        wide = sweep(signs.wide, signs.classifier, OPERATIONS_38, _there(signs.wide))
        tables.append(_unseen(wide, fitting, chosen, detectors[chosen]))
    figures = [_histogram("photographs", pictures), _histogram("traffic signs", [tests])]
    return {
        "method": "agreement",
        "paper": _PAPER,
        "differences": [" ".join(text.split()) for text in _NOTES.strip().split("\n\n")],
        "tables": tables,
        "figures": figures,
        "commands": [" ".join(command.split()) for command in _COMMANDS],
    }


def _shared_out(photos: Sequence[Database]) -> list[list[str]]:
    """The attacks to take of each database: no attack twice."""
    taken: list[list[str]] = []
    for database in photos:
        known = {name for names in taken for name in names}
        taken.append([name for name in _there(database, _PHOTOS) if name not in known])
    return taken


def _there(database: Database, names: Sequence[str] = ()) -> list[str]:
    """The attacks, of `names` (none: of all), that the database has enough images of."""
    wanted = [name for name in database.card.attacks if not names or name in names]
    return [name for name in wanted if len(database.attacked(name).entries) >= _FEW]


def _table1(swept: Swept, limit: int, photos: bool) -> list[dict[str, Any]]:
    below = agreement_counts(swept) < limit
    normal = ~swept.adversarial
    rows = []
    for attack in swept.attacks:
        here = swept.attack == attack
        label, theirs = attack, ["", "", ""]
        if photos and attack in _COLUMNS:
            place = list(_COLUMNS).index(attack)
            missed, withheld, accuracy = _THEIRS[limit]
            label = f"{attack} (theirs: {_COLUMNS[attack]})"
            theirs = [f"{accuracy[place]:.1f} %", f"{withheld[place]} %", f"{missed[place]} %"]
        cells = (
            balanced(~below[normal], swept.group[normal], below[here], swept.group[here]),
            share(below[normal], swept.group[normal]),
            share(~below[here], swept.group[here]),
        )
        names = ("accuracy", "normal withheld", "adversarial missed")
        for name, text, cell in zip(names, theirs, cells, strict=True):
            rows.append(row([str(limit), label, name], text or None, cell))
    return rows


def _detectors(fitting: Swept) -> dict[str, tuple[tuple[str, ...], Any]]:
    """Detectors by name: operations, and scales, or the histogram of normal counts, or None for one side."""
    normal = fitting.subset((fitting.split == "train") & ~fitting.adversarial)
    jpeg = normal.variants.select(_JPEG_16)
    counts = (jpeg.copies.argmax(axis=2) == jpeg.original.argmax(axis=1)[:, np.newaxis]).sum(axis=1)
    odds = _confidence(normal)
    return {
        "confidence of the image alone": ((), odds),
        "agreement, one-sided (paper)": (_JPEG_16, None),
        "agreement, two-sided": (_JPEG_16, np.bincount(counts, minlength=len(_JPEG_16) + 1)),
        "agreement over all 38 operations": (OPERATIONS_38, None),
        "stability, JPEG alone": (_JPEG_16, [usual(jpeg.original, jpeg.copies, 1.0)]),
    }


def _confidence(normal: Swept) -> tuple[float, float, float]:
    """Median of the log-odds, and how far the usual range reaches below and above it, as in the detector confidence."""
    low, median, high = np.quantile(log_odds(normal.variants.original), [_RATE / 2, 0.5, 1 - _RATE / 2])
    return float(median), float(median - low), float(high - median)


def _scores(swept: Swept, detector: tuple[tuple[str, ...], Any]) -> Floats:
    operations, how = detector
    if isinstance(how, tuple):
        median, below, above = how
        away = log_odds(swept.variants.original) - median
        return np.asarray(np.where(away > 0, away / above, -away / below), np.float64)
    found = swept.variants.select(operations)
    if isinstance(how, list):
        return instability(found.original, found.copies, how)
    labels = found.original.argmax(axis=1)
    counts = (found.copies.argmax(axis=2) == labels[:, np.newaxis]).sum(axis=1)
    return agreement_scores(counts, len(operations), how)


def _compared(name: str, detector: Any, fitting: Swept, judging: Swept) -> list[dict[str, Any]]:
    scores = _scores(fitting, detector), _scores(judging, detector)
    threshold = metrics.threshold_at(scores[0][(fitting.split == "dev") & ~fitting.adversarial], _RATE)
    places = (fitting, scores[0], fitting.split == "eval"), (judging, scores[1], np.ones(len(judging), bool))
    normals = [where & ~swept.adversarial for swept, _, where in places]
    rows = [
        row(
            [name, "normal", "withheld"],
            None,
            *(
                share(found[normal] > threshold, swept.group[normal])
                for (swept, found, _), normal in zip(places, normals, strict=True)
            ),
        )
    ]
    for attack in FITTED:
        areas, caught = [], []
        for (swept, found, where), normal in zip(places, normals, strict=True):
            here = where & (swept.attack == attack)
            areas.append(area(found[normal], found[here], (swept.group[normal], swept.group[here])))
            caught.append(share(found[here] > threshold, swept.group[here]))
        rows += [row([name, attack, "AUROC"], None, *areas), row([name, attack, "withheld"], None, *caught)]
    return rows


def _photographs(
    photos: Sequence[Database],
    named: Sequence[Sequence[str]],
    network: Protected,
    group: str,
    scales: list[StabilityScale],
) -> dict[str, Any]:
    """Stability beside the count of labels, on the network and the images of table 1."""
    parts = [
        sweep(database, network, OPERATIONS_38, names, _COUNT // 2)
        for database, names in zip(photos, named, strict=True)
    ]
    train = parts[0].subset((parts[0].split == "train") & ~parts[0].adversarial)
    normal = train.variants.select(GROUPS[group])
    again = [usual(normal.original, normal.copies, scale.temperature) for scale in scales]
    detectors: dict[str, tuple[tuple[str, ...], Any]] = {
        "confidence of the image alone": ((), _confidence(train)),
        "agreement, 16 qualities": (_JPEG_16, None),
        "agreement over all 38 operations": (OPERATIONS_38, None),
        "stability (ours)": (GROUPS[group], again),
    }
    rows = []
    for name, detector in detectors.items():
        for part in parts:
            scores = _scores(part, detector)
            for attack in part.attacks:
                cells = []
                for where in (np.ones(len(part), bool), part.split != "train"):
                    kept, here = where & ~part.adversarial, where & (part.attack == attack)
                    cells.append(area(scores[kept], scores[here], (part.group[kept], part.group[here])))
                rows.append(row([name, attack], None, *cells))
    return {
        "title": "Beyond the label: photographs",
        "note": "AUROC, up to 50 images of each attack. Same: all of them; honest: without the train split, on whose "
        "normal images stability's scales were set. Operations and temperatures are those that were chosen on signs. "
        "This network is hardly ever as sure of a normal image as these attacks make it: see the confidence alone.",
        "columns": ["detector", "attack"],
        "rows": rows,
    }


def _unseen(wide: Swept, fitting: Swept, name: str, detector: Any) -> dict[str, Any]:
    """Attacks that nothing was chosen by."""
    dev = _scores(fitting, detector)[(fitting.split == "dev") & ~fitting.adversarial]
    caught = _scores(wide, detector) > metrics.threshold_at(dev, _RATE)
    rows = [
        row([attack], None, None, share(caught[wide.attack == attack], wide.group[wide.attack == attack]))
        for attack in wide.attacks
        if attack not in FITTED
    ]
    return {
        "title": "Attacks that nothing was chosen by",
        "note": f"{name}; withheld at the same threshold, on up to 32 test images of each attack.",
        "columns": ["attack"],
        "rows": rows,
    }


def _histogram(what: str, parts: Sequence[Swept]) -> dict[str, Any]:
    """Figure 3: how many of the 76 copies keep the label, as a share of images."""
    edges = np.arange(0, len(_JPEG_76) + 5, 4)
    series: dict[str, list[float]] = {}
    for part in parts:
        counts = agreement_counts(part)
        for attack in ["", *part.attacks]:
            found = counts[part.attack == attack]
            shares = np.histogram(found, np.append(edges, edges[-1] + 4))[0] / len(found)
            series.setdefault(attack or "normal", shares.tolist())
    return {
        "title": f"Figure 3: equal labels of 76, {what}",
        "kind": "histogram",
        "x": edges.tolist(),
        "series": series,
        "xlabel": "JPEG qualities that keep the label",
        "ylabel": "share of images",
        "caption": "Normal images keep their label at nearly all qualities; attacks that stop at the boundary lose it, "
        "those of high confidence keep it.",
    }
