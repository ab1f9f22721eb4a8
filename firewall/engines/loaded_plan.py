"""A TensorRT plan on a GPU: checked against what it should be, loaded, and run; what all networks on TensorRT share."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from firewall.bundle.onnx_bytes import Precision
from firewall.engines.device_memory import Backend, DeviceMemory, open_device
from firewall.engines.plan_cache import Plan, PlanCache, Target, precision_named
from firewall.engines.plan_graphs import MOST_GRAPHS, PlanGraphs, Run
from firewall.engines.tensorrt_library import Journal, deserialize, open_tensorrt
from firewall.errors import EngineError

__all__ = ["LoadedPlan", "Tensors", "kept_plan", "target_of"]

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Tensors:
    """What goes in and what comes out, float32 both; -1 stands for a side that is free.

    Attributes:
        input: Name of the input.
        read: Its shape.
        output: Name of the output.
        given: Its shape.
    """

    input: str
    read: Shape
    output: str
    given: Shape


class LoadedPlan:
    """A plan of a network with one input and one output. Use it from one thread at a time.

    Attributes:
        graphs: What of it is recorded in CUDA graphs.
    """

    def __init__(
        self,
        plan: Plan,
        wanted: Target,
        tensors: Tensors,
        memory: DeviceMemory,
        *,
        file: str,
        graphs: int = MOST_GRAPHS,
    ) -> None:
        """Load a plan; nothing is run yet.

        Args:
            plan: From a PlanCache, or just built.
            wanted: The network, GPU and TensorRT that it has to be of.
            tensors: What the bundle says of the network.
            memory: The GPU, and the stream that everything is queued on.
            file: The network's file, for messages.
            graphs: Runs that get a CUDA graph of their own, at most; each takes the plan's working memory once more.

        Raises:
            EngineError: If it is a plan of something else, or TensorRT refuses it.
        """
        library = open_tensorrt()
        self.plan, self.memory, self.tensors = plan, memory, tensors
        self.what = f"the {plan.key.precision} TensorRT plan of {file}"
        self._check_key(wanted)
        memory.activate()
        self._journal = Journal(library)
        # The runtime has to outlive its engine, and the engine its context.
        self._runtime, self._engine = deserialize(library, self._journal, plan.content, self.what)
        self._check_tensors(library)
        self.graphs = PlanGraphs(memory, self, self.what, most=graphs)

    def execute(self, run: Run) -> None:
        """Queue one run on `memory.stream`; the second time the same one comes it is recorded, and replayed after.

        Args:
            run: Shapes, and where input and output lie.

        Raises:
            EngineError: If TensorRT refuses; what fails later is raised by `memory.wait`.
        """
        self.graphs.execute(run)

    def context(self) -> Any:
        """What a plan is run in, with working memory of its own.

        Raises:
            EngineError: If there is too little memory.
        """
        context = self._engine.create_execution_context()
        if context is None:
            raise EngineError(
                f"{self.what} gets no memory to run in ({self._journal.told()}); free some, or build it "
                "with a smaller --max-batch or --frame"
            )
        return context

    def bind(self, context: Any, run: Run) -> None:
        """Say in a context what is run next.

        Args:
            context: Of `context()`.
            run: The run.

        Raises:
            EngineError: If TensorRT refuses the shape.
        """
        bound = (
            context.set_input_shape(self.tensors.input, run.read)
            and context.set_tensor_address(self.tensors.input, run.source)
            and context.set_tensor_address(self.tensors.output, run.answer)
        )
        if not bound:
            raise self._failed(run)

    def enqueue(self, context: Any, run: Run) -> None:
        """Queue what was bound on the stream.

        Args:
            context: As of `bind`.
            run: What was bound.

        Raises:
            EngineError: If TensorRT refuses.
        """
        if not context.execute_async_v3(self.memory.stream):
            raise self._failed(run)

    def close(self) -> None:
        """Free what the plan holds; it can't be run after. The memory is its owner's to close."""
        self.graphs.close()
        del self._engine, self._runtime

    def _failed(self, run: Run) -> EngineError:
        first = f"{run.read[0]} images" if self.plan.key.frame is None else f"an input of shape {run.read}"
        return EngineError(f"{self.what} failed on {first}: {self._journal.told()}")

    def _check_key(self, here: Target) -> None:
        there = self.plan.key.target
        wrong = [field.name for field in fields(Target) if getattr(there, field.name) != getattr(here, field.name)]
        if wrong:
            told = ", ".join(f"{name} {getattr(there, name)!r} instead of {getattr(here, name)!r}" for name in wrong)
            raise EngineError(
                f"{self.what} was built for {told}; it is not loaded: build it with 'firewall export tensorrt'"
            )

    def _check_tensors(self, library: Any) -> None:
        engine, tensors = self._engine, self.tensors
        found = {}
        for index in range(engine.num_io_tensors):
            name = engine.get_tensor_name(index)
            side = "input" if engine.get_tensor_mode(name) == library.TensorIOMode.INPUT else "output"
            kind = "float32" if engine.get_tensor_dtype(name) == library.DataType.FLOAT else "another type"
            found[name] = (side, kind, tuple(engine.get_tensor_shape(name)))
        expected = {
            tensors.input: ("input", "float32", tensors.read),
            tensors.output: ("output", "float32", tensors.given),
        }
        if found != expected:
            raise EngineError(f"{self.what} has {found}; its bundle says {expected}")
        shapes = [tuple(map(int, shape)) for shape in engine.get_tensor_profile_shape(tensors.input, 0)]
        if shapes != self.plan.key.shapes(tensors.read):
            batches = self.plan.key.frame is None
            sizes = f"batches of {tuple(shape[0] for shape in shapes)}" if batches else f"frames of {shapes}"
            raise EngineError(f"{self.what} takes {sizes}, not those of its key")


@contextmanager
def kept_plan(
    content: bytes,
    output: str,
    *,
    what: str = "",
    precision: Precision | None = None,
    folder: Path | None = None,
    device_id: int = 0,
    backend: Backend | None = None,
) -> Iterator[tuple[Plan, DeviceMemory]]:
    """The plan that was built for a network on this GPU, and the GPU. Its memory is closed again if the block fails.

    Args:
        content: The network's ONNX file.
        output: Name of the output that counts.
        what: Its name, which begins the message where there is no plan; empty: none does.
        precision: Precision of the plan; None = FIREWALL_PRECISION, or the only one for which there is a plan.
        folder: Folder of the plans; None = `plan_folder()`.
        device_id: Number of the GPU, as CUDA counts.
        backend: Package for its memory, see DeviceMemory.

    Raises:
        EngineError: If there is no such plan. Nothing is built here, and no other device or precision is used.
        MissingExtraError: If TensorRT or the package for the GPU's memory isn't installed.
    """
    library = open_tensorrt()
    memory = open_device(device_id, backend=backend)
    try:
        target = target_of(content, output, str(library.__version__), memory)
        try:
            plan = PlanCache(folder).find(target, precision or precision_named())
        except EngineError as error:
            raise EngineError(f"{what}: {error}" if what else str(error)) from error
        yield plan, memory
    except BaseException:
        memory.close()
        raise


def target_of(content: bytes, output: str, version: str, memory: DeviceMemory) -> Target:
    """A network on this GPU and this TensorRT.

    Args:
        content: The ONNX file, as the bundle has it.
        output: Name of the output that counts.
        version: Of the package tensorrt.
        memory: The GPU.
    """
    digest = hashlib.sha256(content).hexdigest()
    return Target(digest, output, version, memory.name, memory.compute_capability)
