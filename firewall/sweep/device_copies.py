"""The transformed copies of an image, made and classified on the GPU: one small image goes there, logits come back.

Everything is queued on one stream: the image's bytes, the operations, the network. Nothing waits in between, and no
copy of the image ever lies in the host's memory. Never tried on a GPU so far; `make gpu-check` does that.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import groupby
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from firewall.bundle import InputSpec
from firewall.engines import DeviceEngine
from firewall.errors import EngineError
from firewall.transforms import apply_operations
from firewall.transforms import cuda as cuda_transforms
from firewall.transforms.operations import parse_operation

__all__ = ["DeviceCopies", "Timed"]

#: Measures a stage by its name.
Timed = Callable[[str], AbstractContextManager[None]]
#: As between torch and ONNX Runtime: the order of sums differs between devices, and nothing else may.
_TOLERANCE = 1e-3


class _View(NamedTuple):
    """Device memory as an array, for whoever speaks __cuda_array_interface__."""

    address: int
    shape: tuple[int, ...]
    kind: str

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return {"shape": self.shape, "typestr": self.kind, "data": (self.address, False), "version": 3}


class _Step(NamedTuple):
    """One plan, what it reads and what it writes."""

    plan: Any
    source: _View
    target: _View


class DeviceCopies:
    """Makes the copies of an image on the GPU and classifies them, for a DeviceEngine.

    Args:
        engine: The classifier on the GPU.
        input: Size and preparation of the network's input.
        transforms: Makes the plans; another than firewall.transforms.cuda is for tests.
    """

    #: Where the copies are made, for bench and logs.
    where = "GPU"

    def __init__(
        self,
        engine: DeviceEngine,
        input: InputSpec,  # noqa: A002 - what the manifest calls it
        *,
        transforms: ModuleType | Any = cuda_transforms,
    ) -> None:
        self._engine = engine
        self._memory = engine.memory
        self._transforms = transforms
        self._mean, self._std = input.mean, input.std
        self._height, self._width = input.height, input.width
        shape = (input.height, input.width, 3)
        self._host = self._memory.page_locked(shape, np.uint8)
        self._image = _View(self._memory.allocate(self._host.nbytes), (1, *shape), "|u1")
        self._bytes = 4 * self._host.size  # of one image as the network reads it
        self._prepared: dict[tuple[str, ...], tuple[int, list[_Step]]] = {}

    def prepare(self, operations: Sequence[str]) -> tuple[int, list[_Step]]:
        """Prepare a list of operations. The first call for it allocates on the device and takes milliseconds; later
        calls look it up.

        Args:
            operations: Names of the operations, such as `jpeg:75`.

        Returns:
            Address of the copies, and the plans that make them, in order.

        Raises:
            UsageError: If an operation is unknown.
            FirewallError: If the GPU refuses.
        """
        key = tuple(operations)
        if key not in self._prepared:
            self._memory.activate()
            address = self._memory.allocate(len(key) * self._bytes)
            self._prepared[key] = (address, self._steps(key, address))
        return self._prepared[key]

    def classify(
        self, image: npt.NDArray[np.uint8], operations: Sequence[str], timed: Timed
    ) -> npt.NDArray[np.float32]:
        """Make the copies of one image and classify them; see Copies.classify.

        The stage "sweep" is only the time of queueing; the GPU's own work counts for the stage "classify".
        """
        engine, memory = self._engine, self._memory
        with timed("sweep"):
            memory.activate()
            address, steps = self.prepare(operations)
            self._host[...] = image
            memory.to_device(self._image.address, self._host)
            for plan, source, target in steps:
                plan.run(source, target, stream=memory.stream)
        with timed("classify"):
            parts = [
                engine.classify_at(address + start * self._bytes, min(engine.most, len(operations) - start))
                for start in range(0, len(operations), engine.most)
            ]
            return np.concatenate(parts)

    def prove(self, operations: Sequence[str]) -> None:
        """Check that the GPU's copies get the logits that the processor's copies get.

        Two different images are classified in turns, three times each. If a step read an earlier image, they would get
        each other's logits, and the firewall would release labels of images that it never saw.

        Args:
            operations: Names of the operations, such as `jpeg:75`.

        Raises:
            EngineError: If the logits differ by more than rounding.
        """
        if not operations:
            return
        shape = (self._height, self._width, 3)
        noise = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
        smooth = np.broadcast_to(np.linspace(20, 230, self._width).astype(np.uint8)[:, np.newaxis], shape)
        images = [noise, np.ascontiguousarray(smooth)]
        expected = [self._engine.classify(apply_operations(each, operations)) for each in images]
        if np.array_equal(expected[0], expected[1]):
            raise EngineError("the classifier gives the same logits for different images; it is not used")
        for _ in range(3):
            for each, logits in zip(images, expected, strict=True):
                found = self.classify(each, operations, lambda _: nullcontext())
                apart = float(np.abs(found - logits).max())
                if not apart <= _TOLERANCE * max(1.0, float(np.abs(logits).max())):
                    raise EngineError(
                        f"copies made on the GPU get other logits than those made on the processor (up to {apart:.3g} "
                        "apart); they are not used: compare the two with 'make gpu-check', or use --device cpu"
                    )

    def _steps(self, operations: tuple[str, ...], address: int) -> list[_Step]:
        """A plan for each run of operations of one family, and what turns its pixels into the network's numbers."""
        steps: list[_Step] = []
        size = {"height": self._height, "width": self._width}
        numbers = {"mean": self._mean, "std": self._std}
        planes = (3, self._height, self._width)
        parsed = [parse_operation(operation) for operation in operations]
        first = 0
        for family, run in groupby(parsed, key=lambda pair: pair[0]):
            parameters = [parameter for _, parameter in run]
            count, start = len(parameters), address + first * self._bytes
            first += count
            if family == "jpeg":
                qualities = [int(quality) for quality in parameters]
                plan = self._transforms.jpeg_sweep(count=1, **size, qualities=qualities, dtype="float32", **numbers)
                steps.append(_Step(plan, self._image, _View(start, (1, count, *planes), "<f4")))
                continue
            maker, name = _PLANS[family]
            plan = getattr(self._transforms, maker)(count=1, **size, **{name: parameters})
            shape = (count, self._height, self._width, 3)
            pixels = self._memory.allocate(count * self._host.nbytes)
            steps.append(_Step(plan, self._image, _View(pixels, (1, *shape), "|u1")))
            plan = self._transforms.tensor(count=count, **size, **numbers)
            steps.append(_Step(plan, _View(pixels, shape, "|u1"), _View(start, (count, 1, *planes), "<f4")))
        return steps


#: Which function of firewall.transforms.cuda makes a family's plan, and what its parameters are called there.
_PLANS = {"blur": ("gaussian_blur", "radii"), "rotate": ("rotate", "angles"), "scale": ("scale", "factors")}
