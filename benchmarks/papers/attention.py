"""`python -m benchmarks.papers attention`: Tables 1 to 4 of Nguyen C., thesis, chapter 3."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.console import Console

from benchmarks.papers.attention_answers import Judged, scores_of
from benchmarks.papers.attention_masks import answers, mask_table
from firewall.errors import DataError
from firewall.lab.database import Database
from firewall.lab.database.shards import write_file
from firewall.lab.datasets import open_dataset
from firewall.lab.measurement import metrics
from firewall.lab.models import Protected
from firewall.lab.models.attention_network import AttentionNetwork
from firewall.lab.training.detectors.attention import load_attention

__all__ = ["attention"]

Logits = npt.NDArray[np.float32]
Cell = dict[str, Any] | None

_PAPER = "C. Nguyen. Defenses against adversarial examples. Thesis; chapter 3, attention-based defense"
_ATTACKS = {"fgsm": "FGSM", "jsma": "JSMA", "cw": "C&W"}
_TABLE1 = {"fgsm": "0.863", "jsma": "0.878", "cw": "0.997"}
_TABLE2 = {"fgsm": ("0.878", "0.614"), "jsma": ("0.960", "0.614"), "cw": ("0.860", "0.614")}
_TABLE3 = {"fgsm": ("0.843", "0.665"), "jsma": ("0.853", "0.647"), "cw": ("0.917", "0.750")}
#: Share of normal calibration images that the honest thresholds withhold.
_RATE = 0.05

_NOTES = """
CIFAR-10's test images as a pack that is already JPEG at quality 75, enough for this method; g and f2 learnt from
training images of the same kind, fewer than the thesis' 50,000 (see each detector below).

AlexNet for 32x32 pixels with batch normalisation, right on 76 % of the test images (the thesis: 82 %); the VGG-like
network is right on about as many, where the thesis' was better than its AlexNet.

The thesis names no widths, no beta, no distribution of the noise and no epochs: two hidden layers of 256 units, beta 3,
noise even in 0..1 for each value, and the epochs below. g's mask has one value for each of the image's values,
as the thesis' G: R^d -> [0,1]^d. L_F is cross-entropy to the classifier's own probabilities.

FGSM 0.03; JSMA untargeted (Wiyatno, Xu 2018), at most 10 % of the values; C&W at kappa 0. Adversarial images are stored
as uint8, and only those that still fool f1 count.

"same": all images of the database, none of which g or f2 was trained on; as many normal images (the first ones) as
adversarial ones; f2's class against f1's. "honest": a threshold that withholds 5 % of other normal test images, set
on other images, on all images but the dev split; by the dev split the detector named in `chosen` was chosen. Training
prints the numbers of the eval split as well (86 images): those of the first joint detector were seen once before the
mirror image was added and the second joint detector trained, both of which were decided on the dev split.

Table 3 is read as: f1 is the VGG-like network and names the image, g and f2 are those made for AlexNet. The other
reading, images made on VGG that also fool AlexNet, has a table of its own.

Table 4 keeps the images whose mask f2 names correctly, so a true-negative rate of 1 follows from the filter and is no
finding; nobody has that filter in use, so there is no honest number.

The joint detectors' f2 reads the image under g's mask, not the mask alone, and is asked about the mirror image too,
which the dev split spoke for. g was taught Grad-CAM's masks of f1 beside f2's own need, so it gives weaker masks than
Grad-CAM. The last table shows that f2 does about as well on the whole image: what tells the two apart is a second
network that is right more often and built otherwise, more than the attention.

C&W was stopped on AlexNet after 224 of the 600 images; the VGG-like network's 128 images leave wide intervals.

Hardened detectors were trained with FGSM steps against f1 on a share of their training images (`hardened`): for
them FGSM is an attack seen in training, JSMA and C&W are not. A detector with `start` begins as a network that was
trained on CIFAR-10's official training images by others; the test images are in none of them.
"""

_TRAIN = "firewall lab train attention --database runs/databases/cifar10-alexnet --classifier alexnet"
_COMMANDS = (
    (
        "firewall lab attack --dataset cifar10 --classifier alexnet --attacks fgsm,jsma,cw --limit 600 "
        "--out runs/databases/cifar10-alexnet"
    ),
    (
        "firewall lab attack --dataset cifar10 --classifier vgg --attacks fgsm,jsma,cw --limit 128 "
        "--out runs/databases/cifar10-vgg"
    ),
    f"{_TRAIN} --form thesis --limit 10000 --mask-epochs 3 --epochs 16 --out runs/detectors/attention-cifar10-thesis",
    (
        f"{_TRAIN} --teacher grad-cam --start cifar10_resnet20 --hardened 0.25 --limit 8000 --epochs 2 "
        "--learning-rate 0.0005 --out runs/detectors/attention-cifar10-grad-cam"
    ),
    (
        f"{_TRAIN} --teacher grad-cam --start cifar10_resnet20 --hardened 0.5 --limit 10000 --epochs 2 "
        "--learning-rate 0.0005 --out runs/detectors/attention-cifar10-hardened"
    ),
    (
        "python -m benchmarks.papers attention --database runs/databases/cifar10-alexnet "
        "--transfer runs/databases/cifar10-vgg "
        "--detectors thesis=runs/detectors/attention-cifar10-thesis,joint=runs/detectors/attention-cifar10-grad-cam,"
        "hardened=runs/detectors/attention-cifar10-hardened "
        "--json benchmarks/results/papers/attention.json"
    ),
)


def attention(
    direct: Database,
    classifier: Protected,
    detectors: Mapping[str, Path],
    out: Path,
    *,
    transfer: tuple[Database, Protected] | None = None,
    data: Path | None = None,
    fresh: int = 1500,
) -> dict[str, Any]:
    """Measure the paper's tables and write them.

    Args:
        direct: Attacks on `classifier`.
        classifier: f1.
        detectors: Folders of 'firewall lab train attention' by the name that tables give them; the first is the
            thesis'.
        out: File of the results.
        transfer: Attacks on another classifier, and that classifier.
        data: Folder of the data sets.
        fresh: How many test images, of neither database, for thresholds and accuracy.

    Returns:
        What the file holds.

    Raises:
        DataError: A database is of another classifier, or lacks the attacks.
    """
    if direct.card.classifier.sha256 != classifier.sha256:
        raise DataError(f"{direct.folder} was not made on {classifier.name}; name that --classifier")
    networks = {name: load_attention(folder, classifier) for name, folder in detectors.items()}
    databases = [direct] + ([transfer[0]] if transfer else [])
    images, labels = _fresh(databases, classifier, data, fresh)
    own = classifier.logits(images)
    right = own.argmax(1) == labels
    judged, moved, other, thresholds, accuracy = {}, {}, {}, {}, {}
    for name, network in networks.items():
        Console(stderr=True).print(f"judging {name}", highlight=False)
        theirs = answers(network, images)
        thresholds[name] = metrics.threshold_at(scores_of(theirs, own)[right], _RATE)
        accuracy[name] = theirs.argmax(1) == labels
        judged[name] = _judge(direct, classifier, network)
        if transfer:
            moved[name] = _judge(transfer[0], transfer[1], network)
            other[name] = _judge(transfer[0], classifier, network)
    chosen = max(judged, key=lambda name: _balanced(judged[name], thresholds[name]))
    tables = [
        _accuracy_table(accuracy, own.argmax(1) == labels),
        _table1(judged),
        _rates_table("Table 2: detection on AlexNet", judged, thresholds, _TABLE2),
    ]
    if transfer:
        tables.append(_rates_table("Table 3: detection with the VGG-like network as f1", moved, thresholds, _TABLE3))
        tables.append(_other_reading(other, moved))
    tables += [
        _table4(judged),
        _areas(judged),
        mask_table(networks[chosen], chosen, classifier, direct, tuple(_ATTACKS)),
    ]
    reports = {name: json.loads((folder / "detector.json").read_text()) for name, folder in detectors.items()}
    result = {
        "method": "attention",
        "paper": _PAPER,
        "differences": [
            *(" ".join(part.split()) for part in _NOTES.strip().split("\n\n")),
            f"By the dev split '{chosen}' was chosen. Thresholds, on {int(right.sum())} normal test images: "
            + ", ".join(f"{name} {limit:.3f}" for name, limit in thresholds.items()),
            *(_described(name, reports[name]) for name in reports),
        ],
        "tables": tables,
        "figures": [_figure(judged[chosen], chosen)],
        "commands": list(_COMMANDS),
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    write_file(out, (json.dumps(result, indent=1) + "\n").encode())
    return result


def _described(name: str, report: dict[str, Any]) -> str:
    """What a reader needs to know of a detector."""
    settings = report["settings"]
    facts = [f"{key} {settings[key]}" for key in ("form", "epochs", "mask_epochs", "beta", "learning_rate")]
    if settings["form"] == "joint":
        facts += [f"{key} {settings[key] or 'none'}" for key in ("teacher", "start", "hardened", "noise")]
    return f"Detector '{name}': {report['weights']} weights, {settings['images']} images; {', '.join(facts)}."


def _fresh(
    databases: list[Database], classifier: Protected, data: Path | None, count: int
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """Test images of no database, at f1's size, and their classes."""
    card = databases[0].card.dataset
    found = open_dataset(card.spec, data, part=card.part)
    taken = {entry.source for database in databases for entry in database.card.normal}
    order = np.random.default_rng(1).permutation(len(found))
    chosen = [int(index) for index in order if found.sources[index] not in taken][:count]
    if len(chosen) < 20:
        raise DataError(f"{card.spec}/{card.part} has {len(chosen)} images outside the databases; 20 are needed")
    images = np.stack([classifier.prepare(found.images[index]) for index in chosen])
    return images, found.labels[chosen] + classifier.offset


def _judge(database: Database, classifier: Protected, network: AttentionNetwork) -> Judged:
    own, theirs, origins = {"": classifier.logits(database.normal)}, {"": answers(network, database.normal)}, {}
    for name in _ATTACKS:
        attacked = database.attacked(name)
        if not len(attacked.images):
            raise DataError(f"{database.folder} has no images of {name} yet; attack with it first")
        own[name], theirs[name] = classifier.logits(attacked.images), answers(network, attacked.images)
        origins[name] = np.array([entry.normal for entry in attacked.entries], np.int64)
    return Judged(database, own, theirs, origins)


def _balanced(judged: Judged, threshold: float) -> float:
    """On the dev split, over the attacks."""
    kept = float((judged.scores("")[judged.inside("", True)] <= threshold).mean())
    found = [float((judged.scores(name)[judged.inside(name, True)] > threshold).mean()) for name in _ATTACKS]
    return (kept + float(np.mean(found))) / 2


def cell(hits: npt.NDArray[np.bool_]) -> Cell:
    """A rate with its interval; None of no images. CIFAR-10's images are independent."""
    if not len(hits):
        return None
    low, high = metrics.rate_interval(int(hits.sum()), len(hits))
    return {"value": float(hits.mean()), "low": low, "high": high, "n": len(hits)}


def _row(key: list[str], theirs: str | None, same: Cell, honest: Cell) -> dict[str, Any]:
    return {"key": key, "theirs": theirs, "same": same, "honest": honest}


def _first(judged: Mapping[str, Judged]) -> str:
    return next(iter(judged))


def _accuracy_table(accuracy: Mapping[str, npt.NDArray[np.bool_]], own: npt.NDArray[np.bool_]) -> dict[str, Any]:
    rows = [_row(["f1, image"], "82 %", cell(own), None)]
    for index, (name, right) in enumerate(accuracy.items()):
        rows.append(_row([f"f2 of {name}"], "60 %" if index == 0 else None, cell(right), None))
        rows.append(_row([f"f2 of {name}, where f1 is right"], None, cell(right[own]), None))
    note = "Share of test images outside the databases that are named correctly; for the thesis, see section 3.3."
    return {"title": "Accuracy of the classifiers", "note": note, "columns": ["classifier"], "rows": rows}


def _table1(judged: Mapping[str, Judged]) -> dict[str, Any]:
    rows = []
    for detector, found in judged.items():
        for name, shown in _ATTACKS.items():
            same = found.theirs[name].argmax(1) == found.theirs[""].argmax(1)[found.origins[name]]
            theirs = _TABLE1.get(name) if detector == _first(judged) else None
            rows.append(_row([shown, detector], theirs, cell(same), cell(same[found.inside(name, False)])))
    note = "Share of adversarial images whose mask f2 names as it names the mask of the image they were made of."
    return {
        "title": "Table 1: masks that keep their class",
        "note": note,
        "columns": ["attack", "detector"],
        "rows": rows,
    }


def _rates_table(
    title: str, judged: Mapping[str, Judged], thresholds: Mapping[str, float], theirs: Mapping[str, tuple[str, str]]
) -> dict[str, Any]:
    rows = []
    for detector, found in judged.items():
        normal, limit = found.scores(""), thresholds[detector]
        for name, shown in _ATTACKS.items():
            scores, rest = found.scores(name), found.inside(name, False)
            fools = found.own[name].argmax(1) != found.labels[found.origins[name]]
            quoted = theirs[name] if detector == _first(judged) else (None, None)
            honest = cell(scores[rest & fools] > limit)
            rows.append(_row([shown, "true positive", detector], quoted[0], cell(scores[fools] > 0), honest))
            benign = normal[: int(fools.sum())] <= 0
            kept = cell(normal[found.inside("", False)] <= limit)
            rows.append(_row([shown, "true negative", detector], quoted[1], cell(benign), kept))
    note = (
        "same: f2's class against f1's. honest: threshold at 5 % of other normal test images (set with AlexNet as f1), "
        "all images but the dev split."
    )
    return {"title": title, "note": note, "columns": ["attack", "rate", "detector"], "rows": rows}


def _other_reading(other: Mapping[str, Judged], moved: Mapping[str, Judged]) -> dict[str, Any]:
    """f1 is AlexNet, on images made on VGG that fool both."""
    rows = []
    for detector, found in other.items():
        truth = moved[detector].labels
        for name, shown in _ATTACKS.items():
            origin = found.origins[name]
            both = (found.own[name].argmax(1) != truth[origin]) & (found.labels == truth)[origin]
            rows.append(_row([shown, detector], None, cell(found.scores(name)[both] > 0), None))
    return {
        "title": "Table 3 read otherwise: true positives on images made on VGG that fool AlexNet too",
        "note": "Only images that AlexNet names correctly before the attack, not after; f2's class against f1's.",
        "columns": ["attack", "detector"],
        "rows": rows,
    }


def _table4(judged: Mapping[str, Judged]) -> dict[str, Any]:
    rows = []
    for detector, found in judged.items():
        good = found.theirs[""].argmax(1) == found.labels
        for name, shown in _ATTACKS.items():
            kept, quoted = good[found.origins[name]], "1.000" if detector == _first(judged) else None
            recovered = found.theirs[name].argmax(1) == found.labels[found.origins[name]]
            rows.append(_row([shown, "true positive", detector], quoted, cell(found.scores(name)[kept] > 0), None))
            rows.append(_row([shown, "true negative", detector], quoted, cell(found.scores("")[good] <= 0), None))
            rows.append(_row([shown, "recovery", detector], quoted, cell(recovered[kept]), None))
    return {
        "title": "Table 4: after leaving out images whose mask f2 reads wrongly",
        "note": "Recovery: f2 names the adversarial image's right class. True negatives are 1 by the filter alone.",
        "columns": ["attack", "rate", "detector"],
        "rows": rows,
    }


def _areas(judged: Mapping[str, Judged]) -> dict[str, Any]:
    rows = []
    for detector, found in judged.items():
        normal = found.scores("")[found.inside("", False)]
        for name, shown in _ATTACKS.items():
            scores = found.scores(name)[found.inside(name, False)]
            result = metrics.separate(normal, scores, rates=())
            for measure, estimate in (("AUROC", result.auroc), ("EER", result.eer)):
                honest = {"value": estimate.value, "low": estimate.low, "high": estimate.high, "n": len(scores)}
                rows.append(_row([shown, measure, detector], None, None, honest))
    note = "Whatever the threshold; all images but the dev split."
    return {
        "title": "How well the scores part",
        "note": note,
        "columns": ["attack", "measure", "detector"],
        "rows": rows,
    }


def _figure(judged: Judged, name: str) -> dict[str, Any]:
    rest = {key: judged.scores(key)[judged.inside(key, False)] for key in ("", *_ATTACKS)}
    every = np.concatenate(list(rest.values()))
    edges = np.linspace(float(np.quantile(every, 0.005)), float(np.quantile(every, 0.995)), 31)
    series = {
        _ATTACKS.get(key, "normal"): (np.histogram(values, edges)[0] / len(values)).tolist()
        for key, values in rest.items()
    }
    return {
        "title": f"Scores of the detector '{name}'",
        "kind": "histogram",
        "x": edges.tolist(),
        "series": series,
        "xlabel": "f2's best other class less f1's class, logits (above 0: they disagree)",
        "ylabel": "share of the images",
        "caption": "CIFAR-10, AlexNet; all images but the dev split.",
    }
