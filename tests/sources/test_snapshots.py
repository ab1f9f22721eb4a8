"""A network camera that answers each request with one picture."""

from __future__ import annotations

import io
import time

import numpy as np
import pytest
from PIL import Image

from firewall.config import CaptureSettings
from firewall.errors import SourceError
from firewall.frame import Frame
from firewall.sources import Capture, Failure, Idle, parse
from tests.sources.cameras import MjpegServer, Numbered, ReadUntil, Shown, is_failure, is_frame


def test_snapshots_are_asked_for_again_and_again(
    mjpeg: MjpegServer, settings: CaptureSettings, read_until: ReadUntil, shown: Shown
) -> None:
    """An address that answers with one JPEG is a live source: new pictures, at most some five a second; a cut one is a
    failure, a server that goes away too, and frames come again when it is back."""
    mjpeg.snapshots = True
    started = time.monotonic()
    with Capture(parse(f"http://127.0.0.1:{mjpeg.port}/snapshot.jpg"), settings) as capture:
        taken = [read_until(capture, is_frame)[-1] for _ in range(4)]
        numbers = [shown(item) for item in taken if isinstance(item, Frame)]
        assert len(set(numbers)) == 4 and numbers == sorted(numbers)
        whole, mjpeg.pictures = mjpeg.pictures, [picture[: len(picture) // 2] for picture in mjpeg.pictures]
        read_until(capture, is_failure)
        assert capture.restarts == 0
        mjpeg.pictures = whole
        read_until(capture, is_frame)
        assert mjpeg.asked <= 3 + 6 * (time.monotonic() - started)
        mjpeg.stop()
        read_until(capture, is_failure)
        mjpeg.start()
        read_until(capture, is_frame)


@pytest.mark.parametrize("lossless", [False, True])
def test_damaged_webp_snapshots(
    lossless: bool, mjpeg: MjpegServer, settings: CaptureSettings, read_until: ReadUntil, numbered: Numbered
) -> None:
    """Whole ones are read; of those that are cut or end in zeros, none is handed out."""
    pictures = []
    for number in range(64):
        noise = np.random.default_rng(number).integers(0, 40, (120, 160, 3), dtype=np.uint8)
        file = io.BytesIO()
        Image.fromarray(numbered(number) // 2 + noise).save(file, format="WEBP", lossless=lossless)
        pictures.append(file.getvalue())
    mjpeg.snapshots, mjpeg.pictures = True, pictures
    with Capture(parse(f"http://127.0.0.1:{mjpeg.port}/snapshot"), settings) as capture:
        taken = [read_until(capture, is_frame)[-1] for _ in range(2)]
        assert all(isinstance(item, Frame) and item.pixels.shape == (120, 160, 3) for item in taken)
        for fill in (False, True):
            bad = [data[: len(data) * 7 // 10] for data in pictures]
            mjpeg.pictures = [
                part + bytes(len(data) - len(part)) if fill else part for part, data in zip(bad, pictures, strict=True)
            ]
            read_until(capture, is_failure)  # what was under way may have been whole
            taken = [read_until(capture, lambda item: not isinstance(item, Idle))[-1] for _ in range(4)]
            assert all(isinstance(item, Failure) for item in taken)


def test_gif_snapshots_are_refused(mjpeg: MjpegServer, settings: CaptureSettings, read_until: ReadUntil) -> None:
    """Its coder can't tell damage: an error at the start that says so."""
    file = io.BytesIO()
    Image.new("RGB", (160, 120), "red").save(file, format="GIF")
    mjpeg.snapshots, mjpeg.pictures = True, [file.getvalue()] * 64
    with (
        Capture(parse(f"http://127.0.0.1:{mjpeg.port}/snapshot"), settings) as capture,
        pytest.raises(SourceError, match="is coded as gif, which can't tell damaged pictures from whole ones"),
    ):
        read_until(capture, is_frame)


def test_a_page_that_is_no_picture(mjpeg: MjpegServer, settings: CaptureSettings, read_until: ReadUntil) -> None:
    """A page to log in, say: an error at the start that tells what was expected."""
    mjpeg.snapshots = True
    mjpeg.pictures = [b"<html><body>log in</body></html>" * 20] * 64
    with (
        Capture(parse(f"http://127.0.0.1:{mjpeg.port}/"), settings) as capture,
        pytest.raises(SourceError, match="not a video stream"),
    ):
        read_until(capture, is_frame)
