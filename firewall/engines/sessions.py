"""Sessions of ONNX Runtime on a named device, with proof of what runs where.

If a GPU's libraries are missing, or a node has no kernel there, ONNX Runtime uses the processor instead and only writes
a line to its log. Here no other device is ever used: the session is refused unless every node is known to run on the
device that was asked for.
"""

from __future__ import annotations

import importlib.util
import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from firewall.bundle import ClassifierSpec
from firewall.errors import EngineError, UsageError
from firewall.host.causes import told
from firewall.host.onnxruntime import ort
from firewall.host.pinning import placed, present_threads, proved

__all__ = [
    "CPU",
    "DEVICES",
    "PROVIDERS",
    "Optimisation",
    "check_device",
    "check_names",
    "open_session",
    "placement",
    "threads_of",
]

CPU, CUDA, TENSORRT = "CPUExecutionProvider", "CUDAExecutionProvider", "TensorrtExecutionProvider"

#: What each device may run on, in order of preference: what TensorRT has no kernel for, CUDA takes; the processor only
#: runs what was asked to run there.
PROVIDERS: dict[str, tuple[str, ...]] = {"cpu": (CPU,), "cuda": (CUDA,), "tensorrt": (TENSORRT, CUDA)}
DEVICES = tuple(PROVIDERS)

#: How far ONNX Runtime may rewrite a graph before it runs it.
Optimisation = Literal["none", "basic", "extended", "all"]
_LEVELS: dict[Optimisation, ort.GraphOptimizationLevel] = {
    "none": ort.GraphOptimizationLevel.ORT_DISABLE_ALL,
    "basic": ort.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    "extended": ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    "all": ort.GraphOptimizationLevel.ORT_ENABLE_ALL,
}

#: Images in the largest batch that TensorRT prepares for; OPERATIONS_38 and the 76 qualities of a sweep fit.
LARGEST_BATCH = 128


def check_device(device: str) -> None:
    """Whether a device can be used is checked before anything is opened.

    Args:
        device: What the classifier is to run on, one of DEVICES.

    Raises:
        UsageError: If there is no such device.
        EngineError: If nothing that is installed here has code for it.
    """
    if device not in PROVIDERS:
        raise UsageError(f"the device must be one of {', '.join(DEVICES)}, got {device!r}")
    if not (device == "tensorrt" and has_tensorrt()):
        _check_providers(device)


def _check_providers(device: str) -> None:
    available = ort.get_available_providers()
    missing = [provider for provider in PROVIDERS[device] if provider not in available]
    if missing:
        raise EngineError(
            f"device {device!r} can't be used: onnxruntime {ort.__version__} is built without {' and '.join(missing)}; "
            "install onnxruntime-gpu in its place (on a Jetson a build for its GPU), or use --device cpu; 'firewall "
            "doctor' says more"
        )


def threads_of(threads: int) -> int:
    """How many threads are meant: 0 = one for each core that this process may run on; if threads are kept on cores
    (`--cores`), one for each of those that judge, and never more."""
    cores = placed()
    if cores is None:
        return threads or len(os.sched_getaffinity(0))
    return min(threads or len(cores.judging), len(cores.judging))


def has_tensorrt() -> bool:
    """Whether the package tensorrt is installed: then plans are run by it, not by ONNX Runtime's provider."""
    return importlib.util.find_spec("tensorrt") is not None


def open_session(
    content: bytes,
    what: str,
    *,
    device: str = "cpu",
    threads: int = 0,
    image: tuple[str, tuple[int, ...]] | None = None,
    cuda: Mapping[str, str] | None = None,
    weights: Path | None = None,
    optimisation: Optimisation = "all",
) -> ort.InferenceSession:
    """Open a session for an ONNX file, all of whose nodes run on the device.

    Args:
        content: The file's bytes.
        what: The file's name, for messages.
        device: One of DEVICES.
        threads: Threads on the processor; 0 = one for each core that this process may use.
        image: Name of the input and shape of one image there. TensorRT then prepares batches of up to 128 images;
            otherwise each new batch size costs seconds the first time.
        cuda: Further options of the CUDA provider, such as a stream.
        weights: Folder of a file that keeps its weights beside it. None: such a file can't be loaded.
        optimisation: How far the graph may be rewritten. The edge uses "all"; the others show how much the arithmetic
            matters.

    Returns:
        The session.

    Raises:
        UsageError: If there is no such device.
        EngineError: If the file can't be loaded, or a node would run on another device.
    """
    check_device(device)
    _check_providers(device)
    settings = ort.SessionOptions()
    # The pool's own guess is the machine's physical cores, whatever this process may use of them (taskset, cgroups).
    settings.intra_op_num_threads = number = threads_of(threads)
    settings.inter_op_num_threads = 1
    cores = placed()
    own = () if cores is None else cores.judging[1:number]  # the thread that asks computes too, and has the first
    if own:
        # One core for each thread of the pool; counted from 1 here.
        settings.add_session_config_entry("session.intra_op_thread_affinities", ";".join(f"{core + 1}" for core in own))
    settings.graph_optimization_level = _LEVELS[optimisation]
    settings.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    # Spinning threads would take whole cores of a shared vehicle computer between two frames.
    settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # The arena keeps what the largest batch so far has needed, so that no later frame waits for the system's memory.
    settings.enable_cpu_mem_arena = True
    # Where the nodes run is recorded (older versions don't know the entry and ignore it) ...
    settings.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    if device != "cpu":
        # ... and a node that only the processor has a kernel for is an error, not a copy forth and back.
        settings.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
        # A network in the processor's int8 has biases of 32 bits, which no kernel there reads: fold them to float32.
        settings.add_session_config_entry("session.disable_quant_qdq", "1")
    if weights is not None:
        settings.add_session_config_entry("session.model_external_initializers_file_folder_path", str(weights))
    settings.log_severity_level = 4  # its messages come as exceptions
    providers = [(name, _options(name, image, cuda or {})) for name in PROVIDERS[device]]
    before = present_threads() if own else ()
    try:
        # Without enable_fallback=0 a provider that fails is replaced by the processor, and a line is printed.
        session = ort.InferenceSession(content, settings, providers=providers, enable_fallback=0)
    except Exception as error:  # ONNX Runtime raises many types of its own
        if device != "cpu" and "fallback to CPU EP has been explicitly disabled" in str(error):
            raise EngineError(
                f"{what}: device {device!r} doesn't run every node, and the rest would run on the processor; use "
                "--device cpu, or a network of operators that the device has ('firewall doctor' says whether it loads)"
            ) from error
        raise EngineError(f"{what} can't be loaded on device {device!r}: {told(error)}") from error
    if own:  # a core that it can't have is only a line in its log
        proved(before, own, f"{what}: onnxruntime {ort.__version__}")
    if device != "cpu":
        _prove(session, what, device)
    return session


def check_names(session: ort.InferenceSession, spec: ClassifierSpec) -> None:
    """Raise EngineError unless the network has the input and output that its bundle names."""
    inputs = [entry.name for entry in session.get_inputs()]
    outputs = [entry.name for entry in session.get_outputs()]
    if inputs != [spec.input.name] or spec.output not in outputs:
        raise EngineError(
            f"{spec.file} has inputs {inputs} and outputs {outputs}; its bundle says {spec.input.name!r} -> "
            f"{spec.output!r}"
        )


def placement(session: ort.InferenceSession) -> dict[str, int]:
    """Provider -> how many nodes of the optimised graph it runs, by what ONNX Runtime itself recorded.

    Empty if this version keeps no record, or the session was not opened here.
    """
    ask = getattr(session, "get_provider_graph_assignment_info", None)
    if ask is None:
        return {}
    try:
        parts = ask()
    except Exception:  # the session was made without the record
        return {}
    found: Counter[str] = Counter()
    for part in parts:
        found[part.ep_name] += len(part.get_nodes())
    return dict(found)


def _options(provider: str, image: tuple[str, tuple[int, ...]] | None, cuda: Mapping[str, str]) -> dict[str, str]:
    if provider == CUDA:
        return {
            "device_id": "0",
            # Thresholds were set on float32; TF32 keeps 10 bits of a product's 23.
            "use_tf32": "0",
            # The default tries every algorithm on the first image of each size: seconds in which no verdict comes.
            "cudnn_conv_algo_search": "HEURISTIC",
            # Doubling it would take what a board's processor and GPU share.
            "arena_extend_strategy": "kSameAsRequested",
            # A copy in another stream may be overtaken by the kernels that read it.
            "do_copy_in_default_stream": "1",
            **cuda,
        }
    if provider != TENSORRT:
        return {}
    # A kept engine is code that no signature covers.
    options = {"device_id": "0", "trt_engine_cache_enable": "0"}
    if image is not None:
        name, shape = image
        for bound, count in (("min", 1), ("opt", 39), ("max", LARGEST_BATCH)):
            options[f"trt_profile_{bound}_shapes"] = f"{name}:{'x'.join(map(str, (count, *shape)))}"
    return options


def _prove(session: ort.InferenceSession, what: str, device: str) -> None:
    wanted, loaded = PROVIDERS[device], session.get_providers()
    if not loaded or loaded[0] != wanted[0]:
        raise EngineError(
            f"{what}: device {device!r} was asked for, but onnxruntime loaded {', '.join(loaded) or 'nothing'}; are "
            "NVIDIA's driver, CUDA and cuDNN installed? 'firewall doctor' says what is missing"
        )
    found = placement(session)
    elsewhere = {name: count for name, count in found.items() if name not in wanted}
    if elsewhere or (found and wanted[0] not in found):
        places = ", ".join(f"{count} on {name}" for name, count in sorted(found.items()))
        raise EngineError(f"{what}: not every node runs on device {device!r} ({places}); use --device cpu")
