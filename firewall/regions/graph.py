"""A detector's ONNX file, opened on a device: what goes in, what comes out, what it says of itself."""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from firewall.bundle.onnx_bytes import has_external_data
from firewall.engines.sessions import open_session
from firewall.errors import BundleError, EngineError
from firewall.host.causes import told

__all__ = ["Array", "Graph", "Tensor"]

Array = npt.NDArray[Any]

#: The longest file that is read, in bytes: what protobuf can hold.
LONGEST = 2**31


@dataclass(frozen=True, slots=True)
class Tensor:
    """An input or output.

    Attributes:
        name: Its name.
        dtype: Numpy's name, such as float32.
        shape: None where a side is free.
    """

    name: str
    dtype: str
    shape: tuple[int | None, ...]

    def __str__(self) -> str:
        sides = ", ".join("free" if side is None else str(side) for side in self.shape)
        return f"{self.name} {self.dtype} ({sides})"


class Graph:
    """The file's network, loaded. Every failure is an EngineError of one line that names the file."""

    def __init__(self, file: Path, *, device: str = "cpu", threads: int = 0) -> None:
        """Open the file on a device.

        Args:
            file: The ONNX file.
            device: What it runs on, see firewall.engines.
            threads: Threads on the processor; 0 = one for each core.

        Raises:
            EngineError: If the file is missing, empty, too long or not ONNX, or the device can't run all of it.
        """
        self.what = f"region detector {file}"
        if not file.is_file():
            raise EngineError(f"{self.what} is not there; set region_detector.file to an ONNX file")
        try:
            size = file.stat().st_size
            if size > LONGEST:
                raise EngineError(f"{self.what} has {size} bytes, at most {LONGEST} are read; export it smaller")
            content = file.read_bytes()
            elsewhere = has_external_data(content, self.what)
        except OSError as error:
            raise EngineError(f"{self.what} can't be read: {error.strerror or error}") from error
        except BundleError as error:
            raise EngineError(f"{self.what} can't be loaded as ONNX: {told(error)}") from error
        if not content:
            raise EngineError(f"{self.what} can't be loaded as ONNX: it is empty")
        # Weights beside the file are the user's too; their names count from its folder.
        folder = file.resolve().parent if elsewhere else None
        try:
            self._session = open_session(content, self.what, device=device, threads=threads, weights=folder)
        except EngineError as error:
            raise EngineError(f"{error} (region_detector.device chooses another for it alone)") from error
        #: What runs it, such as "CPUExecutionProvider".
        self.provider: str = self._session.get_providers()[0]
        self.inputs = [_tensor(entry) for entry in self._session.get_inputs()]
        self.outputs = [_tensor(entry) for entry in self._session.get_outputs()]
        self.metadata: dict[str, str] = dict(self._session.get_modelmeta().custom_metadata_map)

    @property
    def names(self) -> dict[int, str]:
        """Class number -> name, as Ultralytics writes it into the metadata; empty if nothing readable is there."""
        text = self.metadata.get("names", "")
        try:
            found = ast.literal_eval(text) if len(text) < 1_000_000 else None
        except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
            return {}
        if isinstance(found, list | tuple):
            found = dict(enumerate(found))
        if not isinstance(found, dict) or not all(isinstance(key, int) for key in found):
            return {}
        return {key: str(name) for key, name in found.items()}

    @property
    def image_size(self) -> tuple[int, int] | None:
        """Height and width that the metadata names; None without."""
        sides = [int(side) for side in re.findall(r"\d{1,5}", self.metadata.get("imgsz", ""))]
        return (sides[0], sides[-1]) if 1 <= len(sides) <= 2 and all(sides) else None

    def run(self, names: Sequence[str], feeds: dict[str, Array]) -> list[Array]:
        """The outputs `names`, in that order."""
        try:
            answers = self._session.run(list(names), feeds)
        except Exception as error:  # ONNX Runtime raises many types of its own
            raise EngineError(f"{self.what} failed: {told(error)}") from error
        for name, answer in zip(names, answers, strict=True):
            if not isinstance(answer, np.ndarray) or answer.dtype.kind not in "fiub":
                raise EngineError(f"{self.what}: output {name!r} is no array of numbers")
        # Darknet's exporters put an axis of one between boxes and their sides.
        return [answer[:, :, 0] if answer.ndim == 4 and answer.shape[2:] == (1, 4) else answer for answer in answers]


_TYPES = {"float": "float32", "double": "float64"}


def _tensor(entry: Any) -> Tensor:
    inside = re.fullmatch(r"tensor\((\w+)\)", entry.type)
    dtype = entry.type if inside is None else _TYPES.get(inside[1], inside[1])
    return Tensor(entry.name, dtype, tuple(s if isinstance(s, int) and s > 0 else None for s in entry.shape))
