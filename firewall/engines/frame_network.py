"""A network that reads whole frames and gives a map of them, on one device: what the sign finder asks."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from firewall.bundle import FinderSpec
from firewall.bundle.onnx_bytes import Precision
from firewall.engines.device_memory import Backend, DeviceMemory
from firewall.engines.loaded_plan import LoadedPlan, Tensors, kept_plan, target_of
from firewall.engines.plan_cache import Plan
from firewall.engines.plan_graphs import Run
from firewall.engines.sessions import has_tensorrt, open_session
from firewall.engines.tensorrt_library import open_tensorrt
from firewall.errors import EngineError
from firewall.host.causes import told

__all__ = ["FrameNetwork", "OnnxRuntimeFrames", "TensorRTFrames", "open_frames"]

Floats = npt.NDArray[np.float32]


class FrameNetwork(Protocol):
    """The network, loaded. Use it from one thread at a time."""

    #: What runs it, such as "CPUExecutionProvider".
    provider: str

    def frame(self, height: int, width: int) -> Floats:
        """The memory that the network reads for a frame, float32 (1, 3, height, width), to be filled. It holds what was
        written for the last frame of this size, zeros at first; ask again for each frame.

        Raises:
            EngineError: If the network can't read frames of this size here.
        """

    def run(self) -> Any:
        """What the network says of what `frame` holds: float32 (1, channels, height / stride, width / stride), unless
        the network is another one; not checked.

        Raises:
            EngineError: If the network fails.
        """


def open_frames(
    spec: FinderSpec, content: bytes, what: str, channels: int, *, device: str = "cpu", threads: int = 0
) -> FrameNetwork:
    """Open a sign finder's network on a device, and on no other.

    Args:
        spec: How it is read.
        content: The ONNX file, verified.
        what: Its name, for messages.
        channels: Of the map that it gives.
        device: One of DEVICES. "tensorrt" is a plan that 'firewall export tensorrt' built here; where the package
            tensorrt is missing, ONNX Runtime's own provider of that name.
        threads: Threads on the processor; 0 = one for each core.

    Raises:
        UsageError: If there is no such device.
        EngineError: If it can't be run there.
    """
    if device == "tensorrt" and has_tensorrt():
        return TensorRTFrames.from_cache(spec, content, what, channels)
    return OnnxRuntimeFrames(spec, content, what, device=device, threads=threads)


class OnnxRuntimeFrames:
    """A FrameNetwork on ONNX Runtime. Arguments and errors as of `open_frames`."""

    def __init__(self, spec: FinderSpec, content: bytes, what: str, *, device: str = "cpu", threads: int = 0) -> None:
        self._spec, self._what = spec, what
        self._session = open_session(content, what, device=device, threads=threads)
        self.provider: str = self._session.get_providers()[0]
        inputs = [entry.name for entry in self._session.get_inputs()]
        outputs = [entry.name for entry in self._session.get_outputs()]
        if inputs != [spec.input] or outputs != [spec.output]:
            raise EngineError(
                f"{what} has inputs {inputs} and outputs {outputs}; its bundle says {spec.input!r} -> {spec.output!r}"
            )
        self._input = np.zeros((1, 3, 0, 0), np.float32)

    def frame(self, height: int, width: int) -> Floats:
        """As of FrameNetwork; any size."""
        if self._input.shape[2:] != (height, width):
            self._input = np.zeros((1, 3, height, width), np.float32)
        return self._input

    def run(self) -> Any:
        """As of FrameNetwork."""
        try:
            return self._session.run([self._spec.output], {self._spec.input: self._input})[0]
        except Exception as error:  # ONNX Runtime raises many types of its own
            raise EngineError(f"{self._what} failed: {told(error)}") from error


class TensorRTFrames:
    """A FrameNetwork as a TensorRT plan; use `from_cache` to open it."""

    def __init__(self, spec: FinderSpec, content: bytes, plan: Plan, memory: DeviceMemory, channels: int) -> None:
        """Load a plan and run it.

        Args:
            spec: How the network is read.
            content: The ONNX file that the plan was built from.
            plan: From a PlanCache, or just built.
            memory: The GPU, and the stream that everything is queued on. It is closed with this.
            channels: Of the map.

        Raises:
            EngineError: If it is a plan of something else, or can't be loaded.
        """
        version = str(open_tensorrt().__version__)
        self.memory, self.plan = memory, plan
        self.provider = f"TensorRT {version} {plan.key.precision}"
        self._stride, self._channels = spec.stride, channels
        tensors = Tensors(spec.input, (-1, 3, -1, -1), spec.output, (-1, channels, -1, -1))
        target = target_of(content, spec.output, version, memory)
        if plan.key.frame is None:
            raise EngineError(f"the TensorRT plan of {spec.file} is of no size of frames; build it again")
        self._sizes = plan.key.frame
        # A camera has one size; working memory for the largest frames is too much to have many times.
        self._loaded = LoadedPlan(plan, target, tensors, memory, file=spec.file, graphs=2)
        self._read = self._given = self._nothing = np.empty(0, np.float32)  # page-locked, as large as was needed
        self._source = self._answer = 0
        self._refused = ""  # why no more memory was given
        self._size = (0, 0)
        self._try_out()

    @classmethod
    def from_cache(
        cls,
        spec: FinderSpec,
        content: bytes,
        what: str,
        channels: int,
        *,
        precision: Precision | None = None,
        folder: Path | None = None,
        device_id: int = 0,
        backend: Backend | None = None,
    ) -> TensorRTFrames:
        """Load the plan that was built for this network on this GPU.

        Args:
            spec: How the network is read.
            content: Its ONNX file.
            what: Its name, for messages.
            channels: Of the map.
            precision: Precision of the plan; None = FIREWALL_PRECISION, or the only one for which there is a plan.
            folder: Folder of the plans; None = `plan_folder()`.
            device_id: Number of the GPU, as CUDA counts.
            backend: Package for its memory, see DeviceMemory.

        Raises:
            EngineError: If there is no such plan. Nothing is built here, and no other device or precision is used.
            MissingExtraError: If TensorRT or the package for the GPU's memory isn't installed.
        """
        with kept_plan(
            content,
            spec.output,
            what=what,
            precision=precision,
            folder=folder,
            device_id=device_id,
            backend=backend,
        ) as (plan, memory):
            return cls(spec, content, plan, memory, channels)

    def frame(self, height: int, width: int) -> Floats:
        """As of FrameNetwork: page-locked memory. Sizes beyond those that the plan was built for are refused."""
        (low, narrow), (high, wide) = self._sizes.least, self._sizes.most
        if not (low <= height <= high and narrow <= width <= wide):
            raise EngineError(
                f"{self._loaded.what} takes frames of {narrow}x{low} to {wide}x{high}, this one is looked at as "
                f"{width}x{height}; build it for your camera with 'firewall export tensorrt --frame WIDTHxHEIGHT'"
            )
        count = 3 * height * width
        if self._size != (height, width):
            self._reserve(count, self._channels * (height // self._stride) * (width // self._stride))
            self._read[:count] = 0
            self._size = (height, width)
        frame: Floats = self._read[:count].reshape(1, 3, height, width)
        return frame

    def run(self) -> Any:
        """As of FrameNetwork: what the plan doesn't write is NaN, never the answer to the frame before."""
        height, width = self._size
        shape = (1, self._channels, height // self._stride, width // self._stride)
        count = int(np.prod(shape))
        memory = self.memory
        memory.activate()
        memory.to_device(self._source, self._read[: 3 * height * width])
        memory.to_device(self._answer, self._nothing[:count])
        self._loaded.execute(Run((1, 3, height, width), shape, self._source, self._answer))
        memory.to_host(self._given[:count], self._answer)
        memory.wait()
        return self._given[:count].reshape(shape).copy()

    def close(self) -> None:
        """Free the GPU's memory; the network can't be run after."""
        self._loaded.close()
        self.memory.close()

    def _try_out(self) -> None:
        """The first runs cost most, and a plan that answers the same to everything reads the wrong memory."""
        answers = []
        for least in (0, 255):
            frame = self.frame(*self._sizes.best)
            frame[...] = np.random.default_rng(0).integers(0, least + 1, frame.shape)
            answers.append(self.run())
        if not all(np.isfinite(answer).all() for answer in answers):
            raise EngineError(f"{self._loaded.what} gives numbers that are not finite; it is not used: build it again")
        if np.array_equal(*answers):
            raise EngineError(f"{self._loaded.what} gives the same map for different frames; build it again")

    def _reserve(self, read: int, given: int) -> None:
        """Memory for so many numbers in and out. It grows twofold at least: what was there is freed with the rest."""
        if read <= len(self._read):
            return
        if self._refused:  # asked for again at every frame, what is given in part would pile up
            raise EngineError(self._refused)
        memory, (high, wide) = self.memory, self._sizes.most
        most = high * wide
        read = min(max(read, 2 * len(self._read)), 3 * most)
        given = min(max(given, 2 * len(self._given)), self._channels * most)
        try:
            memory.activate()
            host = [memory.page_locked((count,), np.float32) for count in (read, given, given)]
            source, answer = memory.allocate(4 * read), memory.allocate(4 * given)
        except EngineError as error:
            self._refused = f"{self._loaded.what} gets no memory for frames of this size: {error}"
            raise EngineError(self._refused) from error
        # All of it or nothing: what is too small would be written beyond its end.
        (self._read, self._given, self._nothing), self._source, self._answer = host, source, answer
        self._nothing[:] = np.nan
