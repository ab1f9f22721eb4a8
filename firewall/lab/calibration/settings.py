"""What a calibration is asked for, checked before anything is read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from firewall.bundle import Seen
from firewall.bundle.onnx_bytes import Precision
from firewall.errors import UsageError
from firewall.frame import Pixels
from firewall.lab.measurement.edge import SWEEPS

__all__ = ["BenignImages", "BenignSource", "CalibrationSettings", "NetworkSettings", "check_rate"]


def check_rate(rate: float) -> None:
    """Raises UsageError unless `rate`, a false-positive rate, lies between 0 and 1."""
    if not 0 < rate < 1:
        raise UsageError(f"a false-positive rate must lie between 0 and 1, got {rate}")


@dataclass(frozen=True)
class CalibrationSettings:
    """What is calibrated, and how.

    Attributes:
        detectors: Names of detectors; for `calibrate_folder` also folders of trained ones.
        rate: Share of benign images that all detectors together may withhold, between 0 and 1.
        sweep: Number of JPEG qualities that the agreement detector looks at, 16 or 76.
        name: Of the bundle.
        citations: Of the data, for the manifest.

    Raises:
        UsageError: A value is out of range.
    """

    detectors: Sequence[str]
    rate: float = 0.01
    sweep: int = 16
    name: str = "custom"
    citations: Sequence[str] = ()

    def __post_init__(self) -> None:
        check_rate(self.rate)
        if self.sweep not in SWEEPS:
            raise UsageError(f"--sweep must be 16 or 76, got {self.sweep}")


@dataclass(frozen=True)
class NetworkSettings:
    """How a classifier's network is read and changed before it is calibrated.

    Attributes:
        options: How its pixels are prepared and what its outputs are, as of `load_card`.
        precision: What it is turned into first; int8 takes its scales from some of the benign images. None: it stays
            as it is.
        accept_preparation: Go on although the benign images say that the network gets its pixels in another way than
            it was trained with, see `check_wiring`.
    """

    options: Mapping[str, str] | None = None
    precision: Precision | None = None
    accept_preparation: bool = False


@dataclass(frozen=True)
class BenignSource:
    """Where the benign images come from: exactly one of the three.

    Attributes:
        gtsrb: Folder of GTSRB: its tracks that the classifier wasn't trained on.
        images: Any folder or pack of images.
        database: A database: its benign images, attacked or in reserve, that no detector was fitted to.
        judged: Splits of the database that are kept for evaluation, and so are not calibrated on.

    Raises:
        UsageError: None of them is named, or several.
    """

    gtsrb: Path | None = None
    images: Path | None = None
    database: Path | None = None
    judged: Sequence[str] = ("eval",)

    def __post_init__(self) -> None:
        named = sum(source is not None for source in (self.gtsrb, self.images, self.database))
        if named != 1:
            raise UsageError(f"name one source of benign images, got {named}; there are gtsrb, images and database")


@dataclass(frozen=True, eq=False)
class BenignImages:
    """The N benign images that thresholds are set on.

    Attributes:
        images: uint8 (H, W, 3) each, of any size.
        data: What they are, for the manifest.
        labels: True classes, int64 (N,). Images that the classifier gets wrong are left out, as the papers do. None:
            not known, and all are used.
        tracks: How many tracks they come from; None: not known.
        seen: Which images they are, so that nobody evaluates the bundle on them; None: not known.
        split: How they were kept out of the classifier's training, so that they can be found again.
        notes: For the manifest.
    """

    images: Sequence[Pixels] | Pixels
    data: str
    labels: npt.NDArray[np.int64] | None = None
    tracks: int | None = None
    seen: Seen | None = None
    split: Mapping[str, Any] = field(default_factory=dict)
    notes: str = ""
