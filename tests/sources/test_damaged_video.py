"""Videos that lack data, and healthy ones that look as if they did. The files are made by the `ffmpeg` program."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from firewall.config import CaptureSettings
from firewall.demo.source import DemoReader
from firewall.errors import ImageError, SourceError
from firewall.frame import Frame, Pixels
from firewall.sources import Capture, End, Failure, Idle, parse
from firewall.sources.decoder import ffmpeg, heard
from firewall.sources.video import VideoReader

pytestmark = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="needs the ffmpeg program")

Taken = Frame | Failure | Idle | End
ReadUntil = Callable[[Capture, Callable[[Taken], bool]], list[Taken]]

FRAMES, GROUP = 30, 10
PICTURE = ["-f", "lavfi", "-i", "testsrc2=size=320x240:rate=25:duration=1.2"]
SOUND = [*PICTURE, "-f", "lavfi", "-i", "sine=frequency=440:duration=4", "-c:a", "aac"]
MJPEG = ["-c:v", "mjpeg", "-q:v", "4", "-pix_fmt", "yuvj420p"]
X264 = ["-c:v", "libx264", "-preset", "veryfast", "-g", str(GROUP), "-sc_threshold", "0", "-bf", "2"]
X265 = ["-c:v", "libx265", "-preset", "ultrafast", "-x265-params", f"keyint={GROUP}:scenecut=0:log-level=none"]
VPX = ["-deadline", "realtime", "-cpu-used", "8", "-b:v", "1M", "-g", str(GROUP)]
MPEG4 = ["-c:v", "mpeg4", "-q:v", "4", "-g", str(GROUP)]


def make(path: Path, *arguments: object) -> Path:
    """The file that ffmpeg makes with these arguments."""
    command = ["ffmpeg", "-hide_banner", "-loglevel", "error", "-y", "-threads", "1", *map(str, arguments), str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    return path


def read(path: Path) -> tuple[list[Pixels], list[str]]:
    """The frames that are handed out, and what was said of the others."""
    frames, errors = [], []
    reader = VideoReader(str(path), path.name, timeout=20)
    while True:
        try:
            frames.append(next(reader)[0])
        except StopIteration:  # noqa: PERF203
            break
        except ImageError as error:
            errors.append(str(error))
        except SourceError as error:
            errors.append(str(error))
            break
    reader.close()
    return frames, errors


def places(frames: list[Pixels], whole: list[Pixels]) -> list[int]:
    """Which frame of the undamaged video each one is, in every pixel; -1 for none."""
    numbers = {frame.tobytes(): number for number, frame in enumerate(whole)}
    return [numbers.get(frame.tobytes(), -1) for frame in frames]


def are_whole(frames: list[Pixels], whole: list[Pixels]) -> bool:
    """Whether all are frames of the undamaged video, in their order, none twice."""
    found = places(frames, whole)
    return -1 not in found and found == sorted(set(found))


HEALTHY = {
    "sound-longer.mkv": [*SOUND, *X264],
    "sound-longer.mp4": [*SOUND, *X264],
    "sound-longer.avi": [*SOUND, *X264, "-bf", "0"],
    "sound-longer.flv": [*SOUND, *X264],
    "late-picture.mov": ["-itsoffset", "0.5", *SOUND, *X264],
    "variable.webm": [*PICTURE, "-vf", "select=lt(n\\,8)+gt(n\\,25)", "-vsync", "vfr", "-c:v", "libvpx", *VPX],
    "variable.mp4": [*PICTURE, "-vf", "select=lt(n\\,8)+not(mod(n\\,7))", "-vsync", "vfr", *X264],
    "fragments.mp4": [*PICTURE, *X264, "-movflags", "frag_keyframe+empty_moov+default_base_moof"],
    "fragments-sound.mp4": [*SOUND, *X264, "-movflags", "frag_keyframe"],
    "no-duration.webm": [*PICTURE, "-c:v", "libvpx-vp9", *VPX, "-live", "1"],
    "open-groups.mp4": [*PICTURE, "-c:v", "libx264", "-g", "8", "-bf", "3", "-x264-params", "open-gop=1"],
    "intra-refresh.mkv": [*PICTURE, "-c:v", "libx264", "-bf", "0", "-x264-params", "intra-refresh=1:keyint=8"],
    "slices.mkv": [*PICTURE, *X264, "-x264-params", "slices=4"],
    "interlaced.ts": [*PICTURE, *X264, "-x264-params", "interlaced=1"],
    "10-bit.mkv": [*PICTURE, *X265, "-pix_fmt", "yuv420p10le"],
    "hevc.ts": [*PICTURE, *X265],
    "raw.h264": [*PICTURE, *X264],
    "odd.mkv": [*PICTURE, "-vf", "scale=321:243", *X264, "-pix_fmt", "yuv444p"],
    "packed.avi": [*PICTURE, "-c:v", "libxvid", "-bf", "2", "-q:v", "4"],
    "mpeg2.mpg": [*PICTURE, "-c:v", "mpeg2video", "-bf", "2", "-q:v", "4"],
    "hidden-frames.webm": [*PICTURE, "-c:v", "libvpx", "-auto-alt-ref", "1", "-lag-in-frames", "10"],
    "theora.ogv": [*PICTURE, "-c:v", "libtheora", "-q:v", "6"],
    "limited-range.mkv": [*PICTURE, "-c:v", "mjpeg", "-pix_fmt", "yuv422p", "-strict", "unofficial"],
    "own-tables.mov": [*PICTURE, "-c:v", "mjpeg", "-huffman", "optimal", "-pix_fmt", "yuvj444p"],
    "raw.y4m": PICTURE,
}


@pytest.mark.parametrize("name", HEALTHY)
def test_healthy_videos_give_all_their_frames(name: str, tmp_path: Path) -> None:
    """As many as the ffmpeg program counts, and no error: sound longer than the picture, variable rates, fragments, no
    stated length, frames that aren't shown, every kind of prediction."""
    path = make(tmp_path / name, *HEALTHY[name])
    command = [
        "ffprobe",
        "-v",
        "quiet",
        "-select_streams",
        "v",
        "-count_frames",
        "-show_entries",
        "stream=nb_read_frames",
    ]
    told = subprocess.run([*command, "-of", "csv=p=0", path], capture_output=True, text=True, check=True).stdout

    frames, errors = read(path)

    assert errors == [] and len(frames) == int(told.split()[0].strip(","))


EDITED = {
    "closed.mp4": X264,
    "open.mp4": HEALTHY["open-groups.mp4"][len(PICTURE) :],
    "hevc.mp4": X265,
    "mpeg4.mov": [*MPEG4, "-bf", "2"],
    "mjpeg.mov": MJPEG,
}


@pytest.mark.parametrize("name", EDITED)
def test_a_video_that_was_cut_without_coding_it_again(name: str, tmp_path: Path) -> None:
    """Its edit list cuts away frames from which the first ones are decoded: those are read and dropped, the others are
    whole. Where one that is cut away is damaged, so is what is decoded from it."""
    path = make(tmp_path / f"whole-{name}", *PICTURE, *EDITED[name])
    whole, _ = read(path)
    cut = make(tmp_path / name, "-ss", "0.52", "-i", path, "-c", "copy")
    frames, errors = read(cut)
    first = 16 if name == "open.mp4" else 13  # an open group's own key frame, which is shown after the cut
    assert errors == [] and places(frames, whole) == list(range(first, FRAMES))

    for file, start in ((path, 0), (cut, 13)):
        data = bytearray(file.read_bytes())
        middle = data.index(b"mdat") + 1000  # in the first frame, which the edit list cuts away
        data[middle : middle + 512] = bytes(512)
        file.write_bytes(data)
        frames, errors = read(file)
        assert errors and are_whole(frames, whole) and places(frames[-1:], whole) == [FRAMES - 1]
        assert name == "mjpeg.mov" or places(frames[:1], whole)[0] >= start + 7


def test_an_avi_that_was_written_to_a_pipe(tmp_path: Path) -> None:
    """Its writer couldn't go back to state the count of frames: what stands there means that nothing is stated."""
    path = tmp_path / "pipe.avi"
    with path.open("wb") as file:
        command = ["ffmpeg", "-v", "error", *PICTURE, *MPEG4, "-f", "avi", "pipe:1"]
        subprocess.run(command, stdout=file, check=True, timeout=120)
    data = path.read_bytes()
    place = data.index(b"strh") + 8 + 32  # the count
    for count in (data[place : place + 4], b"\xff\xff\xff\x7f", b"\xff\xff\xff\xff", bytes(4)):
        for size in (data[4:8], b"\xff\xff\xff\x7f", b"\xff\xff\xff\xff", bytes(4)):
            path.write_bytes(data[:4] + size + data[8:place] + count + data[place + 4 :])
            frames, errors = read(path)
            assert errors == [] and len(frames) == FRAMES, (count, size)


@pytest.mark.parametrize("container", ["mjpg", "avi", "mkv", "mov"])
@pytest.mark.parametrize("filled", [False, True], ids=["plain", "zeros"])
def test_cut_pictures_of_mjpeg(container: str, filled: bool, tmp_path: Path) -> None:
    """Each frame that is cut at 40 % of its bytes is an error, the others are as they were. Decoders would show the
    rest of the frame before."""
    whole, _ = read(make(tmp_path / f"whole.{container}", *PICTURE, *MJPEG))
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    make(pictures / "%03d.jpg", *PICTURE, *MJPEG)
    for number, path in enumerate(sorted(pictures.iterdir())):
        if number % 3 == 2:
            data = path.read_bytes()
            kept = len(data) * 4 // 10
            path.write_bytes(data[:kept] + bytes(len(data) - kept if filled else 0))
    cut = tmp_path / f"cut.{container}"
    if container == "mjpg":
        cut.write_bytes(b"".join(path.read_bytes() for path in sorted(pictures.iterdir())))
    else:
        make(cut, "-f", "image2", "-framerate", "25", "-i", pictures / "%03d.jpg", "-c", "copy")

    frames, errors = read(cut)

    assert places(frames, whole) == [number for number in range(FRAMES) if number % 3 != 2]
    assert len(errors) == FRAMES // 3
    assert all("the frame is damaged: " in error for error in errors)


def test_no_label_is_released_on_cut_frames(tmp_path: Path) -> None:
    """A sign that `serve` releases from a video of whole frames is not released from cut ones that follow: with the
    default finder and tracks every one of these is a source error."""
    reader = DemoReader({"fps": "0"})
    scene = next(frame for number, (frame, _) in enumerate(reader) if number == 8)
    height, width = scene.shape[:2]
    raw = tmp_path / "scene.rgb"
    raw.write_bytes(scene.tobytes())
    picture = make(
        tmp_path / "scene.jpg", "-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-i", raw, "-q:v", "2"
    ).read_bytes()
    video = tmp_path / "drive.mjpg"
    video.write_bytes(picture * 6 + picture[: len(picture) * 4 // 10] * 8)
    lines = tmp_path / "verdicts.jsonl"

    command = [sys.executable, "-m", "firewall", "serve", "--source", str(video), "--http", "off"]
    subprocess.run([*command, "--output", f"jsonl:{lines}"], check=False, capture_output=True, timeout=120)

    verdicts = [json.loads(line) for line in lines.read_text().splitlines()]
    assert any(verdict["decision"] == "release" for verdict in verdicts if verdict["sequence"] < 6)
    after = [verdict for verdict in verdicts if verdict["sequence"] >= 6]
    assert len({verdict["sequence"] for verdict in after}) >= 8
    assert {verdict["decision"] for verdict in after} == {"withhold"}
    assert all("the JPEG is cut" in verdict["reason"] for verdict in after)


ZEROED = {
    "h264.mp4": X264,
    "h264.mkv": X264,
    "h264.ts": X264,
    "h264.h264": X264,
    "hevc.mp4": X265,
    "hevc.ts": X265,
    "mpeg4.mp4": MPEG4,
    "mjpeg.avi": MJPEG,
    "vp8.webm": ["-c:v", "libvpx", *VPX],
    "vp9.webm": ["-c:v", "libvpx-vp9", *VPX],
}


@pytest.mark.parametrize("name", ZEROED)
def test_a_zeroed_part_of_a_file(name: str, tmp_path: Path) -> None:
    """512 bytes of zeros, as from a bad card: every frame that is handed out is one of the undamaged video, in its
    order, also those predicted from the damaged one; after the next key frame all is well again."""
    path = make(tmp_path / name, *PICTURE, *ZEROED[name])
    whole, _ = read(path)
    data = path.read_bytes()
    for seed in range(4):
        bad = bytearray(data)
        start = random.Random(seed).randrange(len(data) // 4, len(data) // 2)
        bad[start : start + 512] = bytes(512)
        (tmp_path / f"bad-{name}").write_bytes(bad)

        frames, errors = read(tmp_path / f"bad-{name}")

        assert errors and are_whole(frames, whole)
        assert places(frames[-5:], whole) == list(range(len(whole) - 5, len(whole)))


@pytest.mark.parametrize("name", ["h264.mp4", "h264.mkv", "h264.ts", "hevc.mp4", "hevc.mkv"])
def test_a_frame_that_was_lost(name: str, tmp_path: Path) -> None:
    """What is predicted from it is an error up to the next key frame, though the decoder has all that it is given."""
    path = make(tmp_path / name, *PICTURE, *(X265 if "hevc" in name else X264))
    whole, _ = read(path)
    for lost in (11, 14, 17):
        drop = f"noise=drop=eq(n\\,{lost})"
        frames, errors = read(make(tmp_path / f"bad-{name}", "-i", path, "-c", "copy", "-bsf:v", drop))

        assert are_whole(frames, whole), (lost, places(frames, whole), errors)
        assert errors or len(frames) == FRAMES - 1, "only a frame from which nothing is predicted may be left out"
        assert places(frames[-10:], whole) == list(range(20, 30)), (lost, errors)


@pytest.mark.parametrize("name", ["h264.ts", "hevc.ts", "mpeg2.ts"])
def test_lost_packets_of_a_transport_stream(name: str, tmp_path: Path) -> None:
    """Two packets of 188 bytes: no frame that lacks them is handed out."""
    coder = {"h264.ts": X264, "hevc.ts": X265, "mpeg2.ts": ["-c:v", "mpeg2video", "-g", "10", "-q:v", "4"]}[name]
    path = make(tmp_path / name, *PICTURE, *coder)
    whole, _ = read(path)
    data = path.read_bytes()
    for start in range(len(data) // 188 // 4, len(data) // 188 // 2, len(data) // 188 // 16):
        (tmp_path / f"bad-{name}").write_bytes(data[: start * 188] + data[(start + 2) * 188 :])
        frames, errors = read(tmp_path / f"bad-{name}")
        assert errors and are_whole(frames, whole)


def test_damaged_bytes_of_h264(tmp_path: Path) -> None:
    """Bytes overwritten in a frame in the middle: an error for it and for what is predicted from it."""
    path = make(tmp_path / "drive.mp4", *PICTURE, *X264)
    whole, _ = read(path)
    data = bytearray(path.read_bytes())
    middle = data.index(b"mdat") + len(data) // 3
    data[middle : middle + 300] = random.Random(3).randbytes(300)
    (tmp_path / "bad.mp4").write_bytes(data)

    frames, errors = read(tmp_path / "bad.mp4")

    assert errors and are_whole(frames, whole) and len(frames) >= FRAMES // 3


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("sound.mkv", [*SOUND, *X264]),
        ("picture.mkv", [*PICTURE, *X264]),
        ("front.mp4", [*PICTURE, *X264, "-movflags", "faststart"]),
        ("front-sound.mp4", [*SOUND, *X264, "-movflags", "faststart"]),
        ("picture.avi", [*PICTURE, *MPEG4]),
        ("picture.ts", [*PICTURE, *X264]),
        ("picture.webm", [*PICTURE, "-c:v", "libvpx-vp9", *VPX]),
        ("picture.flv", [*PICTURE, *X264]),
        ("picture.ogv", [*PICTURE, "-c:v", "libtheora", "-q:v", "6"]),
        ("picture.y4m", PICTURE),
    ],
)
def test_truncated_files_are_errors(name: str, arguments: list[str], tmp_path: Path) -> None:
    """Cut at 60 % of their bytes: whole frames up to there, then an error, which the last item is."""
    path = make(tmp_path / name, *arguments)
    whole, errors = read(path)
    assert errors == []
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 6 // 10 | 1])

    frames, errors = read(path)

    assert errors and len(frames) < len(whole) and are_whole(frames, whole)


@pytest.mark.parametrize("name", ["drive.mjpg", "drive.h264", "drive.webm"])
def test_a_size_that_changes_in_the_middle(
    name: str, tmp_path: Path, settings: CaptureSettings, read_until: ReadUntil
) -> None:
    """Each frame comes in its own size, and shows what it shows: it isn't squeezed into the first one's."""
    parts = []
    coder = {"drive.mjpg": MJPEG, "drive.h264": X264, "drive.webm": ["-c:v", "libvpx-vp9", *VPX]}[name]
    for size in ("320x240", "640x240", "160x480"):
        source = ["-f", "lavfi", "-i", f"testsrc2=size={size}:rate=25:duration=0.2"]
        kind = ["-f", "ivf"] if name.endswith("webm") else []
        parts.append(make(tmp_path / f"{size}{Path(name).suffix}", *source, *coder, *kind))
    path = tmp_path / name
    if name.endswith("webm"):  # the frames of the others behind the first: IVF has 32 bytes in front
        (tmp_path / "all.ivf").write_bytes(
            parts[0].read_bytes() + b"".join(part.read_bytes()[32:] for part in parts[1:])
        )
        make(path, "-f", "ivf", "-i", tmp_path / "all.ivf", "-c", "copy", "-bsf:v", "setts=pts=N:dts=N")
    else:
        path.write_bytes(b"".join(part.read_bytes() for part in parts))

    with Capture(parse(str(path)), settings) as capture:
        taken = read_until(capture, lambda item: isinstance(item, End))

    frames = [item for item in taken if isinstance(item, Frame)]
    shapes = [frame.pixels.shape for frame in frames]
    assert shapes == [(240, 320, 3)] * 5 + [(240, 640, 3)] * 5 + [(480, 160, 3)] * 5
    assert not [item for item in taken if isinstance(item, Failure)]


def test_a_name_that_is_not_utf_8(tmp_path: Path, settings: CaptureSettings, read_until: ReadUntil) -> None:
    """As any other: all frames of all kinds of video."""
    for suffix, coder in ((".mp4", X264), (".mjpg", MJPEG), (".h264", X264)):
        made = make(tmp_path / f"drive{suffix}", *PICTURE, *coder)
        name = os.fsencode(tmp_path) + b"/gr\xfcn" + suffix.encode()
        made.rename(os.fsdecode(name))
        with Capture(parse(os.fsdecode(name)), settings) as capture:
            taken = read_until(capture, lambda item: isinstance(item, End))
        assert [type(item) for item in taken] == [Frame] * FRAMES + [End]
        assert all(r"gr\xfcn" in item.source for item in taken if isinstance(item, Frame))


def test_a_turned_video_is_upright(tmp_path: Path) -> None:
    """A telephone's note on how it was held is followed."""
    path = make(tmp_path / "drive.mp4", *PICTURE, *X264)
    turned = make(tmp_path / "turned.mp4", "-i", path, "-c", "copy", "-metadata:s:v", "rotate=90")
    shown = make(tmp_path / "shown.rgb", "-i", turned, "-frames:v", "1", "-f", "rawvideo", "-pix_fmt", "rgb24")
    frames, errors = read(turned)
    assert errors == [] and frames[0].shape == (320, 240, 3)
    expected = np.frombuffer(shown.read_bytes(), np.uint8).reshape(320, 240, 3)
    assert np.abs(frames[0].astype(int) - expected).mean() < 3


@pytest.mark.parametrize(
    ("matrix", "span"), [("bt709", "tv"), ("bt709", "pc"), ("smpte170m", "tv"), ("smpte170m", "pc")]
)
def test_colours_follow_the_matrix_and_range_that_the_video_names(matrix: str, span: str, tmp_path: Path) -> None:
    """Red stays red to a few levels for BT.709 and BT.601, in full and limited range."""
    coded = f"scale=out_color_matrix={'bt709' if matrix == 'bt709' else 'bt601'}:out_range={span},format=yuv444p"
    named = ["-colorspace", matrix, "-color_range", span]
    source = ["-f", "lavfi", "-i", "color=c=0xC81E3C:size=64x64:rate=5:duration=1"]
    frames, errors = read(make(tmp_path / "red.mp4", *source, "-vf", coded, *X264, "-crf", "5", *named))
    assert errors == []
    assert np.abs(frames[0].reshape(-1, 3).mean(0) - (0xC8, 0x1E, 0x3C)).max() < 5


def test_what_is_heard_of_ffmpeg_holds_no_address() -> None:
    """Its messages become reasons of failures, and repeat addresses with their passwords."""
    av = ffmpeg()
    with heard() as words:
        av.logging.log(av.logging.ERROR, "http", "error in http://admin:hunter2@camera/front: missing part")
        av.logging.log(av.logging.INFO, "h264", "all is well")
    assert words.lost == ["error in *** missing part"]
