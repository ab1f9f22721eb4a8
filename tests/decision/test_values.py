"""Labels that are released only where they are proved for changes of every value: bounds, guard, what is refused."""

from __future__ import annotations

import io
import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

onnx = pytest.importorskip("onnx", reason="the export extra is not installed")

from jsonschema import Draft202012Validator  # noqa: E402
from onnx import helper  # noqa: E402
from PIL import Image  # noqa: E402

from firewall import Firewall, cli  # noqa: E402
from firewall.bundle import PatchSpec, write_bundle  # noqa: E402
from firewall.bundle.manifest import GoldenFrame  # noqa: E402
from firewall.bundle.values import VALUES_FILE, ValuesSpec, eps_of, values_of  # noqa: E402
from firewall.config import load_settings  # noqa: E402
from firewall.decision import lines, proved_network  # noqa: E402
from firewall.decision.case import Case  # noqa: E402
from firewall.decision.intervals import Box, Product, box_of, folded, lost_in_float32, margins_of, unfolded  # noqa: E402
from firewall.decision.lines import through_rectified  # noqa: E402
from firewall.decision.masking import Kept  # noqa: E402
from firewall.decision.proved_network import ProvedNetwork  # noqa: E402
from firewall.decision.values import Values  # noqa: E402
from firewall.errors import BundleError, ConfigError, DataError, FirewallError, UsageError  # noqa: E402
from firewall.frame import Frame, Pixels  # noqa: E402
from firewall.service.golden import judged  # noqa: E402
from firewall.verdict import Reason, verdict_schema  # noqa: E402
from tests.clock import Clock  # noqa: E402
from tests.proved import SIDE, chain, file_of, shallow, with_network  # noqa: E402

CLASSES = 5


def network(seed: int = 0, **given: Any) -> ProvedNetwork:
    return ProvedNetwork.read(chain(CLASSES, seed, **given), "it", SIDE, SIDE)


def picture(seed: int) -> Pixels:
    """With values at both ends, where the box is cut off."""
    drawn = np.random.default_rng(seed).integers(-40, 296, (SIDE, SIDE, 3))
    return np.clip(drawn, 0, 255).astype(np.uint8)


def in_float(pixels: Pixels) -> npt.NDArray[np.float64]:
    return pixels.transpose(2, 0, 1) / 255


def worst(asked: ProvedNetwork, pixels: Pixels, label: int, eps: float) -> npt.NDArray[np.float64]:
    """The least margins that an attack finds within eps, (classes,): corners that the slopes of each margin point to,
    taken by differences, and again from there."""
    image = in_float(pixels)
    low, high = np.maximum(image - eps, 0), np.minimum(image + eps, 1)
    best = np.full(CLASSES, np.inf)
    for other in range(CLASSES):
        point = image
        for _ in range(3):
            logits = asked.logits(point)
            slopes = np.empty(point.size)
            for place in range(point.size):
                moved = point.copy().reshape(-1)
                moved[place] += 1e-6
                now = asked.logits(moved.reshape(point.shape))
                slopes[place] = (now[label] - now[other]) - (logits[label] - logits[other])
            point = np.where(slopes.reshape(point.shape) > 0, low, high)
            best = np.minimum(best, asked.logits(point)[label] - asked.logits(point))
    best[label] = np.inf
    return best


_BOUNDS = Product.bounds


def middle(self: Product, columns: Box) -> Any:
    """In place of Product.bounds: narrower than may be."""
    box, size = _BOUNDS(self, columns)
    return Box((box.low + box.high) / 2, (box.low + box.high) / 2), size


def steep(rows: Any, low: Any, high: Any, below: float | None = None) -> Any:
    """In place of lines.through_rectified: the lines above open units run through 0, so they are not above."""
    taken, _, size = through_rectified(rows, low, high, below)
    return taken, np.zeros(len(rows)), size


@pytest.mark.parametrize("eps", [0.0001, 0.01])
def test_no_attack_gets_below_a_bound_and_a_wrong_bound_is_caught(eps: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every margin of the attack lies above its bound; at the smaller eps not far above, so that a bound that says
    nothing fails. A bound of a hundredth of eps, one of the middle of every interval, and lines that are not above, are
    no bounds, and the same attack says so."""
    real = box_of
    for seed in range(2):
        asked, pixels = network(seed), picture(seed)
        label = int(asked.logits(in_float(pixels)).argmax())
        others = np.arange(CLASSES) != label
        found = worst(asked, pixels, label, eps)
        bound = asked.margins(pixels, label, eps)
        assert (bound <= found).all() and bound[label] == np.inf
        assert eps > 0.0001 or (found[others] - bound[others]).max() < 0.5
        monkeypatch.setattr(proved_network, "box_of", lambda image, eps: real(image, eps / 100))
        assert (asked.margins(pixels, label, eps) > found)[others].all()
        monkeypatch.undo()
        monkeypatch.setattr(Product, "bounds", middle)
        assert (asked.margins(pixels, label, eps) > found)[others].any()
        monkeypatch.undo()
        monkeypatch.setattr(lines, "through_rectified", steep)
        assert eps < 0.01 or (asked.margins(pixels, label, eps) > found)[others].any()
        monkeypatch.undo()


def test_lines_prove_what_intervals_leave_open(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nowhere less, and more somewhere; not tried on a label that the network doesn't give the image itself, nor where
    very much is open."""
    asked, closer, tried = network(1), 0, list[int]()

    def counted(*given: Any) -> Any:
        tried.append(len(given[1]))
        return lines.least(*given)

    for eps in (0.0005, 0.001, 0.002, 0.01):
        pixels = picture(5)
        label = int(asked.logits(in_float(pixels)).argmax())
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(proved_network, "_MOST_OPEN", 0)
            alone = asked.margins(pixels, label, eps)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(proved_network, "least", counted)
            both = asked.margins(pixels, label, eps)
            assert (both >= alone).all()
            closer += bool((both > alone).any())
            known = len(tried)
            asked.margins(pixels, (label + 1) % CLASSES, eps)
            assert len(tried) == known
    assert closer and tried and max(tried) < CLASSES


def test_what_is_added_up_where_it_was_read() -> None:
    """`folded` is the transpose of `unfolded`: the same sum of products either way."""
    random = np.random.default_rng(0)
    for shape, window in (((2, 6, 7), ((3, 2), (2, 1), (1, 0))), ((3, 8, 8), ((4, 4), (2, 2), (1, 1)))):
        values = random.normal(size=shape)
        columns = unfolded(values, *window)
        weights = random.normal(size=(2, *columns.shape))
        back = folded(weights, shape, *window)
        assert back.shape == (2, *shape)
        assert (back * values).sum(axis=(1, 2, 3)) == pytest.approx((weights * columns).sum(axis=(1, 2)))


def test_whatever_is_done_within_eps_nothing_but_one_label_is_released() -> None:
    """The promise: over images within eps of one, all that are proved have the label of that one; and one that is
    proved at twice eps is proved wherever within eps it is taken. Corners of the box, in whole steps of a pixel."""
    asked, random, step = ProvedNetwork.read(shallow(CLASSES), "it", SIDE, SIDE), np.random.default_rng(0), 3
    proved = sure = shown = 0
    for seed in range(12):
        pixels = picture(100 + seed)
        label = int(asked.logits(in_float(pixels)).argmax())
        twice = (asked.margins(pixels, label, 2 * step / 255) > 0).all()
        for _ in range(10):
            changed = np.clip(pixels + step * random.integers(-1, 2, pixels.shape), 0, 255).astype(np.uint8)
            for named in range(CLASSES):
                holds = bool((asked.margins(changed, named, step / 255) > 0).all())
                assert not holds or named == label
                proved += holds
            assert (asked.margins(changed, label, step / 255) > 0).all() or not twice
            sure, shown = sure + bool(twice), shown + 1
    assert 0 < sure < proved < shown


def test_rounding_never_narrows_a_bound() -> None:
    """Sums that cancel, against exact rational arithmetic; float32's sums, in any order, against what is allowed."""
    random, missed = np.random.default_rng(0), 0
    for _ in range(100):
        count = int(random.integers(3, 40))
        weights = random.normal(size=count) * 10.0 ** random.integers(-3, 12, count)
        values = random.normal(size=count)
        values[-1] = -(weights[:-1] @ values[:-1]) / weights[-1]
        exact = sum(
            (Fraction(a) * Fraction(b) for a, b in zip(weights.tolist(), values.tolist(), strict=True)), Fraction(0)
        )
        found, _ = Product(weights[None], np.zeros(1)).bounds(Box(values[:, None], values[:, None]))
        assert Fraction(float(found.low[0, 0])) <= exact <= Fraction(float(found.high[0, 0]))
        missed += Fraction(float(weights @ values)) != exact
        single = [weights.astype(np.float32), values.astype(np.float32)]
        whole = [each.astype(np.float64) for each in single]
        lost = lost_in_float32(count, np.abs(whole[0]) @ np.abs(whole[1]))
        total = np.float32(0)
        for place in random.permutation(count):
            total += single[0][place] * single[1][place]
        assert abs(float(total) - float(whole[0] @ whole[1])) <= lost
    assert missed > 80


def test_the_last_layer_is_taken_with_the_difference() -> None:
    """By hand: what both logits have in common falls away; what an engine loses of either counts."""
    weight, bias = np.array([[3.0, 1.0], [3.0, -1.0]]), np.array([0.5, 0.0])
    columns = Box(np.array([[-9.0], [1.0]]), np.array([[9.0], [2.0]]))
    assert margins_of(weight, bias, 0, columns, None) == pytest.approx([np.inf, 2.5])
    assert margins_of(weight, bias, 1, columns, np.array([0.25, 0.5])) == pytest.approx([-5.25, np.inf])


def test_a_box_is_what_may_be_seen() -> None:
    """Within eps and within 0..1, rounded outward; what is no image is refused."""
    box = box_of(np.array([0.0, 0.5, 1.0]), 0.1)
    assert (box.low < [0, 0.4, 0.9]).all() and (box.high > [0.1, 0.6, 1.0]).all()
    assert np.allclose(box.low, [0, 0.4, 0.9], atol=1e-6) and np.allclose(box.high, [0.1, 0.6, 1], atol=1e-6)
    exact = box_of(np.array([0.5]), 0.0, float32=False)
    assert 0 < exact.high[0] - exact.low[0] < 1e-14
    for wrong in (-0.1, 1.1, np.nan):
        with pytest.raises(DataError, match=r"must lie in 0\.\.1"):
            box_of(np.array([wrong]), 0.1)


def test_what_a_convolution_reads() -> None:
    """Windows by hand: zeros around the edge, uneven stride and padding."""
    values = np.arange(12, dtype=np.float64).reshape(1, 3, 4)
    columns = unfolded(values, (2, 3), (2, 1), (1, 0))
    assert columns.T.tolist() == [
        [0, 0, 0, 0, 1, 2],
        [0, 0, 0, 1, 2, 3],
        [4, 5, 6, 8, 9, 10],
        [5, 6, 7, 9, 10, 11],
    ]


def guarded(guard: Firewall, label: int, eps: float, *, spread: float = 0.05, **given: Any) -> Firewall:
    """A guard whose certified network is sure of one label as long as eps is small."""
    content = chain(len(guard.bundle.manifest.classifier.labels), label=label, spread=spread)
    return Firewall(with_network(guard.bundle, content), guard.engine, values=eps, threads=1, **given)


def test_the_edge_releases_only_what_is_proved(guard: Firewall, benign_sign: Pixels) -> None:
    """With the network sure of the label it goes out, and the line says how far; with another label, or with a change
    that is too large for a proof, it doesn't, and the line says which promise could not be given."""
    plain = guard.screen(benign_sign)
    assert plain.label is not None and plain.proved_within is None and "proved_within" not in plain.line()
    sure = guarded(guard, plain.label, 2 / 255).screen(benign_sign)
    assert sure.released and sure.label == plain.label and sure.certified is None
    assert sure.line()["proved_within"] == pytest.approx(2 / 255, abs=1e-9)
    valid = Draft202012Validator(verdict_schema()).is_valid
    assert valid(sure.line()) and not valid({**plain.line(), "proved_within": 0})
    other = guarded(guard, plain.label - 1, 2 / 255).screen(benign_sign)
    far = guarded(guard, plain.label, 0.9, spread=1.0).screen(benign_sign)
    assert not valid({**other.line(), "proved_within": 2 / 255})
    for verdict, told in ((other, "values within 2/255"), (far, "values within 0.9")):
        line = verdict.line()
        assert not verdict.released and verdict.label is None and verdict.reason is Reason.UNCERTIFIED
        assert line["reason"] == f"not certified: {told}" and "proved_within" not in line


def test_it_is_asked_last_and_masks_only_after_it(
    guard: Firewall, benign_sign: Pixels, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is suspicious costs no proof; what isn't proved costs no masks; what both hold of is released with both."""
    label = guard.screen(benign_sign).label
    assert label is not None
    calls: list[str] = []
    real = ProvedNetwork.margins

    def margins(self: ProvedNetwork, *given: Any) -> Any:
        calls.append("values")
        return real(self, *given)

    monkeypatch.setattr(ProvedNetwork, "margins", margins)
    noise = np.random.default_rng(0).integers(0, 256, (48, 48, 3), np.uint8)
    assert guarded(guard, label, 2 / 255).screen(noise).reason is Reason.SUSPICIOUS and calls == []
    for wanted, holds, said in ((label, True, ""), (label, False, "under masks"), (label - 1, True, "values within")):
        both = guarded(guard, wanted, 2 / 255, patches=PatchSpec(area=0.02))
        calls.clear()

        def kept(*_: Any, holds: bool = holds, **__: Any) -> Kept:
            calls.append("masks")
            return Kept(holds, holds, 36)

        monkeypatch.setattr(both._stickers, "kept", kept)
        verdict = both.screen(benign_sign)
        assert calls == (["values"] if wanted != label else ["values", "masks"])
        assert verdict.released is (said == "") and verdict.detail.startswith(said)
        assert (verdict.certified, verdict.proved_within) == ((True, 2 / 255) if said == "" else (None, None))


def test_time_that_runs_out_and_errors_withhold(
    guard: Firewall, benign_sign: Pixels, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proof that ends after the deadline is late; one that fails, or gives no number, withholds."""
    label = guard.screen(benign_sign).label
    assert label is not None
    asked = guarded(guard, label, 2 / 255, patches=PatchSpec(area=0.02))
    real = ProvedNetwork.margins

    def slowly(self: ProvedNetwork, *given: Any) -> Any:
        clock.sleep(0.5)
        return real(self, *given)

    monkeypatch.setattr(ProvedNetwork, "margins", slowly)
    (verdict,) = asked.screen_frame(Frame(benign_sign, "test", 0, clock.now), deadline=clock.now + 0.45)
    assert not verdict.released and verdict.reason is Reason.LATE and verdict.detail == ""
    monkeypatch.setattr(ProvedNetwork, "margins", lambda *_: np.full(43, np.nan))
    assert asked.screen(benign_sign).reason is Reason.UNCERTIFIED
    monkeypatch.setattr(ProvedNetwork, "margins", lambda *_: 1 / 0)
    assert asked.screen(benign_sign).reason is Reason.UNKNOWN


@pytest.mark.parametrize(
    ("proved", "holds", "found"),
    [(True, True, True), (True, False, False), (False, None, False), (True, None, None), (None, None, None)],
)
def test_both_promises_have_to_be_given(proved: bool | None, holds: bool | None, found: bool | None) -> None:
    """One that is refused counts more than one that isn't known."""
    case = Case((0, 0, 8, 8), proved=proved, kept=None if holds is None else Kept(holds, False, 1))
    assert case.certified(values=True, masks=True) is found
    assert case.certified(values=True, masks=False) is proved and case.certified(values=False, masks=True) is holds
    assert case.certified(values=False, masks=False) is True


def spoilt(change: str) -> bytes:
    """A network that something is wrong with."""
    model = onnx.load_model_from_string(chain(CLASSES))
    graph = model.graph
    nodes = {node.op_type + node.output[0]: node for node in graph.node}
    if change == "sigmoid":
        nodes["Relux2"].op_type = "Sigmoid"
    elif change == "residual":
        graph.node.insert(2, helper.make_node("Add", ["x1", "x2"], ["x9"]))
        nodes["Convx3"].input[0] = "x9"
    elif change == "grouped":
        del graph.node[0].attribute[:]
        graph.node[0].attribute.extend([helper.make_attribute("group", 3), helper.make_attribute("pads", [1] * 4)])
    elif change == "dilated":
        graph.node[2].attribute.append(helper.make_attribute("dilations", [2, 1]))
    elif change == "window":
        for attribute in graph.node[0].attribute:
            if attribute.name == "strides":
                attribute.CopyFrom(helper.make_attribute("strides", [1, 1, 1]))
    elif change == "scaled":
        graph.node[5].attribute.append(helper.make_attribute("alpha", 2.0))
    elif change == "two outputs":
        graph.output.append(helper.make_tensor_value_info("x7", 1, ["N", 9]))
    elif change == "no linear layer":
        del graph.node[7:]
        graph.output[0].name = "x7"
    elif change == "reordered":
        value = onnx.numpy_helper.from_array(np.array([0, 6, 5, 4]), "turn")
        graph.initializer.append(value)
        graph.node.insert(4, helper.make_node("Reshape", ["x4", "turn"], ["x8"]))
        graph.node.insert(5, helper.make_node("Transpose", ["x8"], ["x10"], perm=[0, 1, 3, 2]))
        nodes["Flattenx5"].input[0] = "x10"
    elif change == "not a number":
        value = onnx.numpy_helper.to_array(graph.initializer[0]) * np.float32(np.nan)
        graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(value, graph.initializer[0].name))
    return bytes(model.SerializeToString())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("sigmoid", "its layer Sigmoid"),
        ("residual", "no chain of layers"),
        ("grouped", "its layer Conv"),
        ("dilated", "its layer Conv"),
        ("window", "for 2 numbers"),
        ("scaled", "its layer Gemm"),
        ("two outputs", "2 outputs"),
        ("no linear layer", "ends with no linear layer"),
        ("reordered", "its layer Transpose"),
        ("not a number", "it"),
        ("nothing", "it"),
    ],
)
def test_a_network_without_a_sound_bound_is_refused(change: str, words: str) -> None:
    """One line that names what it is; never a bound."""
    content = b"no ONNX" if change == "nothing" else spoilt(change)
    with pytest.raises(BundleError, match="nothing can be proved of it") as caught:
        ProvedNetwork.read(content, "it", SIDE, SIDE)
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_a_file_that_says_something_else_than_its_layers_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """What only renames values is passed over; if what was read gives other logits than the file, it is refused."""
    random = np.random.default_rng(0)
    weights = random.normal(size=(CLASSES, 3 * SIDE * SIDE)).astype(np.float32)
    constants = {"w": weights, "b": np.zeros(CLASSES, np.float32), "first": np.array([-1, 3, SIDE * SIDE])}
    plain = [
        helper.make_node("Flatten", ["image"], ["x"]),
        helper.make_node("Constant", [], ["unused"], value_float=1.0),
        helper.make_node("Gemm", ["x", "w", "b"], ["logits"], transB=1),
    ]
    ProvedNetwork.read(file_of(plain, constants, {"logits": CLASSES}), "it", SIDE, SIDE)
    double = [
        helper.make_node("Flatten", ["image"], ["x"], axis=1),
        helper.make_node("Gemm", ["x", "w", "b"], ["y"], transB=1),
        helper.make_node("Dropout", ["y"], ["logits"]),
    ]
    content = file_of(double, {**constants, "b": np.zeros(1, np.float32)}, {"logits": CLASSES})
    assert ProvedNetwork.read(content, "it", SIDE, SIDE).classes == CLASSES
    shifted = helper.make_node("Gemm", ["x", "w", "b"], ["logits"], transB=1, beta=1.0, alpha=1.0)
    content = file_of([plain[0], shifted], constants, {"logits": CLASSES})
    real = proved_network._chain

    def other(graph: Any) -> Any:
        (layer,) = real(graph)
        assert layer is not None
        layer.product.rows[0, 0] += 1
        return [layer]

    monkeypatch.setattr(proved_network, "_chain", other)
    with pytest.raises(BundleError, match="other logits than its layers"):
        ProvedNetwork.read(content, "it", SIDE, SIDE)


def test_a_bundle_without_such_a_network_is_told_what_to_do(guard: Firewall) -> None:
    """None there, one of other classes, one of another file; eps out of range."""
    with pytest.raises(UsageError, match=r"--values needs a certified network.*'firewall lab add-values"):
        Firewall(guard.bundle, guard.engine, values=2 / 255)
    with pytest.raises(BundleError, match=f"has {CLASSES} classes, the bundle's classifier"):
        Values(with_network(guard.bundle, chain(CLASSES)), 2 / 255)
    for changes in ({"network": "0" * 64}, {"file": "other.onnx"}):
        with pytest.raises(BundleError, match=r"of another network than its file.*'firewall lab add-values"):
            values_of(with_network(guard.bundle, chain(CLASSES), **changes))
    with pytest.raises(BundleError, match=r"values\.json of bundle b is not valid"):
        values_of(with_network(guard.bundle, chain(CLASSES), width=4))
    for eps in (0.0, 1.5, float("nan")):
        with pytest.raises(UsageError, match="--values must be above 0"):
            Values(guard.bundle, eps)
    assert values_of(guard.bundle) is None


def test_how_far_is_told_in_steps_of_a_pixel(guard: Firewall) -> None:
    """Where it is whole steps; else as a number."""
    bundle = with_network(guard.bundle, chain(len(guard.bundle.manifest.classifier.labels)))
    told = {eps: Values(bundle, eps).told for eps in (2 / 255, 1 / 255, 0.01, 1.0)}
    assert list(told.values()) == ["2/255", "1/255", "0.01", "255/255"]


def test_golden_frames_are_judged_as_without_it(guard: Firewall, benign_sign: Pixels) -> None:
    """A guard that asks for more than the bundle withholds what isn't proved, and that is no fault."""
    label = guard.screen(benign_sign).label
    assert label is not None
    frame, content = GoldenFrame(file="sign.png", released=(label,)), io.BytesIO()
    Image.fromarray(benign_sign).save(content, "png")
    asked = guarded(guard, label, 0.9, spread=1.0)
    assert not asked.screen(benign_sign).released and judged(asked, None, frame, content.getvalue()) == ""


def test_settings_and_commands_ask_for_it(
    guard: Firewall, benign_sign: Pixels, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`values` in a settings file and `--values`; what is no such change is refused."""
    file = tmp_path / "settings.yaml"
    for text, eps in (("2/255", 2 / 255), ("0.01", 0.01), ("off", None), ("'2/255'", 2 / 255)):
        file.write_text(f"values: {text}\n")
        assert load_settings(file).values == eps
    for wrong in ("2", "-1/255", "two", "nan"):
        file.write_text(f"values: {wrong}\n")
        with pytest.raises(ConfigError, match="values"):
            load_settings(file)
        with pytest.raises(FirewallError, match="--values must be above 0"):
            eps_of(wrong, "--values")
    label = guard.screen(benign_sign).label
    assert label is not None
    bundle = with_network(guard.bundle, chain(len(guard.bundle.manifest.classifier.labels), label=label, spread=0.05))
    fields = {name: getattr(bundle.manifest, name) for name in type(bundle.manifest).model_fields}
    del fields["files"]
    write_bundle(tmp_path / "b", bundle.files, **fields)
    Image.fromarray(benign_sign).save(tmp_path / "sign.png")
    command = ["screen", str(tmp_path / "sign.png"), "--bundle", str(tmp_path / "b"), "--allow-unsigned"]
    assert cli.run(cli.app, [*command, "--values", "2/255"], "firewall") == 0
    line = json.loads(capsys.readouterr().out)
    assert line["label"] == label and line["proved_within"] == pytest.approx(2 / 255, abs=1e-9)
    assert cli.run(cli.app, [*command, "--values", "7"], "firewall") == 2
    assert "--values must be above 0 and at most 1" in capsys.readouterr().err
    assert ValuesSpec.model_validate_json((tmp_path / "b" / VALUES_FILE).read_text()).width == SIDE
