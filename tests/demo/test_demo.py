"""The embedded demo: its list, its file of patches, its reader."""

from __future__ import annotations

import json
import threading
import time
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from firewall.demo import source as demo
from firewall.demo.scene import BAND, HEIGHT, WIDTH, render
from firewall.demo.signs import DRAWN
from firewall.demo.source import ASSET, ENCOUNTERS, FRAMES, DemoReader, Patch, read_patches, truth, write_patches
from firewall.errors import SourceError, SourceUriError
from firewall.frame import Pixels

#: (encounter, step) of each frame.
PLAN = [(number, step) for number, entry in enumerate(ENCOUNTERS) for step in range(entry.steps)]
ATTACKED = [index for index, (number, _) in enumerate(PLAN) if ENCOUNTERS[number].attack]


@pytest.fixture(scope="session")
def patches() -> list[Patch]:
    """A patch of random pixels, all different, for each attacked frame."""
    generator = np.random.default_rng(0)
    found = []
    for index in ATTACKED:
        number, step = PLAN[index]
        x, y, width, height = truth(index).box
        pixels = generator.integers(0, 256, (height, width, 3)).astype(np.uint8)
        found.append(Patch(number, step, x, y, ENCOUNTERS[number].attack or "", pixels))
    return found


@pytest.fixture(scope="session")
def asset(patches: list[Patch], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file that holds them."""
    path = tmp_path_factory.mktemp("demo") / "demo.zip"
    write_patches(path, patches)
    return path


def read(asset: Path, start: int) -> tuple[Pixels, float]:
    """The frame of that sequence number."""
    return next(DemoReader({"fps": "0"}, start=start, asset=asset))


def test_the_list_of_encounters() -> None:
    """About twelve benign and six attacked drives, interleaved, of drawn signs, in all lights, on both sides."""
    attacked = [entry.attack is not None for entry in ENCOUNTERS]
    assert 10 <= attacked.count(False) <= 14
    assert 5 <= attacked.count(True) <= 8
    assert not any(first and second for first, second in zip(attacked, attacked[1:]))  # noqa: B905, RUF007
    assert {entry.label for entry in ENCOUNTERS} <= set(DRAWN)
    assert {entry.light for entry in ENCOUNTERS} == {"day", "dusk", "overcast"}
    assert {entry.side for entry in ENCOUNTERS} == {"left", "right"}
    assert len({entry.seed for entry in ENCOUNTERS}) == len(ENCOUNTERS)
    assert {entry.attack for entry in ENCOUNTERS} == {None, "DeepFool"}
    assert sum(entry.steps for entry in ENCOUNTERS) == FRAMES


def test_truth_agrees_with_the_encounters() -> None:
    """Label, attack and box of each frame are those of its encounter and step, and the list repeats."""
    for index in range(0, FRAMES, 7):
        number, step = PLAN[index]
        fact = truth(index)
        assert (fact.label, fact.attack) == (ENCOUNTERS[number].label, ENCOUNTERS[number].attack)
        assert fact.box == render(ENCOUNTERS[number], step)[1]
        assert truth(index + 3 * FRAMES) == fact


def test_a_benign_frame_is_the_scene_with_a_caption(asset: Path) -> None:
    """Above the band a benign frame is the rendered scene, untouched."""
    pixels, _ = read(asset, 4)
    expected, _ = render(ENCOUNTERS[0], 4)
    assert pixels.shape == (HEIGHT, WIDTH, 3)
    np.testing.assert_array_equal(pixels[:-BAND], expected[:-BAND])


def test_an_attacked_frame_holds_the_patch_and_nothing_else(asset: Path, patches: list[Patch]) -> None:
    """In an attacked frame the patch is there to the last bit, and every other pixel is the scene's."""
    for index, patch in list(zip(ATTACKED, patches, strict=True))[::11]:
        pixels, _ = read(asset, index)
        expected, _ = render(ENCOUNTERS[patch.encounter], patch.step)
        height, width = patch.pixels.shape[:2]
        expected[patch.y : patch.y + height, patch.x : patch.x + width] = patch.pixels
        np.testing.assert_array_equal(pixels[:-BAND], expected[:-BAND])


def test_the_caption_is_light_grey_on_the_dark_band(asset: Path) -> None:
    """Each frame's band holds its own line of text, grey, and another text for a benign and an attacked frame."""
    bands = [read(asset, index)[0][-BAND:] for index in (0, 1, ATTACKED[0])]
    for band in bands:
        assert band.max() > 200
        assert np.median(band) < 60
        assert np.ptp(band.astype(int), axis=2).max() < 12
    assert not np.array_equal(bands[0], bands[1])
    widths = [int(np.flatnonzero((band > 150).any(axis=(0, 2))).max()) for band in bands]
    assert widths[2] > widths[0] + 40  # the attack is named


def test_captions_say_what_is_true(asset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The text burnt in names the frame, the sign and, if it is attacked, the attack."""
    lines: list[str] = []
    caption = demo._caption

    def listen(text: str, ground: Pixels) -> Pixels:
        lines.append(text)
        return caption(text, ground)

    monkeypatch.setattr(demo, "_caption", listen)
    read(asset, 3)
    read(asset, ATTACKED[5])
    assert lines[0].split() == ["demo", "003", "stop", "benign"]
    assert lines[1].split()[:2] == ["demo", f"{ATTACKED[5]:03d}"]
    assert lines[1].endswith(f"ATTACKED ({truth(ATTACKED[5]).attack})")


def test_once_or_for_ever(asset: Path) -> None:
    """loop=0 ends after the last frame; without it the first frame follows the last."""
    once = [pixels for pixels, _ in DemoReader({"fps": "0", "loop": "0"}, start=FRAMES - 3, asset=asset)]
    assert len(once) == 3
    endless = DemoReader({"fps": "0"}, start=FRAMES - 1, asset=asset)
    np.testing.assert_array_equal(next(endless)[0], once[-1])
    np.testing.assert_array_equal(next(endless)[0], read(asset, 0)[0])


def test_pacing(asset: Path) -> None:
    """Frames come no faster than fps says, also after the reader's user was slow: no burst follows."""
    started = time.monotonic()
    reader = DemoReader({"fps": "5"}, asset=asset)
    times = [next(reader)[1] for _ in range(4)]
    assert times[-1] - started >= 3 * 0.2
    time.sleep(0.7)
    resumed = time.monotonic()
    times = [next(reader)[1] for _ in range(3)]
    assert times[-1] - resumed >= 2 * 0.2


def test_capture_time_is_monotonic_time(asset: Path) -> None:
    """A frame's time is read from time.monotonic() after it was made and before it is handed over."""
    reader = DemoReader({}, asset=asset)
    before = time.monotonic()
    _, captured_at = next(reader)
    assert before <= captured_at <= time.monotonic()


def test_close_ends_a_reader_that_waits(asset: Path) -> None:
    """close() from another thread ends the wait for the next frame, and the iteration."""
    reader = DemoReader({"fps": "0.01"}, asset=asset)
    next(reader)
    ended = threading.Event()

    def wait() -> None:
        for _ in reader:
            return
        ended.set()

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    assert not ended.wait(0.2)  # the next frame is due in 100 s
    reader.close()
    assert ended.wait(30)
    assert list(reader) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"speed": "3"}, "'speed'.*fps, loop"),
        ({"fps": "fast"}, "fps='fast'.*500"),
        ({"fps": "-1"}, "fps='-1'"),
        ({"fps": "nan"}, "fps='nan'"),
        ({"fps": "501"}, "fps='501'"),
        ({"loop": "2"}, "loop='2'"),
    ],
)
def test_bad_options_are_refused(options: dict[str, str], message: str, asset: Path) -> None:
    """An option that isn't known, or a value out of range, is a SourceUriError that names it and what is allowed."""
    with pytest.raises(SourceUriError, match=message):
        DemoReader(options, asset=asset)


def test_a_missing_file_names_the_next_step(tmp_path: Path) -> None:
    """Without the file of patches nothing is read, and the error says which command makes it."""
    with pytest.raises(SourceError, match=r"missing.*firewall lab demo"):
        DemoReader({}, asset=tmp_path / "demo.zip")


def test_patches_survive_the_round_trip(asset: Path, patches: list[Patch]) -> None:
    """What is read is what was written, bit for bit."""
    found = read_patches(asset)
    assert len(found) == len(patches)
    for one, two in zip(found, patches, strict=True):
        for name in ("encounter", "step", "x", "y", "attack"):
            assert getattr(one, name) == getattr(two, name)
        np.testing.assert_array_equal(one.pixels, two.pixels)


def test_the_same_patches_give_the_same_bytes(asset: Path, patches: list[Patch], tmp_path: Path) -> None:
    """The file depends on the patches alone, not on their order or the time, and nothing else is left beside it."""
    again = tmp_path / "demo.zip"
    again.write_bytes(b"an older file")
    write_patches(again, patches[::-1])
    assert again.read_bytes() == asset.read_bytes()
    assert [path.name for path in tmp_path.iterdir()] == ["demo.zip"]


def test_a_failed_write_leaves_the_old_file(
    patches: list[Patch], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If writing fails half-way the old file stays as it was, and no part of the new one is left."""
    path = tmp_path / "demo.zip"
    path.write_bytes(b"an older file")
    write = zipfile.ZipFile.writestr

    def full(archive: zipfile.ZipFile, info: zipfile.ZipInfo, data: bytes | str) -> None:
        if info.filename == "05_03.png":
            raise OSError(28, "No space left on device")
        write(archive, info, data)

    monkeypatch.setattr(zipfile.ZipFile, "writestr", full)
    with pytest.raises(SourceError, match=r"demo\.zip.*No space left"):
        write_patches(path, patches)
    assert path.read_bytes() == b"an older file"
    assert [entry.name for entry in tmp_path.iterdir()] == ["demo.zip"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda found: found[1:], "1 of .* missing"),
        (lambda found: [*found, found[0]], "twice"),
        (lambda found: [replace(found[0], encounter=0), *found[1:]], "00_00.* no step of an attacked"),
        (lambda found: [replace(found[0], step=10), *found[1:]], "_10.* no step"),
        (lambda found: [replace(found[0], attack="none"), *found[1:]], "'none'"),
        (lambda found: [replace(found[0], x=WIDTH - 5), *found[1:]], "leaves the scene"),
        (lambda found: [replace(found[0], y=HEIGHT - BAND - 5), *found[1:]], "leaves the scene"),
        (lambda found: [replace(found[0], x=-1), *found[1:]], "leaves the scene"),
        (lambda found: [replace(found[0], pixels=found[0].pixels[..., 0]), *found[1:]], "uint8"),
        (lambda found: [replace(found[0], pixels=found[0].pixels / 255), *found[1:]], "uint8"),
    ],
)
def test_patches_that_dont_fit_are_not_written(
    change: Callable[[list[Patch]], list[Patch]], message: str, patches: list[Patch], tmp_path: Path
) -> None:
    """Patches must cover each attacked frame once, be of its attack and lie in the scene; else nothing is written."""
    with pytest.raises(SourceError, match=message):
        write_patches(tmp_path / "demo.zip", change(patches))
    assert not list(tmp_path.iterdir())


def rewrite(asset: Path, out: Path, change: Callable[[dict[str, Any]], Any], drop: str = "") -> Path:
    """A copy of the file with its index changed and the member `drop` left out."""
    with zipfile.ZipFile(asset) as old, zipfile.ZipFile(out, "w") as new:
        index = json.loads(old.read("index.json"))
        change(index)
        for name in old.namelist():
            if name != drop:
                new.writestr(name, json.dumps(index) if name == "index.json" else old.read(name))
    return out


@pytest.mark.parametrize(
    ("change", "drop", "message"),
    [
        (lambda index: index.update(format=2), "", "format 2, not 1"),
        (lambda index: index.pop("patches"), "", "KeyError"),
        (lambda index: index["patches"].pop(), "", "1 of .* missing"),
        (lambda index: index["patches"][0].update(x="3"), "", "can't be read"),
        (lambda index: index["patches"][0].update(step=True), "", "can't be read"),
        (lambda index: index["patches"][0].update(x=-3), "", "leaves the scene"),
        (lambda index: index["patches"][0].update(attack="other"), "", "'other'"),
        (lambda _: None, "02_00.png", "can't be read.*02_00"),
        (lambda _: None, "index.json", "can't be read.*index.json"),
    ],
)
def test_a_file_that_doesnt_fit_is_refused(
    change: Callable[[dict[str, Any]], Any], drop: str, message: str, asset: Path, tmp_path: Path
) -> None:
    """A file of patches of another format, incomplete or at odds with the list is refused before the first frame."""
    damaged = rewrite(asset, tmp_path / "demo.zip", change, drop)
    with pytest.raises(SourceError, match=message) as caught:
        DemoReader({}, asset=damaged)
    assert "firewall lab demo" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_damaged_file_is_refused(asset: Path, tmp_path: Path) -> None:
    """A file cut short, one that is no archive, and one with a flipped byte in a picture are refused."""
    whole = asset.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    for data in (whole[: len(whole) // 2], b"not an archive", b"", bytes(flipped)):
        path = tmp_path / "demo.zip"
        path.write_bytes(data)
        with pytest.raises(SourceError, match=r"can't be read.*firewall lab demo"):
            read_patches(path)


def test_the_shipped_patches_cover_their_signs() -> None:
    """The file in the package fits the list, is at most 3 MB, and each patch covers most of its frame's sign."""
    assert ASSET.stat().st_size <= 3_000_000
    for index, patch in zip(ATTACKED, read_patches(ASSET), strict=True):
        x, y, width, height = truth(index).box
        shared_x = min(x + width, patch.x + patch.pixels.shape[1]) - max(x, patch.x)
        shared_y = min(y + height, patch.y + patch.pixels.shape[0]) - max(y, patch.y)
        assert max(shared_x, 0) * max(shared_y, 0) > 0.7 * width * height
