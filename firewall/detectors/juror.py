"""Juror: does another network, trained to be different, see the class that the classifier gives?

An attack is made for the classifier. A network that was trained against attacks, or that looks at edges, or at another
resolution, is mostly not fooled by it in the same way. A bundle may have several jurors, named `juror-NAME`. Each looks
at the region's own pixels, resized to its own input, not at what was resized for the classifier.

A juror may have one class more than the classifier: "not a sign".
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from pydantic import Field

from firewall.bundle.strict import Strict, parameters_of
from firewall.detectors.evidence import Evidence, Network
from firewall.errors import BundleError, EngineError
from firewall.verdict import Reason

__all__ = ["Juror", "JurorParameters", "answer", "asked_together", "is_juror", "odds_against"]

_NAME = re.compile(r"juror-[a-z0-9]+(-[a-z0-9]+)*")
#: A byte as the networks read it: value / 255 in float32.
_SHARES = np.arange(256, dtype=np.float32) / np.float32(255)
#: Scores lie within this; a network that is certain gives no infinite score.
_LARGEST = 1e6


def is_juror(name: str) -> bool:
    """Whether a bundle's detector of this name is a juror: `juror-` and lower-case letters, digits and hyphens."""
    return _NAME.fullmatch(name) is not None


def odds_against(logits: npt.NDArray[np.floating], labels: npt.NDArray[np.integer] | int) -> npt.NDArray[np.float64]:
    """Log-odds against a label: log((1 - p) / p) of its softmax probability p.

    Args:
        logits: (..., classes), 2 classes at least.
        labels: The label of each row, (...), or one for all.

    Returns:
        float64 (...), higher = less probable; about -12..12, always finite.
    """
    values = np.array(logits, np.float64)
    if values.ndim == 1 and isinstance(labels, int):  # as on the edge, five times a region: the same sums, without axes
        single = values[labels]
        values[labels] = -np.inf
        largest = values.max()
        rest = largest + np.log(np.exp(values - largest).sum())
        return np.asarray(min(max(rest - single, -_LARGEST), _LARGEST), np.float64)
    index = np.broadcast_to(np.asarray(labels, np.int64), values.shape[:-1])[..., np.newaxis]
    own = np.take_along_axis(values, index, axis=-1)[..., 0]
    np.put_along_axis(values, index, -np.inf, axis=-1)
    highest = values.max(axis=-1, keepdims=True)
    others = highest[..., 0] + np.log(np.exp(values - highest).sum(axis=-1))
    odds: npt.NDArray[np.float64] = np.clip(others - own, -_LARGEST, _LARGEST)
    return odds


class JurorParameters(Strict):
    """Parameters of the detector.

    Attributes:
        file: The network, (1, 3, height, width) float32 RGB in 0..1 -> (1, classes) or (1, classes + 1): logits of the
            classifier's classes, then "not a sign".
        width: Of its input, in pixels.
        height: Of its input, in pixels.
    """

    file: str
    width: int = Field(ge=8, le=2048)
    height: int = Field(ge=8, le=2048)


def answer(evidence: Evidence, juror: JurorParameters, network: Network) -> npt.NDArray[np.float32]:
    """What a juror's network says of the region. It is asked once, whichever detector is first to want it.

    Args:
        evidence: Of the region; the answer is kept in `evidence.answers`.
        juror: The network's file and input size.
        network: What the file holds.

    Returns:
        (1, classes) or (1, classes + 1); not checked.

    Raises:
        EngineError: If the crop can't be resized, or the network can't be run.
    """
    key = (juror.file, juror.width, juror.height)
    if key not in evidence.answers:
        evidence.answers[key] = network(shares_of(evidence.resized(juror.width, juror.height)[np.newaxis]))
    return evidence.answers[key]


def shares_of(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Images (N, H, W, 3) as jurors read them: float32 (N, 3, H, W), value / 255."""
    shares: npt.NDArray[np.float32] = _SHARES[np.ascontiguousarray(images.transpose(0, 3, 1, 2))]
    return shares


def asked_together(detector: object, evidences: Sequence[Evidence]) -> None:
    """Ask a detector's networks about several regions, each in one batch, so that `answer` finds what they say.

    Nothing is raised: what a network could not answer is asked for again region by region, and fails there.

    Args:
        detector: Any; if it asks no networks, nothing happens.
        evidences: Of the regions.
    """
    asks: Sequence[tuple[JurorParameters, Network]] = getattr(detector, "asks", ())
    for juror, network in asks:
        key = (juror.file, juror.width, juror.height)
        missing = [evidence for evidence in evidences if key not in evidence.answers]
        if len(missing) < 2:
            continue
        try:
            images = np.stack([evidence.resized(juror.width, juror.height) for evidence in missing])
            rows = network(shares_of(images))
        except Exception:  # noqa: S112 - see above
            continue
        for evidence, row in zip(missing, rows, strict=True):
            evidence.answers[key] = row[np.newaxis]


class Juror:
    """One member of the jury.

    Args:
        name: What the bundle calls it, `juror-NAME`.
        parameters: As in JurorParameters.
        network: What `file` holds.
        classes: The classifier's. It is proven then that the network has as many, or one more. None: each answer is
            checked all the same.

    Raises:
        BundleError: If the parameters don't fit, or the network is one for another number of classes.
        EngineError: If the network can't be run on images of this size.
    """

    operations: Sequence[str] = ()

    def __init__(self, name: str, parameters: dict[str, object], network: Network, classes: int | None = None) -> None:
        self.name = name
        self.parameters = parameters_of(JurorParameters, parameters, f"detector {name!r}")
        self.asks = ((self.parameters, network),)
        if classes is not None:
            blank = np.zeros((self.parameters.height, self.parameters.width, 3), np.uint8)
            try:
                self._logits(Evidence(blank, np.zeros(classes, np.float32), {}))
            except _MisfitError as error:
                raise BundleError(f"{error}; put a juror for this classifier into the bundle") from error

    def score(self, evidence: Evidence) -> float:
        """Log-odds against the classifier's label, see `odds_against`; 0 = as probable as all else together.

        If the juror's first class is "not a sign", `evidence.remarks` says so.

        Raises:
            EngineError: If the network gives another number of classes, or the crop can't be resized.
        """
        logits = self._logits(evidence)
        if int(logits.argmax()) == len(evidence.logits):
            evidence.remarks[self.name] = Reason.NOT_A_SIGN
        return float(odds_against(logits, int(evidence.logits.argmax())))

    def _logits(self, evidence: Evidence) -> npt.NDArray[np.float32]:
        """(classes,) or (classes + 1,)."""
        classes, logits = len(evidence.logits), answer(evidence, *self.asks[0])
        if logits.shape not in ((1, classes), (1, classes + 1)):
            raise _MisfitError(
                f"the network {self.parameters.file} of {self.name} gave shape {logits.shape}, expected "
                f"{(1, classes)}, or {(1, classes + 1)} with the class 'not a sign'"
            )
        row: npt.NDArray[np.float32] = logits[0]
        return row


class _MisfitError(EngineError):
    """A network for another number of classes."""
