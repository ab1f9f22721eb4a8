"""The `tensorrt` package, opened with care: what the engine and `firewall export tensorrt` both need of it.

Known are 10.3 (JetPack 6.1) to 11; only names that all of them have are used. TensorRT crashes where there is no
driver, so a GPU is opened (`device_memory.open_device`) before anything here makes an object of it.
"""

from __future__ import annotations

import importlib
import re
from collections import deque
from typing import Any

from firewall.errors import EngineError, MissingExtraError
from firewall.host.causes import shortened

__all__ = ["OLDEST", "TOO_NEW", "Journal", "deserialize", "open_tensorrt"]

#: The oldest version that is known to fit, and the first that isn't.
OLDEST, TOO_NEW = (10, 3), (12, 0)


def open_tensorrt() -> Any:
    """The package. Raises MissingExtraError if it isn't here, EngineError if it can't be loaded or is of a version that
    this code is not written for."""
    try:
        library = importlib.import_module("tensorrt")
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            "TensorRT is not installed. On a Jetson JetPack brings it: apt install python3-libnvinfer, and a venv of "
            "the system's Python made with --system-site-packages; elsewhere pip install "
            "'perception-firewall[tensorrt]'"
        ) from error
    except Exception as error:  # a library that is missing, or of another CUDA
        raise EngineError(f"TensorRT can't be loaded: {shortened(str(error))}; install it again") from error
    version = str(getattr(library, "__version__", ""))
    numbers = re.match(r"(\d+)\.(\d+)", version)
    if numbers is None or not OLDEST <= (int(numbers[1]), int(numbers[2])) < TOO_NEW:
        raise EngineError(
            f"TensorRT {version or 'of unknown version'} is not supported, 10.3 to 11 are; on a Jetson they come with "
            "JetPack 6.1 and later"
        )
    return library


class Journal:
    """What TensorRT said while it worked. Its messages become part of our errors and are not printed.

    logger: to hand to TensorRT, and to keep for as long as anything made with it.
    """

    def __init__(self, library: Any) -> None:
        self._lines: deque[str] = deque(maxlen=64)
        lines, error = self._lines, int(library.ILogger.ERROR)

        class Logger(library.ILogger):  # type: ignore[misc]  # its base is known only now
            def __init__(self) -> None:
                library.ILogger.__init__(self)  # required by pybind11 when a class is derived in Python

            def log(self, severity: Any, msg: str) -> None:
                if int(severity) <= error:  # the graver, the lower
                    lines.append(msg)

        self.logger = Logger()

    def told(self) -> str:
        """The first error since this was asked last, in one line: those after it mostly follow from it."""
        first = shortened(self._lines[0]) if self._lines else "it gave no reason"
        self._lines.clear()
        return first


def deserialize(library: Any, journal: Journal, content: bytes, what: str) -> tuple[Any, Any]:
    """(runtime, engine) of a plan; keep both. Plans are code: hand in only what the plan cache has checked, or what was
    built a moment ago.

    Raises:
        EngineError: If TensorRT refuses it.
    """
    runtime = library.Runtime(journal.logger)
    engine = runtime.deserialize_cuda_engine(content)
    if engine is None:
        raise EngineError(
            f"{what}: TensorRT refuses it ({journal.told()}); build it again with 'firewall export tensorrt'"
        )
    return runtime, engine
