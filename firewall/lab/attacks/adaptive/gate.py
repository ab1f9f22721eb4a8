"""The real firewall: only its verdict decides whether an attack has succeeded."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from firewall.screening import Firewall
from firewall.verdict import Verdict

__all__ = ["Attempt", "Gate"]

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Attempt:
    """An attacked image and what the real firewall said of it.

    Args:
        pixels: Uint8 (h, w, 3).
        verdict: The firewall's.
        wrong: A label was released, and not the right one.
    """

    pixels: Pixels
    verdict: Verdict
    wrong: bool

    @property
    def rank(self) -> tuple[int, float]:
        """How near the attempt came to success; larger is nearer.

        A wrong label that is released comes first, then a withheld one, then the right label; of two alike the one with
        the lower suspicion.
        """
        suspicion = self.verdict.suspicion
        return (2 if self.wrong else 0 if self.verdict.released else 1, -(1e9 if suspicion is None else suspicion))


@dataclass
class Gate:
    """A firewall that counts how often it is asked.

    Args:
        firewall: It judges each image by itself.
        label: The right label.
        queries: How many images it has judged.
    """

    firewall: Firewall
    label: int
    queries: int = field(default=0)

    def ask(self, pixels: Pixels) -> Attempt:
        """Judge an image.

        Args:
            pixels: Uint8 (h, w, 3).

        Returns:
            The image with its verdict.
        """
        self.queries += 1
        verdict = self.firewall.screen(pixels)
        return Attempt(pixels, verdict, verdict.released and verdict.label != self.label)
