"""Put a sign finder into a bundle: `firewall lab add-finder`."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from firewall.bundle import MANIFEST, Bundle, FinderSpec, load_bundle
from firewall.bundle.onnx_bytes import Precision, precision_of
from firewall.errors import DataError, UsageError
from firewall.export.finder_scales import delicate, read_frames
from firewall.export.precision import to_float16, to_int8, with_whole_weights
from firewall.frame import Pixels
from firewall.lab.calibration.bundling import rewritten
from firewall.regions.sign_finder import SignFinder

__all__ = ["FILE", "finder_in", "read_finder", "with_finder"]

#: What the network is called in a bundle.
FILE = "finder.onnx"


def with_finder(
    bundle: Bundle, finder: Path, out: Path, precision: Precision | None = None, frames: Sequence[Pixels] = ()
) -> Bundle:
    """Write a bundle with a sign finder, in place of one that it has already. All else stays as it is.

    Args:
        bundle: The bundle.
        finder: Folder of `firewall lab train finder`, or the ONNX file in it; or a bundle, whose finder is taken.
        out: Folder of the new bundle; may be the bundle's own.
        precision: What it is turned into first, see `finder_in`. None: it stays as it is.
        frames: Road frames for int8.

    Raises:
        DataError: There is no finder, or it is not the file that its card describes, or there are too few frames.
        UsageError: It can't be turned into that precision.
        EngineError: Its network can't be used.
        BundleError: The result is no valid bundle.
    """
    spec, content = read_finder(finder)
    if precision is not None:
        spec, content = finder_in(precision, spec, content, frames, what=str(finder))
    SignFinder(spec, content, f"{finder}", threads=1)  # it is run once
    old = bundle.manifest.finder
    files = {name: part for name, part in bundle.files.items() if old is None or name != old.file}
    written = rewritten(Bundle(bundle.path, bundle.manifest, files, bundle.sha256), out, {FILE: content}, finder=spec)
    if old is not None and old.file != FILE:
        with contextlib.suppress(OSError):
            (out / old.file).unlink(missing_ok=True)  # no part of the bundle any more
    return written


def finder_in(
    precision: Precision, spec: FinderSpec, content: bytes, frames: Sequence[Pixels] = (), *, what: str
) -> tuple[FinderSpec, bytes]:
    """A finder in another precision. Its threshold was chosen before: measure it again on your own scenes.

    Args:
        precision: fp32: computes and is stored in float32. fp16: computes in float16 between a float32 input and
            output. int8: 8-bit convolutions for the processor.
        spec: How the finder is read.
        content: Its ONNX file, in fp32; weights may be stored in float16.
        frames: (H, W, 3) uint8 RGB, 32 at least, for int8: from the camera and light of later use. At most 48 are
            used, evenly spread.
        what: Its name, for messages.

    Raises:
        UsageError: It computes in fp16 or int8 already, and another precision is asked for.
        DataError: There are too few frames.
        EngineError: It can't be converted.
    """
    whole = with_whole_weights(content)
    written = precision_of(whole, what)
    if written not in ("fp32", precision):
        raise UsageError(f"{what} computes in {written}, and can't be turned into {precision}; name the fp32 one")
    if written == "fp32" and precision == "fp16":
        whole = to_float16(whole)
    elif written == "fp32" and precision == "int8":
        kept = delicate(whole)
        whole = to_int8(whole, read_frames(frames, spec, content, what), target="cpu", kept=kept, averaged=True)
    return spec.model_copy(update={"precision": precision}), whole


def read_finder(path: Path) -> tuple[FinderSpec, bytes]:
    """A trained finder: how it is read, and its ONNX file.

    Args:
        path: Folder of `firewall lab train finder`, or the ONNX file in it; or 'default' or the folder of a bundle.

    Raises:
        DataError: There is none, or its file is not the one that its card describes.
        BundleError: The bundle can't be loaded.
    """
    if (str(path) == "default" and not path.exists()) or (path / MANIFEST).exists():
        bundle = load_bundle(path)
        spec = bundle.manifest.finder
        if spec is None:
            raise DataError(f"bundle {path} has no sign finder; train one with 'firewall lab train finder'")
        return spec.model_copy(update={"file": FILE}), bundle.files[spec.file]
    folder = path if path.is_dir() else path.parent
    try:
        card: dict[str, Any] = json.loads((folder / "card.json").read_text(encoding="utf-8"))
        about = dict(card["finder"])
        content = (folder / Path(str(about.pop("file"))).name).read_bytes()
        spec = FinderSpec(**{**about, "file": FILE, "precision": precision_of(content, str(path))})
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = f"{error.strerror}: {error.filename}" if isinstance(error, OSError) else f"card.json: {error!r}"
        raise DataError(
            f"{path} holds no sign finder ({reason}); train one with 'firewall lab train finder'"
        ) from error
    if hashlib.sha256(content).hexdigest() != card.get("sha256"):
        raise DataError(f"the finder in {folder} is not the file that its card.json describes; train it again")
    return spec, content
