"""What comes out of damaged videos: frames that lack data are to be errors, and healthy videos are to be left alone.

    python benchmarks/damaged_video.py [--json FILE] [--trials N] [--only h264,vp9]

Forty frames of the demo are coded by the `ffmpeg` program for each codec and container, then damaged: the file cut, a
part of it zeroed, bits flipped, a packet lost; and the size of the picture changes in its middle, which is no damage.
Each file is read as a source of video is. The same is done to what comes over HTTP and RTSP (`damaged_streams.py`; of
forty frames behind thirty whole ones, since the first go into recognising a stream). A frame that is handed out is
wrong if its pixels differ from those of every frame of the undamaged file by even one level; visibly wrong if they do
so by more than 2 levels in the mean, and stale if it comes after a later one. Whatever sign the default finder sees in
a wrong frame is judged by the default bundle: `released` counts labels.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
from damaged_streams import STREAMS, play_damaged
from healthy_videos import AV1, GROUP, HEALTHY, MJPEG, PLAIN, VPX, X264, X265
from machine import machine

from firewall import Firewall
from firewall.demo.source import DemoReader
from firewall.errors import FirewallError, ImageError
from firewall.frame import Pixels
from firewall.regions import build
from firewall.sources.video import VideoReader

FRAMES, LEAD, RATE = 40, 30, 25
CODECS: dict[str, tuple[list[str], list[str]]] = {  # arguments, containers
    "mjpeg": (MJPEG, ["mjpg", "avi", "mkv", "mov"]),
    "h264": (X264, ["mp4", "mkv", "ts", "h264"]),
    "h264-slices": ([*X264, "-x264-params", "slices=4"], ["mp4", "ts"]),
    "h264-cavlc": ([*X264, "-profile:v", "baseline", "-bf", "0"], ["mp4", "ts"]),
    "hevc": (X265, ["mp4", "mkv", "ts"]),
    "mpeg4": (["-c:v", "mpeg4", *PLAIN], ["mp4", "avi"]),
    "mpeg2": (["-c:v", "mpeg2video", "-bf", "2", *PLAIN], ["ts", "mpg"]),
    "vp8": (["-c:v", "libvpx", *VPX], ["webm"]),
    "vp9": (["-c:v", "libvpx-vp9", *VPX], ["webm"]),
    "av1": (AV1, ["mkv", "mp4"]),
    "ffv1": (["-c:v", "ffv1", "-level", "3", "-slicecrc", "1", "-g", "1"], ["mkv"]),
}

# What a codec is written into before the size changes, and bytes in front that only the first part may have.
JOINED = {"mjpeg": ("mjpg", 0), "h264": ("h264", 0), "hevc": ("hevc", 0), "mpeg4": ("m4v", 0), "mpeg2": ("m2v", 0)}
JOINED |= dict.fromkeys(("vp8", "vp9", "av1"), ("ivf", 32))


def main() -> None:
    """Make, damage, read, count."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=8, help="of each damage that has a place (default 8)")
    parser.add_argument("--only", default="", help="codecs, with commas between them")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    if shutil.which("ffmpeg") is None:
        raise SystemExit("this needs the ffmpeg program")
    chosen = arguments.only.split(",") if arguments.only else list(CODECS)
    with tempfile.TemporaryDirectory() as name:
        rows, healthy = damaged(Path(name), chosen, arguments.trials), undamaged(Path(name))
    columns = ("codec", "container", "damage", "frames", "whole", "errors", "wrong", "visible", "stale", "released")
    sys.stdout.write(" ".join(column.rjust(11) for column in columns) + "\n")
    for row in rows:
        sys.stdout.write(" ".join(str(value).rjust(11) for value in row) + "\n")
    sys.stdout.write(f"healthy videos: {len(HEALTHY)}, with an error: {healthy or 0}\n")
    if arguments.json:
        command = ["git", "rev-parse", "--short", "HEAD"]
        commit = subprocess.run(command, capture_output=True, text=True, check=False)
        result: dict[str, Any] = {
            "machine": machine(),
            "commit": commit.stdout.strip(),
            "av": av.__version__,
            "trials": arguments.trials,
            "columns": " ".join(columns),
            "rows": [" ".join(map(str, row)) for row in rows],
            "healthy": {"n": len(HEALTHY), "false_errors": healthy},
        }
        arguments.json.write_text(json.dumps(result, indent=1) + "\n")


def encode(path: Path, arguments: list[str], frames: list[Pixels] | None = None) -> None:
    """Runs ffmpeg. frames: of one size, instead of an input among the arguments."""
    command = ["ffmpeg", "-hide_banner", "-loglevel", "error", "-y", "-threads", "1"]
    data = None
    if frames is not None:
        height, width = frames[0].shape[:2]
        command += ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", str(RATE), "-i", "-"]
        data = b"".join(frame.tobytes() for frame in frames)
        if "-pix_fmt" not in arguments:
            arguments = [*arguments, "-pix_fmt", "yuv420p"]
    done = subprocess.run([*command, *arguments, str(path)], input=data, stderr=subprocess.PIPE, check=False)
    if done.returncode:
        raise SystemExit(f"ffmpeg can't make {path.name}: {done.stderr.decode(errors='replace')[-300:]}")


def read(path: Path) -> tuple[list[Pixels], int]:
    """The frames that are handed out, and the number of errors."""
    frames, errors = [], 0
    try:
        reader = VideoReader(str(path), path.name, timeout=20)
    except FirewallError:
        return [], 1
    while True:
        try:
            frames.append(next(reader)[0])
        except StopIteration:  # noqa: PERF203
            break
        except ImageError:
            errors += 1
        except FirewallError:
            errors += 1
            break
    reader.close()
    return frames, errors


def undamaged(folder: Path) -> dict[str, int]:
    """The healthy videos that give an error, and how many."""
    found = {}
    for name, arguments in HEALTHY.items():
        encode(folder / name, arguments)
        frames, errors = read(folder / name)
        if errors or not frames:
            found[name] = errors
    return found


def damaged(folder: Path, codecs: list[str], trials: int) -> list[tuple[Any, ...]]:
    """A row for each codec, container and damage."""
    reader = DemoReader({"fps": "0"})
    drive = [next(reader)[0] for _ in range(LEAD + FRAMES)]
    judge = Judge()
    rows: list[tuple[Any, ...]] = []

    def add(codec: str, container: str, damage: str, sent: int, counts: Any) -> None:
        rows.append((codec, container, damage, sent, *map(int, counts)))
        sys.stderr.write(" ".join(map(str, rows[-1])) + "\n")

    for codec in codecs:
        arguments, containers = CODECS[codec]
        for container in containers:
            path = folder / f"whole.{container}"
            encode(path, arguments, drive[:FRAMES])
            whole, errors = read(path)
            if errors or len(whole) != FRAMES:
                raise SystemExit(f"{codec} in {container}: {len(whole)} frames and {errors} errors undamaged")
            for damage, inflict in DAMAGES.items():
                counts, times = np.zeros(6, int), 1 if damage == "cut" else trials
                for trial in range(times):
                    bad = folder / f"bad.{container}"
                    inflict(path, bad, random.Random(trial))  # noqa: S311
                    frames, errors = read(bad)
                    counts += [len(frames), errors, *judge.wrong(frames, whole)]
                add(codec, container, damage, FRAMES * times, counts)
            if codec.partition("-")[0] in JOINED and codec != "mpeg4":  # ffmpeg would leave out the second half
                whole = resized(folder, codec, bad, drive)
                frames, errors = read(bad)
                add(codec, container, "size", FRAMES, [len(frames), errors, *judge.wrong(frames, whole)])
        for container in STREAMS.get(codec, ()):
            path = folder / f"stream.{STREAMS[codec][container]}"
            encode(path, arguments, drive)
            whole, errors = read(path)
            parts = [folder / f"part{number}.{JOINED[codec.partition('-')[0]][0]}" for number in (0, len(drive) // 2)]
            for damage in ("none", *DAMAGES, "size"):
                counts, times = np.zeros(6, int), trials if damage in ("zeroed", "flipped", "lost") else 1
                if damage == "size":
                    whole = resized(folder, codec, path, drive)
                for trial in range(times):
                    played = play_damaged(container, path, damage, random.Random(trial), parts)  # noqa: S311
                    if played is not None:
                        counts += [len(played[0]), played[1], *judge.wrong(played[0], whole)]
                if damage == "none" and (counts[1] or counts[2] or not counts[0]):
                    raise SystemExit(f"{codec} over {container}: {counts} undamaged")
                if damage != "none" and played is not None:
                    add(codec, container, damage, (LEAD + FRAMES) * times, counts)
    return rows


def resized(folder: Path, codec: str, path: Path, drive: list[Pixels]) -> list[Pixels]:
    """Writes a video whose second half shows the left half of the scenes; gives the frames it should have."""
    suffix, front = JOINED[codec.partition("-")[0]]
    arguments = [part.replace("bframes=2", "bframes=0") for part in CODECS[codec][0]] + ["-bf", "0"]
    number = len(drive) if path.stem == "stream" else FRAMES
    halves = drive[: number // 2], [frame[:, : frame.shape[1] // 2] for frame in drive[number // 2 : number]]
    whole: list[Pixels] = []
    data = b""
    for half in halves:
        part = folder / f"part{len(whole)}.{suffix}"
        encode(part, arguments, half)
        whole += read(part)[0]
        data += part.read_bytes()[front if data else 0 :]
    joined = folder / f"joined.{suffix}"
    joined.write_bytes(data)
    if path.suffix == joined.suffix:
        path.write_bytes(data)
    else:
        times = "setts=pts=N/25/TB:dts=N/25/TB"
        encode(path, ["-i", str(joined), "-c", "copy", "-bsf:v", times])
    return whole


class Judge:
    """Compares with the undamaged video, and asks the firewall about what differs."""

    def __init__(self) -> None:
        self._guard = Firewall.load("default")
        self._finder = build("signs", bundle=self._guard.bundle)

    def wrong(self, frames: list[Pixels], whole: list[Pixels]) -> tuple[int, int, int, int]:
        """Frames that are wrong, visibly wrong, stale; labels released on them."""
        numbers = {frame.tobytes(): number for number, frame in enumerate(whole)}
        wrong = visible = stale = released = 0
        newest = -1
        for frame in frames:
            number = numbers.get(frame.tobytes())
            if number is not None and number > newest:
                newest = number
                continue
            if number is None:
                wrong += 1
                visible += min(_difference(frame, other) for other in whole) > 2
            else:
                stale += 1
            for region in self._finder.find(frame):
                released += self._guard.screen(frame, region).released
        return wrong, visible, stale, released


def _difference(frame: Pixels, other: Pixels) -> float:
    if frame.shape != other.shape:
        return 255.0
    return float(np.abs(frame.astype(np.int16) - other).mean())


def _cut(path: Path, bad: Path, _: random.Random) -> None:
    data = path.read_bytes()
    bad.write_bytes(data[: len(data) * 7 // 10])


def _zeroed(path: Path, bad: Path, chance: random.Random) -> None:
    data = bytearray(path.read_bytes())
    start = chance.randrange(len(data) // 10, len(data) * 9 // 10)
    data[start : start + 512] = bytes(512)
    bad.write_bytes(data)


def _flipped(path: Path, bad: Path, chance: random.Random) -> None:
    data = bytearray(path.read_bytes())
    for _ in range(8):
        data[chance.randrange(len(data) // 10, len(data) * 9 // 10)] ^= 1 << chance.randrange(8)
    bad.write_bytes(data)


def _lost(path: Path, bad: Path, chance: random.Random) -> None:
    """A packet of a frame, or of the transport where there are such."""
    if path.suffix == ".ts":
        data = path.read_bytes()
        start = 188 * chance.randrange(len(data) // 1880, len(data) * 9 // 1880)
        bad.write_bytes(data[:start] + data[start + 3 * 188 :])
        return
    number = chance.randrange(3, FRAMES - 3)
    number += number % GROUP == 0  # a key frame that is not there is a gap, no damage
    source = ["-i", str(path), "-c", "copy", "-bsf:v", f"noise=drop=eq(n\\,{number})"]
    encode(bad, source)


DAMAGES: dict[str, Callable[[Path, Path, random.Random], None]] = {
    "cut": _cut,
    "zeroed": _zeroed,
    "flipped": _flipped,
    "lost": _lost,
}


if __name__ == "__main__":
    main()
