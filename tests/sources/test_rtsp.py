"""A network camera that speaks RTSP, with GStreamer's server."""

from __future__ import annotations

import pytest

from firewall.config import CaptureSettings
from firewall.errors import SourceError
from firewall.frame import Frame
from firewall.sources import Capture, Failure, parse
from tests.sources.cameras import ReadUntil, RtspServer, is_failure, is_frame


def test_a_real_rtsp_camera_comes_goes_and_comes_back(
    rtsp: RtspServer, settings: CaptureSettings, read_until: ReadUntil
) -> None:
    """H.264 over TCP: frames, a Failure when the server is killed, frames again when it is back."""
    hasty = settings.model_copy(update={"read_timeout": 3.0})
    with Capture(parse(f"rtsp://127.0.0.1:{rtsp.port}/front"), hasty) as capture:
        frames = [read_until(capture, is_frame)[-1] for _ in range(5)]
        assert all(isinstance(frame, Frame) and frame.pixels.shape == (240, 320, 3) for frame in frames)
        rtsp.stop()
        read_until(capture, is_failure)
        rtsp.start()
        frame = read_until(capture, is_frame)[-1]
        assert isinstance(frame, Frame) and frame.pixels.max() > 200


def test_a_path_that_the_rtsp_server_does_not_have(
    rtsp: RtspServer, settings: CaptureSettings, read_until: ReadUntil
) -> None:
    """404 from a real server is an error at the start."""
    with (
        Capture(parse(f"rtsp://127.0.0.1:{rtsp.port}/rear"), settings) as capture,
        pytest.raises(SourceError, match="nothing at that path"),
    ):
        read_until(capture, is_frame)


def test_lost_packets_of_an_rtsp_camera(settings: CaptureSettings, read_until: ReadUntil) -> None:
    """One in fifty RTP packets is not sent: failures that say so, and whole frames after the next key frame. Noise
    makes every frame many packets long; a frame that was filled in would hold rows without any."""
    server = RtspServer("0.02")
    try:
        with Capture(parse(f"rtsp://127.0.0.1:{server.port}/noise"), settings) as capture:
            taken = read_until(capture, is_failure)
            taken += read_until(capture, is_frame)
            taken += read_until(capture, is_failure)
    finally:
        server.stop()
    assert any("the frame is damaged" in item.detail for item in taken if isinstance(item, Failure))
