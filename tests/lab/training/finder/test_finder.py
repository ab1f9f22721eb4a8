"""Training of the sign finder: what it is shown, what it is punished for, and a run that is stopped and goes on."""

from __future__ import annotations

import io
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from firewall.bundle import FinderSpec, load_bundle
from firewall.bundle.onnx_bytes import precision_of
from firewall.engines import OnnxRuntimeNetwork
from firewall.errors import DataError, UsageError
from firewall.export.onnx import export_map
from firewall.lab.datasets.gtsdb import scenes_of_pack
from firewall.lab.models.finder import CHANNELS, COARSEST, STRIDE, WHITE, Finder, reading_bytes
from firewall.lab.training.finder.cutouts import KINDS, Cutout, cut_out, kind_of, outline, without_margin
from firewall.lab.training.finder.loss import finder_loss, to_corners
from firewall.lab.training.finder.material import Every, load_material, parse_every
from firewall.lab.training.finder.measuring import Seen, figures, matched, threshold_for
from firewall.lab.training.finder.scenes import ROWS, Ground, Kinds, Windows, read_mined, write_mined
from firewall.lab.training.finder.training import FinderSettings, load_finder, train_finder
from firewall.regions.finder_map import boxes_of
from firewall.regions.sign_finder import SignFinder
from tests.lab.in_process import lab


def scenes(path: Path, count: int = 20) -> Path:
    """A pack of street-like noise, each second frame with a red disc that is annotated as GTSDB does it."""
    generator = np.random.default_rng(0)
    blobs, boxes = [], []
    for number in range(count):
        frame = generator.integers(60, 120, (150, 210, 3)).astype(np.uint8)
        here = []
        if number % 2:
            x, y = int(generator.integers(20, 160)), int(generator.integers(20, 100))
            cv2.circle(frame, (x + 15, y + 15), 15, (220, 20, 20), -1)
            here = [[1, x, y, x + 30, y + 30]]
        file = io.BytesIO()
        Image.fromarray(frame).save(file, "PNG")
        blobs.append(file.getvalue())
        boxes.append(json.dumps(here))
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(
        path,
        blob=np.frombuffer(b"".join(blobs), np.uint8),
        off=np.cumsum([0, *map(len, blobs)]),
        frame=np.arange(count),
        boxes=np.array(boxes),
    )
    return path


SETTINGS = FinderSettings(epochs=2, batch=4, windows=8, side=128, tracks_without="3:2")


def run(pack: Path, data: Path, out: Path, settings: FinderSettings = SETTINGS) -> Finder:
    """A training of seconds."""
    material = load_material([pack], data, without=[Every(5, 0)], held=Every(10, 1), tracks_without=Every(3, 2))
    return train_finder(material, out, settings, nothing=0.5, threads=1, workers=0)


def same(one: torch.nn.Module, two: torch.nn.Module) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), two.state_dict().values(), strict=True))


class StoppedError(Exception):
    """In the place of a kill."""


def test_a_stopped_run_goes_on_to_the_same_weights(
    tmp_path: Path, small_gtsrb: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped as soon as the first epoch's checkpoint is there, started again: every weight is that of a run never
    stopped; other settings are refused."""
    from firewall.lab.training import loop

    pack, save = scenes(tmp_path / "scenes.npz"), loop._save
    whole = run(pack, small_gtsrb, tmp_path / "whole")

    def once(*arguments: object) -> None:
        save(*arguments)  # type: ignore[arg-type]
        raise StoppedError

    with monkeypatch.context() as patch:
        patch.setattr(loop, "_save", once)
        with pytest.raises(StoppedError):
            run(pack, small_gtsrb, tmp_path / "cut")
    half, epochs = load_finder(tmp_path / "cut" / "checkpoint.pt")
    assert epochs == 1 and not same(half, whole)
    assert same(run(pack, small_gtsrb, tmp_path / "cut"), whole)
    assert not whole.training and len((tmp_path / "whole" / "held.jsonl").read_text().splitlines()) == 2
    with pytest.raises(DataError, match="other settings"):
        run(pack, small_gtsrb, tmp_path / "cut", FinderSettings(epochs=3, batch=4, windows=8, side=128))
    torch.save({"epoch": 1, "average": {}}, tmp_path / "other.pt")
    with pytest.raises(DataError, match="no checkpoint of 'firewall lab train finder'"):
        load_finder(tmp_path / "other.pt")


def test_a_run_goes_on_from_another_one_s_weights(tmp_path: Path, small_gtsrb: Path) -> None:
    """With a learning rate of nothing its result has the weights of the run that it started from."""
    pack = scenes(tmp_path / "scenes.npz")
    first = run(pack, small_gtsrb, tmp_path / "first")
    still = FinderSettings(epochs=1, batch=4, windows=4, side=128, tracks_without="3:2", learning_rate=0.0)
    material = load_material([pack], small_gtsrb, without=[Every(5, 0)], held=Every(10, 1), tracks_without=Every(3, 2))
    start = tmp_path / "first" / "checkpoint.pt"
    second = train_finder(material, tmp_path / "second", still, nothing=0.5, threads=1, workers=0, start=start)
    weights = dict(second.named_parameters())
    assert all(torch.equal(value, weights[name]) for name, value in first.named_parameters())


def test_the_command_trains_and_a_bundle_takes_the_result(tmp_path: Path, small_gtsrb: Path) -> None:
    """`lab train finder`, then `lab add-finder`: the card says what the finder is, the bundle loads, and its finder
    looks at a frame."""
    pack, out = scenes(tmp_path / "scenes.npz"), tmp_path / "run"
    given = ("--scenes", pack, "--data", small_gtsrb, "--out", out, "--tracks-without", "3:2")
    small = ("--epochs", 1, "--windows", 4, "--batch", 4, "--side", 128, "--threads", 1, "--workers", 0)
    trained = lab("train", "finder", *given, *small)
    assert trained.returncode == 0, trained.stderr
    card = json.loads(trained.stdout)
    assert card == json.loads((out / "card.json").read_text()) and card["parameters"] < 400_000
    assert card["finder"]["stride"] == STRIDE and 0 < card["finder"]["threshold"] < 1
    assert card["bytes"] == (out / "finder.onnx").stat().st_size <= 1_500_000
    about = card["training"]["data"]["scenes.npz"]
    assert about["frames"] == 14 and about["left for judging"] == "frames 5:0" and len(about["sha256"]) == 64
    assert card["held frames"]["frames"] == 2
    added = lab("add-finder", "--finder", out, "--out", tmp_path / "bundle")
    assert added.returncode == 0, added.stderr
    bundle = load_bundle(tmp_path / "bundle")
    assert bundle.manifest.finder is not None and bundle.manifest.finder.precision == "fp16"
    assert len(SignFinder.of(bundle, threads=1).find(np.zeros((50, 70, 3), np.uint8))) <= 8
    missing = lab("train", "finder", *given[:-4], "--out", tmp_path / "more", *given[-2:], *small, "--start", tmp_path)
    assert missing.returncode != 0 and "holds no checkpoint.pt" in missing.stderr


def test_torch_and_onnx_runtime_say_the_same(tmp_path: Path) -> None:
    """The exported map is the network's for several sizes and batches; the boxes from both are the same."""
    torch.manual_seed(0)
    network = Finder().eval()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)  # type: ignore[union-attr, operator]
            module.running_var.uniform_(0.5, 1.5)  # type: ignore[union-attr, operator]
    torch.nn.init.normal_(network.head.weight, std=0.3)
    file = tmp_path / "finder.onnx"
    export_map(reading_bytes(network), file, multiple=COARSEST, stride=STRIDE, outputs=CHANNELS, white=WHITE)
    content = file.read_bytes()
    assert precision_of(content, "finder") == "fp32"
    asked = OnnxRuntimeNetwork(content, "finder", threads=1)
    for shape in ((1, 3, 32, 32), (2, 3, 96, 64), (1, 3, 160, 256)):
        image = torch.rand(shape)
        with torch.no_grad():
            expected = network(image).numpy()
        found = asked(image.numpy() * np.float32(WHITE))
        assert found.shape == expected.shape == (shape[0], 5, shape[2] // 8, shape[3] // 8)
        assert np.abs(found - expected).max() < 1e-3
        boxes = [boxes_of(answer[0], STRIDE, 0.02, 8)[0] for answer in (expected, found)]
        assert boxes[0].shape == boxes[1].shape and np.allclose(*boxes, atol=0.05)
    spec = FinderSpec(file="finder.onnx", threshold=0.02)
    frame = np.random.default_rng(0).integers(0, 256, (90, 150, 3), np.uint8)
    canvas = np.zeros((96, 160, 3), np.float32)
    canvas[:90, :150] = frame
    with torch.no_grad():
        answer = network(torch.from_numpy(canvas / 255).permute(2, 0, 1)[None])[0].numpy()
    corners, _ = boxes_of(answer, STRIDE, 0.02, 8)
    regions = SignFinder(spec, content, "finder", threads=1).find(frame)
    left = np.clip(np.rint(corners[:, 0]), 0, 150).astype(int)
    assert len(regions) <= len(left) and {x for x, *_ in regions} <= set(left.tolist())


def perfect(boxes: torch.Tensor, side: int = 128) -> torch.Tensor:
    """The map that says exactly these boxes (K, 4)."""
    count = side // STRIDE
    answer = torch.zeros(1, 5, count, count)
    answer[:, 0] = -20
    middle = (torch.arange(count) + 0.5) * STRIDE
    for x0, y0, x1, y1 in boxes.tolist():
        column, row = int((x0 + x1) / 2 // STRIDE), int((y0 + y1) / 2 // STRIDE)
        answer[0, 0, row, column] = 20
        for r in range(count):
            for c in range(count):
                x, y = float(middle[c]), float(middle[r])
                if x0 < x < x1 and y0 < y < y1:
                    answer[0, 1:, r, c] = torch.log(torch.tensor([x - x0, y - y0, x1 - x, y1 - y]) / STRIDE)
    return answer


def test_the_loss_is_zero_only_for_the_right_map() -> None:
    """Right centres and boxes: nothing; a missed sign, a false one, a box that is too large: more. Inside a box that
    may be found or not, neither answer costs anything."""
    boxes = torch.tensor([[20.0, 30, 50, 60], [70, 70, 90, 90]])
    wanted = torch.full((1, ROWS, 5), -1.0)
    wanted[0, :2, :4], wanted[0, :2, 4] = boxes, 1
    right = perfect(boxes)
    assert finder_loss(right, wanted) < 0.02
    assert torch.allclose(to_corners(right[:, 1:])[0, :, 5, 4], boxes[0], atol=1e-3)
    missed, false, large = right.clone(), right.clone(), right.clone()
    missed[0, 0, 5, 4] = -20
    false[0, 0, 14, 2] = 20
    large[0, 1:] += 0.7
    for wrong in (missed, false, large):
        assert finder_loss(wrong, wanted) > 0.3
    wanted[0, 2] = torch.tensor([4.0, 100, 36, 124, 0])
    assert finder_loss(false, wanted) < 0.02 and finder_loss(right, wanted) < 0.02
    assert finder_loss(right, torch.full((1, ROWS, 5), -1.0)) > 1  # two signs where there is none


@pytest.mark.parametrize("label", [1, 12, 13, 14, 18])
@pytest.mark.parametrize("side", [14.0, 40.0, 90.0])
def test_a_pasted_sign_s_box_is_where_its_shape_ends(label: int, side: float) -> None:
    """A white shape of each kind on black, posed at random: the box is the white area's, to two pixels, and the mask
    leaves none of it out."""
    picture = np.zeros((160, 160, 3), np.uint8)
    corners = np.round((outline(label) * 29.5 + 79.5) * 16).astype(np.int32)
    cv2.fillPoly(picture, [corners], (255, 255, 255), cv2.LINE_AA, 4)
    generator = np.random.default_rng(label)
    for _ in range(5):
        sign = cut_out(Cutout(picture, (50.0, 50.0, 110.0, 110.0), label), side, generator)
        rows, columns = np.nonzero(sign.pixels[..., 0] > 110)
        seen = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
        assert np.abs(np.subtract(seen, sign.box)).max() <= 2.5
        assert (sign.mask[..., 0][sign.pixels[..., 0] > 200] > 0.5).all()


def test_gtsrb_s_margin_is_taken_off() -> None:
    """A sign of 20 pixels has five around it, one of 200 a tenth."""
    assert without_margin(np.zeros((30, 30, 3), np.uint8)) == (5, 5, 25, 25)
    assert without_margin(np.zeros((240, 240, 3), np.uint8)) == (20, 20, 220, 220)


def test_each_kind_of_sign_is_shown_as_often_as_it_should() -> None:
    """Of all 43 classes, and of a list with hardly any but speed limits: the shares of the kinds hold within 2 %; kinds
    that aren't there leave their share to the others."""
    generator = np.random.default_rng(0)
    for labels in (list(range(43)), [1] * 90 + list(range(43))):
        kinds = Kinds(labels)
        drawn = [kind_of(labels[kinds.draw(generator)]) for _ in range(8000)]
        assert np.abs(np.bincount(drawn, minlength=len(KINDS)) / 8000 - KINDS).max() < 0.02
    assert abs(sum(KINDS) - 1) < 1e-9
    two = Kinds([13, 17, 17])
    assert 0.4 < np.mean([two.draw(generator) == 0 for _ in range(2000)]) < 0.7


def test_windows_are_the_same_for_the_same_numbers_and_show_the_signs(tmp_path: Path) -> None:
    """(seed, epoch, index) gives one window; boxes lie in it; what was mined is shown in the epoch that it is for."""
    frame = np.full((300, 400, 3), 80, np.uint8)
    frame[100:140, 200:240] = (255, 0, 0)
    ground = Ground(frame, np.array([[200.0, 100, 240, 140, 1]]))

    def windows(seed: int = 0) -> Windows:
        return Windows([ground], [], [], side=128, seed=seed, mined=tmp_path)

    one, other = windows()[3, 5], windows()[3, 5]
    assert torch.equal(one[0], other[0]) and torch.equal(one[1], other[1])
    assert not torch.equal(one[0], windows(1)[3, 5][0]) and not torch.equal(one[0], windows()[4, 5][0])
    shown = 0
    for index in range(60):
        image, rows = windows()[0, index]
        assert image.shape == (3, 128, 128) and image.min() >= 0 and image.max() <= 1 and rows.shape == (ROWS, 5)
        for x0, y0, x1, y1, kind in rows[rows[:, 4] >= 0].tolist():
            assert 0 <= x0 < x1 <= 128 and 0 <= y0 < y1 <= 128
            if kind == 1 and x1 - x0 > 20 and y1 - y0 > 20:
                inner = image[:, int(y0) + 5 : int(y1) - 5, int(x0) + 5 : int(x1) - 5]
                shown += bool((inner[0] - inner[2]).mean() > 0.1)
    assert shown > 15
    write_mined(tmp_path, 2, [(0, 30.0, 40.0)])
    assert read_mined(tmp_path, 2) == [(0, 30.0, 40.0)] and read_mined(tmp_path, 1) == []


def test_judging_frames_are_never_read(tmp_path: Path, small_gtsrb: Path) -> None:
    """With 5:0 left for judging and 10:1 held, the other frames are trained on, each once, and no more; boxes' last
    pixels are inside, as GTSDB writes them."""
    pack = scenes(tmp_path / "scenes.npz")
    found = load_material([pack], small_gtsrb, without=[Every(5, 0)], held=Every(10, 1), tracks_without=Every(3, 2))
    all_frames = scenes_of_pack(pack).frames
    used = [index for index in range(20) if index % 5 and index % 10 != 1]
    assert len(found.grounds) == len(used) == 14 and len(found.held) == 2
    for ground, index in zip(found.grounds, used, strict=True):
        assert np.array_equal(ground.pixels, all_frames[index])
    assert np.array_equal(found.held[1][0], all_frames[11])
    box = found.grounds[1].boxes[0]
    assert box[2] - box[0] == 31 and box[3] - box[1] == 31


@pytest.mark.parametrize("text", ["5", "5:5", "0:0", "a:b", "5:-1", "", "1:0", "99999:0"])
def test_a_choice_of_frames_that_is_none_is_refused(text: str) -> None:
    """One line that names the option and what is allowed."""
    with pytest.raises(UsageError, match=r"--frames-without must be N:R"):
        parse_every(text, "--frames-without")


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (("--side", 100), "multiple of 32"),
        (("--frames-held", "5:0"), "no frame"),
        (("--frames-without", "x"), "N:R"),
        (("--boxes-on-nothing", 0), "above 0"),
        (("--device", "tpu"), "cpu, cuda"),
    ],
)
def test_wrong_use_is_one_line(tmp_path: Path, small_gtsrb: Path, more: tuple[object, ...], words: str) -> None:
    """Nothing is trained, and no traceback comes."""
    pack = scenes(tmp_path / "scenes.npz")
    refused = lab("train", "finder", "--scenes", pack, "--data", small_gtsrb, "--out", tmp_path / "run", *more)
    assert refused.returncode != 0 and words in refused.stderr and "Traceback" not in refused.stderr
    assert not (tmp_path / "run" / "checkpoint.pt").exists()


def test_each_sign_is_found_once_and_the_rest_is_nothing() -> None:
    """Two boxes on one sign, one beside: one hit with the better score, one box on nothing; the second box on a sign
    that is found already is not one on nothing."""
    signs = np.array([[10.0, 10, 30, 30], [50, 50, 70, 70]])
    corners = np.array([[11.0, 10, 31, 30], [9, 10, 29, 30], [100, 0, 120, 20]])
    hit, free = matched(signs, corners, np.array([0.9, 0.8, 0.7]))
    assert hit.tolist() == [0.9, -1.0] and free.tolist() == [False, False, True]
    seen = [Seen(signs, np.array([1, 2]), hit, np.array([0.7, 0.4]), corners[:2])] * 2
    assert 0.4 < threshold_for(seen, 1.0) <= 0.401 and 0.7 < threshold_for(seen, 0.5) <= 0.701
    found = figures(seen, 0.5)
    assert found["recall"]["all"] == {"signs": 4, "found": 2, "recall": 0.5}
    assert found["recall"]["24px"]["signs"] == 0 and found["boxes_on_nothing"] == {"boxes": 2, "a_frame": 1.0}
