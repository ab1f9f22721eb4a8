"""Put jurors into a bundle: `firewall lab add-jury`."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from pathlib import Path

from firewall.bundle import Bundle, DetectorSpec
from firewall.detectors.juror import JurorParameters, is_juror
from firewall.errors import DataError, UsageError
from firewall.lab.calibration.bundling import rewritten

__all__ = ["with_jury"]

#: Until limits are calibrated: at least as probable as all else together, and a standard deviation of 2 % of full
#: luminance.
_FIRST_LIMIT, _LEAST_CONTRAST = 0.0, 0.02


def with_jury(bundle: Bundle, folders: Sequence[Path], out: Path, *, without: Sequence[str] = ()) -> Bundle:
    """Write a bundle with jurors and the contrast detector beside, or in place of, the detectors that it has.

    The bundle's fusion and drift don't know the jurors, so they are left out: set limits with `firewall lab
    conditional`, then add tracks and drift.

    Args:
        bundle: The bundle.
        folders: Of `firewall lab train juror` or `firewall lab jury`.
        out: Folder of the new bundle; may be the bundle's own.
        without: Detectors of the bundle to leave out.

    Raises:
        UsageError: A detector to leave out isn't there, or two jurors have one name.
        DataError: A folder holds no juror.
        BundleError: A juror is one for another number of classes.
    """
    there = [spec.name for spec in bundle.manifest.detectors]
    for name in without:
        if name not in there:
            raise UsageError(f"--without names {name!r}, which the bundle doesn't have; it has {', '.join(there)}")
    kept = [spec for spec in bundle.manifest.detectors if spec.name not in without and not is_juror(spec.name)]
    kept = [spec for spec in kept if spec.name != "contrast"]
    files = dict(bundle.files)
    for spec in bundle.manifest.detectors:
        if spec not in kept and isinstance(file := spec.parameters.get("file"), str):
            files.pop(file, None)
    for name in ("tracks.json", "drift.json", "certificate.json", "conditional.json"):
        files.pop(name, None)
    added: list[DetectorSpec] = []
    for folder in folders:
        spec, content = _juror(folder)
        if spec.name in {other.name for other in added}:
            raise UsageError(f"two jurors are called {spec.name}; a jury has each kind once")
        added.append(spec)
        files[str(spec.parameters["file"])] = content
    contrast = DetectorSpec(name="contrast", threshold=-math.log(_LEAST_CONTRAST))
    bare = Bundle(bundle.path, bundle.manifest, files, bundle.sha256)
    return rewritten(bare, out, {}, detectors=(contrast, *kept, *added), fusion=None)


def _juror(folder: Path) -> tuple[DetectorSpec, bytes]:
    try:
        card = json.loads((folder / "card.json").read_text(encoding="utf-8"))
        about = card["juror"]
        name = f"juror-{about['kind']}"
        content = (folder / str(about["file"])).read_bytes()
        parameters = JurorParameters(file=f"{name}.onnx", width=about["width"], height=about["height"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{folder} holds no juror ({type(error).__name__}: {error}); train one with 'firewall lab train juror'"
        ) from error
    if hashlib.sha256(content).hexdigest() != card.get("sha256"):
        raise DataError(f"{folder / about['file']} is not the file that its card.json describes; train it again")
    if not is_juror(name):
        raise DataError(f"{folder}: {name!r} is no name for a juror; small letters, digits and hyphens are allowed")
    return DetectorSpec(name=name, parameters=parameters.model_dump(), threshold=_FIRST_LIMIT), content
