"""Images of a database are judged with a keyed sweep as the edge judges them, by a key that can be repeated."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from firewall import Firewall
from firewall.bundle import DetectorSpec
from firewall.detectors import build
from firewall.engines import OnnxRuntimeEngine
from firewall.errors import EngineError
from firewall.export.verification import verify
from firewall.frame import Pixels
from firewall.lab.measurement.bundle_verdicts import Judge
from firewall.lab.measurement.edge import measure
from firewall.sweep.keyed import key_of
from firewall.transforms import resize
from tests.jurors import bundle_with


def test_scores_of_a_database_are_the_edges(tmp_path: Path, benign_sign: Pixels) -> None:
    """The same number as a device with that key gives, and the copies count as images that the classifier sees."""
    spec = DetectorSpec(name="keyed", parameters={"draw": {"copies": 3}}, threshold=1e3)
    plain = DetectorSpec(name="contrast", threshold=99.0)
    bundle = bundle_with(tmp_path / "b", [spec, plain], {})
    engine = OnnxRuntimeEngine(bundle, threads=1)
    guard = Firewall(bundle, engine, threads=1, sweep_key=key_of(0))
    images = [resize(benign_sign, 48, 48), resize(benign_sign[:, ::-1].copy(), 48, 48)]
    measured = measure(engine, images, (), width=48, height=48, progress=False)

    judge = Judge(bundle, engine, tuple(guard.detectors), guard.policy, {}, guard.keyed)  # type: ignore[arg-type]
    scores = judge.own_scores(measured)

    assert scores["keyed"].tolist() == [guard.screen(image).scores["keyed"] for image in images]
    assert np.array_equal(judge.own_scores(measured)["keyed"], scores["keyed"])
    assert judge.classified(judge.verdicts(scores)).tolist() == [4, 4]
    with pytest.raises(EngineError, match="needs the copies of a keyed sweep"):
        measured.scores(build(spec))


def test_runtimes_are_compared_on_the_same_copies(tmp_path: Path, benign_sign: Pixels) -> None:
    """`export verify` draws by one key on both sides: other keys would look like another runtime's other verdicts."""
    spec = DetectorSpec(name="keyed", parameters={"draw": {"copies": 3}}, threshold=1e3)
    bundle = bundle_with(tmp_path / "b", [spec], {})
    (found,) = verify(bundle, [benign_sign], threads=1)
    found.check()
    assert found.score is not None and found.score < 1e-3
