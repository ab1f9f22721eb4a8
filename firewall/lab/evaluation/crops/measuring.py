"""Attack crops, judge them by the real firewall, and say how often a wrong label goes out.

Everything that takes long is kept in a folder as soon as it is done: attacked images by chunk, verdicts one by one. A
run that was killed goes on there and ends with the same figures.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from firewall import Firewall
from firewall.bundle import load_bundle
from firewall.bundle.certificate import judges
from firewall.engines import OnnxRuntimeEngine
from firewall.errors import DataError
from firewall.lab.database.building import alone
from firewall.lab.evaluation.crops.attacked import attacked, check
from firewall.lab.evaluation.crops.changes import CHANGES, changed
from firewall.lab.evaluation.crops.figures import means, of_attack, of_benign, ranked
from firewall.lab.evaluation.crops.images import Crops, Sets, open_sets
from firewall.lab.evaluation.crops.verdicts import Row, judge_key, suspicions, verdicts
from firewall.lab.measurement.wrong_release import SHARES, WronglyReleased, limits_at
from firewall.lab.models import open_classifier
from firewall.sweep.keyed import key_of
from firewall.transforms import resize

__all__ = ["USUAL", "Measured", "Settings", "measure"]

#: Attacks that are tried if none is named.
USUAL = (
    *("linf-8@input", "linf-8@input@jpeg-90", "linf-8", "linf-8@jpeg-90", "linf-16@input@h264-23"),
    *("blurred-16", "low-frequency-32", "triangle", "two-bars", "beam", "pose"),
)
#: With fewer benign images a threshold for 1 % says little.
_ENOUGH = 100
#: Wrongly released images of each attack that are shown.
_SHOWN = 6


@dataclass(frozen=True, slots=True)
class Settings:
    """The options of `firewall lab evaluate attacks`.

    Args:
        attacks: Names.
        images: As `open_sets` takes them.
        limit: Images that are attacked, each named right before.
        benign: Benign images that are judged, as they are and under each change; and as many others for thresholds.
        calibration: As `open_sets` takes it.
        changes: Names of changes of benign images.
        data: Folder of the data sets; None: the usual places.
        seed: Of all random choices.
    """

    attacks: tuple[str, ...] = USUAL
    images: str = "gtsdb"
    limit: int = 300
    benign: int = 1000
    calibration: str | None = None
    changes: tuple[str, ...] = tuple(CHANGES)
    data: Path | None = None
    seed: int = 0


@dataclass(frozen=True, eq=False)
class Measured:
    """The result.

    Attributes:
        summary: As `--json` writes it.
        wrong: Attack -> images for which a wrong label is released, the worst attack first, for the page.
    """

    summary: dict[str, Any]
    wrong: dict[str, tuple[WronglyReleased, ...]]


def measure(bundle: str, settings: Settings, work: Path) -> Measured:
    """Measure a bundle.

    Args:
        bundle: `default`, or a bundle's folder.
        settings: What is attacked, and how.
        work: Folder in which everything is kept.

    Returns:
        The figures and examples.

    Raises:
        UsageError: An attack or data set is unknown, or needs gradients that the classifier doesn't give.
        DataError: Images are missing or damaged, or there is no room.
        BundleError: The bundle is damaged.
        EngineError: A network can't be run.
    """
    loaded = load_bundle(bundle)
    classifier = open_classifier(bundle, settings.data)
    check(settings.attacks, classifier)
    engine = OnnxRuntimeEngine(loaded, threads=1)
    guard = Firewall(loaded, engine, exhaustive=True, threads=1, sweep_key=key_of(0))
    sets = open_sets(settings.images, loaded, classifier, settings.data, settings.calibration)
    try:
        work.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"can't make the folder {work}: {error.strerror}; name another --work") from error
    with alone(work, "--work"):
        place = work / "verdicts" / judge_key(guard)
        return _Run(guard, settings, sets, place).measured(classifier, work / "attacked")


@dataclass(frozen=True, eq=False)
class _Run:
    guard: Firewall
    settings: Settings
    sets: Sets
    place: Path

    def measured(self, classifier: Any, folder: Path) -> Measured:
        settings, seed = self.settings, self.settings.seed
        judged = self.sets.judged.drawn(seed)
        setting = self.sets.calibration.drawn(seed)
        setting = setting.take(np.arange(min(settings.benign, len(setting))))
        limits = limits_at(suspicions(self._judged(setting, "thresholds")))
        crops = judged.take(np.arange(min(settings.benign, len(judged))))
        clean = self._judged(crops, "benign")
        benign: dict[str, Any] = {"none": of_benign(clean, limits, sizes=True)}
        for name in settings.changes:
            under = Crops(changed(crops.images, name, seed), crops.labels, crops.groups, crops.sources)
            benign[name] = of_benign(self._judged(under, f"benign, {name}"), limits)
        victims, tried = self._victims(judged)
        entries, wrong = {}, {}
        for name in settings.attacks:
            images = attacked(name, classifier, victims, folder / _file(name), seed)
            rows = self._judged(images, name)
            entries[name] = of_attack(name, rows, limits, clean)
            wrong[name] = self._examples(images, rows)
        entries = ranked(entries)
        return Measured(
            self._summary(entries, benign, limits, tried, len(setting)), {name: wrong[name] for name in entries}
        )

    def _judged(self, crops: Crops, what: str) -> list[Row]:
        images = _file(f"{self.sets.about['calibration_images' if what == 'thresholds' else 'images']}")
        return verdicts(self.guard, crops, self.place / images / f"{self.settings.seed}-{_file(what)}.jsonl", what)

    def _victims(self, judged: Crops) -> tuple[Crops, int]:
        """The first images that the edge's classifier names right, and how many were looked at."""
        spec = self.guard.bundle.manifest.classifier.input
        right: list[int] = []
        tried = 0
        for place, image in enumerate(judged.images):
            if len(right) == self.settings.limit:
                break
            tried += 1
            logits = self.guard.engine.classify(resize(image, spec.width, spec.height)[np.newaxis])
            if int(logits[0].argmax()) == judged.labels[place]:
                right.append(place)
        if not right:
            raise DataError(
                f"the classifier names none of the {tried} images of {self.settings.images} right; are they of its "
                "classes? Name others with --images"
            )
        return judged.take(right), tried

    def _examples(self, images: Crops, rows: Sequence[Row]) -> tuple[WronglyReleased, ...]:
        labels = self.guard.bundle.manifest.classifier.labels
        return tuple(
            WronglyReleased(images.images[row.index], labels[row.label], labels[row.released_label])
            for row in rows
            if row.released_label is not None and row.released_label != row.label
        )[:_SHOWN]

    def _summary(
        self,
        entries: dict[str, dict[str, Any]],
        benign: dict[str, Any],
        limits: dict[str, float],
        tried: int,
        calibration: int,
    ) -> dict[str, Any]:
        """With the worst attack first, and nothing in it that differs from run to run."""
        worst = next(iter(entries))
        bundle, settings = self.guard.bundle, self.settings
        about = dict(self.sets.about)
        if calibration < _ENOUGH:
            few = f"thresholds for 1 % were set on {calibration} benign images: too few, they may withhold far more"
            about["notes"] = [*about["notes"], few]
        return {
            "worst": {"attack": worst, "wrong_release": entries[worst]["wrong_release"]},
            "mean_wrong_release": float(np.mean([entry["wrong_release"]["rate"] for entry in entries.values()])),
            "attacks": entries,
            "families": means(entries),
            "benign": benign,
            "thresholds": {
                "own": "the bundle's own rule, as Firewall.screen applies it",
                "at": limits,
                "what": f"suspicion that withholds {', '.join(f'{100 * rate:g}' for rate in SHARES)} % of "
                f"{calibration} benign images of {self.sets.about['calibration_images']}, none of them judged",
            },
            "about": {
                "bundle": bundle.manifest.name,
                "bundle_sha256": bundle.sha256,
                "judges": judges(bundle.manifest),
                "detectors": [spec.name for spec in bundle.manifest.detectors],
                "attacker": "knows the classifier, not the firewall, unless the attack's name says adaptive",
                "limit": settings.limit,
                "looked_at": tried,
                "seed": settings.seed,
                **about,
            },
        }


def _file(name: str) -> str:
    """A name as part of a path."""
    return "".join(letter if letter.isalnum() or letter in "-._@" else "_" for letter in name)
