"""The dial as a user sets it: options, settings, a bundle's own demand; what verdicts then say; a sticker optimised
against classifier, masks and tau."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from PIL import Image

from firewall import Firewall, cli
from firewall.bundle import Bundle, PatchSpec, load_bundle, write_bundle
from firewall.bundle.stickers import STICKERS_FILE, CurveSpec, MeasuredOn, PointSpec, StickersSpec, resolved, stickers
from firewall.config import load_settings
from firewall.decision.dial import Dial
from firewall.decision.masking import Masks, masks_for
from firewall.errors import BundleError, ConfigError, EngineError, UsageError
from firewall.frame import Pixels
from firewall.lab.calibration.bundling import rewritten
from firewall.transforms import resize
from firewall.verdict import Reason, Verdict


class Linear:
    """A linear classifier of 12x12 pixels whose best sticker at a place is known; confidences lie all over 0..1."""

    def __init__(self, seed: int) -> None:
        self.weights = np.random.default_rng(seed).normal(size=(432, 4)).astype(np.float32) / 450

    def __call__(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        logits: npt.NDArray[np.float32] = (images.reshape(len(images), -1).astype(np.float32) - 128) @ self.weights
        return logits


def optimised(classify: Linear, image: Pixels, label: int, masks: Masks, dial: Dial) -> tuple[int, int, int]:
    """Stickers at every place that speak most for each other label: tries, released, released and called certified."""
    tries = released = certified = 0
    for target in range(4):
        if target == label:
            continue
        slope = (classify.weights[:, target] - classify.weights[:, label]).reshape(image.shape)
        for top, left in itertools.product(range(12 - masks.side + 1), repeat=2):
            patched, place = image.copy(), np.s_[top : top + masks.side, left : left + masks.side]
            patched[place] = np.where(slope[place] > 0, 255, 0)
            kept = masks.kept(patched, target, classify, 1, dial=dial)
            tries, released = tries + 1, released + (kept.holds is True)
            certified += kept.holds is True and kept.certified
    return tries, released, certified


def test_ten_thousand_optimised_stickers_release_no_wrong_label() -> None:
    """For a linear classifier the sticker that speaks most for a label is known. 0 of 10,000 tries release one on signs
    where that is promised, nor call one certified where that is; on other signs hundreds do."""
    masks, seen, promised, others = masks_for(12, 12, 9 / 144, 3), 0, 0, 0
    for seed in itertools.count():
        classify, generator = Linear(seed % 7), np.random.default_rng(seed)
        image = np.clip(generator.normal(128, 20, (12, 12, 3)), 0, 255).astype(np.uint8)
        label = int(classify(image[None]).argmax())
        slope = classify.weights[:, label].reshape(image.shape)
        image = np.clip(image + generator.choice([0, 4, 10]) * np.sign(slope), 0, 255).astype(np.uint8)
        dial = Dial(("agree", "object")[seed % 2], (0.5, 0.6, 0.7)[seed % 3])
        logits = masks.logits(image, classify)
        tries, released, certified = optimised(classify, image, label, masks, dial)
        if dial.shields(logits, label):
            promised, seen = promised + released, seen + tries
        if replace(dial, rule="agree").shields(logits, label):
            promised += certified
        if not dial.shields(logits, label):
            others += released
        if seen >= 10_000:
            break
    assert promised == 0
    assert others > 100, "the attack is none"


@pytest.fixture
def bare(guard: Firewall) -> Bundle:
    """The default bundle without a classifier of its own for masks: the protected one is asked."""
    return replace(guard.bundle, manifest=guard.bundle.manifest.model_copy(update={"masked_classifier": None}))


class Scripted:
    """The real engine on images as they are; under a mask, logits that give the label these confidences."""

    provider = "test"

    def __init__(self, guard: Firewall, confidences: tuple[float, ...], *, other: float = 0.0) -> None:
        self.engine, self.confidences, self.other, self.label = guard.engine, confidences, other, 0

    def classify(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        logits = self.engine.classify(images)
        if len(images) != 36:
            self.label = int(logits[0].argmax())
            return logits
        rows = np.full(logits.shape, -30.0, np.float32)
        for row, sure in zip(rows, itertools.cycle(self.confidences), strict=False):
            row[self.label], row[(self.label + 1) % 43] = np.log(sure), np.log(1 - sure)
        return rows


@pytest.mark.parametrize(
    ("spec", "confidences", "released", "certified"),
    [
        (PatchSpec(area=0.02), (0.9, 0.6), True, True),
        (PatchSpec(area=0.02), (0.9, 0.4), False, None),
        (PatchSpec(area=0.02, tau=0.7), (0.9, 0.8), True, True),
        (PatchSpec(area=0.02, tau=0.7), (0.9, 0.6), True, False),
        (PatchSpec(area=0.02, tau=0.7), (0.9, 0.4), True, False),
        (PatchSpec(area=0.02, tau=0.7), (0.9, 0.2), False, None),
        (PatchSpec(area=0.02, tau=0.7, rule="agree"), (0.9, 0.8), True, True),
        (PatchSpec(area=0.02, tau=0.7, rule="agree"), (0.9, 0.6), False, None),
    ],
)
def test_what_a_verdict_says(
    guard: Firewall,
    bare: Bundle,
    benign_sign: Pixels,
    spec: PatchSpec,
    confidences: tuple[float, ...],
    released: bool,
    certified: bool | None,
) -> None:
    """Released and certified, released without an objection, or withheld: in the verdict and in its public line."""
    verdict = Firewall(bare, Scripted(guard, confidences), patches=spec).screen(benign_sign)

    assert (verdict.released, verdict.certified) == (released, certified)
    assert verdict.line()["certified"] is certified
    assert verdict.reason is (Reason.BENIGN if released else Reason.UNCERTIFIED)
    assert guard.screen(benign_sign).certified is None, "nobody asked"


def test_a_withheld_label_is_never_certified() -> None:
    """Whatever withholds it later, a track or the self-test."""
    verdict = Verdict("s", 1, (0, 0, 9, 9), released=True, label=1, label_name="x", certified=True)
    assert verdict.line()["certified"] is True
    assert replace(verdict, released=False, label=None, label_name=None).line()["certified"] is None


def favouring(label: int, side: int) -> bytes:
    """A network of images of that side in pixels that gives one label to everything."""
    bias = np.where(np.arange(43) == label, 9.0, 0.0).astype(np.float32)
    values = {"weights": np.zeros((3, 43), np.float32), "bias": bias}
    graph = onnx.helper.make_graph(
        [
            onnx.helper.make_node("GlobalAveragePool", ["image"], ["mean"]),
            onnx.helper.make_node("Flatten", ["mean"], ["flat"]),
            onnx.helper.make_node("Gemm", ["flat", "weights", "bias"], ["logits"]),
        ],
        "favouring",
        [onnx.helper.make_tensor_value_info("image", onnx.TensorProto.FLOAT, ["n", 3, side, side])],
        [onnx.helper.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, ["n", 43])],
        [onnx.numpy_helper.from_array(value, name) for name, value in values.items()],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)])
    model.ir_version = 8
    return bytes(model.SerializeToString())


def test_masks_lie_on_an_input_of_their_own(guard: Firewall, benign_sign: Pixels) -> None:
    """A classifier for masks with 64x64 pixels sees the region's own pixels at that size, not those of the protected
    classifier's input enlarged, and masks are laid on that."""
    spec = guard.bundle.manifest.masked_classifier
    assert spec is not None
    larger = spec.model_copy(update={"input": spec.input.model_copy(update={"width": 64, "height": 64})})
    plain = guard.screen(benign_sign)
    assert plain.label is not None
    content = favouring(plain.label, 64)
    bundle = replace(
        guard.bundle,
        manifest=guard.bundle.manifest.model_copy(update={"masked_classifier": larger}),
        files={**guard.bundle.files, spec.file: content},
    )
    asked = Firewall(bundle, guard.engine, patches=PatchSpec(area=0.02))
    assert asked.masks is not None and asked.masks.side == 10  # of 64; of 48 it is 7
    seen, classify = list[Pixels](), asked.under_masks.classify

    def watched(images: Pixels) -> npt.NDArray[np.float32]:
        seen.append(images.copy())
        return classify(images)

    asked.under_masks.classify = watched  # type: ignore[method-assign]
    verdict = asked.screen(benign_sign)
    assert verdict.released and verdict.certified
    own, pixels = resize(benign_sign, 64, 64), np.concatenate(seen)
    assert pixels.shape == (36, 64, 64, 3)
    for image, (top, left, tall, wide) in zip(pixels, asked.masks.boxes, strict=True):
        shown = own.copy()
        shown[top : top + tall, left : left + wide] = 128
        assert (image == shown).all()


@pytest.mark.parametrize("wrong", ["0", "1", "-0.5", "1.5", "nan", "inf"])
def test_a_tau_that_is_none_is_refused(wrong: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """One line, by screen and serve and gate, and by a settings file and the environment's JSON."""
    for command in (["screen", "x.png"], ["serve", "--source", "demo", "--http", "off"], ["gate"]):
        assert cli.run(cli.app, [*command, "--patches", "0.02", "--tau", wrong], "firewall") == 2
        said = capsys.readouterr().err
        assert "--tau is a confidence between 0 and 1" in said and said.count("\n") == 1
    file = tmp_path / "settings.yaml"
    file.write_text(f"patches: {{area: 0.02, tau: {'.' if wrong in ('nan', 'inf') else ''}{wrong}}}\n")
    with pytest.raises(ConfigError, match=r"patches\.tau") as told:
        load_settings(file)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--tau", "0.7"], "--tau 0.7 is for stickers: say how large they may be, with --patches AREA"),
        (["--patch-rule", "agree"], "--patch-rule agree is for stickers"),
        (["--patches", "0.02", "--patch-rule", "all"], "--patch-rule 'all' is unknown; give agree or object"),
        (["--patches", "nan", "--tau", "0.7"], "--patches is a share of the network's input between 0 and 1, got nan"),
        (["--patches", "0.5", "--tau", "0.7"], "at most half of the image's 48 can be covered"),
    ],
)
def test_options_that_do_not_fit(options: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A dial without stickers, a rule that there isn't, an area that is none or larger than the image: one line."""
    assert cli.run(cli.app, ["screen", "x.png", *options], "firewall") == 2
    told = capsys.readouterr().err
    assert said in told and told.count("\n") == 1


def test_settings_of_the_dial(tmp_path: Path) -> None:
    """A tau alone is for objections; a rule may be named; two rounds agree; an unknown rule is one line."""
    file = tmp_path / "settings.yaml"
    for text, spec in (
        ("{area: 0.02, tau: 0.7}", PatchSpec(area=0.02, tau=0.7, rule="object")),
        ("{area: 0.02, tau: 0.7, rule: agree}", PatchSpec(area=0.02, tau=0.7, rule="agree")),
        ("{area: 0.02}", PatchSpec(area=0.02, rule="agree")),
        ("{area: 0.02, tau: 0.6, rule: agree, rounds: 2}", PatchSpec(area=0.02, tau=0.6, rule="agree", rounds=2)),
    ):
        file.write_text(f"patches: {text}\n")
        assert load_settings(file).patches == spec
    for text, said in (
        ("{area: 0.02, rule: most}", "agree.*object"),
        ("{area: 0.02, tau: 0.7, rounds: 2}", "two rounds ask every pair"),
        ("{area: 0.02, dial: 0.7}", "unknown setting 'patches.dial'.*tau"),
    ):
        file.write_text(f"patches: {text}\n")
        with pytest.raises(ConfigError, match=said):
            load_settings(file)


def test_a_demand_without_a_dial_reads_and_hashes_as_before() -> None:
    """Bundles of before keep their manifests' bytes and their certificates."""
    assert PatchSpec(area=0.02).model_dump(mode="json") == {"area": 0.02, "masks": 6, "rounds": 1, "fill": 128}
    assert json.loads(PatchSpec(area=0.02, tau=0.7).model_dump_json())["rule"] == "object"


def curve_of(bundle: Bundle, tau: float | None, **changed: object) -> StickersSpec:
    """Figures as `firewall lab certify patch` writes them."""
    on = MeasuredOn(dataset="gtsrb", part="test", images=10, seed=0)
    point = PointSpec(
        rule="object", tau=0.7, released_right=9, released_wrong=0, certified=5, named_right=5, named_wrong=0
    )
    asked = bundle.manifest.masked_classifier or bundle.manifest.classifier
    curve = CurveSpec.model_validate(
        {
            "area": 0.02,
            "masks": 6,
            "side": 7,
            "input": (48, 48),
            "mask_side": 13,
            "on": on,
            "points": (point,),
            "images": 36.0,
            "processor_ms": 30.0,
            "chosen": tau,
            "chosen_on": on,
            "wanted": 0.97,
            **changed,
        }
    )
    return StickersSpec(classifier=bundle.manifest.files[asked.file].sha256, curves=(curve,))


def stated(bundle: Bundle, out: Path, spec: StickersSpec) -> Bundle:
    rewritten(bundle, out, {STICKERS_FILE: spec.model_dump_json().encode()})
    return load_bundle(out)


def test_a_bundle_states_its_curve_and_its_tau(
    guard: Firewall, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Rule object without a tau takes the bundle's; for other masks, or without figures, it is one line. The curve is
    shown; figures of another network are refused, and gone when the network is exchanged."""
    bundle = stated(guard.bundle, tmp_path / "b", curve_of(guard.bundle, 0.83))
    wanted = PatchSpec(area=0.02, rule="object")

    found = Firewall(bundle, guard.engine, patches=wanted)
    assert found.patches is not None and found.patches.tau == 0.83
    assert resolved(PatchSpec(area=0.02), bundle) == PatchSpec(area=0.02) and resolved(None, bundle) is None
    with pytest.raises(UsageError, match=r"6 masks a side and finer 4 \(it does for: area 0.02 with 6 masks a side\);"):
        resolved(PatchSpec(area=0.02, rule="object", finer=4), bundle)
    in_steps = stated(guard.bundle, tmp_path / "steps", curve_of(guard.bundle, 0.9, finer=4))
    for finer in (0, 4):
        both = resolved(PatchSpec(area=0.02, rule="object", finer=finer), in_steps)
        assert both == PatchSpec(area=0.02, tau=0.9, finer=4)
    assert cli.run(cli.app, ["bundle", "show", str(in_steps.path)], "firewall") == 0
    assert "4 finer ones a side within an unsure one" in " ".join(capsys.readouterr().out.split())
    with pytest.raises(UsageError, match=r"needs a tau.*for: area 0.02 with 6 masks a side\); give one"):
        resolved(PatchSpec(area=0.05, rule="object"), bundle)
    with pytest.raises(UsageError, match=r"needs a tau.*for: none"):
        resolved(wanted, stated(guard.bundle, tmp_path / "none", curve_of(guard.bundle, None)))
    assert cli.run(cli.app, ["bundle", "show", str(tmp_path / "b")], "firewall") == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "stickers" in shown and "tau 0.83" in shown and "9 of 10" in shown
    foreign = curve_of(guard.bundle, 0.8).model_copy(update={"classifier": "0" * 64})
    other = stated(guard.bundle, tmp_path / "foreign", foreign)
    with pytest.raises(BundleError, match=r"measured with another network than masked\.onnx"):
        stickers(other)
    with pytest.raises(BundleError, match="another network"):
        Firewall(other, guard.engine, patches=wanted)


@pytest.mark.parametrize(
    ("own", "asked", "both"),
    [
        (PatchSpec(area=0.02, tau=0.7), PatchSpec(area=0.02, tau=0.9), PatchSpec(area=0.02, tau=0.7)),
        (PatchSpec(area=0.02, tau=0.7), PatchSpec(area=0.03, tau=0.6), PatchSpec(area=0.03, tau=0.6)),
        (PatchSpec(area=0.02), PatchSpec(area=0.02, tau=0.6), PatchSpec(area=0.02)),
        (PatchSpec(area=0.02, tau=0.7), PatchSpec(area=0.02), PatchSpec(area=0.02)),
        (
            PatchSpec(area=0.02, tau=0.7, rule="agree"),
            PatchSpec(area=0.02, rounds=2),
            PatchSpec(area=0.02, tau=0.7, rule="agree", rounds=2),
        ),
    ],
)
def test_settings_only_sharpen_a_bundle_s_dial(
    guard: Firewall, tmp_path: Path, own: PatchSpec, asked: PatchSpec, both: PatchSpec
) -> None:
    """Through a written bundle: under object the lower tau is stricter, under agree the higher, and agree is stricter
    than object."""
    fields = {field: getattr(guard.bundle.manifest, field) for field in type(guard.bundle.manifest).model_fields}
    del fields["files"]
    write_bundle(tmp_path / "b", guard.bundle.files, **{**fields, "patches": own})
    written = load_bundle(tmp_path / "b")
    assert written.manifest.patches == own
    assert Firewall(written, guard.engine, patches=asked).patches == both
    assert Firewall(written, guard.engine).patches == own


def test_a_network_that_gives_probabilities_bears_no_dial(guard: Firewall, bare: Bundle) -> None:
    """A tau that this network could never reach is refused when the guard is made, not found out on the road."""

    class Softmax:
        provider = "test"

        def classify(self, images: Pixels) -> npt.NDArray[np.float32]:
            powers = np.exp(guard.engine.classify(images))
            return np.asarray(powers / powers.sum(axis=1, keepdims=True), np.float32)

    with pytest.raises(EngineError, match="gives probabilities, and tau needs logits"):
        Firewall(bare, Softmax(), patches=PatchSpec(area=0.02, tau=0.7))
    assert Firewall(bare, Softmax(), patches=PatchSpec(area=0.02)).masks is not None


def test_the_command_line_says_what_is_certified(benign_sign: Pixels, tmp_path: Path) -> None:
    """`firewall screen` in a process: the flag is in the line, and null where nobody asked."""
    picture = tmp_path / "sign.png"
    Image.fromarray(benign_sign).save(picture)
    lines = []
    for options in ([], ["--patches", "0.01", "--tau", "0.9"]):
        command = [sys.executable, "-m", "firewall", "screen", str(picture), *options, "--threads", "1"]
        done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=120)
        lines.append(json.loads(done.stdout))
    assert lines[0]["decision"] == "release" and lines[0]["certified"] is None
    assert lines[1]["certified"] in ((True, False) if lines[1]["decision"] == "release" else (None,))
