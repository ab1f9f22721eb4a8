"""Rejection: do networks that have one class more than the classifier find this class too likely?

`not-a-sign`: the classifier was taught signs alone, so it gives a tree or a brake light the label of some sign, often
with confidence. Jurors that were shown such things have a class for them. What they say against the label is in their
own scores; this detector asks about the last class only, and has a limit of its own.

`obstructed`: a sticker, dirt, a drop or the edge of a shadow can turn one sign into another for every network that
reads signs. A network that answers only for signs that nothing lies on (firewall.lab.models.juror, kind `clear`) says
that there is something.

An answer that a juror has given for the same region is not asked for again. These detectors withhold and never release:
an attacker who makes one quiet has all other limits to pass still. A verdict that one withholds has its reason.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import numpy as np
import numpy.typing as npt
from pydantic import Field

from firewall.bundle.strict import Strict, parameters_of
from firewall.detectors.evidence import Evidence, Network
from firewall.detectors.juror import JurorParameters, answer, odds_against
from firewall.errors import BundleError, EngineError
from firewall.verdict import Reason

__all__ = ["NOT_A_SIGN", "OBSTRUCTED", "REJECTIONS", "Rejection", "RejectionParameters"]

NOT_A_SIGN, OBSTRUCTED = "not-a-sign", "obstructed"
#: The detectors by name, and the reason of what they withhold; the first that withholds names it.
REJECTIONS: Mapping[str, Reason] = MappingProxyType({NOT_A_SIGN: Reason.NOT_A_SIGN, OBSTRUCTED: Reason.OBSTRUCTED})


class RejectionParameters(Strict):
    """Parameters of the detector.

    Attributes:
        jurors: Networks with one class behind the classifier's classes.
    """

    jurors: tuple[JurorParameters, ...] = Field(min_length=1, max_length=8)


class Rejection:
    """The detector.

    Args:
        name: A key of REJECTIONS.
        parameters: As in RejectionParameters.
        open_network: Gives the network in a file of the bundle.
        classes: The classifier's. It is proven then that each juror's network has one more. None: each answer is
            checked all the same.

    Raises:
        BundleError: If the parameters don't fit, or a juror has no class behind them.
        EngineError: If a juror can't be run.
    """

    operations: Sequence[str] = ()

    def __init__(
        self,
        name: str,
        parameters: dict[str, object],
        open_network: Callable[[str], Network] | None = None,
        classes: int | None = None,
    ) -> None:
        self.name = name
        self.parameters = parameters_of(RejectionParameters, parameters, f"detector {self.name!r}")
        if open_network is None:
            raise BundleError(f"detector {self.name!r} asks jurors, and there is no bundle to take their networks from")
        self.asks = tuple((juror, open_network(juror.file)) for juror in self.parameters.jurors)
        if classes is not None:
            blank = np.zeros((8, 8, 3), np.uint8)
            evidence = Evidence(blank, np.zeros(classes, np.float32), {}, resize=_blank)
            try:
                self.score(evidence)
            except _NoSuchClassError as error:
                raise BundleError(f"{error}; name jurors that have it, or leave the detector out") from error

    def score(self, evidence: Evidence) -> float:
        """The largest of the jurors' log-odds for the last class, about -12..12; 0 = as probable as all others.

        Raises:
            EngineError: If a juror's network gives another number of classes, or the crop can't be resized.
        """
        classes, odds = len(evidence.logits), []
        for juror, network in self.asks:
            logits = answer(evidence, juror, network)
            if logits.shape != (1, classes + 1):
                raise _NoSuchClassError(
                    f"detector {self.name!r} asks {juror.file}, which gave shape {logits.shape}; expected "
                    f"{(1, classes + 1)}, the last class being neither of the classifier's"
                )
            odds.append(-float(odds_against(logits[0], classes)))
        return max(odds)


def _blank(_pixels: npt.NDArray[np.uint8], width: int, height: int) -> npt.NDArray[np.uint8]:
    """Stands for the edge's resize where only shapes count."""
    return np.zeros((height, width, 3), np.uint8)


class _NoSuchClassError(EngineError):
    """A network without the class."""
