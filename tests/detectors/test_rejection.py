"""The detectors that listen to what networks say of a class behind the classifier's own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from firewall import Firewall
from firewall.bundle import DetectorSpec
from firewall.detectors import Detector, Evidence, build
from firewall.detectors.rejection import REJECTIONS
from firewall.engines import OnnxRuntimeEngine
from firewall.errors import BundleError, EngineError
from firewall.frame import Pixels
from firewall.transforms import resize
from firewall.verdict import Reason
from tests.detectors.asked import IMAGE, Asked
from tests.jurors import bundle_with, constant_network, juror

CROP = np.random.default_rng(1).integers(0, 256, (40, 30, 3), np.uint8)
SIZE = {"width": 20, "height": 16}


class Counted(Asked):
    """Also counts how often it is asked."""

    def __init__(self, *outputs: float) -> None:
        super().__init__(*outputs)
        self.times = 0

    def __call__(self, values: np.ndarray) -> np.ndarray:
        self.times += 1
        return super().__call__(values)


def asked(*networks: Asked, classes: int | None = None, name: str = "not-a-sign") -> Detector:
    listed = [{"file": f"{place}.onnx", **SIZE} for place in range(len(networks))]
    spec = DetectorSpec(name=name, parameters={"jurors": listed}, threshold=0.0)
    return build(spec, lambda file: networks[int(file[0])], classes)


def evidence() -> Evidence:
    return Evidence(IMAGE, np.array([0, 1, 0], np.float32), {}, crop=CROP, resize=resize)


def test_the_score_is_the_largest_log_odds_for_the_last_class() -> None:
    """By the definition, whatever label the classifier gives; it rises with the last logit alone."""
    logits = np.array([1.0, 4.0, -2.0, 3.0])
    share = np.exp(logits[3]) / np.exp(logits).sum()

    assert asked(Asked(*logits)).score(evidence()) == pytest.approx(np.log(share / (1 - share)), abs=1e-5)
    sure, unsure = Asked(0.0, 0.0, 0.0, 9.0), Asked(9.0, 0.0, 0.0, 0.0)
    assert asked(unsure, sure).score(evidence()) == asked(sure).score(evidence()) > 7
    assert asked(Asked(0.0, 0.0, 1.0, 2.0)).score(evidence()) < asked(Asked(0.0, 0.0, 0.0, 2.0)).score(evidence())


def test_a_juror_is_asked_once_for_both() -> None:
    """Whoever comes first: the answer stays with the region and doesn't reach the next one."""
    network = Counted(0.0, 4.0, 0.0, 1.0)
    spec = DetectorSpec(name="juror-robust", parameters={"file": "0.onnx", **SIZE}, threshold=0.0)
    itself, listener = build(spec, lambda file: network), asked(network)
    first, second = evidence(), evidence()
    for detector in (itself, listener):
        detector.score(first)
    for detector in (listener, itself):
        detector.score(second)

    assert network.times == 2
    assert listener.score(first) == listener.score(second) == asked(network).score(evidence())


def test_both_detectors_ask_the_same_question_of_their_own_networks() -> None:
    """`obstructed` is `not-a-sign` under another name; the bundle says whom it asks."""
    network = Asked(1.0, 4.0, -2.0, 3.0)
    one, other = asked(network), asked(network, name="obstructed")
    assert (one.name, other.name) == ("not-a-sign", "obstructed")
    assert one.score(evidence()) == other.score(evidence())


@pytest.mark.parametrize("outputs", [(1.0, 2.0, 3.0), (1.0, 2.0, 3.0, 4.0, 5.0)])
def test_a_juror_without_the_class(outputs: tuple[float, ...]) -> None:
    """Refused when it is loaded, and by each answer: a label must not be taken for "not a sign"."""
    with pytest.raises(BundleError, match=r"not-a-sign' asks 0.onnx, which gave shape .*expected \(1, 4\)"):
        asked(Asked(*outputs), classes=3)
    with pytest.raises(EngineError, match=r"0.onnx, which gave shape"):
        asked(Asked(*outputs)).score(evidence())


def test_parameters_that_do_not_fit() -> None:
    """No juror, one that is not described, or no bundle that could hold one."""
    for wrong in ({}, {"jurors": []}, {"jurors": [{"file": "a.onnx"}]}, {"jurors": [{"file": "a", **SIZE}], "b": 1}):
        with pytest.raises(BundleError, match="not-a-sign"):
            build(DetectorSpec(name="not-a-sign", parameters=wrong, threshold=0.0), lambda file: Asked(0.0))
    listed = {"jurors": [{"file": "a.onnx", **SIZE}]}
    with pytest.raises(BundleError, match="there is no bundle to take their networks from"):
        build(DetectorSpec(name="not-a-sign", parameters=listed, threshold=0.0))


@pytest.mark.parametrize(("detector", "reason"), REJECTIONS.items())
def test_in_a_bundle_it_withholds_with_its_own_reason(
    tmp_path: Path, guard: Firewall, benign_sign: Pixels, detector: str, reason: Reason
) -> None:
    """Where the juror agrees with the label but finds its last class too likely; below the limit the label goes out,
    and a silent detector releases nothing that another one withholds."""
    label = guard.screen(benign_sign).label
    assert label is not None
    logits = [0.0] * 44
    logits[label], logits[43] = 12.0, 11.0  # log-odds about -1
    files = {"juror-a.onnx": constant_network(logits)}

    def verdict(name: str, limit: float, jurors: float = 0.0) -> object:
        listed = {"jurors": [{"file": "juror-a.onnx", "width": 16, "height": 16}]}
        detectors = [
            juror("juror-a", threshold=jurors),
            DetectorSpec(name=detector, parameters=listed, threshold=limit),
        ]
        bundle = bundle_with(tmp_path / name, detectors, files)
        found = Firewall(bundle, OnnxRuntimeEngine(bundle, threads=1)).screen(benign_sign)
        return found.released, found.reason

    assert verdict("above", -1.5) == (False, reason)
    assert verdict("below", -0.5) == (True, Reason.BENIGN)
    assert verdict("silent", 9.0, jurors=-5.0) == (False, Reason.SUSPICIOUS)
