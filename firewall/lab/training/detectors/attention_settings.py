"""What a training of the attention detector is determined by, and which images it learns from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from firewall.errors import UsageError
from firewall.lab.training.loop import Schedule

__all__ = ["FORMS", "IMAGES", "TEACHERS", "Settings", "Sources"]

FORMS = ("thesis", "joint")
#: What a joint g is taught by: the thesis' loss, or masks of another kind.
TEACHERS = ("lan", "grad-cam", "smoothgrad")
IMAGES = ("data-set", "database")


@dataclass(frozen=True)
class Settings(Schedule):
    """What determines a run, besides the schedule.

    Args:
        form: One of FORMS.
        beta: Of equation 9, 0 or more.
        mask_epochs: Epochs of g, in the form thesis.
        teacher: One of TEACHERS: what a joint g learns from.
        weight: How much g's loss counts beside f2's, in the form joint.
        start: A classifier that f2 begins as; empty for random weights.
        hardened: Share of the images, 0..1, that get one FGSM step of up to 0.03 against the classifier before f2 sees
            them.
        noise: Largest standard deviation of the noise on the others, in units of the full range.
        padding: Pixels by which an image may be shifted.
        classifier: SHA-256, filled in by `train`.
        images: How many images, filled in by `train`.
        mirror: Whether left and right may be exchanged, filled in by `train`; a joint detector then classifies the
            mirror image too.

    Raises:
        UsageError: A setting is not allowed.
    """

    epochs: int = 12
    batch: int = 64
    learning_rate: float = 2e-3
    moving_average: float = 0.995
    form: str = "joint"
    beta: float = 3.0
    mask_epochs: int = 3
    teacher: str = "lan"
    weight: float = 0.2
    start: str = ""
    hardened: float = 0.0
    noise: float = 0.02
    padding: int = 2
    classifier: str = ""
    images: int = 0
    mirror: bool = False

    def __post_init__(self) -> None:
        for option, value, allowed in (("form", self.form, FORMS), ("teacher", self.teacher, TEACHERS)):
            if value not in allowed:
                raise UsageError(f"--{option} must be one of {', '.join(allowed)}, got {value!r}")
        if not 0 <= self.hardened <= 1 or not self.beta >= 0:
            raise UsageError(f"--hardened must lie in 0..1 and --beta be 0 or more, got {self.hardened}, {self.beta}")
        if self.form == "thesis" and (self.start or self.hardened):
            raise UsageError("--start and --hardened belong to --form joint; leave them out")


@dataclass(frozen=True)
class Sources:
    """Which images a detector learns from.

    Args:
        data: The folder of the data sets and classifiers; None: the usual places.
        images: One of IMAGES: the training images of the data set that the database was made of, or the database's
            train split. A data set that isn't at hand gives way to the database, as the report says.
        limit: How many images at most; 0 for all.

    Raises:
        UsageError: `images` is not one of IMAGES.
    """

    data: Path | None = None
    images: str = "data-set"
    limit: int = 0

    def __post_init__(self) -> None:
        if self.images not in IMAGES:
            raise UsageError(f"--images must be one of {', '.join(IMAGES)}, got {self.images!r}")
