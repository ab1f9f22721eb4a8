"""What a source text means: `0`, `/dev/video0`, `rtsp://...`, a file, a folder, `test://pattern`, `demo`, ...

A number is always the V4L2 camera /dev/videoN, also on a Jetson; its CSI cameras are csi://N. A link to a camera is
followed each time the camera is opened. A file that is called `0` or `demo` is written `./0` or `./demo`. The first
bytes of a file decide whether it is a picture or a video; if they don't say, its suffix does.
"""

from __future__ import annotations

import glob
import os
import re
import stat
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal
from urllib.parse import parse_qsl, unquote, urlsplit

from firewall.errors import SourceError, SourceUriError
from firewall.frame import MAX_SIDE
from firewall.host.output import readable
from firewall.sources import pipe
from firewall.sources.camera_name import is_camera, named_camera, respelled_camera

__all__ = [
    "GRAMMAR",
    "IMAGE_SUFFIXES",
    "VIDEO_SUFFIXES",
    "SourceSpec",
    "natural",
    "parse",
    "printable",
    "without_credentials",
]

Kind = Literal["camera", "csi", "stream", "video", "images", "test", "demo"]

#: What is allowed, for messages.
GRAMMAR = (
    "a camera number N, /dev/videoN or a link to it (/dev/v4l/by-id/...), v4l2:///dev/videoN, csi://N, rtsp://..., "
    "http://... (MJPEG or snapshots), a video file, an image, a folder of images, a quoted glob, test://pattern or demo"
)
IMAGE_SUFFIXES = frozenset(
    {".bmp", ".dib", ".gif", ".jpe", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp"}
)
VIDEO_SUFFIXES = frozenset(
    {".264", ".265", ".avi", ".h264", ".h265", ".hevc", ".m2ts", ".m4v", ".mjpeg", ".mjpg", ".mkv", ".mov", ".mp4"}
    | {".mpeg", ".mpg", ".mts", ".ogv", ".ts", ".webm", ".y4m"}
)

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://", re.ASCII)
_NUMBER = re.compile(r"[0-9]{1,3}", re.ASCII)
_SIZE = re.compile(r"([0-9]{1,5})x([0-9]{1,5})", re.ASCII)
_USER = re.compile(r"(?<=://).*@", re.DOTALL)
_USER_WITHOUT_SCHEME = re.compile(r"^[^/]*:/?[^/]*@", re.DOTALL)
_SECRET = re.compile(
    r"((?:user|usr|login|pass|pwd|token|secret|key|auth|sig|cred|session)[\w-]*?=)[^&;/?#]*", re.IGNORECASE
)
_IMAGE_MAGIC = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"BM", b"II*\0", b"MM\0*")
_VIDEO_MAGIC = (b"\x1aE\xdf\xa3", b"\0\0\x01\xba", b"\0\0\x01\xb3", b"OggS", b"YUV4MPEG2")


@dataclass(frozen=True)
class SourceSpec:
    """A source that was understood.

    Attributes:
        kind: What kind of source it is.
        target: What is opened: a device, URL or path, the number of a CSI camera, the pattern of a test source. Secret,
            since a URL may hold a password.
        live: Whether frames that nobody fetches in time are dropped; otherwise they wait.
        name: The text without credentials, in one line; the only form that may be shown.
        options: Options of the source, checked, as text.
        files: The pictures of an `images` source.
    """

    kind: Kind
    target: str = field(repr=False)
    live: bool
    name: str
    options: dict[str, str] = field(default_factory=dict)
    files: tuple[str, ...] = field(default=(), repr=False)


def parse(text: str) -> SourceSpec:
    """The source that `text` names. Files have to exist; devices and streams are not touched.

    Raises:
        SourceUriError: If the text names nothing that can be opened.
        SourceError: If a file can't be read.
    """
    name = without_credentials(text)
    if text == "demo" or text.startswith("demo?"):
        return _demo(text.partition("?")[2], name)
    scheme = _SCHEME.match(text)
    try:
        if scheme is None:
            return _path(text, name)
        return _url(scheme[1].lower(), text[scheme.end() :], text, name)
    except OSError as error:
        raise SourceError(f"can't read source {name!r}: {error.strerror or type(error).__name__}") from error
    except ValueError as error:  # a NUL in a path, brackets that don't match in a URL, text that is no file name
        raise SourceUriError(f"source {name!r} is malformed; allowed: {GRAMMAR}") from error


def _camera(text: str, name: str, device_of: Callable[[str], str | None]) -> SourceSpec | None:
    """The camera that a text names, perhaps with ?size=... behind it."""
    plain, mark, query = text.partition("?")
    device = device_of(text) or (device_of(plain) if mark else None)
    if device is None:
        return None
    return SourceSpec("camera", device, True, name, _options("" if device_of(text) else query, name, _CAMERA_OPTIONS))


def _device(path: str) -> str | None:
    whole = str(Path(path).absolute())
    return named_camera(path) or named_camera(os.path.normpath(whole)) or (whole if is_camera(path) else None)


def without_credentials(text: str) -> str:
    """A source as it may be shown. Over-careful: everything before the last @ goes, wherever a user may have put it."""
    scheme = _SCHEME.match(text)
    if scheme is None:
        text = _USER_WITHOUT_SCHEME.sub("***@", text)
    elif scheme[1].lower() != "file":
        text = _SECRET.sub(r"\1***", _USER.sub("***@", text))
    return printable(text)


def printable(text: str) -> str:
    """The text in one line that any terminal and JSON can take: what can't be printed is escaped."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in readable(text))


def _url(scheme: str, rest: str, text: str, name: str) -> SourceSpec:
    if scheme in ("rtsp", "rtsps", "http", "https"):
        if not urlsplit(text).hostname:
            raise SourceUriError(f"source {name!r} names no host; write {scheme}://HOST[:PORT]/PATH")
        if not text.isprintable() or " " in text:
            raise SourceUriError(f"source {name!r} holds blanks or control characters; write them as %XX")
        return SourceSpec("stream", text, True, name)
    if scheme == "file":
        return _path(unquote(rest, errors="surrogateescape"), name)
    target, _, query = rest.partition("?")
    if scheme == "v4l2":
        if _NUMBER.fullmatch(target):
            target = f"/dev/video{int(target)}"
        target = respelled_camera(target) or target
        if not target.startswith("/") or "\0" in target:
            raise SourceUriError(f"source {name!r} names no device; write v4l2:///dev/videoN")
        return SourceSpec("camera", target, True, name, _options(query, name, _CAMERA_OPTIONS))
    if scheme == "csi":
        if not _NUMBER.fullmatch(target):
            raise SourceUriError(f"source {name!r} names no CSI camera; write csi://N with N = 0, 1, ...")
        return SourceSpec("csi", str(int(target)), True, name, _options(query, name, _CSI_OPTIONS))
    if scheme == "test":
        if target.rstrip("/") not in ("", "pattern"):
            raise SourceUriError(f"source {name!r} names an unknown test source; known: test://pattern")
        options = _options(query, name, _TEST_OPTIONS)
        return SourceSpec("test", "pattern", options.pop("live", "1") == "1", name, options)
    if scheme == "demo":
        return _demo(query, name)
    camera = _camera(text, name, respelled_camera)
    if camera is not None:
        return camera
    raise SourceUriError(f"source {name!r} has an unknown scheme {scheme}://; allowed: {GRAMMAR}")


def _demo(query: str, name: str) -> SourceSpec:
    options = _options(query, name, _DEMO_OPTIONS)
    live = options.pop("live", "0") == "1" and float(options.get("fps", "1")) > 0
    return SourceSpec("demo", "demo", live, name, options)


def _pairs(query: str, name: str) -> dict[str, str]:
    if not query:
        return {}
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=True, max_num_fields=32)
    except ValueError as error:
        raise SourceUriError(f"the options of source {name!r} must be written ?name=value&name=value") from error
    options = dict(pairs)
    if len(options) != len(pairs):
        raise SourceUriError(f"an option of source {name!r} is given twice")
    return options


_Rules = dict[str, tuple[str, Callable[[str], bool]]]


def _options(query: str, name: str, known: _Rules) -> dict[str, str]:
    options = _pairs(query, name)
    for option, value in options.items():
        if option not in known:
            raise SourceUriError(f"unknown option {option!r} in source {name!r}; known: {', '.join(known)}")
        allowed, good = known[option]
        if not good(value):
            raise SourceUriError(f"option {option}={value!r} in source {name!r} must be {allowed}")
    return options


def _is_size(value: str) -> bool:
    sides = _SIZE.fullmatch(value)
    return sides is not None and all(1 <= int(side) <= MAX_SIDE for side in sides.groups())


def _is_rate(value: str) -> bool:
    return re.fullmatch(r"[0-9]{1,3}(\.[0-9]{1,3})?", value, re.ASCII) is not None and float(value) <= 500


def _is_fourcc(value: str) -> bool:
    return re.fullmatch(r"[A-Z0-9]{3,4}", value, re.ASCII) is not None


def _is_count(value: str) -> bool:
    return re.fullmatch(r"[0-9]{1,9}", value, re.ASCII) is not None and int(value) >= 1


_FLAG = ("1 or 0", ("1", "0").__contains__)
_CSI_OPTIONS: _Rules = {
    "size": (f"WIDTHxHEIGHT, 1x1 to {MAX_SIDE}x{MAX_SIDE}", _is_size),
    "fps": ("frames a second, above 0, at most 500", lambda value: _is_rate(value) and float(value) > 0),
}
_CAMERA_OPTIONS: _Rules = {
    **_CSI_OPTIONS,
    "format": ("a pixel format of the camera in V4L2's letters, such as YUYV or MJPG", _is_fourcc),
}
_TEST_OPTIONS: _Rules = {
    **_CSI_OPTIONS,
    "frames": ("a count of at least 1", _is_count),
    "live": _FLAG,
    "freeze": ("a count of at least 1", _is_count),
}
_DEMO_OPTIONS: _Rules = {
    "fps": ("frames a second, at most 500, or 0 for as fast as they are read", _is_rate),
    "loop": _FLAG,
    "live": _FLAG,
}


def _path(text: str, name: str) -> SourceSpec:
    if not text:
        raise SourceUriError(f"no source given; allowed: {GRAMMAR}")
    camera = _camera(text, name, _device)
    if camera is not None:
        return camera
    text = pipe.named(text)
    try:
        mode = Path(text).stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        camera = _camera(text, name, respelled_camera)
        if camera is not None:
            return camera
        if glob.has_magic(text):
            return _glob(text, name)
        if Path(text).is_symlink():
            leads = without_credentials(str(Path(text).readlink()))
            raise SourceUriError(f"source {name!r} is a link to {leads!r}, which does not exist") from None
        raise SourceUriError(f"source {name!r} does not exist; allowed: {GRAMMAR}") from None
    if stat.S_ISDIR(mode):
        return _directory(text, name)
    if stat.S_ISFIFO(mode):
        raise SourceUriError(
            f"source {name!r} is a pipe, and a video is not read from one: name its file, or give it a URL (rtsp://, "
            "http://); for one image, send it to 'firewall screen -'"
        )
    if not stat.S_ISREG(mode):
        raise SourceUriError(
            f"source {name!r} is {pipe.kind_of(mode)} and no camera, neither a file nor a folder; allowed: {GRAMMAR}"
        )
    if _is_video(text, name):
        return SourceSpec("video", str(Path(text).absolute()), False, name)
    return SourceSpec("images", text, False, name, files=(text,))


def _directory(text: str, name: str) -> SourceSpec:
    with os.scandir(text) as entries:
        found = [e.path for e in entries if not e.name.startswith(".") and _suffix(e.name) in IMAGE_SUFFIXES]
    if not found:
        raise SourceUriError(f"folder {name!r} holds no image; looked for {', '.join(sorted(IMAGE_SUFFIXES))}")
    return SourceSpec("images", text, False, name, files=tuple(sorted(found, key=natural)))


def _glob(text: str, name: str) -> SourceSpec:
    found = [path for path in glob.glob(text, recursive=True) if not Path(path).is_dir()]  # noqa: PTH207
    if not found:
        raise SourceUriError(f"no file fits the glob {name!r}; quote it, so that the shell leaves it alone")
    for path in found:
        if _suffix(path) not in IMAGE_SUFFIXES:
            raise SourceUriError(
                f"glob {name!r} finds {without_credentials(path)!r}, but a glob is for images only: "
                f"{', '.join(sorted(IMAGE_SUFFIXES))}; name a video by itself"
            )
    return SourceSpec("images", text, False, name, files=tuple(sorted(found, key=natural)))


def natural(path: str) -> list[tuple[int, int, str]]:
    """Sorts 2.png before 10.png, as people count: a key for sorted()."""
    parts = re.split(r"([0-9]{1,18})", path, flags=re.ASCII)
    return [(0, int(part), part) if part.isascii() and part.isdigit() else (1, 0, part) for part in parts if part]


def _suffix(path: str) -> str:
    return Path(path).suffix.lower()


def _is_video(path: str, name: str) -> bool:
    with Path(path).open("rb") as file:
        head = file.read(16)
    suffix = _suffix(path)
    # A .mjpg file is JPEG pictures one after the other and begins like a single one.
    if suffix not in (".mjpg", ".mjpeg") and (head.startswith(_IMAGE_MAGIC) or head[8:12] == b"WEBP"):
        return False
    if head.startswith(_VIDEO_MAGIC) or head[4:8] == b"ftyp" or (head[:4] == b"RIFF" and head[8:12] == b"AVI "):
        return True
    if suffix in VIDEO_SUFFIXES:
        return True
    if suffix in IMAGE_SUFFIXES:
        return False
    raise SourceUriError(
        f"file {name!r} is neither an image ({' '.join(sorted(IMAGE_SUFFIXES))}) nor a video "
        f"({' '.join(sorted(VIDEO_SUFFIXES))}) that we know"
    )
