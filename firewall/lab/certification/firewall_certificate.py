"""The certificate of the firewall as a whole: evaluations of a bundle in, exact bounds out."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from scipy.stats import beta, binomtest

from firewall.bundle import MANIFEST, Bundle
from firewall.bundle.certificate import (
    CERTIFICATE_FILE,
    CertificateSpec,
    ConformalSpec,
    EvaluatedSpec,
    RateSpec,
    judges,
)
from firewall.errors import DataError, UsageError
from firewall.lab.measurement.by_group import upper_bound
from firewall.lab.measurement.conformal import needed_tracks

__all__ = ["NOT_COVERED", "certify"]

#: What no count on a test set can promise.
NOT_COVERED = (
    "attackers who know the firewall and attack it together with the classifier: these knew the classifier alone",
    "attacks that are not listed, and listed ones with other parameters",
    "images of other cameras, countries, seasons, weather or sign finders: groups must be exchangeable with the judged",
    "how often an attack succeeds on the classifier: a miss is an image that fooled it and was released",
    "wrong labels of images that nobody attacked: normal images are those that the classifier names correctly",
    "how many frames of one sign are withheld or released: its frames are no independent draws",
    (
        "groups that are not what they seem: GTSRB's test tracks aren't published, so near duplicates stand for them; "
        "frames of one sign may lie in several groups, and every bound on that part is only approximate"
    ),
    "lateness, contradictions between regions and evidence over time, which withhold further images",
    "choices made after somebody had looked at the judged images: a bound holds for images that took no part in them",
)

#: Files of a bundle that judge nothing, so that an evaluation stays valid when one is added.
_BESIDE = (CERTIFICATE_FILE, "drift.json", "tracks.json")


def certify(bundle: Bundle, evaluations: Sequence[Path], *, confidence: float = 0.95) -> CertificateSpec:
    """Exact bounds from evaluations of a bundle.

    Args:
        bundle: The bundle.
        evaluations: JSON files of `firewall lab evaluate --database` of this very bundle.
        confidence: Of each one-sided bound, between 0.5 and 1; jointly by Bonferroni's correction.

    Returns:
        The certificate.

    Raises:
        UsageError: The confidence is out of range, or there is no evaluation.
        DataError: A file is no evaluation, or is of another bundle.
    """
    if not 0.5 < confidence < 1:
        raise UsageError(f"--confidence must lie between 0.5 and 1, got {confidence:g}; usual is 0.95")
    if not evaluations:
        raise UsageError("name at least one evaluation: the --json of 'firewall lab evaluate --database'")
    read = [_read(path, bundle) for path in evaluations]
    bounds = sum(1 + len(each["bundle"]) + len(each.get("families", {})) for each, _ in read)
    found = tuple(
        _evaluated(each, path.name, sha256, confidence, bounds)
        for path, (each, sha256) in zip(evaluations, read, strict=True)
    )
    return CertificateSpec(
        judges=judges(bundle.manifest),
        confidence=confidence,
        bounds=bounds,
        conformal=_conformal(bundle, found, confidence),
        evaluations=found,
        not_covered=NOT_COVERED,
    )


def _read(path: Path, bundle: Bundle) -> tuple[dict[str, Any], str]:
    """The evaluation, and the hash of its file."""
    try:
        content = path.read_bytes()
        values = json.loads(content)
        about, normal, attacks = values["about"], values["normal"], values["bundle"]
        if not attacks or not normal["n"]:
            raise DataError(f"{path} judges no attack or no normal image; evaluate the bundle on a database with both")
        ours = about.get("judges") == judges(bundle.manifest) or about["bundle_sha256"] in _manifests(bundle)
    except OSError as error:
        raise DataError(f"can't read {path}: {error.strerror}; name the --json of 'firewall lab evaluate'") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{path} is no evaluation of a bundle on a database ({type(error).__name__}: {error}); make one with "
            "'firewall lab evaluate --database DB --json FILE'"
        ) from error
    if not ours:
        raise DataError(
            f"{path} is of bundle {str(about['bundle_sha256'])[:12]}, which judges otherwise than {bundle.path}; "
            "evaluate this bundle first"
        )
    return values, hashlib.sha256(content).hexdigest()


def _manifests(bundle: Bundle) -> set[str]:
    """The bundle's own hash, and those that it had before files were added that judge nothing: evaluations written by
    versions before `judges` tell the bundle by these."""
    known = {bundle.sha256}
    try:
        manifest = json.loads((bundle.path / MANIFEST).read_bytes())
    except (OSError, ValueError):
        return known
    for name in _BESIDE:
        if manifest["files"].pop(name, None) is not None:
            text = json.dumps(manifest, indent=1, ensure_ascii=False) + "\n"
            known.add(hashlib.sha256(text.encode()).hexdigest())
    return known


def _evaluated(values: dict[str, Any], file: str, sha256: str, confidence: float, bounds: int) -> EvaluatedSpec:
    about, normal = values["about"], values["normal"]
    try:
        return EvaluatedSpec(
            file=file,
            sha256=sha256,
            dataset=about["database"]["dataset"],
            part=about["database"]["part"],
            split=about["split"],
            false_alarms=_rate(normal, normal["false_positive_rate"], confidence, bounds),
            misses={
                name: _rate(entry, 1 - entry["withheld"], confidence, bounds)
                for name, entry in values["bundle"].items()
            },
            families={name: _bounded(entry, confidence, bounds) for name, entry in values.get("families", {}).items()},
            notes=tuple(about.get("notes", ())),
        )
    except (ValidationError, KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"{file} is no evaluation that bounds can be made of ({' '.join(str(error).split())[:200]}); evaluate again"
        ) from error


def _rate(entry: dict[str, Any], share: float, confidence: float, bounds: int) -> RateSpec:
    """Of an entry of an evaluation, with the groups' counts where it has them."""
    if "by_group" in entry:
        return _bounded(entry["by_group"], confidence, bounds)
    images = int(entry["n"])
    hits = round(share * images)
    return RateSpec(images=images, hits=hits, upper_if_independent=upper_bound(hits, images, confidence))


def _bounded(counts: dict[str, int], confidence: float, bounds: int) -> RateSpec:
    groups, drawn, any_hit = counts["groups"], counts["drawn_hits"], counts["group_hits"]
    return RateSpec(
        images=counts["images"],
        hits=counts["hits"],
        upper_if_independent=upper_bound(counts["hits"], counts["images"], confidence),
        groups=groups,
        drawn_hits=drawn,
        upper=upper_bound(drawn, groups, confidence),
        upper_jointly=upper_bound(drawn, groups, 1 - (1 - confidence) / bounds),
        group_hits=any_hit,
        group_upper=upper_bound(any_hit, groups, confidence),
    )


def _conformal(bundle: Bundle, evaluations: Sequence[EvaluatedSpec], confidence: float) -> ConformalSpec:
    """What the calibration promises, and whether an evaluation contradicts it.

    Of K exchangeable units with one frame each the chance that a new frame lies above the threshold is, over the draw
    of the calibration set, distributed as Beta(l, K + 1 - l), l = floor(rate (K + 1)) (Vovk, Conditional validity of
    inductive conformal predictors, 2012).
    """
    manifest = bundle.manifest
    card = manifest.calibration
    rate = card.false_positive_rate
    by_tracks = manifest.fusion is not None and card.tracks is not None
    count = card.tracks if by_tracks and card.tracks is not None else card.images
    above = int(rate * (count + 1) + 1e-9)
    checked = [_above(each.false_alarms, rate, confidence) for each in evaluations]
    known = [each for each in checked if each is not None]
    return ConformalSpec(
        rate=rate,
        unit="groups" if by_tracks else "images",
        count=count,
        needed=needed_tracks(rate),
        holds=count >= needed_tracks(rate),
        conditional=float(beta.ppf(confidence, above, count + 1 - above)) if above >= 1 else None,
        contradicted=any(known) if known else None,
    )


def _above(found: RateSpec, rate: float, confidence: float) -> bool | None:
    """Whether the rate can't be as low as was promised; None where groups are not known."""
    if found.groups is None or found.drawn_hits is None:
        return None
    return bool(binomtest(found.drawn_hits, found.groups, rate, alternative="greater").pvalue < 1 - confidence)
