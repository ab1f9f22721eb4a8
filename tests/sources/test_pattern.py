from __future__ import annotations

import time

import numpy as np

from firewall.sources.pattern import PatternReader, pattern


def test_every_frame_is_another_and_says_its_number() -> None:
    """The low 16 bits of the index stand in the top row; no frame repeats the one before."""
    for index in (0, 1, 2, 1000, 65535):
        pixels = pattern(index, 64, 48)
        assert pixels.shape == (48, 64, 3) and pixels.dtype == np.uint8
        assert sum(1 << bit for bit in range(16) if pixels[0, bit, 0] == 255) == index
        assert (pixels != pattern(index + 1, 64, 48)).any()
    assert pattern(5, 1, 1).shape == (1, 1, 3)


def test_paced_frames_keep_their_rate_and_unpaced_ones_do_not_wait() -> None:
    """Ten frames at 50 a second take at least nine periods; unpaced ones carry on from `start` at once."""
    frames = list(PatternReader({"fps": "50", "frames": "10", "size": "8x8"}, paced=True))
    assert len(frames) == 10
    assert frames[-1][1] - frames[0][1] >= 9 / 50 - 0.005

    started = time.monotonic()
    rest = list(PatternReader({"fps": "0.5", "frames": "10", "size": "16x8"}, paced=False, start=7))
    assert time.monotonic() - started < 9, "they would take 18 s at their pace"
    assert [int(pixels[0, 0, 0] == 255) for pixels, _ in rest] == [1, 0, 1]
