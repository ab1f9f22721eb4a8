from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from firewall.config import CaptureSettings
from firewall.errors import SourceError, SourceUriError
from firewall.sources import Capture, parse


@pytest.fixture
def device(tmp_path: Path) -> Path:
    """A V4L2 device node with no camera behind it."""
    node = tmp_path / "node"
    try:
        os.mknod(node, 0o20600, os.makedev(81, 254))
    except PermissionError:
        pytest.skip("only root may make a device node")
    return node


@pytest.mark.parametrize(
    ("text", "target", "options"),
    [
        ("/dev/v4l/by-id/usb-046d_C920-video-index0", "/dev/v4l/by-id/usb-046d_C920-video-index0", {}),
        ("/dev/v4l/by-path/pci-0:14.0-usb-0:1:1.0-video-index0",) * 2 + ({},),
        ("/dev/v4l/by-id/usb-x-video-index0?size=64x48", "/dev/v4l/by-id/usb-x-video-index0", {"size": "64x48"}),
        ("v4l2:///dev/v4l/by-id/usb-x-video-index0?fps=5", "/dev/v4l/by-id/usb-x-video-index0", {"fps": "5"}),
        ("/dev/video0?size=1280x720&format=MJPG", "/dev/video0", {"size": "1280x720", "format": "MJPG"}),
        ("0?fps=15", "/dev/video0", {"fps": "15"}),
        ("//dev/video3", "/dev/video3", {}),
        ("/dev/./video3", "/dev/video3", {}),
        ("/dev/v4l/../video3", "/dev/video3", {}),
        ("file:///dev/video3", "/dev/video3", {}),
        ("video3", "/dev/video3", {}),
        ("dev/video3", "/dev/video3", {}),
        ("video=3", "/dev/video3", {}),
        ("video=/dev/video3", "/dev/video3", {}),
        ("video=/dev/v4l/by-id/usb-x-video-index0", "/dev/v4l/by-id/usb-x-video-index0", {}),
        ("device=/dev/video3", "/dev/video3", {}),
        ("v4l2:/dev/video3", "/dev/video3", {}),
        ("v4l2:3", "/dev/video3", {}),
        ("v4l2://video3", "/dev/video3", {}),
        ("video4linux2:///dev/video3", "/dev/video3", {}),
        ("camera:3", "/dev/video3", {}),
        ("camera://3?fps=5", "/dev/video3", {"fps": "5"}),
    ],
)
def test_names_of_cameras(text: str, target: str, options: dict[str, str]) -> None:
    """Links of udev, options behind any form, and what other programs write: all are cameras, there or not."""
    spec = parse(text)

    assert (spec.kind, spec.target, spec.live, spec.options, spec.name) == ("camera", target, True, options, text)


def test_a_link_to_a_camera_is_kept(
    tmp_path: Path, device: Path, settings: CaptureSettings, read_until: Callable[..., object]
) -> None:
    """Any link, over any number of links, by a name of its own: it is what is opened, each time. With options too."""
    (tmp_path / "front").symlink_to("other")
    (tmp_path / "other").symlink_to(device)
    link = str(tmp_path / "front")

    for text in (link, f"file://{link}", f"v4l2://{link}"):
        assert (parse(text).kind, parse(text).target, parse(text).live) == ("camera", link, True)
    assert parse(f"{link}?size=64x48").options == {"size": "64x48"}
    assert parse(str(device)).target == str(device)
    with (
        Capture(parse(link), settings) as capture,
        pytest.raises(SourceError, match=rf"can't open camera {link}: there is no such camera"),
    ):
        read_until(capture, lambda _: False)


def test_relative_links_stay_when_the_folder_changes(
    tmp_path: Path, device: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The capture process may run elsewhere."""
    (tmp_path / "front").symlink_to(device)
    monkeypatch.chdir(tmp_path)

    assert parse("front").target == str(tmp_path / "front")


def test_a_file_of_that_name_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`video0` and `video=0` are files where there are such files."""
    monkeypatch.chdir(tmp_path)
    for name in ("video0", "video=0"):
        assert parse(name).kind == "camera"
        Image.new("RGB", (3, 3)).save(tmp_path / name, "PNG")
        assert parse(name).kind == "images"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("video=Integrated Camera", "does not exist; allowed: a camera number N, /dev/videoN or a link to it"),
        ("video=/etc/hostname", "does not exist; allowed"),
        ("camera://front", "unknown scheme camera://; allowed"),
        ("/dev/video0?colour=red", "unknown option 'colour'.*known: size, fps, format"),
        ("/dev/video0?format=h264", "V4L2's letters"),
        ("csi://0?format=MJPG", "unknown option 'format'"),
        ("v4l2://front", "names no device"),
        ("video", "does not exist"),
        ("/dev/v4l/by-id/", "does not exist|holds no image"),
        ("/dev/zero", "is a device and no camera, neither a file nor a folder; allowed"),
    ],
)
def test_what_is_no_camera(text: str, said: str) -> None:
    """Names that could be anything are refused with what is allowed."""
    with pytest.raises(SourceUriError, match=said) as caught:
        parse(text)
    assert "\n" not in str(caught.value)


def test_links_that_lead_nowhere_or_elsewhere(tmp_path: Path) -> None:
    """Dangling, in a circle, to a device that is no camera, a socket: one line each, and no wait."""
    (tmp_path / "dangling").symlink_to("gone")
    (tmp_path / "circle").symlink_to("circle")
    (tmp_path / "null").symlink_to("/dev/null")
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(tmp_path / "socket"))
    (tmp_path / "to-socket").symlink_to("socket")
    cases: list[tuple[str, type[Exception], str]] = [
        ("dangling", SourceUriError, "dangling' is a link to 'gone', which does not exist"),
        ("circle", SourceError, "Too many levels of symbolic links"),
        ("null", SourceUriError, "is a device and no camera"),
        ("socket", SourceUriError, "is a socket and no camera"),
        ("to-socket", SourceUriError, "is a socket and no camera"),
    ]
    for name, error, said in cases:
        with pytest.raises(error, match=said):
            parse(str(tmp_path / name))
    server.close()


def test_a_camera_that_may_not_be_opened(
    tmp_path: Path, settings: CaptureSettings, read_until: Callable[..., object]
) -> None:
    """A folder, a pipe, a circle of links and nothing in a camera's place: one line, at once."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for name, said in (
        *(("pipe", "not a camera"), ("folder", "not a camera")),
        *(("loop", "symbolic links"), ("no", "no such camera")),
    ):
        with Capture(parse(f"v4l2://{tmp_path}/{name}"), settings) as capture, pytest.raises(SourceError, match=said):
            read_until(capture, lambda _: False)
