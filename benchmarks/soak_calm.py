"""What the guard of soak.py releases when nothing fails and there is time for each frame.

A classifier makes mistakes: it may read a sign in the gable of a house. A soak asks what failures and haste add, so its
pictures are those in which the guard, asked frame by frame, releases no wrong label.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from benchmarks.soak_judge import fits
from firewall import Firewall
from firewall.frame import Frame
from firewall.regions import build
from firewall.sources.video import VideoReader

__all__ = ["Calm"]


class Calm:
    """Judges drives with the default bundle. Each round draws other keys of its keyed sweep.

    Args:
        folder: For a file that is read as the guard reads a camera.
        rounds: How often each picture is judged.
    """

    def __init__(self, folder: Path, rounds: int = 2) -> None:
        self._file = folder / "drive.mjpg"
        self._guards = [Firewall.load("default", threads=1) for _ in range(rounds)]
        self._finder = build("signs", None, threads=1, bundle=self._guards[0].bundle)

    def __call__(self, pictures: list[bytes], truths: list[dict[str, Any]]) -> bool:
        """Whether no wrong label of these pictures is released."""
        self._file.write_bytes(b"".join(pictures))
        reader = VideoReader(str(self._file), "drive", timeout=60)
        try:
            for number, known in enumerate(truths):
                pixels, _ = next(reader)
                frame, regions = Frame(pixels, "drive", number, time.monotonic()), self._finder.find(pixels)
                for guard in self._guards:
                    lines = (verdict.line() for verdict in guard.screen_frame(frame, regions))
                    if any(line["decision"] == "release" and not fits(line, known) for line in lines):
                        return False
        finally:
            reader.close()
            self._file.unlink()
        return True
