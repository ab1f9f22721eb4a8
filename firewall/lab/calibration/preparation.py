"""Does a classifier get its pixels as it was trained? Its answers to benign images, in this preparation and in others.

A network that is given 0..1 instead of 0..255, or BGR instead of RGB, runs without an error and gives wrong labels with
high confidence. If folders or a pack have labels, accuracy shows it. If not, the answers themselves do, by the mutual
information of class and image: the entropy of the mean answer minus the mean entropy of the answers, with all logits
scaled to the same spread. It is low if all images get one label, and if no class stands out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from firewall.bundle import ClassifierSpec
from firewall.errors import DataError, EngineError
from firewall.frame import Pixels
from firewall.lab.datasets.labelled import Labelled
from firewall.lab.measurement.edge import engine_for
from firewall.lab.models.options import PREPARATIONS, Channels
from firewall.transforms import resize

__all__ = ["Answers", "Wiring", "check_wiring", "look"]

#: Images that are asked about; as many are classified for some ten preparations as calibration does for three images.
IMAGES = 128
_BATCH = 16
#: With fewer images nothing is concluded.
_LEAST = 20
#: If this share of the images gets one label, the network is taken to see nothing in them.
_NEARLY_ALL = 0.9
#: Differences of accuracy up to this may be chance.
_CHANCE = 0.03
#: If another preparation leaves so much of the errors, the one that was asked for is wrong.
_FEW_ERRORS = 1 / 3
#: Factor by which the mutual information must be larger to be clearly better, without labels. On six networks (ours,
#: two of CIFAR-10, two of ImageNet, the tests') the best of 12 preparations had at most 1.03 times that of the right.
_CLEARLY = 1.1
#: Factor of the mutual information up to which two preparations are alike.
_ALIKE = 1.05
#: Without labels: if so little of the information is left, the preparation that was asked for is wrong.
_LITTLE = 0.6
#: A better preparation's median confidence, as a share of that of the one that was asked for. Where the images show
#: two or three classes, a wrong one that scatters them over many, unsurely, has more information than the right one.
_AS_SURE = 0.8
#: Spread of an image's logits, by the median image, at which answers are compared: pixels of a larger range make all
#: answers surer, which says nothing about the images.
_SPREAD = 2.0


@dataclass(frozen=True)
class Answers:
    """A network's answers to images in one preparation.

    Attributes:
        name: Of the preparation.
        classes: Number of classes of the network.
        seen: How many of them it gave.
        common: The commonest label.
        share: Share of the images that got it, 0 to 1.
        confidence: The median confidence, 0 to 1.
        information: Mutual information of class and image, nats.
        predicted: The label of each image, int64 (N,).
        right: Of each image with a known label, whether it got that one, bool (M,).
    """

    name: str
    classes: int
    seen: int
    common: int
    share: float
    confidence: float
    information: float
    predicted: npt.NDArray[np.int64]
    right: npt.NDArray[np.bool_]

    @property
    def accuracy(self) -> float | None:
        """Share of the images with a known label that got it; None if there are too few."""
        return float(self.right.mean()) if len(self.right) >= _LEAST else None

    def told(self, labels: Sequence[str]) -> str:
        """The answers in words. labels: the classifier's."""
        accuracy = "" if self.accuracy is None else f", {self.accuracy:.0%} of {len(self.right)} named as their labels"
        return (
            f"{self.seen} of {self.classes} classes, {self.share:.0%} called {labels[self.common]!r}, median "
            f"confidence {self.confidence:.2f}{accuracy}"
        )


@dataclass(frozen=True)
class Wiring:
    """Whether a classifier gets its pixels as it was trained.

    Attributes:
        asked: Its answers in the preparation that was asked for.
        others: Its answers in the usual ones, the best first; empty if there is no choice.
        images: How many images it was shown.
        refusal: Why it must not be calibrated so; empty if nothing is wrong.
        warning: What the user should look at; empty if there is nothing.
    """

    asked: Answers
    others: tuple[Answers, ...]
    images: int
    refusal: str
    warning: str

    def lines(self, labels: Sequence[str]) -> list[str]:
        """Lines for the user. labels: the classifier's."""
        lines = [f"{self.images} benign images, prepared as asked: {self.asked.told(labels)}"]
        if self.others:
            best = self.others[0]
            lines.append(f"best of {len(self.others)} other preparations, {best.name}: {best.told(labels)}")
        return [*lines, *([f"warning: {self.warning}"] if self.warning else [])]


def look(
    classifier: ClassifierSpec,
    content: bytes,
    images: Sequence[Pixels],
    known: npt.NDArray[np.int64],
    *,
    channels: Channels = "rgb",
    alternatives: bool = True,
) -> tuple[Answers, list[Answers]]:
    """A classifier's answers in the preparation that was asked for, and in the usual ones.

    Args:
        classifier: As the manifest describes it.
        content: Its ONNX file.
        images: uint8 (H, W, 3) each, of any size.
        known: Their labels, int64 (N,); -1 where it isn't known.
        channels: The order that the graph turns RGB into.
        alternatives: Try the usual preparations too.

    Returns:
        The answers as asked, and those in the other preparations.

    Raises:
        EngineError: The network doesn't run as asked.
    """
    size = classifier.input
    try:
        engine = engine_for(classifier, content)
    except EngineError as error:
        raise _fails(error) from error
    pixels = np.stack([resize(np.ascontiguousarray(image), size.width, size.height) for image in images])
    ways = [("as asked", size.mean, size.std, channels)]
    for name, way in PREPARATIONS.items() if alternatives else ():
        mean, std = (tuple(np.broadcast_to(np.array(part) / way.range, 3).tolist()) for part in (way.mean, way.std))
        for order in ("rgb", "bgr"):
            same = (
                order == channels and np.allclose(mean, size.mean, atol=1e-6) and np.allclose(std, size.std, atol=1e-6)
            )
            if not same:
                ways.append((f"{name} {order.upper()}", mean, std, order))
    found: list[Answers] = []
    for name, mean, std, order in ways:
        parts = list[npt.NDArray[np.float32]]()
        try:
            for start in range(0, len(pixels), _BATCH):
                part = (pixels[start : start + _BATCH] / np.float64(255) - np.array(mean)) / np.array(std)
                # The graph itself turns RGB into the asked order; what it turns again is the other one.
                turned = part if order == channels else part[..., ::-1]
                engine.tensor(len(part))[...] = turned.transpose(0, 3, 1, 2)
                parts.append(engine.run(len(part)))
        except EngineError as error:
            if not found:
                raise _fails(error) from error
            continue  # a preparation that drives the network to infinity isn't its own
        found.append(_answers(name, np.concatenate(parts).astype(np.float64), known))
    return found[0], found[1:]


def check_wiring(
    classifier: ClassifierSpec,
    content: bytes,
    labelled: Labelled,
    *,
    channels: Channels = "rgb",
    alternatives: bool = True,
) -> Wiring:
    """Compare a classifier's answers in several preparations; see the module.

    Args:
        classifier: As the manifest describes it.
        content: Its ONNX file.
        labelled: Benign images, and the labels of those where they are known.
        channels: As of `look`.
        alternatives: As of `look`.

    Raises:
        DataError: There are no images.
        EngineError: The network doesn't run as asked.
    """
    if not labelled.images:
        raise DataError("there are no images to look at")
    known = labelled.known
    asked, others = look(classifier, content, labelled.images, known, channels=channels, alternatives=alternatives)
    # A difference of a few images is chance: then the mutual information decides.
    nearly = max((other.accuracy or 0.0 for other in others), default=0.0) - _CHANCE
    # So near to the most, what differs from the asked preparation least is meant: not its order of colours too.
    most = max((other.information for other in others), default=0.0) / _ALIKE
    others.sort(
        key=lambda each: (
            (each.accuracy or 0.0) < nearly,
            each.information < most or not each.name.endswith(channels.upper()),
            -each.information,
        )
    )
    better = [other for other in others if _clearly(other, asked)][:1]
    labels, count = classifier.labels, len(labelled.images)
    refusal = warning = ""
    advice = f"{better[0].name} fits: {_option(better[0].name)}" if better else "see --preparation and --channels"
    alone = asked.share >= _NEARLY_ALL and (asked.accuracy or 0.0) < 0.5
    if count >= _LEAST and alone:
        refusal = (
            f"{asked.share:.0%} of {count} benign images are called {labels[asked.common]!r}: the network seems to get "
            f"its pixels otherwise than it was trained; {advice}; if they do show one class, say --accept-preparation"
        )
    elif better and _wrong_by_labels(asked.accuracy, better[0].accuracy):
        refusal = (
            f"only {asked.accuracy:.0%} of {len(asked.right)} benign images are named as their labels, prepared as "
            f"asked, {better[0].accuracy:.0%} in another way; {advice}; or say --accept-preparation"
        )
    elif count >= _LEAST and better and asked.accuracy is None and _far_behind(asked, better[0]):
        refusal = (
            f"the network hardly tells {count} benign images apart, prepared as asked, and does in another way; "
            f"{advice}; or say --accept-preparation"
        )
    elif _other_order(asked, labelled, len(labels)):
        refusal = _told_order(asked, labelled, labels)
    elif better:
        sure = "" if asked.accuracy is not None else "; folders named as the labels would tell for sure"
        warning = f"the network fits another preparation clearly better; {advice}{sure}"
    elif asked.accuracy is not None and asked.accuracy < 0.5:
        warning = (
            f"only {asked.accuracy:.0%} of {len(asked.right)} benign images are named as {labelled.how} say; are the "
            "labels in the network's order, and is this its preparation?"
        )
    return Wiring(asked, tuple(others), count, refusal, warning)


def _fails(error: EngineError) -> EngineError:
    return EngineError(
        f"{error}, for pixels prepared as asked; is that how it was trained (--preparation, --channels), and the file "
        "whole?"
    )


def _answers(name: str, logits: npt.NDArray[np.float64], known: npt.NDArray[np.int64]) -> Answers:
    shares = _shares(logits)
    predicted = logits.argmax(axis=1)
    counts = np.bincount(predicted, minlength=logits.shape[1])
    spread = max(float(np.median(logits.std(axis=1))), 1e-9)
    even = _shares(logits * (_SPREAD / spread))
    information = _entropy(even.mean(axis=0)) - float(np.mean([_entropy(row) for row in even]))
    return Answers(
        name=name,
        classes=logits.shape[1],
        seen=int((counts > 0).sum()),
        common=int(counts.argmax()),
        share=float(counts.max() / len(logits)),
        confidence=float(np.median(shares.max(axis=1))),
        information=information,
        predicted=predicted,
        right=(predicted == known)[known >= 0],
    )


def _shares(logits: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Softmax of each row."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    result: npt.NDArray[np.float64] = powers / powers.sum(axis=1, keepdims=True)
    return result


def _entropy(shares: npt.NDArray[np.float64]) -> float:
    return float(-(shares * np.log(np.maximum(shares, 1e-300))).sum())


def _clearly(other: Answers, asked: Answers) -> bool:
    if asked.accuracy is not None:
        gained, lost = int((other.right & ~asked.right).sum()), int((asked.right & ~other.right).sum())
        return gained - lost > 3 * math.sqrt(gained + lost)  # three standard deviations of a sign test
    if other.confidence < _AS_SURE * asked.confidence:
        return False
    return other.information > max(_CLEARLY * asked.information, asked.information + 0.1)


def _far_behind(asked: Answers, other: Answers) -> bool:
    """Whether, without labels, the answers as asked say so little that the other preparation must be the right one."""
    return asked.information < min(_LITTLE * other.information, other.information - 0.3)


def _wrong_by_labels(asked: float | None, other: float | None) -> bool:
    """Whether a clearly better way gets twice as many images right, and most of them, or a third of the errors."""
    if asked is None or other is None:
        return False
    return other > max(2 * asked, 0.5) or 1 - other <= _FEW_ERRORS * (1 - asked)


def _other_order(asked: Answers, labelled: Labelled, classes: int) -> bool:
    """Whether the network separates the labelled classes, but gives them other names."""
    where = labelled.known >= 0
    known, predicted = labelled.known[where], asked.predicted[where]
    if not labelled.sure or len(known) < max(2 * classes, 2 * _LEAST) or len(set(known.tolist())) < 2:
        return False
    table = np.zeros((classes, classes), np.int64)
    np.add.at(table, (predicted, known), 1)
    # Both ways, since all images with one label, or each with its own, would agree one way.
    agreed = min(table.max(axis=1).sum(), table.max(axis=0).sum()) / len(known)
    return bool(agreed >= 0.8) and (asked.accuracy or 0.0) < 0.5


def _told_order(asked: Answers, labelled: Labelled, labels: Sequence[str]) -> str:
    where = labelled.known >= 0
    known, predicted = labelled.known[where], asked.predicted[where]
    wrong = np.flatnonzero(known != predicted)
    one, two = int(known[wrong[0]]), int(predicted[wrong[0]])
    return (
        f"the network tells the classes apart, but names only {asked.accuracy:.0%} of {len(known)} images as "
        f"{labelled.how} say (class {one}, {labels[one]!r}, is called {labels[two]!r}): its labels are in another "
        "order, perhaps the alphabetical one ('10' before '2'); give them so, or say --accept-preparation"
    )


def _option(name: str) -> str:
    preparation, order = name.split()
    return f"--preparation {preparation} --channels {order.lower()}"
