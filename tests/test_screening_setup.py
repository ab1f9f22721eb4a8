"""A firewall that is made ready: what it loads, and what reaches the networks it opens."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from firewall import Firewall
from firewall.bundle import Bundle, PatchSpec, load_bundle
from firewall.decision.masking import masks_for
from firewall.engines import Engine
from firewall.errors import BundleError, EngineError, UsageError
from tests.jurors import bundle_with, constant_network, juror


def test_a_device_that_there_is_not_is_refused_before_anything_is_loaded(tmp_path: Path) -> None:
    """Its name is checked first, then the bundle's folder."""
    with pytest.raises(UsageError, match="tpu"):
        Firewall.load(tmp_path, device="tpu")
    with pytest.raises(BundleError):
        Firewall.load(tmp_path)


def test_loading_hands_on_what_was_asked_for(guard: Firewall, monkeypatch: pytest.MonkeyPatch) -> None:
    """Device, threads, `exhaustive` and the key reach the engine and the firewall, so that no other device is used in
    silence; without a word it is the default bundle on the processor, with a thread for each core."""
    opened: list[dict[str, object]] = []
    made: list[dict[str, object]] = []

    class Seen(Firewall):
        def __init__(self, bundle: Bundle, engine: Engine, **given: Any) -> None:
            made.append({"bundle": bundle.sha256, "engine": engine, **given})

    def engine_of(bundle: Bundle, **given: Any) -> Engine:
        opened.append({"bundle": bundle.sha256, **given})
        return guard.engine

    monkeypatch.setattr("firewall.screening.check_device", lambda device: None)  # this machine may have no such device
    monkeypatch.setattr("firewall.screening.open_engine", engine_of)
    own = {"bundle": guard.bundle.sha256}
    Seen.load(guard.bundle.path, device="cuda", threads=3, exhaustive=True, sweep_key=b"a key of the test")
    Seen.load()

    packaged = {"bundle": load_bundle().sha256}
    assert opened == [own | {"device": "cuda", "threads": 3}, packaged | {"device": "cpu", "threads": 0}]
    with_engine = own | {"engine": guard.engine}
    assert made == [
        with_engine | {"threads": 3, "exhaustive": True, "sweep_key": b"a key of the test"},
        packaged | {"engine": guard.engine, "threads": 0, "exhaustive": False, "sweep_key": None},
    ]


def threads_of(network: Any) -> int:
    return int(network._session.get_session_options().intra_op_num_threads)


@pytest.mark.parametrize(("given", "threads"), [({}, len(os.sched_getaffinity(0))), ({"threads": 5}, 5)])
def test_masked_images_have_a_classifier_of_their_own(guard: Firewall, given: dict[str, int], threads: int) -> None:
    """It has as many threads as were asked for, one for each core by default; the masks are those of the demand."""
    demand = PatchSpec(area=0.02, masks=4, fill=7)
    firewall = Firewall(guard.bundle, guard.engine, patches=demand, **given)

    assert threads_of(firewall.under_masks) == threads
    assert firewall.masks == masks_for(48, 48, 0.02, 4, 7)


def test_networks_of_detectors_take_one_thread(guard: Firewall, tmp_path: Path) -> None:
    """They are small, and waiting for other threads would cost more than one takes."""
    labels = len(guard.bundle.manifest.classifier.labels)
    bundle = bundle_with(tmp_path / "b", [juror("juror-a")], {"juror-a.onnx": constant_network([0.0] * labels)})
    firewall = Firewall(bundle, guard.engine)
    (detector,) = firewall.detectors

    assert [threads_of(network) for _, network in detector.asks] == [1]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("network", "error", "message"),
    [
        (constant_network([0.0] * 7), BundleError, "put a juror for this classifier into the bundle"),
        (constant_network([0.0] * 7, side=9), EngineError, "juror-a.onnx of bundle .*unfit failed"),
    ],
    ids=["other classes", "another size"],
)
def test_a_juror_that_can_not_judge_is_refused_before_the_first_frame(
    guard: Firewall, tmp_path: Path, network: bytes, error: type[Exception], message: str
) -> None:
    """For another classifier, or with an input of another size than the bundle says: one line names file and bundle."""
    bundle = bundle_with(tmp_path / "unfit", [juror("juror-a")], {"juror-a.onnx": network})
    with pytest.raises(error, match=message):
        Firewall(bundle, guard.engine)


def test_every_operation_is_announced_to_what_makes_the_copies(
    guard: Firewall, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a GPU each one is compared with the processor's before the first frame: none may be missing, none twice."""
    announced: list[tuple[str, ...]] = []
    monkeypatch.setattr("firewall.screening.open_copies", lambda engine, size, operations: announced.append(operations))
    firewall = Firewall(guard.bundle, guard.engine)

    asked = [name for detector in firewall.detectors for name in detector.operations]
    assert asked and sorted(*announced) == sorted(set(asked))
