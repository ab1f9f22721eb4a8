from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from firewall.config import CaptureSettings
from firewall.errors import ImageError, SourceError
from firewall.frame import Frame, Pixels
from firewall.sources import Capture, End, Failure, Idle, parse
from firewall.sources.video import VideoReader

Taken = Frame | Failure | Idle | End
ReadUntil = Callable[[Capture, Callable[[Taken], bool]], list[Taken]]
Shown = Callable[[Frame], int]


def is_end(item: Taken) -> bool:
    return isinstance(item, End)


def is_failure(item: Taken) -> bool:
    return isinstance(item, Failure)


def frames_of(taken: list[Taken]) -> list[Frame]:
    return [item for item in taken if isinstance(item, Frame)]


def failures_of(taken: list[Taken]) -> list[Failure]:
    return [item for item in taken if isinstance(item, Failure)]


def test_every_frame_of_a_video_in_order(
    video: Path, settings: CaptureSettings, read_until: ReadUntil, shown: Shown
) -> None:
    """A file waits: nothing is dropped, nothing repeated, sequence numbers have no gap, then End for good."""
    with Capture(parse(str(video)), settings) as capture:
        taken = read_until(capture, is_end)
        assert isinstance(capture.read(), End)
        assert capture.pid is None and capture.dropped == 0 and capture.restarts == 0
    frames = frames_of(taken)
    assert len(frames) == len(taken) - 1
    assert [shown(frame) for frame in frames] == list(range(40))
    assert [frame.sequence for frame in frames] == list(range(40))
    assert {frame.source for frame in frames} == {str(video)}
    assert frames[0].pixels.shape == (120, 160, 3)
    assert abs(int(frames[0].pixels[60, 158, 2]) - 120) < 12, "red and blue must not be exchanged"


@pytest.mark.parametrize("delivered", [1, 17])
def test_a_killed_capture_goes_on_after_the_frame_last_delivered(
    video: Path, delivered: int, settings: CaptureSettings, read_until: ReadUntil, shown: Shown
) -> None:
    """kill -9 in the middle of a file: one Failure, and every frame is seen once."""
    with Capture(parse(str(video)), settings) as capture:
        taken: list[Taken] = []
        while len(taken) < delivered:
            taken += read_until(capture, lambda item: isinstance(item, Frame))
        assert capture.pid is not None
        os.kill(capture.pid, signal.SIGKILL)
        taken += read_until(capture, is_end)
        assert capture.restarts == 1 and capture.dropped == 0
    assert [shown(frame) for frame in frames_of(taken)] == list(range(40))
    assert [item.sequence for item in taken if not isinstance(item, (End, Idle))] == list(range(41))
    assert ["killed by SIGKILL" in failure.detail for failure in failures_of(taken)] == [True]


def test_a_video_whose_capture_dies_again_and_again_comes_to_an_end(
    video: Path, settings: CaptureSettings, read_until: ReadUntil
) -> None:
    """A frame that kills its decoder is tried three times, each a Failure; then the file is given up."""
    with Capture(parse(str(video)), settings) as capture:
        taken = read_until(capture, lambda item: isinstance(item, Frame))
        for _ in range(3):
            while capture.pid is None:
                assert isinstance(capture.read(), Idle)
            os.kill(capture.pid, signal.SIGKILL)
            taken += read_until(capture, is_failure)
        assert isinstance(capture.read(), End)
    assert [item.sequence for item in taken if not isinstance(item, (End, Idle))] == [0, 1, 2, 3]


@pytest.mark.parametrize("video", ["avi"], indirect=True)
def test_a_truncated_avi(
    video: Path,
    settings: CaptureSettings,
    read_until: ReadUntil,
    numbered: Callable[[int], Pixels],
) -> None:
    """Cut through the middle of frame 24: the frames before it are given, whole; the half that would be grey is a
    Failure, and that the file promised more is another, before End."""
    data = video.read_bytes()
    starts = [found.start() for found in re.finditer(b"00dc", data) if data.index(b"movi") < found.start()][:40]
    assert starts[-1] < data.rindex(b"idx1")
    video.write_bytes(data[: (starts[24] + starts[25]) // 2])

    with Capture(parse(str(video)), settings) as capture:
        taken = read_until(capture, is_end)
    frames = frames_of(taken)
    assert len(frames) == 24
    for frame in frames:
        difference = np.abs(frame.pixels.astype(int) - numbered(frame.sequence))
        assert difference.reshape(12, 10, 16, 10, 3).mean((1, 3, 4)).max() < 40  # blocks of 10x10 pixels
    half, last = taken[-3], taken[-2]
    assert isinstance(half, Failure) and half.sequence == 24 and "the frame is damaged" in half.detail
    assert isinstance(last, Failure) and last.sequence == 25
    assert f"{video} ended at 1.00 of 1.60 s" in last.detail


@pytest.mark.parametrize("video", ["mp4"], indirect=True)
def test_a_truncated_mp4(video: Path, settings: CaptureSettings, read_until: ReadUntil) -> None:
    """Its index stands at the end: without it nothing can be decoded, which is an error at the start."""
    data = video.read_bytes()
    video.write_bytes(data[: len(data) * 9 // 10])

    with (
        Capture(parse(str(video)), settings) as capture,
        pytest.raises(SourceError, match=r"can't decode video .*drive\.mp4: damaged, truncated"),
    ):
        read_until(capture, is_end)


@pytest.mark.parametrize("video", ["avi"], indirect=True)
def test_a_video_that_is_blank_from_its_middle_on(
    tmp_path: Path, video: Path, settings: CaptureSettings, read_until: ReadUntil
) -> None:
    """With the index kept and the pictures overwritten, no frame is made up for them; their absence is a Failure."""
    data = bytearray(video.read_bytes())
    start, stop = len(data) // 2, data.rindex(b"idx1")
    data[start:stop] = bytes(stop - start)
    blank = tmp_path / "blank.avi"
    blank.write_bytes(data)

    with Capture(parse(str(blank)), settings) as capture:
        taken = read_until(capture, is_end)
    assert len(frames_of(taken)) < 40
    assert "truncated or damaged" in failures_of(taken)[-1].detail


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.mp4", b"", r"empty.mp4 is empty \(0 bytes\)"),
        ("text.mp4", b"no video at all, whatever its name says\n" * 50, "can't decode video .*text.mp4"),
        ("list.mp4", b"#EXTM3U\n#EXTINF:1,\nfile:///etc/hostname\n", "can't decode video"),
    ],
)
def test_files_that_are_no_videos(
    name: str, content: bytes, message: str, tmp_path: Path, settings: CaptureSettings, read_until: ReadUntil
) -> None:
    """Empty, text, or a play list that leads elsewhere: a one-line error at the start."""
    (tmp_path / name).write_bytes(content)

    with Capture(parse(str(tmp_path / name)), settings) as capture, pytest.raises(SourceError, match=message):
        read_until(capture, is_end)


def test_a_video_that_vanishes_between_parse_and_open(
    video: Path, settings: CaptureSettings, read_until: ReadUntil
) -> None:
    """It was there when the text was understood: still a one-line error."""
    spec = parse(str(video))
    video.unlink()

    with Capture(spec, settings) as capture, pytest.raises(SourceError, match="No such file"):
        read_until(capture, is_end)


def coded(path: Path, *arguments: str) -> Path:
    """Half a second of a drawn picture in a codec."""
    picture = ["-f", "lavfi", "-i", "testsrc2=size=320x240:rate=25:duration=0.6"]
    command = ["ffmpeg", "-v", "error", "-y", *picture, *arguments, "-strict", "experimental", str(path)]
    subprocess.run(command, check=True, timeout=120)
    return path


needs_ffmpeg = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="needs the ffmpeg program")


@needs_ffmpeg
@pytest.mark.parametrize(
    ("codec", "name"),
    [
        ("huffyuv", "x.avi"),
        ("ffvhuff", "x.mkv"),
        ("utvideo", "x.avi"),
        ("magicyuv", "x.avi"),
        ("svq1", "x.mov"),
        ("msvideo1", "x.avi"),
        ("qtrle", "x.mov"),
        ("gif", "x.mkv"),
        ("v210", "x.mov"),
        ("ffv1 -level 1", "x.mkv"),
        ("ffv1 -level 3 -slicecrc 0", "x.mkv"),
    ],
)
def test_codecs_that_cannot_tell_damage_are_refused(codec: str, name: str, tmp_path: Path) -> None:
    """At the start, with the codec and what to convert to: their decoders make a picture of any bytes."""
    path = coded(tmp_path / name, "-c:v", *codec.split())
    with pytest.raises(SourceError) as caught:
        VideoReader(str(path), name, timeout=20)
    text = str(caught.value)
    called = "FFV1 without checksums" if "ffv1" in codec else codec.split(maxsplit=1)[0]
    assert text.startswith(f"video {name} is coded as {called}, which can't tell damaged pictures from whole ones; ")
    assert "convert it first: ffmpeg -i IN -c:v " in text and "\n" not in text


@needs_ffmpeg
def test_what_the_reader_cannot_decode_is_not_called_damaged(tmp_path: Path) -> None:
    """A codec in an MPEG program stream that FFmpeg takes for something else, and JPEG of a kind that we don't read."""
    path = coded(tmp_path / "x.vob", "-c:v", "h263", "-s", "176x144", "-f", "vob")
    with pytest.raises(SourceError, match=r"no video that we can decode was recognised in video x\.vob; remux"):
        VideoReader(str(path), "x.vob", timeout=20)
    reader = VideoReader(str(coded(tmp_path / "x.avi", "-c:v", "ljpeg")), "x.avi", timeout=20)
    with pytest.raises(ImageError, match=r"the frame is unsupported: the JPEG is lossless or arithmetic-coded"):
        next(reader)
    reader.close()


@needs_ffmpeg
@pytest.mark.parametrize("codec", ["ffv1 -level 3", "rawvideo", "prores", "png", "libx264 -qp 0"])
def test_codecs_for_measuring_are_read(codec: str, tmp_path: Path) -> None:
    """Raw and lossless video that has checksums, and what `convert it first` leads to."""
    reader = VideoReader(str(coded(tmp_path / "x.mov.mkv", "-c:v", *codec.split())), "x.mkv", timeout=20)
    assert len(list(reader)) == 15
    reader.close()


@needs_ffmpeg
@pytest.mark.parametrize(
    ("codec", "byte"),
    [
        *[(codec, byte) for codec in ("libvpx", "libvpx-vp9") for byte in (0x00, 0xAA, 0xFF, 0x55)],
        *[(codec, byte) for codec in ("mpeg4", "h263", "flv", "wmv2") for byte in (0x00, 0xAA)],
    ],
)
def test_packets_that_hold_one_byte_over_and_over(codec: str, byte: int, tmp_path: Path) -> None:
    """A key frame of which the second half is overwritten gives no picture: no coder writes such runs. Ones stand for
    blocks that stay in the older codecs: they aren't tried there."""
    size = ["-s", "352x288"] if codec == "h263" else []
    path = coded(tmp_path / "x.mkv", "-c:v", codec, "-g", "1", "-b:v", "3M", *size)
    found = subprocess.run(
        ["ffprobe", "-v", "error", "-show_entries", "packet=pos,size", "-of", "csv=p=0", str(path)],
        capture_output=True,
        text=True,
        check=True,
    )
    length, position = map(int, found.stdout.split()[7].split(",")[:2])
    data = bytearray(path.read_bytes())
    data[position + length // 2 : position + length - 8] = bytes([byte]) * (length - 8 - length // 2)
    path.write_bytes(data)

    reader, frames, errors = VideoReader(str(path), "x.mkv", timeout=20), 0, 0
    while True:
        try:
            next(reader)
            frames += 1
        except StopIteration:  # noqa: PERF203
            break
        except ImageError:
            errors += 1
        except SourceError:
            errors += 1
            break
    reader.close()
    assert errors >= 1 and frames < 15
