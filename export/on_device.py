"""A bundle's networks on the GPU that is here, in every way that they can be run on it: what is compared."""

from __future__ import annotations

import hashlib
from pathlib import Path

from firewall.bundle import Bundle, ClassifierSpec, FinderSpec
from firewall.bundle.onnx_bytes import Precision
from firewall.engines import Engine, check_device, open_engine
from firewall.engines.device_memory import open_device
from firewall.engines.frame_network import FrameNetwork, TensorRTFrames, open_frames
from firewall.engines.plan_cache import PlanCache
from firewall.engines.tensorrt_engine import TensorRTEngine
from firewall.engines.tensorrt_library import open_tensorrt
from firewall.errors import EngineError, MissingExtraError
from firewall.regions.finder_map import CHANNELS

__all__ = ["open_cuda", "open_finders", "open_plans"]


def open_plans(bundle: Bundle, *, folder: Path | None = None, device_id: int = 0) -> tuple[list[TensorRTEngine], str]:
    """(the TensorRT plans of a bundle's classifier for this GPU, why there are none).

    Where TensorRT, a GPU or a plan is missing the second says which.

    Args:
        bundle: A verified bundle.
        folder: Folder of the plans; None = `plan_folder()`.
        device_id: Number of the GPU, as CUDA counts.

    Raises:
        EngineError: If there is a plan that can't be used: it isn't passed over in silence.
    """
    spec = bundle.manifest.classifier
    precisions, missing = _plans_there(bundle, spec, "classifier", folder, device_id)
    return [
        TensorRTEngine.from_cache(bundle, precision=precision, folder=folder, device_id=device_id)
        for precision in precisions
    ], missing


def open_finders(bundle: Bundle, *, folder: Path | None = None, device_id: int = 0) -> tuple[list[TensorRTFrames], str]:
    """(the TensorRT plans of a bundle's sign finder for this GPU, why there are none). Both empty if the bundle has no
    finder. Arguments and errors as of `open_plans`."""
    spec = bundle.manifest.finder
    if spec is None:
        return [], ""
    precisions, missing = _plans_there(bundle, spec, "sign finder", folder, device_id)
    content, what = bundle.files[spec.file], f"{spec.file} of bundle {bundle.path}"
    return [
        TensorRTFrames.from_cache(
            spec, content, what, CHANNELS, precision=precision, folder=folder, device_id=device_id
        )
        for precision in precisions
    ], missing


def open_cuda(bundle: Bundle) -> tuple[list[Engine], list[FrameNetwork], str]:
    """(a bundle's classifier and its sign finder on ONNX Runtime's CUDA provider, why there are none).

    Args:
        bundle: A verified bundle.
    """
    try:
        check_device("cuda")
        engine = open_engine(bundle, device="cuda")
        spec, finders = bundle.manifest.finder, list[FrameNetwork]()
        if spec is not None:
            content, what = bundle.files[spec.file], f"{spec.file} of bundle {bundle.path}"
            finders.append(open_frames(spec, content, what, CHANNELS, device="cuda"))
    except (MissingExtraError, EngineError) as error:
        return [], [], f"not compared: {error}"
    return [engine], finders, ""


def _plans_there(
    bundle: Bundle, spec: ClassifierSpec | FinderSpec, kind: str, folder: Path | None, device_id: int
) -> tuple[list[Precision], str]:
    """(precisions that a network has plans of on this GPU, why there are none)."""
    try:
        version = str(open_tensorrt().__version__)
        memory = open_device(device_id)
        gpu = memory.name
        memory.close()
    except (MissingExtraError, EngineError) as error:
        return [], f"not compared: {error}"
    digest = hashlib.sha256(bundle.files[spec.file]).hexdigest()
    try:
        cache = PlanCache(folder)
        keys = [key for key in cache.entries() if (key.onnx, key.tensorrt, key.gpu) == (digest, version, gpu)]
    except EngineError as error:
        return [], f"not compared: {error}"
    if not keys:
        return [], (
            f"not compared: {cache.folder} has no plan of this {kind} for {gpu} and TensorRT {version}; build one "
            "with 'firewall export tensorrt'"
        )
    return sorted({key.precision for key in keys}), ""
