"""`firewall serve` under a camera that gives more frames than it can judge."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contracts.test_serve import Serving

_BEGUN, _MORE = 60, 240  # verdicts
_ALLOWED = 24 << 20  # bytes: 27 frames of 640x480; measured 0.3 MB


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Serving]:
    """A guard that is given 400 frames a second, and has a second output that takes nothing."""
    os.mkfifo(tmp_path / "unread")
    reader = os.open(tmp_path / "unread", os.O_RDWR)  # somebody is there, and reads nothing
    serve = Serving(
        *("--source", "test://pattern?fps=400&size=640x480", "--regions", "whole", "--http", "off"),
        *("--output", "-", "--output", f"jsonl:{tmp_path}/unread"),
    )
    yield serve
    serve.close()
    os.close(reader)


def held(process: int) -> int:
    """Bytes of a process's memory that are its own, not those of files."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon:")) << 10


def test_memory_stays_flat_where_frames_come_too_fast(served: Serving) -> None:
    """Frames that there is no time for are dropped and not kept: the processes hold no more after hundreds of verdicts
    than after the first, though one output doesn't take its lines. This takes seconds; half an hour is for a soak."""
    lines = [served.line() for _ in range(_BEGUN)]
    processes = [served.process.pid, *served.children()]
    before = [held(process) for process in processes]
    lines += [served.line() for _ in range(_MORE)]
    after = [held(process) for process in processes]

    told = [line for line in lines if line is not None]
    assert len(told) == _BEGUN + _MORE and len(processes) == 2
    sequences = [line["sequence"] for line in told]
    assert sequences == sorted(set(sequences)) and sequences[-1] > 1.2 * len(told)
    assert all(now - then < _ALLOWED for then, now in zip(before, after, strict=True)), (before, after)
