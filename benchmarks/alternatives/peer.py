"""The process of the other libraries, and the environment that it runs in."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import venv
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from benchmarks.alternatives.turns import Spent, Work

__all__ = ["REQUIREMENTS", "Peer", "environment"]

HERE = Path(__file__).parent
REQUIREMENTS = HERE / "requirements.txt"
#: One thread each; ultralytics asks nobody on the network and installs nothing.
_ALONE = {
    **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"),
    "YOLO_OFFLINE": "true",
    "YOLO_AUTOINSTALL": "false",
    "YOLO_VERBOSE": "false",
}


def environment(folder: Path) -> Path:
    """The interpreter of an environment with REQUIREMENTS, made in `folder` if it isn't there.

    Raises:
        SystemExit: They can't be installed.
    """
    python, stamp = folder / "bin" / "python", folder / "requirements.txt"
    if not (stamp.is_file() and stamp.read_bytes() == REQUIREMENTS.read_bytes()):
        sys.stderr.write(f"installing the other libraries into {folder}, once: minutes, and some 6 GB\n")
        venv.create(folder, with_pip=True)
        if subprocess.run([python, "-m", "pip", "install", "-q", "-r", REQUIREMENTS], check=False).returncode:
            raise SystemExit(f"{REQUIREMENTS} can't be installed into {folder}; see above, or name another --work")
        stamp.write_bytes(REQUIREMENTS.read_bytes())
    return python


class Peer:
    """`peer_program.py` under another interpreter, on the same core. While it works this process waits, and the other
    way round."""

    def __init__(self, python: Path | str, core: int | None = None) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="alternatives-")
        command = [str(python), str(HERE / "peer_program.py"), *([] if core is None else [str(core)])]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **_ALONE, "YOLO_CONFIG_DIR": self._folder.name},
            cwd=self._folder.name,
        )

    def __enter__(self) -> Peer:  # noqa: PYI034  typing.Self is of Python 3.11
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with suppress(BrokenPipeError):  # it ended by itself, which `ask` says
                    pipe.close()
        self._process.wait()
        self._folder.cleanup()

    def ask(self, do: str, **order: Any) -> dict[str, Any]:
        """Give an order and wait for its answer.

        Raises:
            SystemExit: It can't be done; the line says why.
        """
        pipes = self._process.stdin, self._process.stdout
        try:
            pipes[0].write(json.dumps({"do": do, **order}) + "\n")  # type: ignore[union-attr]
            pipes[0].flush()  # type: ignore[union-attr]
            answer: dict[str, Any] = json.loads(pipes[1].readline() or "{}") or {}  # type: ignore[union-attr]
        except BrokenPipeError:
            answer = {}
        if self._process.poll() is not None:
            raise SystemExit(f"the process of the other libraries ended at {do!r} with {self._process.returncode}")
        if "error" in answer:
            raise SystemExit(f"the other libraries can't {do} {order.get('name', '')}: {answer['error']}")
        return answer

    def load(self, name: str, items: np.ndarray) -> None:
        """Hand it items, the first axis of `items`."""
        file = Path(self._folder.name) / f"{name}.npy"
        np.save(file, items)
        self.ask("load", name=name, file=str(file))

    def make(self, name: str, kind: str, **options: Any) -> None:
        """Make ready what `kind` names, see KINDS of the program."""
        self.ask("make", name=name, kind=kind, **options)

    def run(self, name: str, on: str) -> np.ndarray:
        """What comes out for all items."""
        file = Path(self._folder.name) / "out.npy"
        self.ask("run", name=name, on=on, file=str(file))
        found: np.ndarray = np.load(file)
        return found

    def work(self, name: str, on: str) -> Work:
        """Its work on one item, timed by itself: what an order costs is not in it."""

        def timed(item: int) -> Spent:
            wall, busy = self.ask("time", name=name, on=on, item=item)["spent"]
            return wall, busy

        return timed
