"""A `tensorrt` package that builds nothing: its plans hold the ONNX file, and ONNX Runtime runs them on the CPU.

Its surface is that of NVIDIA's bindings (tests/tensorrt_surface.json) in the generation that is asked for, no more:
`check_surface` fails where a class has a name, an argument or an enum value that the real one doesn't have. How it
behaves is taken from the documentation and from builds with TensorRT for RTX; only a device can tell whether that is
right.
"""

from __future__ import annotations

import ctypes
import enum
import inspect
import json
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from firewall.engines import OnnxRuntimeNetwork
from tests.fake_cuda import queued

__all__ = ["VERSIONS", "Behaviour", "check_surface", "fake_tensorrt", "install_tensorrt"]

_SURFACE = json.loads((Path(__file__).parent / "tensorrt_surface.json").read_text())["versions"]
VERSIONS = tuple(_SURFACE)

_PRODUCTS = {
    "Conv": "CONVOLUTION",
    "ConvTranspose": "DECONVOLUTION",
    "Gemm": "MATRIX_MULTIPLY",
    "MatMul": "MATRIX_MULTIPLY",
}
_TYPES = {TensorProto.FLOAT: "FLOAT", TensorProto.FLOAT16: "HALF", TensorProto.INT8: "INT8"}


class Behaviour:
    """What the fake does wrong, and what it was asked. types: builds every product in this type, whatever was written.
    refuse: "parse", "build", "deserialize" or "record" fails. wrong: "shape", "stale" or "nan" of a run; "recorded",
    "kept" or "unwritten" of a replay. contexts: those that are given out, at most. runs: of plans, plain and replayed.
    bare: the inspector tells names alone. interrupt: called at each step of a build."""

    def __init__(self) -> None:
        self.types = ""
        self.refuse = ""
        self.wrong = ""
        self.contexts = 1000
        self.runs: list[str] = []
        self.bare = False
        self.interrupt: Any = None
        self.builds = 0
        self.timing: list[bytes] = []
        self.flags: list[Any] = []
        self.steps: list[bool] = []


def install_tensorrt(monkeypatch: pytest.MonkeyPatch, version: str = VERSIONS[-1]) -> Behaviour:
    """Make `tensorrt` importable."""
    behaviour = Behaviour()
    monkeypatch.setitem(sys.modules, "tensorrt", fake_tensorrt(version, behaviour))
    return behaviour


def fake_tensorrt(version: str, behaviour: Behaviour) -> Any:
    """The package in a version of `VERSIONS`."""
    surface = _SURFACE[version]
    module: Any = ModuleType("tensorrt")
    module.__version__ = version
    module.__spec__ = ModuleSpec("tensorrt", None)
    for name, values in surface["enums"].items():
        if "." not in name:
            setattr(module, name, enum.IntEnum(name, values))
    severity = enum.IntEnum("Severity", surface["enums"]["ILogger.Severity"])
    generation = int(version.partition(".")[0])

    class ILogger:
        ERROR = severity.ERROR

        def __init__(self) -> None:
            self.made = True

        def log(self, severity: Any, msg: str) -> None:
            raise NotImplementedError

    class IProgressMonitor:
        def __init__(self) -> None:
            self.made = True

        def phase_start(self, phase_name: str, parent_phase: str, num_steps: int) -> None:
            raise NotImplementedError

        def step_complete(self, phase_name: str, step: int) -> bool:
            raise NotImplementedError

        def phase_finish(self, phase_name: str) -> None:
            raise NotImplementedError

    def say(logger: Any, message: str) -> None:
        logger.log(severity.INTERNAL_ERROR, message)
        logger.log(severity.WARNING, "of no interest")

    class Builder:
        def __init__(self, logger: ILogger) -> None:
            assert logger.made
            self._logger = logger

        def create_network(self, flags: int = 0) -> INetworkDefinition:
            behaviour.flags.append(flags)
            return INetworkDefinition(flags)

        def create_builder_config(self) -> IBuilderConfig:
            return IBuilderConfig()

        def create_optimization_profile(self) -> IOptimizationProfile:
            return IOptimizationProfile()

        def build_serialized_network(self, network: INetworkDefinition, config: IBuilderConfig) -> Any:
            behaviour.builds += 1
            assert config._profiles and network._model is not None
            monitor = config.progress_monitor
            if monitor is not None:
                assert monitor.made
                monitor.phase_start("Building Engine", None, 3)
                for step in range(3):
                    if behaviour.interrupt is not None:
                        behaviour.interrupt()
                    behaviour.steps.append(monitor.step_complete("Building Engine", step))
                    if not behaviour.steps[-1]:
                        return None
                monitor.phase_finish("Building Engine")
            if behaviour.refuse == "build":
                say(self._logger, "Could not find any implementation\nfor node conv")
                return None
            detailed = config.profiling_verbosity == module.ProfilingVerbosity.DETAILED
            (shapes,) = config._profiles
            head = json.dumps({"shapes": shapes, "detailed": detailed, "outputs": network._outputs})
            content = f"fake {version}\n{head}\n".encode() + network._model.SerializeToString()
            return IHostMemory(content)

    class IHostMemory:
        def __init__(self, content: bytes) -> None:
            self._content = content

        def __bytes__(self) -> bytes:  # the real one has the buffer protocol
            return self._content

        @property
        def nbytes(self) -> int:
            return len(self._content)

    class ITensor:
        def __init__(self, entry: onnx.ValueInfoProto) -> None:
            kind = entry.type.tensor_type
            self.name = entry.name
            self.shape = tuple(dim.dim_value if dim.HasField("dim_value") else -1 for dim in kind.shape.dim)
            self.dtype = getattr(module.DataType, _TYPES[kind.elem_type])

    class ILayer:
        def __init__(self, node: onnx.NodeProto) -> None:
            self.name = node.name
            self.type = getattr(module.LayerType, _PRODUCTS.get(node.op_type, "ELEMENTWISE"))

    class INetworkDefinition:
        def __init__(self, flags: int) -> None:
            self._typed = flags == 1 << int(module.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
            self._model: Any = None
            self._outputs: list[str] = []

        @property
        def num_inputs(self) -> int:
            return len(self._model.graph.input)

        def get_input(self, index: int) -> ITensor:
            return ITensor(self._model.graph.input[index])

        @property
        def num_outputs(self) -> int:
            return len(self._outputs)

        def get_output(self, index: int) -> ITensor:
            (entry,) = [entry for entry in self._model.graph.output if entry.name == self._outputs[index]]
            return ITensor(entry)

        def unmark_output(self, tensor: ITensor) -> None:
            self._outputs.remove(tensor.name)

        @property
        def num_layers(self) -> int:
            return len(self._model.graph.node)

        def get_layer(self, index: int) -> ILayer:
            return ILayer(self._model.graph.node[index])

    class ParserError:
        def node_name(self) -> str:
            return "odd"

        def node_operator(self) -> str:
            return "DynamicQuantizeLinear"

        def desc(self) -> str:
            return "no importer\nfor it"

    class OnnxParser:
        def __init__(self, network: INetworkDefinition, logger: ILogger) -> None:
            assert network._typed, "a network that isn't strongly typed may be built in any precision"
            self._network, self._logger = network, logger
            self.num_errors = 0

        def parse(self, model: bytes, path: str | None = None) -> bool:
            if behaviour.refuse == "parse":
                self.num_errors = 1
                return False
            self._network._model = onnx.load_model_from_string(model)
            self._network._outputs = [entry.name for entry in self._network._model.graph.output]
            return True

        def get_error(self, index: int) -> ParserError:
            return ParserError()

    class ITimingCache:
        def __init__(self, content: bytes) -> None:
            self._content = content

        def serialize(self) -> IHostMemory:
            return IHostMemory(self._content + b"timed ")

    class IOptimizationProfile:
        def __init__(self) -> None:
            self._shapes: dict[str, list[tuple[int, ...]]] = {}

        def set_shape(self, input: str, min: Any, opt: Any, max: Any) -> None:  # noqa: A002  # the real names
            self._shapes[input] = [tuple(min), tuple(opt), tuple(max)]

    class IBuilderConfig:
        def __init__(self) -> None:
            self.profiling_verbosity = module.ProfilingVerbosity.LAYER_NAMES_ONLY
            self.progress_monitor: Any = None
            self._profiles: list[Any] = []
            self._timing: Any = None

        def clear_flag(self, flag: Any) -> None:
            assert flag in module.BuilderFlag

        def set_memory_pool_limit(self, pool: Any, pool_size: int) -> None:
            assert pool == module.MemoryPoolType.WORKSPACE and pool_size >= 1 << 20

        def add_optimization_profile(self, profile: IOptimizationProfile) -> int:
            self._profiles.append(profile._shapes)
            return len(self._profiles) - 1

        def create_timing_cache(self, serialized_timing_cache: bytes) -> ITimingCache:
            behaviour.timing.append(serialized_timing_cache)
            return ITimingCache(serialized_timing_cache)

        def set_timing_cache(self, cache: ITimingCache, ignore_mismatch: bool) -> bool:
            assert not ignore_mismatch
            self._timing = cache
            return b"of another device" not in cache._content

        def get_timing_cache(self) -> ITimingCache:
            return self._timing

    class Runtime:
        def __init__(self, logger: ILogger) -> None:
            self._logger = logger

        def deserialize_cuda_engine(self, serialized_engine: bytes) -> ICudaEngine | None:
            head = serialized_engine.split(b"\n", 2)
            if behaviour.refuse == "deserialize" or head[0] != f"fake {version}".encode():
                say(self._logger, "The engine plan file is not compatible with this version of TensorRT")
                return None
            return ICudaEngine(json.loads(head[1]), head[2], self._logger)

    class ICudaEngine:
        def __init__(self, head: dict[str, Any], content: bytes, logger: Any) -> None:
            self._head, self._content, self._logger = head, content, logger
            self._graph = onnx.load_model_from_string(content).graph
            self._tensors = [*self._graph.input, *(out for out in self._graph.output if out.name in head["outputs"])]

        @property
        def num_io_tensors(self) -> int:
            return len(self._tensors)

        def get_tensor_name(self, index: int) -> str:
            return self._tensors[index].name

        def get_tensor_mode(self, name: str) -> Any:
            mode = module.TensorIOMode
            return mode.INPUT if name == self._tensors[0].name else mode.OUTPUT

        def get_tensor_dtype(self, name: str) -> Any:
            return self._tensor(name).dtype

        def get_tensor_shape(self, name: str) -> tuple[int, ...]:
            return self._tensor(name).shape

        def _tensor(self, name: str) -> ITensor:
            return next(ITensor(entry) for entry in self._tensors if entry.name == name)

        def get_tensor_profile_shape(self, name: str, profile_index: int) -> list[Any]:
            assert profile_index == 0
            return list(self._head["shapes"][name])

        def create_execution_context(self) -> IExecutionContext | None:
            if behaviour.contexts == 0:
                say(self._logger, "Requested amount of GPU memory could not be allocated")
                return None
            behaviour.contexts -= 1
            return IExecutionContext(self)

        def create_engine_inspector(self) -> EngineInspector:
            return EngineInspector(self)

    class EngineInspector:
        def __init__(self, engine: ICudaEngine) -> None:
            self._engine = engine

        def get_engine_information(self, format: Any) -> str:  # noqa: A002  # the real name
            assert format == module.LayerInformationFormat.JSON
            graph = self._engine._graph
            if behaviour.bare or not self._engine._head["detailed"]:
                return json.dumps({"Layers": [node.name for node in graph.node]})
            return json.dumps({"Layers": _layers(graph, generation, behaviour.types), "Bindings": []})

    class IExecutionContext:
        def __init__(self, engine: ICudaEngine) -> None:
            self._engine = engine
            self._addresses: dict[str, int] = {}
            self._shape: tuple[int, ...] = ()
            self._run = OnnxRuntimeNetwork(_single(engine), "a fake plan", threads=1)
            self._last: Any = None
            # A change of shape is carried out by the next run, which can't be recorded then.
            self._settled: tuple[int, ...] = ()
            self._changes = 0

        def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
            self._changes += tuple(shape) != self._shape
            least, _, most = self._engine._head["shapes"][name]
            self._shape = tuple(shape)
            sides = zip(least, shape, most, strict=True)
            fits = all(low <= side <= high for low, side, high in sides)
            if not fits or behaviour.wrong == "shape":
                say(self._engine._logger, f"Static dimension mismatch of {name}")
            return fits and behaviour.wrong != "shape"

        def set_tensor_address(self, name: str, memory: int) -> bool:
            self._changes += self._addresses.get(name) != memory
            self._addresses[name] = memory
            return True

        def execute_async_v3(self, stream_handle: int) -> bool:
            recorded = _recording()
            if recorded and (behaviour.refuse == "record" or self._settled != self._shape):
                say(self._engine._logger, "operation not permitted when stream is capturing")
                return False
            self._settled = self._shape
            changes, old = self._changes, _read(self._addresses[self._engine._tensors[0].name], self._shape)
            kept: list[Any] = []

            def work() -> None:
                behaviour.runs.append("replayed" if recorded else "plain")
                assert not recorded or self._changes == changes, "the context of a graph was changed: undefined"
                if recorded and behaviour.wrong == "unwritten":
                    return
                self._work(old if recorded and behaviour.wrong == "recorded" else None, kept if recorded else [])

            queued(work, stream_handle)
            return True

        def _work(self, old: Any, kept: list[Any]) -> None:
            """old: read instead of what lies there. kept: answers of this graph before."""
            first, second = (entry.name for entry in self._engine._tensors)
            values = _read(self._addresses[first], self._shape) if old is None else old
            answer = np.ascontiguousarray(self._run(values), np.float32)
            kept.append(answer)
            if behaviour.wrong == "kept":
                answer = kept[0]
            if behaviour.wrong == "stale":
                self._last = answer[:1] if self._last is None else self._last
                answer = np.ascontiguousarray(np.repeat(self._last, len(answer), axis=0))
            if behaviour.wrong != "nan":
                ctypes.memmove(self._addresses[second], answer.ctypes.data, answer.nbytes)

    for made in (
        *(Builder, IHostMemory, ITensor, ILayer, INetworkDefinition, ParserError, OnnxParser, ITimingCache),
        *(IOptimizationProfile, IBuilderConfig, Runtime, ICudaEngine, EngineInspector, IExecutionContext),
        *(ILogger, IProgressMonitor),
    ):
        setattr(module, made.__name__, made)
    return module


def check_surface(module: Any, version: str) -> None:
    """The fake has nothing that the real bindings of this version don't have."""
    surface = _SURFACE[version]
    public = {name for name in vars(module) if not name.startswith("_")}
    assert public == set(surface["classes"]) | {name for name in surface["enums"] if "." not in name}
    for name, values in surface["enums"].items():
        if "." not in name:
            assert {member.name: int(member) for member in getattr(module, name)} | values == values
    for name, real in surface["classes"].items():
        made = getattr(module, name)
        for member, value in inspect.getmembers_static(made):
            if member.startswith("_") and member != "__init__":
                continue
            if name == "ILogger" and member == "ERROR":
                continue  # a value of ILogger.Severity, that the real class has too
            if member == "__init__" and "__init__" not in real:
                continue  # made by TensorRT, not by us
            assert member in real, f"{name}.{member} is no name of TensorRT {version}"
            if inspect.isfunction(value):
                arguments = list(inspect.signature(value).parameters)[1:]
                assert any(arguments == overload[: len(arguments)] for overload in real[member]), (name, member)


def _read(address: int, shape: tuple[int, ...]) -> Any:
    """A copy of the numbers that lie there."""
    values = np.ctypeslib.as_array((ctypes.c_float * int(np.prod(shape))).from_address(address))
    return values.reshape(shape).copy()


def _recording() -> bool:
    gpu = getattr(sys.modules.get("cuda.bindings.runtime"), "fake_gpu", None)
    return gpu is not None and gpu.recording is not None


def _single(engine: Any) -> bytes:
    """The plan's network with the outputs that it kept."""
    model = onnx.load_model_from_string(engine._content)
    kept = [entry for entry in model.graph.output if entry.name in engine._head["outputs"]]
    del model.graph.output[:]
    model.graph.output.extend(kept)
    return bytes(model.SerializeToString())


def _layers(graph: Any, generation: int, forced: str) -> list[dict[str, Any]]:
    """As the inspector words it: short in one generation, long in the other; a copy before each product."""
    weights = {weight.name: weight.data_type for weight in graph.initializer}
    made = {name: node for node in graph.node for name in node.output}
    words = {
        "HALF": "Half" if generation == 10 else "Channel major FP16 format where channel % 8 == 0",
        "INT8": "Int8" if generation == 10 else "Thirty-two wide channel vectorized row major Int8 format",
        "FLOAT": "Float" if generation == 10 else "Row major linear FP32 format",
    }
    layers = []
    for node in graph.node:
        if node.op_type not in _PRODUCTS:
            layers.append(
                {"Name": node.name, "LayerType": "PointWiseV2", "Inputs": [{"Format/Datatype": words["FLOAT"]}]}
            )
            continue
        read = made.get(node.input[1])
        if read is not None and read.op_type == "Cast":  # weights that are stored in another type
            kind = _TYPES[next(field.i for field in read.attribute if field.name == "to")]
        else:
            quantised = read is not None and read.op_type == "DequantizeLinear"
            kind = "INT8" if quantised else _TYPES[weights[node.input[1]]]
        kind = forced or kind
        copy = f"Reformatting CopyNode for Input Tensor 0 to {node.name}"
        layers.append({"Name": copy, "LayerType": "Reformat", "Inputs": [{"Format/Datatype": words["FLOAT"]}]})
        layer: dict[str, Any] = {"Name": f"{node.name} + relu", "Inputs": [{"Format/Datatype": words[kind]}]}
        if generation == 10:
            layer |= {"LayerType": "CaskConvolution", "Weights": {"Type": kind.capitalize(), "Count": 9}}
        else:
            layer |= {"LayerType": "kgen", "Metadata": f"[ONNX Layer: {node.name}]"}
        layers.append(layer)
    return layers
