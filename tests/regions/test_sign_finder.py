"""The bundle's own finder of signs: frames of any size, one clear line where it can't be used."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from firewall.bundle import load_bundle
from firewall.demo.source import truth
from firewall.engines.sessions import CPU
from firewall.errors import BundleError, EngineError, ImageError, UsageError
from firewall.frame import Pixels, Region
from firewall.host.onnxruntime import ort
from firewall.regions import build
from firewall.regions.boxes import overlaps
from firewall.regions.sign_finder import MOST_PIXELS, SignFinder
from tests.fake_cuda import FakeGpu, install_cuda
from tests.fake_tensorrt import install_tensorrt
from tests.finders import HIGH, SPEC, WIDE, bundle_with_finder, finder_folder, red_finder, street
from tests.fused_bundle import fused_bundle
from tests.lab.in_process import lab


def finder(limit: int = 8, content: bytes | None = None, **changes: object) -> SignFinder:
    """The red one."""
    return SignFinder(SPEC.model_copy(update=changes), content or red_finder(), "finder.onnx", limit, threads=1)


#: Frames of another form, made of a right one, and what is said of them.
ODD_FRAMES: list[tuple[Callable[[Pixels], Any], str]] = [
    (lambda frame: frame[..., 0], r"uint8 \(96, 200\)"),
    (lambda frame: frame[..., :1], r"\(96, 200, 1\)"),
    (lambda frame: np.concatenate([frame, frame[..., :1]], axis=2), r"\(96, 200, 4\)"),
    (lambda frame: frame.astype(np.uint16) * 257, "got uint16"),
    (lambda frame: frame.astype(np.int8), "got int8"),
    (lambda frame: frame / np.float32(255), "got float32"),
    (lambda frame: frame[None], r"\(1, 96, 200, 3\)"),
    (lambda frame: frame[:0], "0 pixels"),
    (lambda frame: frame[:, :0], "0 pixels"),
    (lambda frame: frame.tolist(), "got list"),
    (lambda frame: None, "got NoneType"),
]


def box_at(x: int, y: int) -> Region:
    """What it says of a red square at x, y."""
    return (x + 4 - WIDE // 2, y + 4 - HIGH // 2, WIDE, HIGH)


def inside(regions: list[Region], frame: Pixels) -> bool:
    return all(
        x >= 0 and y >= 0 and w >= 1 and h >= 1 and x + w <= frame.shape[1] and y + h <= frame.shape[0]
        for x, y, w, h in regions
    )


def test_boxes_lie_where_the_signs_are() -> None:
    """To the pixel, in a frame whose sides are no multiples of anything, and again after frames of other sizes."""
    asked = finder()
    frame = street(101, 203, [(40, 48), (152, 40)])
    assert sorted(asked.find(frame)) == [box_at(40, 48), box_at(152, 40)]
    assert asked.find(street(333, 77, [(32, 200)])) == [box_at(32, 200)]
    assert asked.find(street(96, 200)) == []
    assert sorted(asked.find(frame)) == [box_at(40, 48), box_at(152, 40)]


def test_what_a_larger_frame_left_is_not_seen() -> None:
    """A frame that is smaller but filled up to the same size: the red beyond its edge was the last one's."""
    asked = finder()
    assert len(asked.find(street(128, 160, [(152, 120), (8, 120), (152, 8)]))) == 3
    assert asked.find(street(100, 130)) == []


def test_each_sign_of_the_demo_is_boxed_once(demo_frames: list[Pixels]) -> None:
    """The default bundle's finder on 60 frames, near and far, attacked or not: one region at the sign in 19 of 20
    frames, hardly ever two that could contradict each other."""
    asked = build("signs", limit=20, threads=1, bundle=load_bundle())
    boxed = []
    for place in np.linspace(0, len(demo_frames) - 1, 60).astype(int).tolist():
        regions = np.array(asked.find(demo_frames[place]), np.float64).reshape(-1, 4)
        shared = overlaps(np.array([truth(place).box], np.float64), regions)[0]
        boxed.append((int((shared >= 0.5).sum()), int((shared >= 0.1).sum())))
    assert sum(at == 1 for at, _ in boxed) >= 57
    assert sum(near > 1 for _, near in boxed) <= 1


def test_the_margin_of_the_manifest_is_added_and_cut_off_at_the_frame() -> None:
    """A quarter of each side on each side; at the edge no more than there is."""
    asked = finder(margin=0.25)
    x, y, width, height = box_at(80, 80)
    assert asked.find(street(200, 200, [(80, 80)])) == [(x - 6, y - 10, width + 12, height + 20)]
    frame = street(200, 200, [(0, 0)])
    (region,) = asked.find(frame)
    assert region[:2] == (0, 0) and inside([region], frame)


@pytest.mark.parametrize("shape", [(1, 1), (1, 700), (700, 1), (7, 9), (31, 33), (32, 32), (1080, 1920)])
def test_any_size_is_looked_at(shape: tuple[int, int]) -> None:
    """Grey, white and all red frames, those of one colour channel's memory order too: regions inside the frame."""
    asked = finder()
    for frame in (street(*shape), np.full((*shape, 3), 255, np.uint8)):
        assert asked.find(frame) == []
    red = np.zeros((*shape, 3), np.uint8)
    red[..., 0] = 255
    assert inside(asked.find(red), red) and len(asked.find(red)) <= 8
    assert asked.find(np.asfortranarray(red)) == asked.find(red)


@pytest.mark.parametrize("shape", [(6000, 8000), (1, 2_000_000), (70_000, 30)])
def test_a_huge_frame_is_made_smaller_first(shape: tuple[int, int]) -> None:
    """What the network reads is bounded, whatever the frame's sides; a sign that is large enough is found."""
    asked = finder()
    frame = np.full((*shape, 3), 90, np.uint8)
    if min(shape) > 1000:
        frame[3000:3120, 4000:4120] = (255, 0, 0)
    found = asked.find(frame)
    assert asked._input.size <= 3 * MOST_PIXELS * 1.1
    if min(shape) > 1000:
        wanted = np.array([[4060 - 200, 3060 - 200, 400, 400]], np.float64)
        assert inside(found, frame) and overlaps(np.array(found, np.float64), wanted).max() > 0


def test_what_is_no_frame_of_8_bits_and_three_channels_is_refused() -> None:
    """Grey, 16 bits, floats, transparency, nothing at all: one line each; the frame before it is not looked at again,
    and the next one is judged as ever."""
    asked = finder()
    frame = street(96, 200, [(40, 48)])
    for odd, words in ODD_FRAMES:
        assert asked.find(frame) == [box_at(40, 48)]
        with pytest.raises(ImageError, match=words) as caught:
            asked.find(odd(frame))
        assert "\n" not in str(caught.value)
    assert asked.find(frame) == [box_at(40, 48)]


def test_frames_of_any_order_in_memory_are_the_same_frame() -> None:
    """Turned upside down and back, cut out of a larger one, read only, BGR seen as RGB: the box is where it was."""
    asked, frame = finder(), street(101, 203, [(40, 48)])
    frame[0, 0] = (1, 2, 3)
    wide = np.zeros((150, 300, 3), np.uint8)
    wide[20:121, 30:233] = frame
    locked = frame.copy()
    locked.setflags(write=False)
    for same in (
        np.ascontiguousarray(frame[::-1, ::-1])[::-1, ::-1],
        np.ascontiguousarray(frame[..., ::-1])[..., ::-1],
        np.asfortranarray(frame),
        wide[20:121, 30:233],
        locked,
    ):
        assert asked.find(same) == [box_at(40, 48)]
        assert np.array_equal(asked.read(same)[0, :, :101, :203], frame.transpose(2, 0, 1))


def test_the_limit_is_kept() -> None:
    """Best first, no more than asked for; one below 1 is refused."""
    frame = street(400, 400, [(x, y) for x in range(40, 360, 80) for y in range(40, 360, 80)])
    assert len(finder(3).find(frame)) == 3 and len(finder(100).find(frame)) == 16
    with pytest.raises(UsageError, match="limit"):
        finder(0)


def test_a_network_that_gives_no_numbers_withholds_the_frame() -> None:
    """NaN from the network is an EngineError of one line, when it is opened or when a frame comes."""
    with pytest.raises(EngineError, match="not finite"):
        finder(content=red_finder(bias=float("nan")))
    sick = finder(content=red_finder(bias=-3e38, weight=-6e38))  # overflows only where something is red
    assert sick.find(street(64, 64)) == []
    with pytest.raises(EngineError, match="not finite") as caught:
        sick.find(street(64, 64, [(0, 0)]))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "changes", "words"),
    [
        (red_finder(channels=4), {}, "is needed"),
        (None, {"stride": 4}, "is needed"),
        (None, {"input": "pixels"}, "its bundle says"),
        (None, {"output": "boxes"}, "its bundle says"),
        (b"no network", {}, "can't be loaded"),
    ],
)
def test_a_network_of_another_kind_is_refused_when_it_is_opened(
    content: bytes | None, changes: dict[str, object], words: str
) -> None:
    """In one line that names the file."""
    with pytest.raises(EngineError, match=words) as caught:
        finder(content=content, **changes)
    assert "finder.onnx" in str(caught.value) and "\n" not in str(caught.value)


def test_signs_are_looked_for_with_the_bundle_s_finder(tmp_path: Path) -> None:
    """`signs` is the finder of the bundle that judges, with the limit that was asked for."""
    bundle = bundle_with_finder(tmp_path / "bundle")
    found = build("signs", limit=2, threads=1, bundle=bundle)
    assert isinstance(found, SignFinder) and found.limit == 2
    assert found.find(street(200, 300, [(80, 80)])) == [box_at(80, 80)]
    with pytest.raises(BundleError, match="add-finder"):
        SignFinder.of(load_bundle().__class__(bundle.path, _without(bundle), bundle.files, bundle.sha256))


def _without(bundle: object) -> object:
    return bundle.manifest.model_copy(update={"finder": None})  # type: ignore[attr-defined]


def test_the_finder_runs_on_the_device_that_was_asked_for_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where ONNX Runtime has no GPU, cuda and tensorrt are refused in one line, never the processor in their place;
    with TensorRT's own package, too, if there is no plan or no GPU. It says what runs it."""
    bundle = bundle_with_finder(tmp_path / "bundle")
    monkeypatch.setattr(ort, "get_available_providers", lambda: [CPU])
    for device in ("cuda", "tensorrt"):
        for package in (False, True) if device == "cuda" else (False,):
            for place in ("firewall.engines.sessions", "firewall.engines.frame_network"):
                monkeypatch.setattr(f"{place}.has_tensorrt", lambda there=package: there)
            with pytest.raises(EngineError, match=f"device '{device}' can't be used") as caught:
                build("signs", device=device, threads=1, bundle=bundle)
            assert "\n" not in str(caught.value)
    assert build("signs", threads=1, bundle=bundle).networks == {"finder.onnx": CPU}
    monkeypatch.setenv("FIREWALL_PLANS", str(tmp_path / "plans"))
    install_tensorrt(monkeypatch)
    monkeypatch.setattr("firewall.engines.frame_network.has_tensorrt", lambda: True)
    for gpus, words in ((1, "finder.onnx of bundle .* there are no TensorRT plans in"), (0, "CUDA refuses")):
        install_cuda(monkeypatch, FakeGpu(count=gpus))
        with pytest.raises(EngineError, match=words) as caught:
            build("signs", device="tensorrt", threads=1, bundle=bundle)
        assert "\n" not in str(caught.value)
    with pytest.raises(UsageError, match="cpu, cuda, tensorrt"):
        build("signs", device="npu", threads=1, bundle=bundle)


def test_a_finder_that_was_changed_is_not_used(tmp_path: Path) -> None:
    """One flipped byte, a missing file, a file that isn't listed, another precision: the bundle doesn't load."""
    path = tmp_path / "bundle"
    bundle_with_finder(path)
    file, manifest = path / "finder.onnx", path / "manifest.json"
    whole, text = file.read_bytes(), manifest.read_text()
    file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(BundleError, match="is not the file that its bundle was made with"):
        load_bundle(path)
    file.unlink()
    with pytest.raises(BundleError, match=r"finder\.onnx"):
        load_bundle(path)
    file.write_bytes(whole)
    for change, words in (({"file": "other.onnx"}, "doesn't list it"), ({"precision": "int8"}, "int8")):
        values = json.loads(text)
        values["finder"] |= change
        manifest.write_text(json.dumps(values))
        with pytest.raises(BundleError, match=words):
            load_bundle(path)
    for change in ({"threshold": 1.5}, {"stride": 0}, {"multiple": 12}, {"file": "classifier.onnx"}, {"unknown": 1}):
        values = json.loads(text)
        values["finder"] |= change
        manifest.write_text(json.dumps(values))
        with pytest.raises(BundleError, match="not valid"):
            load_bundle(path)


def test_add_finder_puts_one_into_a_bundle(tmp_path: Path) -> None:
    """By the command: all else of the bundle stays as it is, but for golden frames, whose verdicts may differ with
    it; a second one takes the first one's place."""
    first = lab("add-finder", "--finder", finder_folder(tmp_path / "a"), "--out", tmp_path / "new")
    assert first.returncode == 0, first.stderr
    old, new = load_bundle(), load_bundle(tmp_path / "new")
    assert new.manifest.finder is not None and new.files["finder.onnx"] == red_finder()
    kept = {name: content for name, content in old.files.items() if not name.startswith("golden")}
    assert {**new.files, "finder.onnx": b""} == {**kept, "finder.onnx": b""} and not new.manifest.golden
    assert new.manifest.detectors == old.manifest.detectors and new.manifest.calibration == old.manifest.calibration
    other = finder_folder(tmp_path / "b", red_finder(bias=-9.0), threshold=0.25, margin=0.1)
    given = ("--bundle", tmp_path / "new", "--finder", other / "finder.onnx", "--out", tmp_path / "new")
    assert lab("add-finder", *given).returncode == 0
    again = load_bundle(tmp_path / "new").manifest.finder
    assert again is not None and again.threshold == 0.25 and again.margin == 0.1


def test_a_bundle_s_finder_is_put_into_another(tmp_path: Path) -> None:
    """The same file with the same threshold; a bundle that has none is one line."""
    bundle_with_finder(tmp_path / "one", threshold=0.3, file="other.onnx")
    added = lab("add-finder", "--finder", tmp_path / "one", "--bundle", fused_bundle(), "--out", tmp_path / "two")
    assert added.returncode == 0, added.stderr
    finder = load_bundle(tmp_path / "two").manifest.finder
    assert finder == SPEC.model_copy(update={"threshold": 0.3})
    refused = lab("add-finder", "--finder", fused_bundle(), "--out", tmp_path / "three")
    assert refused.returncode != 0 and "has no sign finder" in refused.stderr


def test_add_finder_refuses_what_is_none(tmp_path: Path) -> None:
    """No folder, no card, a file that the card doesn't describe, a network of another kind: one line."""
    changed = finder_folder(tmp_path / "changed")
    (changed / "finder.onnx").write_bytes(red_finder(bias=-8.0))
    empty = tmp_path / "empty"
    empty.mkdir()
    odd = finder_folder(tmp_path / "odd", red_finder(channels=4))
    bad = finder_folder(tmp_path / "bad", threshold=2.0)
    for folder, words in ((tmp_path / "none", "no sign finder"), (empty, "card.json"), (changed, "describes"),
                          (odd, "is needed"), (bad, "threshold")):  # fmt: skip
        refused = lab("add-finder", "--finder", folder, "--out", tmp_path / "out")
        assert refused.returncode != 0 and words in refused.stderr and "Traceback" not in refused.stderr
        assert len(refused.stderr.strip().splitlines()) == 1 and not (tmp_path / "out").exists()
