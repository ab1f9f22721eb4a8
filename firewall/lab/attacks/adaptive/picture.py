"""A whole bundle as one differentiable function: what an attacker who knows it all would build."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from firewall.bundle import Bundle, DetectorSpec
from firewall.detectors.draws import DrawSpec
from firewall.errors import DataError
from firewall.lab.attacks.adaptive.operations import resized
from firewall.lab.attacks.adaptive.rule import rule_of
from firewall.lab.attacks.adaptive.scores import Score, score_of
from firewall.lab.attacks.adaptive.view import Draws, View
from firewall.lab.attacks.rounding import as_stored
from firewall.lab.models import load_network
from firewall.sweep.keyed import NONCE_BYTES, Copy, copies

__all__ = ["EXPECTED", "Picture", "Seen"]

#: Draws of a keyed sweep that a step averages over: the attacker doesn't know the device's key.
EXPECTED = 4


@dataclass(frozen=True, eq=False)
class Seen:
    """What the firewall makes of N images.

    Args:
        logits: (N, classes) of the classifier.
        scores: Detector -> (N,), of those with a gradient.
        demands: (N, M); a label is released if none is above 0.
    """

    logits: Tensor
    scores: Mapping[str, Tensor]
    demands: Tensor


class Picture:
    """A bundle in torch, with gradients from its verdict to the region's own pixels.

    Args:
        bundle: The bundle.
        network: Its classifier, see `firewall.lab.models.load_torch`.

    Attributes:
        draws: What a step takes a keyed sweep to be; None: `EXPECTED` draws by keys that are drawn themselves.
        blind: Detector, or "masks", -> why it has no gradient. It counts in no demand, but in every real verdict.
    """

    def __init__(self, bundle: Bundle, network: nn.Module) -> None:
        self.bundle, self.network = bundle, network
        self.draws: Draws | None = None
        self.blind: dict[str, str] = {}
        self.scores: dict[str, Score] = {}
        for spec in bundle.manifest.detectors:
            score = _differentiable(bundle, spec)
            if isinstance(score, str):
                self.blind[spec.name] = score
            else:
                self.scores[spec.name] = score
        if bundle.manifest.patches is not None:
            self.blind["masks"] = "a label has to hold under each of them"

    def exact(self, most: int) -> bool:
        """Whether `see` demands what the edge does: all has a gradient, no copy is left out, no key is drawn.

        Args:
            most: Of `see`.
        """
        asked = [
            len(spec.parameters.get(name) or ())  # of the two kinds of copies
            for spec in self.bundle.manifest.detectors
            for name in ("operations", "qualities")
            if spec.name != "statistics"
        ]
        keyed = any(spec.name == "keyed" for spec in self.bundle.manifest.detectors)
        return not (self.blind or keyed or 0 < most < max(asked, default=0))

    def classify(self, crops: Tensor) -> Tensor:
        """The classifier's logits (N, classes) alone, of crops as `see` takes them."""
        size = self.bundle.manifest.classifier.input
        logits: Tensor = self.network(resized(as_stored(crops), size.width, size.height))
        return logits

    def see(
        self,
        crops: Tensor,
        aim: Tensor | None = None,
        *,
        most: int = 0,
        generator: torch.Generator | None = None,
    ) -> Seen:
        """Send images through.

        Args:
            crops: Float (N, 3, h, w) in 0..1 of any size; they are rounded to 8 bits, with a gradient that ignores it.
            aim: Int64 (N,), the class that the detectors are to find plausible; None: the classifier's first one.
            most: At most so many copies of an image for each detector, drawn at random; 0: all, as the edge does.
            generator: Draws them.

        Returns:
            Logits, scores and demands, with gradients to `crops`.
        """
        size = self.bundle.manifest.classifier.input
        stored = as_stored(crops)
        image = resized(stored, size.width, size.height)
        logits: Tensor = self.network(image)
        label = logits.detach().argmax(1) if aim is None else aim
        draws = self.draws or partial(_drawn, generator=generator)
        view = View(stored, image, logits, label, self.network, most, generator, draws)
        scores = {name: score(view) for name, score in self.scores.items()}
        if not scores:
            return Seen(logits, scores, torch.full_like(logits[:, :1], -1.0))
        return Seen(logits, scores, rule_of(self.bundle, min(crops.shape[2:]))(scores))


def _drawn(draw: DrawSpec, *, generator: torch.Generator | None) -> Sequence[Sequence[Copy]]:
    """What keys nobody knows would draw of images nobody has seen."""
    numbers = torch.randint(256, (EXPECTED, 32 + NONCE_BYTES), generator=generator, dtype=torch.uint8).numpy()
    return [copies(row[:32].tobytes(), row[32:].tobytes(), draw) for row in numbers]


def _differentiable(bundle: Bundle, spec: DetectorSpec) -> Score | str:
    """A detector's score, or why it has no gradient."""
    try:
        return score_of(spec, lambda file: load_network(bundle.files[file]))
    except DataError as error:
        return str(error)
