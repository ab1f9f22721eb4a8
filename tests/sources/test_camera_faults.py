"""A camera that is blank, blocked, over-exposed, frozen or repeating, and one that only looks like it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from firewall.config import CaptureSettings
from firewall.frame import Pixels
from firewall.screening import Firewall
from firewall.server import Monitor
from firewall.service import Service
from firewall.sinks import FrameReport
from firewall.sources import Capture, End, Failure, parse
from firewall.sources.camera_faults import picture_fault
from firewall.sources.freshness import Freshness
from firewall.verdict import Reason, Verdict
from tests.sources.cameras import Taken
from tests.sources.judged import judged

SHARED_DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
SIZES = [(800, 1360), (480, 640)]


def noisy(picture: np.ndarray, sigma: float, seed: int = 0) -> Pixels:
    drawn = np.random.default_rng(seed).normal(0, sigma, picture.shape) if sigma else 0
    return np.clip(picture + drawn, 0, 255).astype(np.uint8)


def shade(height: int, width: int, dark: float, bright: float, seed: int = 0) -> np.ndarray:
    """What a hand, a tape or a cloth on the lens looks like: no edge, and light that comes through here and there."""
    coarse = np.random.default_rng(seed).standard_normal((6, 8)).astype(np.float32)
    wide = cv2.GaussianBlur(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC), (0, 0), width / 45)
    wide = (wide - wide.min()) / (wide.max() - wide.min())
    return (dark + (bright - dark) * wide)[..., None] * np.array([1, 0.8, 0.7])


def kind(pixels: Pixels) -> str | None:
    fault = picture_fault(pixels)
    return fault and fault.partition(":")[0]


@pytest.mark.parametrize("size", [*SIZES, (120, 160), (1, 1), (2, 5), (100, 1), (64, 48)])
@pytest.mark.parametrize("colour", [(0, 0, 0), (120, 120, 120), (0, 90, 0), (200, 0, 200), (255, 255, 255)])
def test_one_colour_is_blank(size: tuple[int, int], colour: tuple[int, int, int]) -> None:
    """Black, grey, a purple as of a broken sensor; the colour is named. White is over-exposed, too."""
    pixels = np.full((*size, 3), colour, np.uint8)
    fault = picture_fault(pixels)
    blank = f"blank: all of the picture has one colour, ({colour[0]}, {colour[1]}, {colour[2]})"
    assert fault == (f"over-exposed: 100% of the picture is white, {blank}" if min(colour) == 255 else blank)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("sigma", [0.5, 2, 5, 10, 20])
def test_a_capped_lens_is_blank_with_the_noise_of_its_sensor(size: tuple[int, int], sigma: float) -> None:
    """And with a few hot pixels."""
    pixels = noisy(np.full((*size, 3), 8.0), sigma)
    pixels[size[0] // 2, size[1] // 2] = pixels[size[0] // 3, size[1] // 4] = 255
    assert kind(pixels) == "blank"


def test_two_colours_of_one_brightness_are_not_blank() -> None:
    """Half of the frame is red, half of it blue, with the same sum: no colour is all there is."""
    pixels = np.zeros((480, 640, 3), np.uint8)
    pixels[:, :320, 0] = pixels[:, 320:, 2] = 200
    assert kind(pixels) != "blank"


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("bright", [30, 130, 200])
@pytest.mark.parametrize("sigma", [0, 2, 10])
def test_a_covered_lens_is_blocked(size: tuple[int, int], bright: float, sigma: float) -> None:
    """Whatever the light that comes through, and the noise; as a JPEG of low quality, too."""
    pixels = noisy(shade(*size, 10, bright), sigma)
    assert kind(pixels) in ("blocked", "blank")
    assert bright == 30 or kind(pixels) == "blocked"
    coded = cv2.imdecode(cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 60])[1], cv2.IMREAD_COLOR)
    assert kind(coded.astype(np.uint8)) in ("blocked", "blank")


@pytest.mark.parametrize("size", SIZES)
def test_a_dazzled_camera_is_over_exposed(demo_frames: list[Pixels], size: tuple[int, int]) -> None:
    """The sun in the lens: most is white, clipped at 255 or, in video range, at 235; the rest may still show much."""
    scene = cv2.resize(demo_frames[0], size[::-1])
    for white in (255, 236):
        pixels = scene.copy()
        pixels[: int(size[0] * 0.65)] = white
        fault = picture_fault(pixels)
        assert fault is not None and fault.startswith("over-exposed: 6")
    pixels = scene.copy()
    pixels[: int(size[0] * 0.45)] = 255  # a bright sky
    assert picture_fault(pixels) is None


def test_real_roads_show_something() -> None:
    """A highway drive and GTSDB's frames, by day, made dark (gamma 2.5 and 4, an eighth of the light), noisy, foggy and
    out of focus: never a fault."""
    drive, scenes = SHARED_DATA / "solidWhiteRight.mp4", SHARED_DATA / "gtsdb_train.npz"
    if not drive.exists() or not scenes.exists():
        pytest.skip("the road scenes are not here")
    video = cv2.VideoCapture(str(drive))
    frames = [pixels for good, pixels in (video.read() for _ in range(300)) if good]
    assert len(frames) > 200 and not any(picture_fault(pixels.astype(np.uint8)) for pixels in frames[::4])
    with np.load(scenes, allow_pickle=False) as pack:
        ends, blob = pack["off"], pack["blob"]
        chosen = [cv2.imdecode(blob[ends[i] : ends[i + 1]], cv2.IMREAD_COLOR) for i in range(0, 600, 120)]
    for number, pixels in enumerate(chosen):
        light = pixels.astype(np.float32) / 255
        for seen in (
            *(light, light**2.5, light**4, light / 8, light / 4 + 0.6),
            *(light + 0.08 * np.random.default_rng(number).standard_normal(light.shape, np.float32),),
            cv2.GaussianBlur(light, (0, 0), 4),
        ):
            assert picture_fault(np.clip(seen * 255, 0, 255).astype(np.uint8)) is None, number


def test_a_sign_of_the_same_brightness_is_seen() -> None:
    """Pure red on grey: the sum of the channels is nearly the same, the colour is not."""
    pixels = np.full((300, 500, 3), 90, np.uint8)
    pixels[100:140, 200:240] = (255, 0, 0)
    assert picture_fault(pixels) is None and picture_fault(noisy(pixels, 2)) is None


def test_a_few_lights_at_night_show_something() -> None:
    """Six lamps and a lit sign, sharp against the dark: little detail, and no hand has edges."""
    pixels = noisy(np.full((800, 1360, 3), 4.0), 3)
    for number in range(6):
        pixels[100 + 40 * number :, 150 * number + 30 :][:14, :14] = 230
    pixels[300:330, 1100:1130] = (200, 60, 40)
    assert picture_fault(pixels) is None


def test_the_demo_shows_something(demo_frames: list[Pixels]) -> None:
    """By day and made dark, as it is and with a sensor's noise."""
    for pixels in demo_frames[:40:5]:
        dark = (255 * (pixels / 255) ** 2.5).astype(np.uint8)
        assert picture_fault(pixels) is None and picture_fault(dark) is None and picture_fault(noisy(pixels, 8)) is None


def judging(good_frames: int = 5, frozen_after: float = 2.0) -> Freshness:
    return Freshness("camera", frozen_after=frozen_after, stale_rows=0, picture_faults=True, good_frames=good_frames)


BLANK = np.zeros((120, 160, 3), np.uint8)


def textured(seed: int) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, (15, 20, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)


@pytest.mark.parametrize("good_frames", [0, 1, 5])
def test_a_fault_lasts_until_some_good_frames_have_passed(good_frames: int) -> None:
    """So many more are refused, which say what they wait for; a fault in between begins the count again."""
    frames = [textured(0), BLANK, textured(1), BLANK, *(textured(seed) for seed in range(2, 12))]
    told = judged(judging(good_frames), frames)
    assert told[0] == "" and told[1] == told[3] == "blank: camera: all of the picture has one colour, (0, 0, 0)"
    assert bool(told[2]) == (good_frames > 0)
    assert all(told[4 : 4 + good_frames]) and not any(told[4 + good_frames :])
    if good_frames:
        assert told[4] == (
            f"blank: camera: it was so a moment ago; good frames since: 1, and {good_frames} have to pass"
        )


def test_a_frozen_camera_is_believed_again_after_new_pictures_only() -> None:
    """One that gives a new picture now and then, and repeats it, does not count up good frames by that."""
    frozen = [textured(0)] * 30
    told = judged(judging(), [*frozen, *[textured(1)] * 10, *[textured(2)] * 10, *(textured(n) for n in range(3, 12))])
    assert told[:20] == [""] * 20 and all(told[20:53]) and not any(told[53:])
    assert told[20].startswith("frozen: camera: it repeats one picture") and told[30].startswith("frozen: ")


def test_a_blank_camera_stays_blank() -> None:
    """Also when its blank picture has stayed for so long that it could be called frozen."""
    assert {text.partition(":")[0] for text in judged(judging(), [BLANK] * 40)} == {"blank"}


def test_a_still_camera_with_noise_is_healthy(demo_frames: list[Pixels]) -> None:
    """A minute of one scene, with the noise of a good sensor."""
    frames = [noisy(demo_frames[0][::2, ::2], 0.7, seed) for seed in range(100)]
    assert not any(judged(judging(), frames, rate=100 / 60))


@pytest.fixture
def drive(tmp_path: Path, demo_frames: list[Pixels]) -> Callable[[list[Pixels]], Path]:
    def write(middle: list[Pixels]) -> Path:
        height, width = demo_frames[0].shape[:2]
        path = tmp_path / "drive.mkv"
        with av.open(str(path), "w") as file:
            stream = file.add_stream("mjpeg", rate=25)
            stream.width, stream.height, stream.pix_fmt = width, height, "yuvj444p"
            resized = [cv2.resize(pixels, (width, height)) for pixels in middle]
            for pixels in [*demo_frames[:6], *resized, *demo_frames[6:18]]:
                file.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")))
            file.mux(stream.encode())
        return path

    return write


class Collector:
    def __init__(self, monitor: Monitor) -> None:
        self.verdicts: list[Verdict] = []
        self.statuses: list[tuple[str, str]] = []
        self._monitor = monitor

    def report(self, report: FrameReport) -> None:
        self._monitor.report(report)
        self.verdicts += report.verdicts
        self.statuses.append(self._monitor.status())

    def close(self) -> None:
        pass


class Whole:
    def find(self, pixels: Pixels) -> list[tuple[int, int, int, int]]:
        return [(0, 0, pixels.shape[1], pixels.shape[0])]


@pytest.mark.parametrize("fault", ["blank", "blocked", "over-exposed"])
def test_a_faulty_camera_is_withheld_and_comes_back(
    fault: str, guard: Firewall, drive: Callable[[list[Pixels]], Path]
) -> None:
    """Through a video, the capture process and the service: each of the 8 bad frames and the 5 good ones after them is
    withheld, with the reason, the kind and no label; then regions are judged again. The page names the fault."""
    bad = {
        "blank": np.full((120, 160, 3), 20, np.uint8),
        "blocked": noisy(shade(120, 160, 10, 120), 1),
        "over-exposed": noisy(np.full((120, 160, 3), 252.0), 2),
    }[fault]
    monitor = Monitor(source="drive", bundle="fused", live=False)
    monitor.set_ready(True)
    collector = Collector(monitor)
    with Capture(parse(str(drive([bad] * 8))), CaptureSettings(open_timeout=20, read_timeout=20)) as capture:
        summary = Service(guard, capture, Whole(), [collector]).run()
    faulty = [verdict for verdict in collector.verdicts if verdict.reason is Reason.CAMERA_FAULT]
    assert [verdict.sequence for verdict in faulty] == list(range(6, 19)) and len(collector.verdicts) == 26
    assert all(not verdict.released and verdict.label is None for verdict in faulty)
    assert all(verdict.detail.startswith(f"{fault}: ") for verdict in faulty)
    words = ["guarding"] * 6 + ["camera fault"] * 13 + ["guarding"] * 7
    assert [word for word, _ in collector.statuses] == words
    assert all(detail.startswith(f"{fault}: ") for word, detail in collector.statuses if word == "camera fault")
    line = faulty[0].line()
    assert line["decision"] == "withhold" and str(line["reason"]).startswith(f"camera fault: {fault}: ")
    assert summary.withheld["camera fault"] == 13 and summary.restarts == 0


def test_stills_and_what_is_turned_off_are_not_judged(
    tmp_path: Path, drive: Callable[[list[Pixels]], Path], read_until: Callable[..., list[Taken]]
) -> None:
    """A folder of pictures has no camera; `capture.camera_faults: false` believes one whatever it shows."""
    for number in range(3):
        cv2.imwrite(str(tmp_path / f"{number}.png"), BLANK)
    on = CaptureSettings(open_timeout=20, read_timeout=20)
    off = on.model_copy(update={"camera_faults": False})
    for source, settings in ((tmp_path, on), (drive([BLANK] * 5), off)):
        with Capture(parse(str(source)), settings) as capture:
            taken = read_until(capture, lambda item: isinstance(item, End))
        assert not [item for item in taken if isinstance(item, Failure)]
