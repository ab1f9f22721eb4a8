"""A network on ONNX Runtime's CUDA provider that reads and writes device memory, on a stream that others queue on too.

What this file says of CUDA graphs and streams follows ONNX Runtime's documentation; `make gpu-check` is what tries it
on a GPU.
"""

from __future__ import annotations

import numpy as np

from firewall.engines.device_memory import DeviceMemory
from firewall.engines.sessions import open_session
from firewall.errors import EngineError
from firewall.host.causes import told
from firewall.host.onnxruntime import ort

__all__ = ["CudaSession"]

#: Sizes of batch that get a graph of their own; the others are queued kernel by kernel.
_MOST_GRAPHS = 16

Shape = tuple[int, ...]


class CudaSession:
    """A network with one float32 input, every node of which runs on the GPU.

    Args:
        content: The ONNX file.
        what: Its name, for messages.
        memory: The GPU, and the stream that everything is queued on.
        graphs: Record the kernels of each size of batch once and replay them, which saves the time of queueing them one
            by one. A replay reads the addresses that were recorded: so only device memory is ever bound, never an array
            of the host, which a replay would not read again.

    Raises:
        EngineError: If it can't be loaded, or a node would run elsewhere.
    """

    def __init__(self, content: bytes, what: str, memory: DeviceMemory, *, graphs: bool = True) -> None:
        memory.activate()
        self._what = what
        self.session = open_session(
            content,
            what,
            device="cuda",
            cuda={
                "user_compute_stream": str(memory.stream),
                "has_user_compute_stream": "1",
                "enable_cuda_graph": "1" if graphs else "0",
            },
        )
        self._runs: dict[tuple[Shape, int, int], tuple[ort.IOBinding, ort.RunOptions]] = {}
        self._graphs = _MOST_GRAPHS if graphs else 0

    def execute(self, names: tuple[str, str], read: Shape, given: Shape, source: int, answer: int) -> None:
        """Queue one run on the stream.

        Args:
            names: Of the input and the output.
            read: Shape of the input this time.
            given: Shape of the output.
            source: Where the input lies in device memory.
            answer: Where the output is to lie there.

        Raises:
            EngineError: If ONNX Runtime refuses.
        """
        try:
            self.session.run_with_iobinding(*self._run_of(names, read, given, source, answer))
        except Exception as error:  # ONNX Runtime raises many types of its own
            raise EngineError(f"{self._what} failed: {told(error)}") from error

    def close(self) -> None:
        """Free what the session holds; it can't be run after."""
        self._runs.clear()
        del self.session

    def _run_of(
        self, names: tuple[str, str], read: Shape, given: Shape, source: int, answer: int
    ) -> tuple[ort.IOBinding, ort.RunOptions]:
        """Where a batch of this size at this address is read and its answer is written; made once."""
        run = self._runs.get((read, source, answer))
        if run is None:
            binding = self.session.io_binding()
            binding.bind_input(names[0], "cuda", 0, np.float32, read, source)
            binding.bind_output(names[1], "cuda", 0, np.float32, given, answer)
            options = ort.RunOptions()
            # The stream is ours, and is waited for once the answer is on its way to the host.
            options.add_run_config_entry("disable_synchronize_execution_providers", "1")
            graph = len(self._runs) + 1
            options.add_run_config_entry("gpu_graph_id", str(graph if graph <= self._graphs else -1))
            run = self._runs[read, source, answer] = (binding, options)
        return run
