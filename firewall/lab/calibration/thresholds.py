"""Thresholds on benign images alone, and the bundle that holds them.

The false-positive rate that is asked for is divided evenly among the detectors, since each of them can withhold. Each
threshold is the split-conformal quantile of its detector's scores: a further benign image *exchangeable* with the
calibration images lies above it with at most that detector's share of the rate. Frames of one track, or of another
camera, are not exchangeable; so the rate on kept-out data is measured and written beside it. A margin is added for
processors that round in another way than this one (`firewall.lab.measurement.numerics`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from firewall import __version__
from firewall.bundle import Bundle, Calibration, ClassifierSpec, DetectorSpec, Seen, write_bundle
from firewall.bundle.onnx_bytes import precision_of
from firewall.detectors import build
from firewall.detectors.confidence import log_odds
from firewall.engines import OnnxRuntimeNetwork
from firewall.errors import DataError, UsageError
from firewall.host.onnxruntime import ort
from firewall.lab.calibration.settings import BenignImages, CalibrationSettings, check_rate
from firewall.lab.datasets.notice import say
from firewall.lab.measurement.conformal import check_count, conformal_threshold
from firewall.lab.measurement.edge import SWEEPS, Measured, engine_for, measure
from firewall.lab.measurement.numerics import Rescored, rescore, sampled
from firewall.lab.training.detector_folder import Trained
from firewall.lab.training.detectors.one_class import ONE_CLASS, OneClass
from firewall.lab.training.detectors.stability import GROUPS, usual

__all__ = [
    "DETECTORS",
    "calibrate",
    "check_enough",
    "detector_specs",
    "networks_of",
]

#: Detectors that can be calibrated, by their names on the command line.
DETECTORS = ("agreement", "agreement-two-sided", "confidence", "stability", *ONE_CLASS)
#: The form of the stability detector where there are no attacks to choose one by: the one that `lab train stability`
#: chose on attacks on the default classifier (dev split of GTSRB's kept-out tracks).
_STABILITY = ("blur:2+rotation+scaling", (0.25, 4.0))
#: What the one-class statistics detector looks at: the copies that agreement and stability have classified anyway.
_STATISTICS = GROUPS["jpeg+blur:2+rotation+scaling"]


def check_enough(count: int, rate: float, names: Sequence[str], note: str = "") -> None:
    """Check that there are enough images for the rate.

    Args:
        count: Of benign images.
        rate: False-positive rate of all detectors together, between 0 and 1.
        names: The detectors, which share it.
        note: See `check_count`.

    Raises:
        DataError: There are too few.
        UsageError: The rate is out of range.
    """
    check_rate(rate)
    more = "" if len(names) < 2 else ", or name fewer detectors"
    check_count(count, rate, "benign images", option="--false-positive-rate", names=names, note=note, more=more)


def detector_specs(
    names: Sequence[str],
    normal: Measured,
    rate: float,
    sweep: int = 16,
    trained: Sequence[Trained] = (),
    one_class: Sequence[OneClass] = (),
    note: str = "",
) -> list[DetectorSpec]:
    """Detectors with their parameters and thresholds.

    Args:
        names: Of DETECTORS.
        normal: The benign images that thresholds are set on.
        rate: False-positive rate of all detectors together, between 0 and 1.
        sweep: Number of JPEG qualities of the agreement detector, 16 or 76.
        trained: Further detectors, with networks.
        one_class: Those of `names` that were fitted to `normal`.
        note: Why there are fewer images than the user named.

    Raises:
        UsageError: There is no such detector, or a kind is named twice.
        DataError: There are too few images for the rate.
    """
    unknown = [name for name in names if name not in DETECTORS]
    if unknown or not (names or trained):
        raise UsageError(
            f"unknown detector {', '.join(unknown) or '(none)'}; known: {', '.join(DETECTORS)}, or the folder of a "
            "trained one"
        )
    check_enough(len(normal), rate, [*names, *(detector.name for detector in trained)], note)
    share = rate / (len(names) + len(trained))
    wanted: list[tuple[str, dict[str, Any], Seen | None]] = [
        (*_parameters(name, normal, share, SWEEPS[sweep]), None) for name in names if name not in ONE_CLASS
    ]
    wanted += [(detector.name, detector.parameters, None) for detector in one_class]
    wanted += [(detector.name, detector.parameters, detector.fitted) for detector in trained]
    kinds = [kind for kind, _, _ in wanted]
    if len(set(kinds)) < len(kinds):
        raise UsageError(f"a bundle holds each kind of detector once, got {', '.join(kinds)}")
    networks = networks_of(trained)
    crossed = {detector.name: detector.scores for detector in one_class}
    specs = []
    for kind, parameters, fitted in wanted:
        provisional = DetectorSpec(name=kind, parameters=parameters, threshold=0.0)
        scores = crossed[kind] if kind in crossed else normal.scores(build(provisional, networks.__getitem__))
        threshold = conformal_threshold(scores, share)
        specs.append(DetectorSpec(name=kind, parameters=parameters, threshold=threshold, fitted=fitted))
    return specs


def networks_of(trained: Sequence[Trained]) -> dict[str, OnnxRuntimeNetwork]:
    """File in a bundle -> network, of all trained detectors."""
    files = {file: content for detector in trained for file, content in detector.files.items()}
    return {file: OnnxRuntimeNetwork(content, file, threads=1) for file, content in files.items()}


def calibrate(
    classifier: ClassifierSpec,
    content: bytes,
    benign: BenignImages,
    out: Path,
    settings: CalibrationSettings,
    trained: Sequence[Trained] = (),
) -> Bundle:
    """Set the thresholds on benign images and write a bundle.

    Args:
        classifier: As the manifest describes it.
        content: Its ONNX file.
        benign: The images.
        out: Folder of the new bundle.
        settings: Detectors, rate and so on.
        trained: Further detectors, with networks.

    Raises:
        UsageError: There is no such detector.
        DataError: A detector was trained on attacks on another classifier, or there are too few images for the rate.
    """
    detectors, rate = settings.detectors, settings.rate
    classifier = classifier.model_copy(update={"precision": precision_of(content, classifier.file)})
    own = hashlib.sha256(content).hexdigest()
    for detector in trained:
        if detector.classifier_sha256 != own:
            raise DataError(
                f"the detector {detector.name} was trained on attacks on another classifier (SHA-256 "
                f"{detector.classifier_sha256[:12]}, this one is {own[:12]}); train it on a database of this one"
            )
    swept = any(name.startswith("agreement") for name in detectors)  # no other needs these copies
    operations = [f"jpeg:{quality}" for quality in SWEEPS[settings.sweep]] if swept else []
    operations += GROUPS[_STABILITY[0]] if "stability" in detectors else ()
    operations += _STATISTICS if "statistics-one-class" in detectors else ()
    networks = networks_of(trained)
    for detector in trained:
        stand_in = DetectorSpec(name=detector.name, parameters=detector.parameters, threshold=0.0)
        operations += build(stand_in, networks.__getitem__).operations
    operations = list(dict.fromkeys(operations))
    engine, size = engine_for(classifier, content), classifier.input
    measured = measure(engine, benign.images, operations, width=size.width, height=size.height, label="calibrating")
    normal = measured if benign.labels is None else measured.subset(measured.labels == benign.labels)
    wrong = len(measured) - len(normal)
    if 2 * wrong > len(measured):
        say(
            f"the classifier is right on {len(normal)} of {len(measured)} labelled images; thresholds are set on these "
            "alone: was it made for these classes, and are its pixels prepared as it wants them?"
        )
    fits = [ONE_CLASS[name](normal, _STATISTICS) for name in detectors if name in ONE_CLASS]
    note = f" (the classifier gets {wrong} of {len(measured)} wrong, and these are left out)" if wrong else ""
    specs = detector_specs(detectors, normal, rate, settings.sweep, trained, fits, note)
    files = {
        classifier.file: content,
        **{name: content for detector in trained for name, content in detector.files.items()},
        **{detector.file: detector.network for detector in fits},
    }
    again, scores = _again(classifier, files, normal, specs)
    margin = {spec.name: again.margin(spec.name, spec.threshold) for spec in specs}
    specs = [spec.model_copy(update={"threshold": spec.threshold + margin[spec.name]}) for spec in specs]
    crossed = {detector.name: detector.scores for detector in fits}
    above = {spec.name: crossed.get(spec.name, scores[spec.name]) > spec.threshold for spec in specs}
    withheld = np.any(list(above.values()), axis=0)
    rates = {f"withheld by {kind}": float(mask.mean()) for kind, mask in above.items()}
    rates["withheld on calibration images"] = float(withheld.mean())
    fields: dict[str, Any] = {
        "name": settings.name,
        "created": datetime.now(timezone.utc).strftime("%Y-%m-%d"),
        "classifier": classifier,
        "detectors": tuple(specs),
        "calibration": Calibration(
            data=benign.data,
            images=len(normal),
            tracks=benign.tracks,
            false_positive_rate=rate,
            split=dict(benign.split),
            rates=rates,
            notes=benign.notes,
            seen=benign.seen,
        ),
        "numerics": again.numerics(margin),
        "versions": {"firewall": __version__, "numpy": np.__version__, "onnxruntime": ort.__version__},
        "citations": tuple(settings.citations),
    }
    return write_bundle(out, files, **fields)


def _again(
    classifier: ClassifierSpec, files: dict[str, bytes], normal: Measured, specs: Sequence[DetectorSpec]
) -> tuple[Rescored, dict[str, npt.NDArray[np.float64]]]:
    """Some of the benign images scored again with other arithmetic; and the scores of all, by detector."""
    networks = {
        file: OnnxRuntimeNetwork(content, file, threads=1) for file, content in files.items() if file != classifier.file
    }
    scores = {spec.name: normal.scores(build(spec, networks.__getitem__)) for spec in specs}
    chosen = np.zeros(len(normal), bool)
    chosen[sampled(len(normal), [(scores[spec.name], spec.threshold) for spec in specs])] = True
    again = rescore(
        normal.subset(chosen),
        {name: values[chosen] for name, values in scores.items()},
        specs,
        classifier,
        files,
        lambda how: engine_for(classifier, files[classifier.file], how.threads, how.optimisation),
    )
    return again, scores


def _parameters(name: str, normal: Measured, share: float, qualities: tuple[int, ...]) -> tuple[str, dict[str, Any]]:
    if name == "confidence":
        odds = log_odds(normal.logits)
        low, median, high = np.quantile(odds, [share / 2, 0.5, 1 - share / 2])
        # On a saturated classifier a side can be empty; a tiny scale keeps the score finite.
        below, above = max(median - low, 1e-6), max(high - median, 1e-6)
        return "confidence", {"median": float(median), "below": float(below), "above": float(above)}
    if name == "stability":
        operations = GROUPS[_STABILITY[0]]
        copies = normal.variants[:, [normal.operations.index(operation) for operation in operations]]
        scales = [usual(normal.logits, copies, temperature).model_dump() for temperature in _STABILITY[1]]
        return "stability", {"operations": list(operations), "scales": scales}
    if name == "agreement":
        return "agreement", {"qualities": list(qualities), "sides": "one"}
    counts = normal.agreement_counts([f"jpeg:{quality}" for quality in qualities])
    histogram = np.bincount(counts, minlength=len(qualities) + 1)
    return "agreement", {"qualities": list(qualities), "sides": "two", "normal_counts": histogram.tolist()}
