"""Keyed sweep: does the label hold under copies that an attacker can't foresee? Our own question.

A fixed list of operations is known to whoever has the bundle, and an attack is made for just these. Here the copies of
each image are drawn by a secret of the device and the image itself (firewall.sweep.keyed). Who doesn't have the
secret can only attack what is expected over all draws.

The score is the log-odds against the classifier's label, of the classifier and of the jurors that are named, over all
copies: their mean, or the largest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from firewall.bundle.strict import Strict, parameters_of
from firewall.detectors.draws import DrawSpec
from firewall.detectors.evidence import Evidence, Network
from firewall.detectors.juror import JurorParameters, odds_against, shares_of
from firewall.errors import BundleError, EngineError

__all__ = ["Keyed", "KeyedParameters"]


class KeyedParameters(Strict):
    """Parameters of the detector.

    Attributes:
        draw: What the copies are drawn from.
        statistic: What is made of all log-odds.
        jurors: Networks that are asked about the copies beside the classifier. A copy is made at the classifier's size
            and then resized to theirs.
    """

    draw: DrawSpec = DrawSpec()
    statistic: Literal["mean", "max"] = "mean"
    jurors: tuple[JurorParameters, ...] = Field((), max_length=8)


class Keyed:
    """The detector.

    Args:
        parameters: As in KeyedParameters.
        open_network: Gives the network in a file of the bundle.
        classes: The classifier's. It is proven then that each juror's network has as many, or one more. None: each
            answer is checked all the same.

    Raises:
        BundleError: If the parameters don't fit, or a juror is one for another number of classes.
        EngineError: If a juror can't be run.
    """

    name = "keyed"
    operations: Sequence[str] = ()

    def __init__(
        self,
        parameters: dict[str, object],
        open_network: Callable[[str], Network] | None = None,
        classes: int | None = None,
    ) -> None:
        self.parameters = parameters_of(KeyedParameters, parameters, "detector 'keyed'")
        if self.parameters.jurors and open_network is None:
            raise BundleError("detector 'keyed' names jurors, and there is no bundle to take their networks from")
        opened = () if open_network is None else tuple(open_network(juror.file) for juror in self.parameters.jurors)
        self._networks: tuple[Network, ...] = opened
        if classes is not None:
            for juror, network in zip(self.parameters.jurors, self._networks, strict=True):
                blank = np.zeros((self.draw.copies, juror.height, juror.width, 3), np.uint8)
                try:
                    _answers(juror, network, blank, classes)
                except _MisfitError as error:
                    raise BundleError(f"{error}; name a juror for this classifier") from error

    @property
    def draw(self) -> DrawSpec:
        """What has to be drawn before this detector is asked."""
        return self.parameters.draw

    def score(self, evidence: Evidence) -> float:
        """Log-odds against the classifier's label over the copies, about -12..12; see `odds_against`.

        Raises:
            EngineError: If nothing was drawn, or a juror gives another number of classes.
        """
        drawn = evidence.drawn.get(self.name)
        if drawn is None:
            raise EngineError("detector 'keyed' needs the copies of a keyed sweep, and none were made")
        label, classes = int(evidence.logits.argmax()), len(evidence.logits)
        odds = [odds_against(drawn.logits, label)]
        for juror, network in zip(self.parameters.jurors, self._networks, strict=True):
            copies = [evidence.at(copy, juror.width, juror.height) for copy in drawn.pixels]
            odds.append(odds_against(_answers(juror, network, np.stack(copies), classes), label))
        return float(np.mean(odds) if self.parameters.statistic == "mean" else np.max(odds))


def _answers(
    juror: JurorParameters, network: Network, pixels: npt.NDArray[np.uint8], classes: int
) -> npt.NDArray[np.float32]:
    """(N, classes) or (N, classes + 1) of N images, all in one batch."""
    logits = network(shares_of(pixels))
    if logits.shape not in ((len(pixels), classes), (len(pixels), classes + 1)):
        raise _MisfitError(
            f"the network {juror.file} of the keyed sweep gave shape {logits.shape} for {len(pixels)} copies, expected "
            f"{classes} classes, or {classes + 1} with the class 'not a sign'"
        )
    return logits


class _MisfitError(EngineError):
    """A network for another number of classes."""
