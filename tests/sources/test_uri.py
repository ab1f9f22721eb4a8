from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from PIL import Image

from firewall.errors import FirewallError, SourceError, SourceUriError
from firewall.sources import SourceSpec, parse


def save(path: Path, **options: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((2, 3, 3), np.uint8)).save(path, **options)  # type: ignore[arg-type]
    return path


@pytest.mark.parametrize(
    ("text", "kind", "target", "live"),
    [
        ("0", "camera", "/dev/video0", True),
        ("12", "camera", "/dev/video12", True),
        ("/dev/video3", "camera", "/dev/video3", True),
        ("v4l2:///dev/video1", "camera", "/dev/video1", True),
        ("v4l2://2", "camera", "/dev/video2", True),
        ("v4l2:///dev/video1?size=1280x720&fps=30", "camera", "/dev/video1", True),
        ("csi://0", "csi", "0", True),
        ("csi://1?size=1920x1080", "csi", "1", True),
        ("rtsp://10.0.0.2/front", "stream", "rtsp://10.0.0.2/front", True),
        ("RTSPS://10.0.0.2:322/front", "stream", "RTSPS://10.0.0.2:322/front", True),
        ("http://[::1]:8080/mjpg?channel=1", "stream", "http://[::1]:8080/mjpg?channel=1", True),
        ("https://camera/mjpg", "stream", "https://camera/mjpg", True),
        ("test://pattern", "test", "pattern", True),
        ("test://pattern?fps=12.5&size=64x48&frames=7", "test", "pattern", True),
        ("test://pattern?live=0", "test", "pattern", False),
        ("demo", "demo", "demo", False),
        ("demo?fps=15", "demo", "demo", False),
        ("demo?fps=0&loop=0", "demo", "demo", False),
        ("demo://?live=1", "demo", "demo", True),
    ],
)
def test_grammar(text: str, kind: str, target: str, live: bool) -> None:
    """Each form of the grammar gives its kind, what is opened, and whether frames can be missed."""
    spec = parse(text)

    assert (spec.kind, spec.target, spec.live, spec.name) == (kind, target, live, text)


def test_options_are_kept_and_live_is_not_one_of_the_readers() -> None:
    """A reader gets what concerns it, as text."""
    assert parse("test://pattern?fps=5&size=8x6&frames=3&live=0").options == {"fps": "5", "size": "8x6", "frames": "3"}


def test_files_folders_and_globs(tmp_path: Path) -> None:
    """Pictures and videos are told by content, then by suffix; folders and globs are in the order people count."""
    for name in ("10.png", "2.png", "a1.jpg", ".hidden.png", "notes.txt"):
        save(tmp_path / "signs" / name, format="PNG")
    (tmp_path / "drive.mp4").write_bytes(b"\0\0\0\x20ftypisom")
    (tmp_path / "anything").write_bytes(b"RIFF\0\0\0\0AVI LIST")
    (tmp_path / "many.mjpg").write_bytes(b"\xff\xd8\xff\xe0")
    mislabelled = save(tmp_path / "picture.mp4", format="PNG")

    folder = parse(str(tmp_path / "signs"))
    assert [Path(file).name for file in folder.files] == ["2.png", "10.png", "a1.jpg"]
    assert (folder.kind, folder.live) == ("images", False)
    assert parse(f"file://{tmp_path}/signs").files == folder.files
    assert [Path(file).name for file in parse(str(tmp_path / "signs" / "*.png")).files] == ["2.png", "10.png"]
    assert len(parse(str(tmp_path / "**" / "*.jpg")).files) == 1
    assert parse(str(tmp_path / "signs" / "2.png")).files == (str(tmp_path / "signs" / "2.png"),)
    assert parse(str(tmp_path / "drive.mp4")).kind == "video"
    assert parse(str(tmp_path / "anything")).kind == "video"
    assert parse(str(tmp_path / "many.mjpg")).kind == "video"
    assert parse(str(mislabelled)).kind == "images"


def test_percent_signs_in_file_urls(tmp_path: Path) -> None:
    """file:// is a URL: %20 is a blank. A bare path is not."""
    save(tmp_path / "a b.png")
    save(tmp_path / "50%20.png")

    assert parse(f"file://{tmp_path}/a%20b.png").files == (f"{tmp_path}/a b.png",)
    assert parse(f"{tmp_path}/50%20.png").files == (f"{tmp_path}/50%20.png",)


def test_video_paths_are_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """FFmpeg takes a name such as `concat:x.mp4` for a protocol; with a folder before it, it can't."""
    (tmp_path / "concat:x.mp4").write_bytes(b"\0\0\0\x20ftypisom")
    monkeypatch.chdir(tmp_path)

    assert parse("concat:x.mp4").target == str(tmp_path / "concat:x.mp4")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no source given; allowed: a camera number"),
        ("file://", "no source given"),
        ("ftp://host/x.mp4", "unknown scheme ftp://; allowed: a camera number"),
        ("gst://videotestsrc", "unknown scheme"),
        ("missing.mp4", "does not exist; allowed"),
        ("missing/*.png", "no file fits the glob"),
        ("-1", "does not exist"),
        ("9999999999", "does not exist"),
        ("٣", "does not exist"),
        ("rtsp://", "names no host"),
        ("rtsp:///path", "names no host"),
        ("http://a b/", "blanks or control characters"),
        ("http://[::1/", "malformed"),
        ("a\0b", "malformed"),
        ("v4l2://", "names no device"),
        ("csi://", "names no CSI camera"),
        ("csi://front", "names no CSI camera"),
        ("test://snow", "known: test://pattern"),
        ("test://pattern?colour=red", "unknown option 'colour'.*known: size, fps, frames, live"),
        ("test://pattern?fps=0", "above 0"),
        ("test://pattern?fps=nan", "above 0"),
        ("test://pattern?fps=501", "at most 500"),
        ("test://pattern?size=0x5", "WIDTHxHEIGHT"),
        ("test://pattern?size=9000x5", "8192"),
        ("test://pattern?frames=0", "at least 1"),
        ("test://pattern?live=yes", "1 or 0"),
        ("test://pattern?fps=5&fps=6", "given twice"),
        ("test://pattern?fps", "name=value"),
        ("demo?speed=2", "unknown option 'speed'"),
        ("csi://0?frames=2", "unknown option 'frames'"),
        ("/dev/null", "neither a file nor a folder"),
    ],
)
def test_refusals(text: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What names nothing we can open is a wrong use, told in one line with what is allowed."""
    monkeypatch.chdir(tmp_path)

    with pytest.raises(SourceUriError, match=message) as caught:
        parse(text)
    assert "\n" not in str(caught.value) and caught.value.exit_code == 2


def test_refused_files(tmp_path: Path) -> None:
    """An empty folder, an unknown kind of file, a video in a glob, a file nobody may read."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "table.csv").write_text("a,b")
    (tmp_path / "a.mp4").write_bytes(b"")

    with pytest.raises(SourceUriError, match=r"holds no image; looked for .bmp"):
        parse(str(tmp_path / "empty"))
    with pytest.raises(SourceUriError, match=r"neither an image \(.bmp .*\) nor a video \(.264 "):
        parse(str(tmp_path / "table.csv"))
    with pytest.raises(SourceUriError, match="a glob is for images only"):
        parse(str(tmp_path / "*.mp4"))
    with pytest.raises(SourceError, match=r"can't read source .*File name too long"):
        parse(str(tmp_path / ("x" * 300)))


@pytest.mark.parametrize(
    ("text", "secret", "kept"),
    [
        ("rtsp://admin:hunter2@10.0.0.2:554/front", "hunter2", "@10.0.0.2:554/front"),
        ("rtsp://admin:hunter2@10.0.0.2:554/front", "admin", "@10.0.0.2:554/front"),
        ("rtsp://admin:hun@ter2@10.0.0.2/front", "ter2", "@10.0.0.2/front"),
        ("rtsp://admin:hun/ter2@10.0.0.2/front", "ter2", "@10.0.0.2/front"),
        ("http://10.0.0.2/mjpg?channel=1&password=hunter2&x=1", "hunter2", "channel=1&password=***&x=1"),
        ("http://10.0.0.2/mjpg?access_token=hunter2", "hunter2", "10.0.0.2/mjpg?access_token=***"),
        ("rtsp://10.0.0.2/user=admin_password=hunter2_channel=1", "hunter2", "10.0.0.2"),
    ],
)
def test_credentials_stay_out_of_names(text: str, secret: str, kept: str) -> None:
    """The target has what is needed to log in; name and repr, which get into logs, don't."""
    spec = parse(text)

    assert spec.target == text
    assert secret not in spec.name and secret not in repr(spec)
    assert spec.name.endswith(kept) or kept in spec.name


@pytest.mark.parametrize(
    "text", ["ftp://u:hunter2@host/x", "rtsp://u:hunter2@", "rtsp:/u:hunter2@host/x", "u:hunter2@h"]
)
def test_credentials_stay_out_of_errors(text: str) -> None:
    """A mistyped URL is not repeated with its password."""
    with pytest.raises(SourceUriError) as caught:
        parse(text)
    assert "hunter2" not in str(caught.value)


_TEXTS = st.one_of(
    st.text(max_size=60),
    st.from_regex(r"(rtsp|http|v4l2|csi|test|demo|file|x)://[\[\]@:/?#&=%a-z0-9\n]{0,40}", fullmatch=True),
    st.from_regex(r"test://pattern\?((fps|size|frames|live|no)=[0-9x.\-]{0,8}&?){0,4}", fullmatch=True),
    st.binary(max_size=30).map(os.fsdecode),
)


@hypothesis_settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=_TEXTS.filter(lambda text: "/" not in text[:1] and "**" not in text))  # stays in its folder
@example(text="http://\u2100/")
@example(text="\ud800")
@example(text="test://pattern?fps=" + "9" * 5000)
@example(text="9" * 5000)
def test_any_text_is_a_source_or_a_one_line_error(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Never another exception, never more than one line, never a name that a terminal or JSON can't take."""
    monkeypatch.chdir(tmp_path)
    try:
        spec = parse(text)
    except FirewallError as error:
        said = str(error)
    else:
        assert isinstance(spec, SourceSpec)
        said = spec.name
    assert said.isprintable()
    said.encode()
