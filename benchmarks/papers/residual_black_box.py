"""The black box of the residual paper (Sun et al., sections 3 and 5.1): substitutes that learn from labels, and FGSM.

One `Case` is a classifier with its images. The attacker and the defender each learn a substitute of their own from
their own seeds; the attacker's images are judged, the defender's train the detector (section 5.2: "the local
adversarial attack model is independent of the attack model").
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from firewall.lab.attacks.fgsm import Fgsm
from firewall.lab.attacks.rounding import quantise, to_input
from firewall.lab.attacks.substitute import drawings, learning
from firewall.lab.database.card import NormalImage
from firewall.lab.database.selection import choose
from firewall.lab.datasets import open_dataset
from firewall.lab.datasets.classes import matched
from firewall.lab.models import Protected, open_classifier

__all__ = ["EPS", "Case", "Crafted", "Images", "Learnt", "Party", "crafted", "described", "images_of", "learn"]

Pixels = npt.NDArray[np.uint8]
Party = Literal["attacker", "attacker-drawn", "defender"]

#: Lengths of the FGSM step. The paper names none; 0.3 is that of Papernot et al., whose attack it takes over.
EPS = (0.03, 0.1, 0.3)

#: Rounds of augmentation, each followed by two passes over what is known; 200 new images a round.
_PASSES, _NEW, _REACH, _TURN = 2, 200, 0.1, 3


@dataclass(frozen=True)
class Case:
    """One data set and classifier of the paper.

    Args:
        name: For tables.
        dataset: As `firewall lab attack` takes it.
        classifier: As `firewall lab attack` takes it.
        fitting: Part of the data set that the detector is trained on; its test part is measured.
        seeds: Images that each party has.
        drawn: Drawings of a party that has no images.
        judged: Benign images to measure on.
        trained: Benign images to train on.
        rounds: Of the attacker's substitute.
        own_rounds: Of the defender's substitute.
    """

    name: str
    dataset: str
    classifier: str
    fitting: str
    seeds: int = 200
    drawn: int = 100
    judged: int = 600
    trained: int = 600
    rounds: int = 20
    own_rounds: int = 8


@dataclass(frozen=True, eq=False)
class Images:
    """Correctly classified images, in a random order.

    Args:
        pixels: Uint8 (N, H, W, C), at the classifier's size.
        entries: What is known of each.
    """

    pixels: Pixels
    entries: list[NormalImage]


@dataclass(frozen=True, eq=False)
class Learnt:
    """A party's substitute.

    Args:
        substitute: The network.
        by_round: Share of other images that it names correctly, after each round from 0 on.
        queries: How many labels were asked for.
    """

    substitute: nn.Module
    by_round: tuple[float, ...]
    queries: int


@dataclass(frozen=True, eq=False)
class Crafted:
    """FGSM images made on a substitute.

    Args:
        pixels: Uint8 (N, H, W, C).
        deceived: Bool (N,), whether the substitute's first label is wrong.
        fooled: Bool (N,), whether the classifier's first label is wrong.
    """

    pixels: Pixels
    deceived: npt.NDArray[np.bool_]
    fooled: npt.NDArray[np.bool_]


def images_of(case: Case, data: Path | None, *, part: str, count: int, seed: int) -> Images:
    """`count` images of a part. Raises DataError if the data is not there."""
    classifier = _open(case, data)
    opened = matched(open_dataset(case.dataset, data, part=part), classifier.labels[classifier.offset :])
    entries, pixels, _ = choose(opened, classifier, count, seed)
    return Images(pixels, entries)


def learn(case: Case, data: Path | None, party: Party, seeds: Images, others: Images, seed: int) -> Learnt:
    """A party's substitute, learnt from `case.seeds` of its images, or from drawings. others: to measure it on."""
    classifier = _open(case, data)
    generator = torch.Generator().manual_seed(seed)
    known = to_input(seeds.pixels[: case.seeds])
    if party == "attacker-drawn":
        known = drawings(case.drawn, known, generator)
    labels = torch.tensor([entry.label + classifier.offset for entry in others.entries])
    by_round = []
    with torch.no_grad():
        rounds = learning(classifier.network, known, generator, case.rounds, _PASSES, _REACH, _TURN, _NEW)
        for substitute in rounds:
            by_round.append(float((substitute(to_input(others.pixels)).argmax(1) == labels).float().mean()))
    queries = len(known)
    for _ in range(case.rounds):
        queries += min(_NEW, queries)
    return Learnt(substitute, tuple(by_round), queries)


def crafted(case: Case, data: Path | None, learnt: Learnt, images: Images, eps: float) -> Crafted:
    """FGSM on the substitute, rounded to bytes, and what the classifier says to it."""
    classifier = _open(case, data)
    labels = torch.tensor([entry.label + classifier.offset for entry in images.entries])
    attacked = Fgsm(eps=eps).run(learnt.substitute, to_input(images.pixels), labels, 0)
    pixels = quantise(attacked)
    with torch.no_grad():
        deceived = (learnt.substitute(to_input(pixels)).argmax(1) != labels).numpy()
    fooled = (torch.from_numpy(classifier.logits(pixels)).argmax(1) != labels).numpy()
    return Crafted(pixels, deceived, fooled)


def described(case: Case) -> dict[str, Any]:
    """For JSON: what a result depends on."""
    return {**asdict(case), "passes": _PASSES, "new": _NEW, "reach": _REACH, "turn": _TURN}


def _open(case: Case, data: Path | None) -> Protected:
    return open_classifier(case.classifier, data)
