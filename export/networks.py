"""Which networks of a bundle become TensorRT plans: all of them, each with what it needs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import ValidationError

from firewall.bundle import Bundle, ClassifierSpec, FinderSpec, PatchSpec
from firewall.bundle.onnx_bytes import Precision
from firewall.decision.masking import masks_for
from firewall.detectors import build as build_detector
from firewall.engines import OnnxRuntimeNetwork
from firewall.engines.device_memory import DeviceMemory
from firewall.engines.device_network import detector_tensors, network_on_tensorrt
from firewall.engines.frame_network import OnnxRuntimeFrames, TensorRTFrames
from firewall.engines.loaded_plan import Tensors
from firewall.engines.networks import detector_files
from firewall.engines.plan_cache import FrameSizes, Plan, Profile
from firewall.engines.sessions import LARGEST_BATCH
from firewall.engines.tensorrt_engine import TensorRTEngine
from firewall.errors import BundleError, EngineError, UsageError
from firewall.export.finder_parity import compare_maps, made_frames, map_of
from firewall.export.finder_scales import delicate, read_frames
from firewall.export.images import spread
from firewall.export.precision import prepare, with_whole_weights
from firewall.export.recorded import recorded_inputs
from firewall.frame import Pixels
from firewall.regions.finder_map import CHANNELS
from firewall.regions.sign_finder import MOST_PIXELS, SignFinder
from firewall.transforms import resize

__all__ = ["NETWORKS", "NetworkName", "Subject", "Wanted", "plans_of", "profile_of", "subject_of"]

#: What a bundle's networks are for: "masked" is the classifier of masked images, "detectors" are jurors and the like.
NetworkName = Literal["classifier", "finder", "masked", "detectors"]
NETWORKS: tuple[NetworkName, ...] = ("classifier", "finder", "masked", "detectors")

Values = npt.NDArray[np.float32]

#: Images that a detector's network is calibrated on for int8.
_MOST_RECORDED = 128
#: Regions that a frame commonly has; a batch of them is classified before any sweep.
_REGIONS = 16
#: (height, width) that a finder's plan is fastest at, unless it is said: 1280x720, filled up.
_COMMON_FRAME = (736, 1280)
#: Longest side of a plan's frames, in pixels: every frame of at most MOST_PIXELS that is no longer than twice its
#: height, or the other way round.
_LONGEST_SIDE = int((2 * MOST_PIXELS) ** 0.5)


@dataclass(frozen=True)
class Wanted:
    """What to build.

    Attributes:
        precision: What it computes in.
        best: Batch sizes, None = of the bundle's sweep.
        most: The largest batch size; None = that of the bundle's sweep.
        images: Benign ones of any size (H, W, 3), to calibrate the classifier's int8.
        kept: Nodes that stay in float32 there.
        workspace: MiB that TensorRT may use while it builds, None = all that is free.
        frames: Road frames (H, W, 3), to calibrate the finder's int8.
        frame: (height, width) of the camera's frames, which the finder's plan is fastest at; None = 720 x 1280.
    """

    precision: Precision
    best: int | None = None
    most: int | None = None
    images: Sequence[Pixels] = ()
    kept: tuple[str, ...] = ()
    workspace: int | None = None
    frames: Sequence[Pixels] = ()
    frame: tuple[int, int] | None = None


@dataclass(frozen=True)
class Subject:
    """A network that a plan is to be built of.

    Attributes:
        file: Its name in the bundle.
        content: The ONNX file.
        tensors: What goes in and comes out.
        profile: Batch sizes.
        frame: Sizes of frames, if it reads whole frames.
        values: Gives what it reads for benign images, for int8; None: there are none.
        kept: Nodes that stay in float32 in int8.
        averaged: As in `to_int8`.
        check: Loads a plan on a GPU and tries it out; raises EngineError.
    """

    file: str
    content: bytes
    tensors: Tensors
    profile: Profile
    frame: FrameSizes | None
    values: Callable[[], Values | None]
    kept: tuple[str, ...]
    averaged: bool
    check: Callable[[Plan, DeviceMemory], None]


def plans_of(bundle: Bundle, network: str) -> list[str]:
    """Which networks `subject_of` is to be asked for.

    Args:
        bundle: A verified bundle.
        network: One of NETWORKS, or "all": those that the bundle has.

    Returns:
        "classifier", "finder", "masked", and files of detectors' networks.

    Raises:
        BundleError: If the bundle has no such network.
    """
    manifest = bundle.manifest
    parts: dict[str, list[str]] = {
        "classifier": ["classifier"],
        "finder": [] if manifest.finder is None else ["finder"],
        "masked": [] if manifest.masked_classifier is None else ["masked"],
        "detectors": detector_files(bundle),
    }
    if network != "all" and not parts[network]:
        kind = {"finder": "sign finder", "masked": "classifier for masked images"}.get(network, "detector's network")
        raise BundleError(f"bundle {bundle.path} has no {kind} to build; name --network classifier")
    return [part for name in NETWORKS if network in (name, "all") for part in parts[name]]


def subject_of(bundle: Bundle, network: str, wanted: Wanted) -> Subject:
    """A bundle's network, as something to build.

    Args:
        bundle: A verified bundle.
        network: Which, as of `plans_of`.
        wanted: What to build of it.

    Raises:
        UsageError: For batch sizes or a frame that don't fit.
        BundleError: If the bundle has no such network.
        EngineError: If it can't be run on ONNX Runtime.
    """
    masked = bundle.manifest.masked_classifier
    if network == "finder":
        return _finder(bundle, wanted)
    if network == "masked" and masked is not None:
        return _classifier(bundle, wanted, masked, _masked_profile(bundle, masked, wanted.most))
    if network == "classifier":
        spec = bundle.manifest.classifier
        return _classifier(bundle, wanted, spec, profile_of(bundle, wanted.best, wanted.most))
    if network not in detector_files(bundle):
        raise BundleError(f"bundle {bundle.path} has no network {network!r} to build; name --network classifier")
    return _detector(bundle, network, wanted)


def profile_of(bundle: Bundle, best: int | None = None, most: int | None = None) -> Profile:
    """Batch sizes of a classifier's plan.

    Args:
        bundle: A verified bundle.
        best: None = the copies that the bundle's detectors have classified.
        most: None = that, or the regions of a frame if those are more.

    Raises:
        UsageError: If they don't fit each other.
    """
    operations: set[str] = set()
    for spec in bundle.manifest.detectors:
        detector = build_detector(spec, lambda file: OnnxRuntimeNetwork(bundle.files[file], file, threads=1))
        operations.update(detector.operations)
    best = max(len(operations), 1) if best is None else best
    most = max(best, _REGIONS) if most is None else most
    try:
        return Profile(best=best, most=most)
    except ValidationError as error:
        raise UsageError(
            f"batch sizes of {best} at best and {most} at most don't fit; 1 <= best <= most <= 4096 is needed"
        ) from error


def _masked_profile(bundle: Bundle, spec: ClassifierSpec, most: int | None) -> Profile:
    """Fastest at one round of masks: those of the bundle's demand, or of stickers of 2 % of the sign."""
    patches = bundle.manifest.patches or PatchSpec(area=0.02)
    masks = len(masks_for(spec.input.height, spec.input.width, patches.area, patches.masks, patches.fill))
    return Profile(best=min(masks, LARGEST_BATCH), most=max(most or 0, min(masks, LARGEST_BATCH)))


def _classifier(bundle: Bundle, wanted: Wanted, spec: ClassifierSpec, profile: Profile) -> Subject:
    def values() -> Values | None:
        if not wanted.images:
            return None
        sized = [resize(np.ascontiguousarray(image), spec.input.width, spec.input.height) for image in wanted.images]
        return prepare(np.stack(sized), spec.input)

    def check(plan: Plan, memory: DeviceMemory) -> None:
        TensorRTEngine(bundle, plan, memory, spec=spec)  # it has to run, and to tell images apart

    shape = (-1, 3, spec.input.height, spec.input.width)
    return Subject(
        file=spec.file,
        content=bundle.files[spec.file],
        tensors=Tensors(spec.input.name, shape, spec.output, (-1, len(spec.labels))),
        profile=profile,
        frame=None,
        values=values,
        kept=wanted.kept if spec == bundle.manifest.classifier else (),
        averaged=False,
        check=check,
    )


def _detector(bundle: Bundle, file: str, wanted: Wanted) -> Subject:
    content, what = bundle.files[file], f"{file} of bundle {bundle.path}"

    def values() -> Values | None:
        few = list(spread(wanted.images, _MOST_RECORDED))  # each is judged whole, by every detector
        return recorded_inputs(bundle, few).get(file) if few else None

    def check(plan: Plan, memory: DeviceMemory) -> None:
        network_on_tensorrt(content, what, plan, memory)  # it is compared with the processor

    return Subject(
        file=file,
        content=content,
        tensors=detector_tensors(content, what),
        profile=Profile(best=1, most=_REGIONS),  # they are asked region by region
        frame=None,
        values=values,
        kept=(),
        averaged=False,
        check=check,
    )


def _finder(bundle: Bundle, wanted: Wanted) -> Subject:
    spec = bundle.manifest.finder
    if spec is None:
        raise BundleError(f"bundle {bundle.path} has no sign finder to build; name --network classifier")
    content, what = bundle.files[spec.file], f"{spec.file} of bundle {bundle.path}"
    sizes = _sizes(spec, wanted.frame)

    def values() -> Values | None:
        return read_frames(wanted.frames, spec, content, what, option="--frames") if wanted.frames else None

    def check(plan: Plan, memory: DeviceMemory) -> None:
        network = TensorRTFrames(spec, content, plan, memory, CHANNELS)
        SignFinder(spec, content, what, network=network)
        reference = OnnxRuntimeFrames(spec, content, what)
        maps = [
            [map_of(each, spec, pixels) for pixels in wanted.frames[:2] or made_frames(spec)]
            for each in (reference, network)
        ]
        precision = plan.key.precision
        try:
            compare_maps(maps[0], maps[1], precision).check(
                f"the {precision} TensorRT plan of {spec.file} says something else than ONNX Runtime"
            )
        except EngineError as error:
            raise EngineError(f"{error}; it isn't kept: try another precision") from error

    return Subject(
        file=spec.file,
        content=content,
        tensors=Tensors(spec.input, (-1, 3, -1, -1), spec.output, (-1, CHANNELS, -1, -1)),
        profile=Profile(best=1, most=1),
        frame=sizes,
        values=values,
        kept=delicate(with_whole_weights(content)) if wanted.precision == "int8" else (),
        averaged=True,
        check=check,
    )


def _sizes(spec: FinderSpec, frame: tuple[int, int] | None) -> FrameSizes:
    """Sizes that a finder's plan takes, all of them multiples of what the network needs."""
    step = spec.multiple
    high, wide = (-(-side // step) * step for side in frame or _COMMON_FRAME)
    if high * wide > MOST_PIXELS + step * (high + wide):
        raise UsageError(
            f"--frame {wide}x{high} is more than the finder looks at: larger frames are made smaller, to "
            f"{MOST_PIXELS} pixels at most; name their size after that, or leave it out"
        )
    longest = -(-_LONGEST_SIDE // step) * step
    return FrameSizes(least=(step, step), best=(high, wide), most=(max(high, longest), max(wide, longest)))
