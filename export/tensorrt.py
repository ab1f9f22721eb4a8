"""A bundle's network -> a TensorRT plan, on the device that will run it. Needs no torch.

One path for TensorRT 10.3 to 11: the network is strongly typed, so its precision is what stands in the ONNX file
(firewall.export.precision), and what was built is read back (firewall.export.layers) before a plan is kept under that
precision's name. A plan is executable code and is kept as such (firewall.engines.plan_cache).
"""

from __future__ import annotations

import hashlib
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from firewall.bundle import Bundle
from firewall.engines.device_memory import Backend, DeviceMemory, open_device
from firewall.engines.loaded_plan import target_of
from firewall.engines.plan_cache import Plan, PlanCache, PlanKey
from firewall.engines.tensorrt_library import Journal, deserialize, open_tensorrt
from firewall.errors import EngineError
from firewall.export.build_progress import BuildProgress, interruptible
from firewall.export.layers import check_precision, count_types, multiplying
from firewall.export.networks import Subject, Wanted, subject_of
from firewall.export.precision import with_precision

__all__ = ["Built", "build_plan", "serialize"]

#: Kinds of layers in a network that multiply.
_PRODUCTS = ("CONVOLUTION", "DECONVOLUTION", "MATRIX_MULTIPLY", "EINSUM")


@dataclass(frozen=True)
class Built:
    """A plan that is kept, and where.

    Attributes:
        path: The plan's file.
        plan: The plan.
        rebuilt: Why the one that was there wasn't used; None: it was.
        seconds: Building took so long.
    """

    path: Path
    plan: Plan
    rebuilt: str | None
    seconds: float


def build_plan(
    bundle: Bundle,
    wanted: Wanted,
    network: str = "classifier",
    *,
    folder: Path | None = None,
    device_id: int = 0,
    backend: Backend | None = None,
    console: Console | None = None,
) -> Built:
    """Build the plan of a bundle's network for this GPU and this TensorRT, or find that it is there.

    Args:
        bundle: A verified bundle.
        wanted: What to build.
        network: Of which of its networks, as of `plans_of`.
        folder: Folder of the plans; None = `plan_folder()`. Nothing is kept unless the engine computes in the wanted
            precision, and runs. Ctrl-C ends it with nothing kept.
        device_id: Number of the GPU, as CUDA counts.
        backend: Package for its memory, see DeviceMemory.
        console: Shows the progress.

    Raises:
        UsageError: For batch sizes or a frame that don't fit.
        BundleError: If the bundle has no such network.
        DataError: For calibration images that don't.
        MissingExtraError: If a package isn't here.
        EngineError: For all else.
    """
    library = open_tensorrt()
    subject = subject_of(bundle, network, wanted)
    memory = open_device(device_id, backend=backend)  # TensorRT crashes where there is none
    try:
        cache, shown = PlanCache(folder), console or Console(stderr=True)
        return interruptible(
            lambda cancelled: _build(library, memory, bundle.manifest.name, subject, wanted, cache, shown, cancelled)
        )
    finally:
        memory.close()


def _build(
    library: Any,
    memory: DeviceMemory,
    bundle: str,
    subject: Subject,
    wanted: Wanted,
    cache: PlanCache,
    console: Console,
    cancelled: threading.Event,
) -> Built:
    content, tensors = subject.content, subject.tensors
    cache.prepare()
    memory.activate()  # which GPU is in use is each thread's own affair
    target = target_of(content, tensors.output, str(library.__version__), memory)
    key = PlanKey(**asdict(target), precision=wanted.precision, profile=subject.profile, frame=subject.frame)
    values = subject.values() if wanted.precision == "int8" else None
    network = with_precision(content, wanted.precision, values, kept=subject.kept, averaged=subject.averaged)
    digest = hashlib.sha256(network).hexdigest()
    path = cache.folder / f"{key.name}.plan"
    try:
        found = cache.load(key)
        if found.network == digest:
            return Built(path, found, None, 0.0)
        rebuilt = "the network that it was built from has changed (other calibration images, or converters)"
    except EngineError as error:
        rebuilt = str(error) if path.exists() else "there was none"
    started = time.monotonic()
    journal = Journal(library)
    serialized, products = serialize(
        library,
        journal,
        network,
        key,
        cache,
        tensor=(tensors.input, tensors.read),
        what=subject.file,
        console=console,
        cancelled=cancelled,
        workspace=wanted.workspace,
    )
    seconds = time.monotonic() - started
    what = f"the {wanted.precision} TensorRT plan of {subject.file}"
    information = _information(library, journal, serialized, what)
    layers = multiplying(information, products)
    check_precision(layers, wanted.precision, kept=subject.kept)
    made = {
        "bundle": bundle,
        "seconds": round(seconds, 1),
        "calibration_images": 0 if values is None else len(values),
        "kept_in_float32": list(subject.kept),
    }
    plan = Plan(key, serialized, digest, count_types(layers), made)
    subject.check(plan, memory)
    if cancelled.is_set():
        raise EngineError("the build was cancelled; nothing is kept")
    cache.store(key, serialized, network=digest, layers=plan.layers, made=made)
    return Built(path, plan, rebuilt, seconds)


def serialize(
    library: Any,
    journal: Journal,
    content: bytes,
    key: PlanKey,
    cache: PlanCache,
    *,
    tensor: tuple[str, tuple[int, ...]],
    what: str,
    console: Console,
    cancelled: threading.Event,
    workspace: int | None = None,
) -> tuple[bytes, set[str]]:
    """(plan, names of its layers that multiply) of an ONNX file, as TensorRT builds it.

    Args:
        library: The package tensorrt.
        journal: Collects its messages.
        content: The ONNX file.
        key: Says the output and the batch sizes.
        cache: Keeps what was timed.
        tensor: Name and shape of the input, -1 for each side that is free.
        what: The file's name, for messages.
        console: Shows the progress.
        cancelled: Ends the build at its next step once it is set.
        workspace: As in Wanted.

    Raises:
        EngineError: If the file doesn't fit, or if TensorRT can't read or build it.
    """
    builder = library.Builder(journal.logger)
    # By name: its number differs between 10 and 11.
    typed = 1 << int(library.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    network = builder.create_network(typed)
    parser = library.OnnxParser(network, journal.logger)
    if not parser.parse(content):
        raise EngineError(f"TensorRT {key.tensorrt} can't read {what}: {_refusal(parser, journal)}")
    name, shape = tensor
    _fit(library, network, name, shape, key.output, what)
    config = builder.create_builder_config()
    config.clear_flag(library.BuilderFlag.TF32)  # on by default, and no float32: it multiplies with 10 bits of 23
    config.profiling_verbosity = library.ProfilingVerbosity.DETAILED  # else the inspector tells no types
    if workspace is not None:
        config.set_memory_pool_limit(library.MemoryPoolType.WORKSPACE, workspace << 20)
    profile = builder.create_optimization_profile()
    profile.set_shape(name, *key.shapes(shape))
    config.add_optimization_profile(profile)
    timing = config.create_timing_cache(cache.timing(key.tensorrt, key.gpu))
    if timing is None or not config.set_timing_cache(timing, False):  # of another device or version: begin again
        timing = config.create_timing_cache(b"")
        config.set_timing_cache(timing, False)
    kinds = [getattr(library.LayerType, kind) for kind in _PRODUCTS]
    layers = [network.get_layer(index) for index in range(network.num_layers)]
    products = {str(layer.name) for layer in layers if layer.type in kinds}

    progress = BuildProgress(library, console, cancelled)
    config.progress_monitor = progress.monitor
    with progress.shown():
        plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise EngineError(f"TensorRT {key.tensorrt} can't build {what}: {journal.told()}")
    cache.store_timing(key.tensorrt, key.gpu, bytes(config.get_timing_cache().serialize()))
    return bytes(plan), products


def _fit(library: Any, network: Any, name: str, shape: tuple[int, ...], output: str, what: str) -> None:
    """One input and one output, as the bundle says; further outputs aren't computed."""
    inputs = [network.get_input(index) for index in range(network.num_inputs)]
    outputs = [network.get_output(index) for index in range(network.num_outputs)]
    if [tensor.name for tensor in inputs] != [name] or output not in [tensor.name for tensor in outputs]:
        raise EngineError(
            f"{what} has inputs {[tensor.name for tensor in inputs]} and outputs "
            f"{[tensor.name for tensor in outputs]}; its bundle says {name!r} -> {output!r}"
        )
    found = tuple(inputs[0].shape)
    if found != shape or inputs[0].dtype != library.DataType.FLOAT:
        sides = ", ".join("free" if side == -1 else str(side) for side in shape[1:])
        raise EngineError(
            f"{what} takes {inputs[0].dtype} {found}; float32 (N, {sides}) with free N is needed: "
            "make what has to be free so and build the bundle again"
        )
    for tensor in outputs:
        if tensor.name != output:
            network.unmark_output(tensor)


def _information(library: Any, journal: Journal, content: bytes, what: str) -> str:
    """The engine inspector's JSON of a plan that was built a moment ago."""
    runtime, engine = deserialize(library, journal, content, what)
    inspector = engine.create_engine_inspector()
    information = str(inspector.get_engine_information(library.LayerInformationFormat.JSON))
    del inspector, engine, runtime  # in this order
    return information


def _refusal(parser: Any, journal: Journal) -> str:
    if parser.num_errors == 0:
        return journal.told()
    error = parser.get_error(0)
    return f"node {error.node_name()!r} ({error.node_operator()}): {' '.join(str(error.desc()).split())[:200]}"
