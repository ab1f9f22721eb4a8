"""Copies that a secret draws: the same for the same secret and image, others for any other, made as they are named."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from firewall import Firewall
from firewall.bundle import Bundle, DetectorSpec
from firewall.detectors.draws import DrawSpec
from firewall.engines import OnnxRuntimeEngine
from firewall.errors import BundleError, UsageError
from firewall.frame import Pixels
from firewall.sweep.keyed import GREY, Copy, KeyedSweep, copies, key_of, made, nonce_of, places, sweep_notice
from firewall.transforms import apply_operations, resize
from firewall.verdict import Reason
from tests.jurors import bundle_with, constant_network, juror

KEY, OTHER = key_of(1), key_of(2)
DRAW = DrawSpec(copies=6)
IMAGE = np.random.default_rng(0).integers(0, 256, (48, 48, 3), np.uint8)


class Counting:
    """An engine that gives zeros, counts its calls and keeps the last images."""

    provider = "test"

    def __init__(self) -> None:
        self.calls = 0
        self.seen: npt.NDArray[np.uint8] = np.zeros(0, np.uint8)

    def classify(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        self.calls, self.seen = self.calls + 1, images
        return np.zeros((len(images), 3), np.float32)


def keyed(threshold: float = 1e3, *, jurors: list[str] | None = None, **draw: object) -> DetectorSpec:
    named = [{"file": f"{name}.onnx", "width": 16, "height": 16} for name in jurors or []]
    return DetectorSpec(name="keyed", parameters={"draw": draw, "jurors": named}, threshold=threshold)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The default classifier and a keyed sweep of four copies, which withholds hardly anything."""
    return bundle_with(tmp_path_factory.mktemp("keyed") / "b", [keyed()], {})


def guard(bundle: Bundle, key: bytes | None = KEY) -> Firewall:
    return Firewall(bundle, OnnxRuntimeEngine(bundle, threads=1), threads=1, sweep_key=key)


def test_copies_follow_from_key_and_nonce_alone() -> None:
    """The same twice; another key, another nonce or another place give others; all within the range."""
    nonce = nonce_of(IMAGE)
    first = copies(KEY, nonce, DRAW)
    assert first == copies(KEY, nonce, DRAW) and len(set(first)) == 6
    assert first[:2] == copies(KEY, nonce, DrawSpec(copies=2))
    changed = IMAGE.copy()
    changed[5, 7, 1] ^= 1
    for other in (copies(OTHER, nonce, DRAW), copies(KEY, nonce_of(changed), DRAW)):
        assert not set(first) & set(other)


def test_a_nonce_is_of_shape_and_pixels() -> None:
    """The same bytes in another shape are another image; memory order is no matter."""
    assert nonce_of(IMAGE) == nonce_of(np.asfortranarray(IMAGE)) and len(nonce_of(IMAGE)) == 16
    assert nonce_of(IMAGE) != nonce_of(IMAGE.reshape(24, 96, 3))


def test_draws_are_spread_over_the_whole_range() -> None:
    """Of 600 copies each operation makes a third, and parameters come near both ends of theirs, never beyond."""
    draw = DrawSpec(copies=64, quality=(40, 95), angle=6, factor=(0.8, 1.25), shift=0.06, mask=0.04)
    drawn = [copy for turn in range(10) for copy in copies(KEY, nonce_of(IMAGE + np.uint8(turn)), draw)]
    found: dict[str, list[float]] = {}
    for copy in drawn:
        family, _, number = copy.operation.partition(":")
        found.setdefault(family, []).append(float(number))
    for family, low, high in (("jpeg", 40, 95), ("rotate", -6, 6), ("scale", 0.8, 1.25)):
        values, near = found[family], (high - low) / 20
        assert 0.25 < len(values) / len(drawn) < 0.42
        assert low <= min(values) < low + near and high - near < max(values) <= high
    shifts = np.array([[copy.right, copy.down] for copy in drawn])
    assert 0.05 < np.abs(shifts).max() <= 0.06 and np.abs(shifts.mean(axis=0)).max() < 0.006
    masks = np.array([copy.mask for copy in drawn if copy.mask is not None])
    areas = masks[:, 2] * masks[:, 3]
    assert len(masks) == len(drawn) and 0.036 < areas.max() <= 0.04 + 1e-9 and areas.min() < 0.004
    assert masks.min() >= 0 and (masks[:, :2] + masks[:, 2:]).max() <= 1 + 1e-9


@pytest.mark.parametrize(
    ("draw", "families"),
    [
        (DrawSpec(copies=40, angle=0, factor=None, shift=0, mask=0), {"jpeg"}),
        (DrawSpec(copies=40, quality=None, factor=None), {"rotate"}),
        (DrawSpec(copies=40, quality=None, angle=0), {"scale"}),
        (DrawSpec(copies=40, quality=None), {"rotate", "scale"}),
    ],
)
def test_only_what_is_asked_for_is_drawn(draw: DrawSpec, families: set[str]) -> None:
    """Each operation, the shift and the mask can be left out."""
    drawn = copies(KEY, bytes(16), draw)
    assert {copy.operation.partition(":")[0] for copy in drawn} == families
    if draw.mask == 0:
        assert all(copy.mask is None and copy.right == copy.down == 0 for copy in drawn)


def test_copies_are_made_as_they_are_named() -> None:
    """The operation's own bytes, then moved with the border repeated, then the mask."""
    plain, moved, masked = made(
        IMAGE,
        [
            Copy("jpeg:60"),
            Copy("rotate:3.50", right=2.2 / 48, down=-3 / 48),
            Copy("scale:1.100", mask=(0.25, 0.5, 0.125, 0.25)),
        ],
    )
    expected = apply_operations(IMAGE, ["jpeg:60", "rotate:3.5", "scale:1.1"])
    assert np.array_equal(plain, expected[0])
    assert np.array_equal(moved[:-3, 2:], expected[1][3:, :-2])
    assert np.array_equal(moved[-1, 2:], expected[1][-1, :-2]) and np.array_equal(moved[:-3, 0], expected[1][3:, 0])
    assert (masked[24:36, 12:18] == GREY).all()
    masked[24:36, 12:18] = expected[2][24:36, 12:18]
    assert np.array_equal(masked, expected[2])
    assert places(Copy("jpeg:60"), 48, 48) == (0, 0, None)


def test_all_copies_are_classified_in_one_batch() -> None:
    """One call of the network for a sweep."""
    engine = Counting()
    drawn = KeyedSweep(engine, KEY).of(IMAGE, DRAW, lambda _: nullcontext())
    assert engine.calls == 1 and np.array_equal(engine.seen, drawn.pixels) and drawn.logits.shape == (6, 3)


def test_an_operator_can_make_the_copies_of_a_verdict_again(bundle: Bundle, benign_sign: Pixels) -> None:
    """From the nonce in the operator's line and the key: the same copies, and so the same score."""
    device = guard(bundle)
    verdict = device.screen(benign_sign)
    line = verdict.line(operator=True)
    assert "nonce" not in verdict.line() and verdict.classified == 1 + 4

    parameters = bundle.manifest.detectors[0].parameters
    again = copies(KEY, bytes.fromhex(str(line["nonce"])), DrawSpec.model_validate(parameters["draw"]))
    size = bundle.manifest.classifier.input
    image = resize(benign_sign, size.width, size.height)
    logits = device.engine.classify(made(image, again)).astype(np.float64)
    own = logits[:, int(device.engine.classify(image[None]).argmax())]
    others = np.log(np.exp(logits).sum(axis=1) - np.exp(own))
    assert verdict.scores["keyed"] == pytest.approx(float((others - own).mean()), abs=1e-3)


def test_the_same_key_gives_the_same_verdict_and_another_one_another(bundle: Bundle, benign_sign: Pixels) -> None:
    """Scores are equal to the last bit on two devices with one key, however often they are asked."""
    scores = [guard(bundle).screen(benign_sign).scores["keyed"] for _ in range(2)]
    device = guard(bundle)
    scores += [device.screen(benign_sign).scores["keyed"] for _ in range(2)]
    assert len(set(scores)) == 1
    others = {guard(bundle, key).screen(benign_sign).scores["keyed"] for key in (OTHER, None, None)}
    assert len(others) == 3 and scores[0] not in others


def test_no_output_holds_the_key(bundle: Bundle, benign_sign: Pixels, capsys: pytest.CaptureFixture[str]) -> None:
    """Neither the verdict, nor what objects say of themselves, nor the copies."""
    key = b"this-is-a-secret-of-32-bytes-0123"
    device = guard(bundle, key)
    verdict = device.screen(benign_sign)
    said = repr(verdict) + str(verdict.line(operator=True)) + repr(device.keyed) + str(device.keyed) + repr(device)
    said += sweep_notice(device.keyed, named=True) + "".join(capsys.readouterr())
    for leak in ("this-is", key.hex(), "746869732d"):
        assert leak not in said


@pytest.mark.parametrize("command", ["screen", "serve"])
def test_the_commands_draw_by_the_key_that_is_named(
    bundle: Bundle, benign_sign: Pixels, tmp_path: Path, command: str
) -> None:
    """The operator's line has the nonce and the score that this key gives; without a key the operator is told of it.
    Neither stream ever holds the key."""
    picture, key_file = tmp_path / "sign.png", tmp_path / "key"
    Image.fromarray(benign_sign).save(picture)
    key_file.write_bytes(KEY.hex().encode() + b"\n")
    key_file.chmod(0o600)
    given = [str(picture)] if command == "screen" else ["--source", str(picture), "--http", "off", "--regions", "whole"]
    options = [*given, "--bundle", str(bundle.path), "--allow-unsigned", "--operator", "--threads", "1"]
    expected = guard(bundle, KEY.hex().encode()).screen(benign_sign)
    for named in (["--sweep-key", str(key_file)], []):
        done = subprocess.run(
            [sys.executable, "-m", "firewall", command, *options, *named],
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        line = json.loads(done.stdout)
        assert done.returncode == 0 and line["nonce"] == expected.nonce
        assert (line["scores"]["keyed"] == pytest.approx(expected.scores["keyed"], abs=1e-5)) == bool(named)
        assert ("drawn for this run" in done.stderr) == (not named)
        assert KEY.hex()[:8] not in done.stdout + done.stderr


@pytest.mark.parametrize("key", [b"", b"ses@me", bytes(15), b"0123456789abcde"])
def test_a_key_that_is_too_short_is_refused(bundle: Bundle, key: bytes) -> None:
    """With how long it has to be, and never with the key itself."""
    for use in (lambda: guard(bundle, key), lambda: copies(key, bytes(16), DRAW)):
        with pytest.raises(UsageError, match=f"too short: {len(key)} bytes; 16 to 4096") as error:
            use()
        assert not key or key.decode() not in str(error.value)


def test_a_nonce_that_is_none_is_refused() -> None:
    """Half a nonce would give other copies than the verdict's."""
    with pytest.raises(UsageError, match="a nonce has 16 bytes, got 8"):
        copies(KEY, bytes(8), DRAW)


def test_the_operator_is_told_of_a_key_that_is_missing_or_not_used(bundle: Bundle) -> None:
    """Nothing is said where all is well."""
    assert sweep_notice(guard(bundle).keyed, named=True) == "" and sweep_notice(None, named=False) == ""
    assert "drawn for this run" in sweep_notice(guard(bundle, None).keyed, named=False)
    assert "not used" in sweep_notice(None, named=True)


def test_scores_that_are_not_finite_withhold(bundle: Bundle, benign_sign: Pixels) -> None:
    """Whatever else is known of the image."""

    class Broken:
        provider = "test"

        def classify(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
            logits = np.zeros((len(images), 43), np.float32)
            logits[:, 3] = 20
            if len(images) > 1:
                logits[0, 3] = np.nan
            return logits

    device = Firewall(bundle, Broken(), sweep_key=KEY)
    verdict = device.screen(benign_sign)
    assert not verdict.released and verdict.reason is Reason.DETECTOR_ERROR


def test_a_sweep_that_fails_withholds(bundle: Bundle, benign_sign: Pixels) -> None:
    """The label is known by then, and goes out all the same to nobody."""
    device = guard(bundle)

    class Failing(Counting):
        def classify(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
            raise RuntimeError("gone")

    device.keyed = KeyedSweep(Failing(), KEY)
    verdict = device.screen(benign_sign)
    assert not verdict.released and verdict.reason is Reason.UNKNOWN


def test_jurors_are_asked_about_the_copies(tmp_path: Path, benign_sign: Pixels) -> None:
    """A juror that sees another class makes the score rise; one that sees no sign too."""
    label = guard(bundle_with(tmp_path / "a", [keyed()], {})).screen(benign_sign).suspected_label
    assert label is not None
    scores = {}
    for name, loud in (("agrees", label), ("differs", (label + 1) % 43), ("no sign", 43)):
        logits = [0.0] * 44
        logits[loud] = 9.0
        folder = tmp_path / name.replace(" ", "")
        made_of = bundle_with(folder, [keyed(jurors=["second"])], {"second.onnx": constant_network(logits)})
        scores[name] = guard(made_of).screen(benign_sign).scores["keyed"]
    assert scores["agrees"] < scores["differs"] - 4 and scores["no sign"] == pytest.approx(scores["differs"], abs=1e-6)


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"draw": {"copies": 0}}, "greater than or equal to 1"),
        ({"draw": {"copies": 65}}, "less than or equal to 64"),
        ({"draw": {"quality": [90, 40]}}, "lower to a higher"),
        ({"draw": {"quality": [0, 40]}}, "within 1 to 100"),
        ({"draw": {"factor": [0.1, 1]}}, "within 0.5 to 2"),
        ({"draw": {"angle": 46}}, "less than or equal to 45"),
        ({"draw": {"shift": 0.5}}, "less than or equal to 0.25"),
        ({"draw": {"mask": -0.1}}, "greater than or equal to 0"),
        ({"draw": {"quality": None, "angle": 0, "factor": None}}, "nothing is drawn"),
        ({"statistic": "median"}, "'mean' or 'max'"),
        ({"key": "00"}, "not permitted"),
    ],
)
def test_parameters_that_do_not_fit_are_refused(tmp_path: Path, parameters: dict[str, object], said: str) -> None:
    """In one line that says what is allowed; and a bundle never carries a key."""
    spec = DetectorSpec(name="keyed", parameters=parameters, threshold=0.0)
    with pytest.raises(BundleError, match=said):
        guard(bundle_with(tmp_path / "b", [spec], {}))


def test_a_juror_for_other_labels_or_a_missing_one_is_refused(tmp_path: Path) -> None:
    """At loading, before any image."""
    with pytest.raises(BundleError, match="expected 43 classes"):
        guard(bundle_with(tmp_path / "a", [keyed(jurors=["x"])], {"x.onnx": constant_network([0.0] * 10)}))
    with pytest.raises(BundleError, match=r"uses 'y\.onnx' but doesn't list it"):
        bundle_with(tmp_path / "b", [keyed(jurors=["y"])], {"x.onnx": constant_network([0.0] * 43)})


def test_it_stands_beside_jurors(tmp_path: Path, benign_sign: Pixels) -> None:
    """A benign sign is released by all of them together."""
    label = guard(bundle_with(tmp_path / "a", [keyed()], {})).screen(benign_sign).suspected_label
    logits = [9.0 if place == label else 0.0 for place in range(43)]
    both = bundle_with(
        tmp_path / "b", [juror("juror-x"), keyed(jurors=["juror-x"])], {"juror-x.onnx": constant_network(logits)}
    )
    verdict = guard(both).screen(benign_sign)
    assert verdict.released and set(verdict.scores) == {"juror-x", "keyed"}
