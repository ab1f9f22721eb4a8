"""A benchmark's own file, run by another checkout's Python, so that both are measured in turns in one run."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

__all__ = ["Worker"]


class Worker:
    """A process that answers each line of JSON with another.

    Args:
        checkout: Whose `.venv` runs it.
        script: What it runs.
        options: What it is given.
    """

    def __init__(self, checkout: Path, script: str, options: Sequence[str]) -> None:
        python = checkout.resolve() / ".venv" / "bin" / "python"
        self._process = subprocess.Popen(
            [str(python), script, *options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=checkout,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )

    def ask(self, what: list[int]) -> dict[str, Any]:
        """Times and verdicts of one frame."""
        stdin, stdout = self._process.stdin, self._process.stdout
        if stdin is None or stdout is None:
            raise SystemExit("no pipe")
        stdin.write(json.dumps(what) + "\n")
        stdin.flush()
        found: dict[str, Any] = json.loads(stdout.readline())
        return found
