from __future__ import annotations

import resource
from contextlib import suppress
from pathlib import Path

import av
import numpy as np
import pytest

from firewall.errors import FirewallError
from firewall.frame import Frame
from firewall.sinks import FrameReport
from firewall.sinks.drawing import draw
from firewall.sinks.video import AnnotatedVideo
from firewall.verdict import Reason, Verdict
from tests.sinks.making import RELEASED, WITHHELD, failure, report


def read(path: Path) -> list[tuple[float, np.ndarray]]:
    """(seconds, (H, W, 3) RGB) of each picture."""
    with av.open(str(path)) as container:
        return [(float(frame.time or 0), frame.to_ndarray(format="rgb24")) for frame in container.decode(video=0)]


def at(sequence: int, seconds: float, size: tuple[int, int] = (160, 120)) -> FrameReport:
    """A report whose frame was captured at that time of the monotonic clock."""
    made = report(sequence, size=size)
    assert made.frame is not None
    return FrameReport(Frame(made.frame.pixels, "cam", sequence, seconds), made.verdicts)


def test_what_is_drawn_tells_released_from_withheld() -> None:
    """A green box, a red one; the frame itself is left alone; large frames are scaled down, sides are even."""
    pixels = np.full((121, 161, 3), 90, np.uint8)
    drawn = draw(pixels, [RELEASED, WITHHELD, Verdict("cam", 0, (0, 0, 0, 0))])
    assert drawn.shape == (120, 160, 3) and (pixels == 90).all()
    green, red = drawn[12 + 20, 10], drawn[30 + 10, 60]
    assert green[1] > 150 > green[0] and red[0] > 150 > red[1]
    assert draw(np.zeros((1080, 1920, 3), np.uint8), []).shape == (720, 1280, 3)
    assert draw(np.zeros((1, 1, 3), np.uint8), [WITHHELD]).shape == (2, 2, 3)
    part = draw(pixels, [], (16, 20, 100, 60))
    assert (part[20, 16:116] > 200).all() and (part[79, 16:116] > 200).all() and (part[20:80, 16] > 200).all()
    assert ((part > 200).any(axis=2).sum()) == 2 * 100 + 2 * 58  # a line of one pixel
    named = Verdict("cam", 0, (10, 12, 30, 40), True, 14, "h\xf6chst 30", Reason.BENIGN)
    nameless = Verdict("cam", 0, (10, 12, 30, 40), True, 14, None, Reason.BENIGN)
    assert (draw(pixels, [named]) != draw(pixels, [nameless])).any()


def test_a_player_shows_every_frame_at_its_time(tmp_path: Path) -> None:
    """H.264 in MP4, read back: pictures with boxes, at the times of the capture; time stamps that stand still or go
    back are moved on; a lost source is a black picture, a frame of another size stands in the middle."""
    path = tmp_path / "drive.mp4"
    video = AnnotatedVideo(path)
    video.report(failure(0))  # before the first frame nobody knows a size
    for number, seconds in enumerate((5.0, 5.04, 5.08, 5.08, 4.0)):
        video.report(at(number + 1, seconds))
    video.report(failure(6))
    video.report(at(7, 6.0, size=(80, 200)))
    video.tick()
    video.close()
    shown = read(path)
    assert [round(seconds, 3) for seconds, _ in shown] == [0.0, 0.04, 0.08, 0.081, 0.082, 0.083, 1.0]
    first, black, other = shown[0][1], shown[5][1], shown[6][1]
    assert first.shape == (120, 160, 3) and abs(int(first[100, 100, 2]) - 200) < 20
    assert black.mean() < 20 < other[60, 80].mean() and other[60, 5].mean() < 20


def test_a_full_file_makes_room_and_an_old_one_is_kept(tmp_path: Path) -> None:
    """By size while it runs, and at the start: every file can be played, and no more are kept than asked."""
    path = tmp_path / "drive.mp4"
    rng = np.random.default_rng(0)
    for run in range(2):
        video = AnnotatedVideo(path, size=20_000, keep=2)
        for number in range(8):
            pixels = rng.integers(0, 256, (120, 160, 3), np.uint8)
            video.report(FrameReport(Frame(pixels, "cam", number, run + number / 10), [WITHHELD]))
        video.close()
    files = sorted(each.name for each in tmp_path.iterdir())
    assert set(files) <= {"drive.mp4", "drive.1.mp4", "drive.2.mp4"} and {"drive.1.mp4", "drive.2.mp4"} <= set(files)
    assert all(read(tmp_path / name) for name in files if (tmp_path / name).stat().st_size)


def test_what_was_written_before_a_crash_can_be_played(tmp_path: Path) -> None:
    """The file as it is on disk while the video is still open: all but the last fragment."""
    path = tmp_path / "drive.mp4"
    video = AnnotatedVideo(path)
    for number in range(70):
        video.report(at(number, number / 30))
    (tmp_path / "copy.mp4").write_bytes(path.read_bytes())
    assert len(read(tmp_path / "copy.mp4")) >= 30
    video.close()


def test_a_disk_that_is_full_is_one_line(tmp_path: Path) -> None:
    """While it is written, and when it is closed; a folder that isn't there, at the start."""
    (tmp_path / "full.mp4").symlink_to("/dev/full")
    for frames in (1, 400):
        video = AnnotatedVideo(tmp_path / "full.mp4")
        with pytest.raises(FirewallError, match=r"can't write video to .*full\.mp4: No space left"):
            _fill(video, frames)
    with pytest.raises(FirewallError, match=r"can't write video to .*No such file"):
        AnnotatedVideo(tmp_path / "nowhere" / "v.mp4")


def test_a_disk_that_fills_up_at_the_end_is_one_line(tmp_path: Path) -> None:
    """The last fragment is written when the file is closed."""
    video = AnnotatedVideo(tmp_path / "v.mp4")
    for number in range(9):
        pixels = np.random.default_rng(number).integers(0, 256, (120, 160, 3), np.uint8)
        video.report(FrameReport(Frame(pixels, "cam", number, number / 10), [WITHHELD]))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4000, hard))
    try:
        with pytest.raises(FirewallError, match=r"can't write video to .*v\.mp4: File too large"):
            video.close()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_disk_that_is_full_again_and_again_leaves_no_file_open(tmp_path: Path) -> None:
    """A guard opens an output that failed again, for as long as it runs: what failed is closed at once."""
    (tmp_path / "full.mp4").symlink_to("/dev/full")

    def once() -> None:
        video = AnnotatedVideo(tmp_path / "full.mp4")
        with pytest.raises(FirewallError, match="No space left"):
            _fill(video, 1)
        with suppress(FirewallError):
            video.close()

    once()
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(5):
        once()
    assert len(list(Path("/proc/self/fd").iterdir())) <= before


def _fill(video: AnnotatedVideo, frames: int) -> None:
    """Until it fails, and then as an outlet does: close it all the same."""
    try:
        for number in range(frames):
            video.report(at(number, number / 30))
    except FirewallError:
        with suppress(FirewallError):
            video.close()
        raise
    video.close()
