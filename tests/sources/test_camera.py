from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from firewall.config import CaptureSettings
from firewall.errors import SourceError
from firewall.sources import Capture, End, parse
from firewall.sources.camera import CameraReader, csi_pipeline, has_gstreamer

NO_CAMERA = 987  # beyond what the kernel numbers


def test_a_missing_camera_is_an_error_not_a_wait(settings: CaptureSettings, read_until: Callable[..., object]) -> None:
    """One line that names the device and what there is instead; it is not tried for ever."""
    with Capture(parse(str(NO_CAMERA)), settings) as capture:
        with pytest.raises(
            SourceError, match=r"can't open camera /dev/video987: there is no such camera; cameras here: "
        ):
            read_until(capture, lambda _: False)
        assert capture.pid is None
        assert isinstance(capture.read(), End)


def test_a_device_that_is_no_camera(
    tmp_path: Path, settings: CaptureSettings, read_until: Callable[..., object]
) -> None:
    """A file that V4L2 can't talk to is refused, also when it can be opened and read."""
    (tmp_path / "video0").write_bytes(b"nothing")
    with (
        Capture(parse(f"v4l2://{tmp_path}/video0"), settings) as capture,
        pytest.raises(SourceError, match=r"can't open camera .*video0: not a camera; cameras here: "),
    ):
        read_until(capture, lambda _: False)


@pytest.mark.skipif(has_gstreamer(cv2.getBuildInformation()), reason="this OpenCV has GStreamer")
def test_csi_needs_gstreamer(settings: CaptureSettings, read_until: Callable[..., object]) -> None:
    """With the OpenCV of pip the message says what is missing and where to get it."""
    with (
        Capture(parse("csi://0"), settings) as capture,
        pytest.raises(SourceError, match=r"csi://0 needs an OpenCV built with GStreamer.*JetPack"),
    ):
        read_until(capture, lambda _: False)


def test_the_pipeline_of_a_csi_camera() -> None:
    """Sensor, size and rate stand in it, and it drops frames rather than queue them."""
    pipeline = csi_pipeline("1", {"size": "1920x1080", "fps": "60"})

    assert "sensor-id=1 " in pipeline and "width=1920, height=1080, framerate=60/1" in pipeline
    assert pipeline.endswith("appsink drop=true max-buffers=1 sync=false")
    assert has_gstreamer("  GStreamer:    YES (1.20.3)\n") and not has_gstreamer("  GStreamer:    NO\n")


def test_frames_of_a_camera_are_rgb_and_its_end_is_an_error(video: Path) -> None:
    """Seen through a file in place of a device: BGR is turned, and a camera that stops giving frames is a failure."""
    capture = cv2.VideoCapture(str(video))
    reader = CameraReader(cv2, capture, "/dev/video0")
    pixels, _ = next(reader)

    np.testing.assert_allclose(pixels[60, 158], (60, 90, 120), atol=12)
    for _ in range(39):
        next(reader)
    with pytest.raises(SourceError, match="camera /dev/video0 gave no frame"):
        next(reader)
    reader.close()
    assert not capture.isOpened()
