"""(b) ART's defences around a classifier in ONNX Runtime: what they hold on attacked signs, and what they cost."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.alternatives.loop import LIGHTER, lighter
from benchmarks.alternatives.peer import Peer
from benchmarks.alternatives.turns import here, in_turns, middle, ratio
from firewall import Firewall
from firewall.bundle import Bundle
from firewall.lab.evaluation.crops.attacked import attacked
from firewall.lab.evaluation.crops.images import Crops, open_sets
from firewall.lab.measurement.intervals import rate_of
from firewall.lab.models import open_classifier
from firewall.transforms import SWEEP_16, apply_operations, resize

__all__ = ["ATTACKS", "WIRINGS", "Signs", "against_art", "art_jpeg", "judged", "outcome", "squeezed", "threshold_for"]

#: The same attacker for all: knows the classifier, and nothing of what stands around it.
ATTACKS = ("linf-8", "linf-8@input", "linf-8@input@jpeg-90", "blurred-16", "low-frequency-32", "shadow", "two-bars")

_SQUEEZE = {"FeatureSqueezing": {"clip_values": [0.0, 1.0], "bit_depth": 5}}
_SMOOTH = {"SpatialSmoothing": {"window_size": 3, "channels_first": False}}
Defences = dict[str, dict[str, Any]]


def art_jpeg(quality: int) -> Defences:
    """ART's JPEG compression."""
    return {"JpegCompression": {"clip_values": [0.0, 1.0], "quality": quality, "channels_first": False}}


#: Name -> ART's preprocessors with their parameters: its own defaults, but 5 bits (its 8 change nothing).
WIRINGS: dict[str, Defences] = {
    "bare classifier": {},
    "ART feature squeezing, 5 bits": _SQUEEZE,
    "ART spatial smoothing, 3x3": _SMOOTH,
    "ART JPEG, quality 50": art_jpeg(50),
    "ART all three": {**_SQUEEZE, **_SMOOTH, **art_jpeg(50)},
}
#: Compared as Xu et al. (2018) compare them: the image as it is, and each of the three alone.
_COMPARED = "ART's three, answers compared"
_AGREEMENT = "17 labels (16 JPEG copies)"


class Signs:
    """Signs of GTSDB that the classifier names right, the same under each attack, and benign ones for thresholds."""

    def __init__(self, bundle: Bundle, data: Path | None, work: Path, limit: int, benign: int, seed: int = 0) -> None:
        """Attack them; those that `work` holds are not attacked again.

        Args:
            bundle: Whose classifier is attacked.
            data: Folder of the data sets; None: the usual places.
            work: As --work of `firewall lab evaluate attacks`.
            limit: Signs that are attacked.
            benign: Signs that are judged as they are, and as many others for thresholds, at most.
            seed: Of all random choices.
        """
        classifier = open_classifier("default" if bundle.path.name == "default_bundle" else str(bundle.path), data)
        spec = bundle.manifest.classifier.input
        self._size = (spec.width, spec.height)
        sets = open_sets("gtsdb", bundle, classifier, data)
        guard = Firewall(bundle, _engine(bundle), threads=1)
        judged_ones, setting = sets.judged.drawn(seed), sets.calibration.drawn(seed)
        setting = setting.take(np.arange(min(benign, len(setting))))
        named = [int(guard.engine.classify(self.resized([image]))[0].argmax()) for image in judged_ones.images]
        right = np.flatnonzero(np.array(named) == judged_ones.labels)
        self.victims = judged_ones.take(right[:limit])
        self.benign = judged_ones.take(np.arange(min(benign, len(judged_ones))))
        self.setting = setting
        self.attacked: dict[str, Crops] = {
            name: attacked(name, classifier, self.victims, work / "attacked" / name, seed) for name in ATTACKS
        }

    def resized(self, images: Sequence[npt.NDArray[np.uint8]]) -> npt.NDArray[np.uint8]:
        """At the classifier's size, as the guard resizes them, (N, H, W, 3)."""
        return np.stack([resize(image, *self._size) for image in images])


def against_art(guard: Firewall, bundle: Bundle, peer: Peer, signs: Signs, folder: Path, timed: int) -> dict[str, Any]:
    """What each way lets out of attacked signs and of benign ones; then what each takes for a sign.

    Args:
        guard: The whole guard.
        bundle: Its bundle.
        peer: With ART.
        signs: What is judged.
        folder: Where the classifier's file is written for the other process.
        timed: Signs that are timed.
    """
    network = folder / "classifier.onnx"
    network.write_bytes(bundle.files[bundle.manifest.classifier.file])
    spec = bundle.manifest.classifier
    common = {"network": str(network), "classes": len(spec.labels), "size": [spec.input.height, spec.input.width]}
    for name, defences in WIRINGS.items():
        peer.make(name, "art", **common, defences=defences)
    peer.make(_COMPARED, "art-each", **common, wirings=[{}, _SQUEEZE, _SMOOTH, art_jpeg(50)])
    peer.make(_AGREEMENT, "art-each", **common, wirings=[{}, *(art_jpeg(quality) for quality in SWEEP_16)])
    ours = {"the firewall": guard} | {f"the firewall, {name}": lighter(bundle, kept) for name, kept in LIGHTER.items()}

    sets = {"benign": signs.benign, **signs.attacked}
    for name, crops in [*sets.items(), ("setting", signs.setting)]:
        peer.load(name, signs.resized(crops.images))
    answers = {name: {on: peer.run(name, on).argmax(1) for on in sets} for name in WIRINGS}
    for name, one in ours.items():
        answers[name] = {on: judged(one, crops) for on, crops in sets.items()}
    share = float(np.mean(answers["the firewall"]["benign"] < 0))
    limit = threshold_for(squeezed(peer.run(_COMPARED, "setting"))[1], share)
    answers[_COMPARED] = {}
    for on in sets:
        labels, apart = squeezed(peer.run(_COMPARED, on))
        answers[_COMPARED][on] = np.where(apart > limit, -1, labels)

    held = {name: outcome(found, sets) for name, found in answers.items()}
    crops = sets["benign"].images[:timed]
    shown = signs.resized(crops)

    def swept(item: int) -> npt.NDArray[np.int64]:
        batch = np.concatenate([shown[item][np.newaxis], apply_operations(shown[item], _JPEGS)])
        labels: npt.NDArray[np.int64] = guard.engine.classify(batch).argmax(1)
        return labels

    theirs = peer.run(_AGREEMENT, "benign")[: len(crops)].argmax(2)
    alike = float(np.mean(theirs == np.stack([swept(item) for item in range(len(crops))])))
    taken = in_turns(
        {
            **{name: here(lambda item, one=one: one.screen(crops[item])) for name, one in ours.items()},
            _AGREEMENT: here(swept),
            **{name: peer.work(name, "benign") for name in (*WIRINGS, _COMPARED)},
            f"ART {_AGREEMENT}": peer.work(_AGREEMENT, "benign"),
        },
        len(crops),
    )
    rows = [
        {"way": name, **found, **middle(taken[name]), "against_ours": ratio(taken[name], taken["the firewall"])}
        for name, found in held.items()
    ]
    rows.sort(key=lambda row: -row["worst"][0])
    return {
        "images": {"attacked": len(signs.victims), "benign": len(signs.benign), "thresholds": len(signs.setting)},
        "rows": rows,
        "same_work": {
            "what": f"{_AGREEMENT} of one image, by ART and by our sweep",
            "labels_equal": alike,
            "ours": middle(taken[_AGREEMENT]),
            "art": middle(taken[f"ART {_AGREEMENT}"]),
            **ratio(taken[f"ART {_AGREEMENT}"], taken[_AGREEMENT]),
        },
    }


_JPEGS = [f"jpeg:{quality}" for quality in SWEEP_16]


def judged(guard: Firewall, crops: Crops) -> npt.NDArray[np.int64]:
    """The label that goes out for each crop, -1 where none does."""
    verdicts = [guard.screen(image) for image in crops.images]
    return np.array([-1 if verdict.label is None else verdict.label for verdict in verdicts], np.int64)


def squeezed(logits: npt.NDArray[np.float32]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Label of the image as it is, and how far the probabilities under a squeezer are from its own at most (L1).

    Args:
        logits: (N, 1 + squeezers, C), the image as it is first.
    """
    rows = np.exp(logits.astype(np.float64) - logits.max(axis=2, keepdims=True))
    chances = rows / rows.sum(axis=2, keepdims=True)
    apart = np.abs(chances[:, 1:] - chances[:, :1]).sum(axis=2).max(axis=1)
    return logits[:, 0].argmax(1), apart


def threshold_for(scores: npt.NDArray[np.float64], share: float) -> float:
    """The score above which that share of benign images lies."""
    return float(np.quantile(scores, 1 - share, method="higher"))


def outcome(labels: dict[str, npt.NDArray[np.int64]], crops: dict[str, Crops]) -> dict[str, Any]:
    """Shares, each with its 95 % interval behind it: wrong labels that go out under each attack, the worst of them, and
    of benign signs what goes out right, wrong, and not at all.

    Args:
        labels: Set -> label that goes out, -1 for none, (N,). The set "benign" is among them.
        crops: Set -> the signs, with their true classes and groups.
    """
    wrong = {
        name: _rate((labels[name] >= 0) & (labels[name] != found.labels), found)
        for name, found in crops.items()
        if name != "benign"
    }
    calm, truth = labels["benign"], crops["benign"]
    worst = max(wrong, key=lambda name: wrong[name][0])
    return {
        "attack": worst,
        "worst": wrong[worst],
        "wrong_release": {name: entry[0] for name, entry in wrong.items()},
        "mean_wrong_release": float(np.mean([entry[0] for entry in wrong.values()])),
        "benign_right": _rate(calm == truth.labels, truth),
        "benign_wrong": _rate((calm >= 0) & (calm != truth.labels), truth),
        "benign_withheld": _rate(calm < 0, truth),
    }


def _rate(hits: npt.NDArray[np.bool_], crops: Crops) -> list[float]:
    found = rate_of(hits, crops.groups)
    return [found.value, found.low, found.high]


def _engine(bundle: Bundle) -> Any:
    from firewall.engines import open_engine

    return open_engine(bundle, threads=1)
