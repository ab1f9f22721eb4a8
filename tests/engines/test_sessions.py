"""A device that was asked for is kept to, or the session is refused with the reason: never the processor instead."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from firewall import Firewall, cli
from firewall.doctor.probes import _TWICE
from firewall.engines import DEVICES, check_device, open_engine, sessions
from firewall.engines.sessions import CPU, CUDA, open_session, placement, threads_of
from firewall.errors import EngineError, UsageError
from firewall.host.onnxruntime import ort
from firewall.host.pinning import judge_here, pinned, present_threads

#: A provider that every build has, and that has no kernel for anything: all its nodes fall to the processor.
AZURE = "AzureExecutionProvider"
without_gpu = pytest.mark.skipif(CUDA in ort.get_available_providers(), reason="this build has the CUDA provider")
with_azure = pytest.mark.skipif(
    AZURE not in ort.get_available_providers(), reason="this build lacks the Azure provider"
)


@pytest.mark.parametrize("device", ["", "gpu", "CUDA", "cuda:0"])
def test_a_device_that_is_none(device: str) -> None:
    """Wrong use, with what is allowed."""
    with pytest.raises(UsageError, match="cpu, cuda, tensorrt"):
        check_device(device)


@without_gpu
@pytest.mark.parametrize("device", [name for name in DEVICES if name != "cpu"])
def test_a_device_that_this_build_has_no_code_for(device: str, capsys: pytest.CaptureFixture[str]) -> None:
    """One line with the reason and exit code 1, before anything is loaded; and so in Python."""
    with pytest.raises(EngineError, match=f"device '{device}' can't be used") as caught:
        Firewall.load("default", device=device)
    assert "\n" not in str(caught.value)

    for command in (["screen", "x.png"], ["serve", "--max-frames", "1", "--http", "off"], ["bench", "--samples", "1"]):
        assert cli.run(cli.app, [*command, "--device", device], "firewall") == 1
        out, error = capsys.readouterr()
        assert not out and error.count("\n") == 1 and CUDA in error


def test_tensorrt_means_a_plan_where_the_package_is_there(guard: Firewall, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then ONNX Runtime's own provider isn't asked, whatever its build has; and the plan's failure is told."""
    from firewall.engines.tensorrt_engine import TensorRTEngine

    opened: list[object] = []
    monkeypatch.setattr("firewall.engines.sessions.has_tensorrt", lambda: True)
    monkeypatch.setattr("firewall.engines.has_tensorrt", lambda: True)
    monkeypatch.setattr(TensorRTEngine, "from_cache", lambda bundle: opened.append(bundle) or guard.engine)
    assert open_engine(guard.bundle, device="tensorrt") is guard.engine and opened == [guard.bundle]

    def missing(bundle: object) -> None:
        raise EngineError("no plan; build it with 'firewall export tensorrt'")

    monkeypatch.setattr(TensorRTEngine, "from_cache", missing)
    with pytest.raises(EngineError, match="no plan"):
        Firewall.load("default", device="tensorrt")


def test_on_the_processor_every_node_is_accounted_for(guard: Firewall) -> None:
    """What the record says of the default classifier: nodes, all on the CPU provider."""
    content = guard.bundle.files[guard.bundle.manifest.classifier.file]
    found = placement(open_session(content, "it", threads=1))
    assert set(found) <= {CPU}
    if hasattr(ort.InferenceSession, "get_provider_graph_assignment_info"):
        assert found[CPU] > 10


@with_azure
def test_nodes_that_would_fall_to_the_processor(guard: Firewall, monkeypatch: pytest.MonkeyPatch) -> None:
    """A device whose provider loads but has no kernel for the nodes: ONNX Runtime would run them on the processor
    without a word; here that is an error."""
    monkeypatch.setitem(sessions.PROVIDERS, "cuda", (AZURE,))
    quiet = ort.SessionOptions()
    quiet.log_severity_level = 4
    assert ort.InferenceSession(_TWICE, quiet, providers=[AZURE]).get_providers()[0] == AZURE

    with pytest.raises(EngineError, match="the rest would run on the processor"):
        open_engine(guard.bundle, device="cuda", threads=1)


@with_azure
def test_the_record_is_believed_before_the_options(monkeypatch: pytest.MonkeyPatch) -> None:
    """Even if ONNX Runtime didn't keep to the ban on the processor, the record of where nodes went refuses them."""
    if not hasattr(ort.InferenceSession, "get_provider_graph_assignment_info"):
        pytest.skip("this version keeps no record")
    monkeypatch.setitem(sessions.PROVIDERS, "cuda", (AZURE,))
    entry = ort.SessionOptions.add_session_config_entry

    class Lax(ort.SessionOptions):  # type: ignore[misc]
        def add_session_config_entry(self, key: str, value: str) -> None:
            if key != "session.disable_cpu_ep_fallback":
                entry(self, key, value)

    monkeypatch.setattr(ort, "SessionOptions", Lax)
    with pytest.raises(EngineError, match=r"not every node runs on device 'cuda' \(1 on CPUExecutionProvider\)"):
        open_session(_TWICE, "it", device="cuda")


class Listing:
    """What a session says of itself."""

    def __init__(self, providers: list[str], nodes: dict[str, int]) -> None:
        self.get_providers = lambda: providers
        self.get_provider_graph_assignment_info = lambda: [
            type("Part", (), {"ep_name": name, "get_nodes": lambda self, count=count: [None] * count})()
            for name, count in nodes.items()
        ]


@pytest.mark.parametrize(
    ("device", "providers", "nodes", "allowed"),
    [
        ("cuda", [CUDA, CPU], {CUDA: 20}, True),
        ("cuda", [CUDA, CPU], {CUDA: 20, CPU: 2}, False),
        ("cuda", [CPU], {CPU: 22}, False),
        ("cuda", [], {}, False),
        ("tensorrt", [sessions.TENSORRT, CUDA, CPU], {sessions.TENSORRT: 1, CUDA: 2}, True),
        ("tensorrt", [sessions.TENSORRT, CUDA, CPU], {CUDA: 22}, False),
        ("tensorrt", [CUDA, CPU], {CUDA: 22}, False),
    ],
)
def test_what_counts_as_proof(device: str, providers: list[str], nodes: dict[str, int], allowed: bool) -> None:
    """All nodes on what the device may use, at least one on what it is named for."""
    session = Listing(providers, nodes)
    assert placement(session) == nodes
    if allowed:
        sessions._prove(session, "it", device)
    else:
        with pytest.raises(EngineError, match=f"device '{device}'"):
            sessions._prove(session, "it", device)


def test_what_each_provider_is_told() -> None:
    """No TF32 behind thresholds of float32; no engines kept on disk; profiles for batches of 1 to 128 images."""
    cuda = sessions._options(CUDA, None, {"user_compute_stream": "5"})
    assert cuda["use_tf32"] == "0" and cuda["user_compute_stream"] == "5"
    told = sessions._options(sessions.TENSORRT, ("image", (3, 48, 32)), {})
    assert told["trt_engine_cache_enable"] == "0"
    assert told["trt_profile_min_shapes"] == "image:1x3x48x32" and told["trt_profile_max_shapes"] == "image:128x3x48x32"
    assert sessions._options(CPU, None, {}) == {}


def test_the_setting(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`device` in the settings file is the option's default; what is none is refused before anything is opened."""
    (tmp_path / "f.yaml").write_text("device: abacus\nhttp: 'off'\n")
    assert cli.run(cli.app, ["serve", "--config", str(tmp_path / "f.yaml")], "firewall") == 2
    assert "'abacus'" in capsys.readouterr().err


def test_the_named_processor_is_the_default(guard: Firewall) -> None:
    """device="cpu" gives the logits that no device gives."""
    image = np.full((1, 48, 48, 3), 90, np.uint8)
    named = open_engine(guard.bundle, device="cpu", threads=1)
    assert named.provider == CPU == guard.engine.provider
    assert np.array_equal(named.classify(image), guard.engine.classify(image))


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="this process may use one core alone")
def test_the_pool_is_on_the_cores_that_are_named(guard: Firewall) -> None:
    """One thread to a core; none where there is one thread; never more than cores, whatever is asked for."""
    first, second = sorted(os.sched_getaffinity(0))[:2]
    spec = guard.bundle.manifest.classifier
    content = guard.bundle.files[spec.file]
    with pinned(f"{second},{first}"):
        assert [threads_of(asked) for asked in (0, 1, 2, 5)] == [2, 1, 2, 2]
        for asked, wanted in ((0, [{first}]), (1, []), (5, [{first}])):
            before = present_threads()
            session = open_session(content, "a network", threads=asked)
            found = [os.sched_getaffinity(thread) for thread in present_threads() - before]
            assert found == wanted, asked
            del session
        judge_here()
        engine = open_engine(guard.bundle)
        images = np.random.default_rng(0).integers(0, 256, (4, spec.input.height, spec.input.width, 3), np.uint8)
        np.testing.assert_allclose(engine.classify(images), guard.engine.classify(images), rtol=0, atol=1e-3)
        assert os.sched_getaffinity(0) == {second}
    assert threads_of(0) == len(os.sched_getaffinity(0))


def test_a_pool_that_is_elsewhere_is_refused(guard: Firewall, monkeypatch: pytest.MonkeyPatch) -> None:
    """ONNX Runtime only writes a line to its log where it can't put a thread."""
    cores = sorted(os.sched_getaffinity(0))

    class Nowhere:
        judging = (cores[0], 8000)

    monkeypatch.setattr(sessions, "placed", Nowhere)
    monkeypatch.setattr("firewall.host.pinning._PATIENCE", 0.2)
    spec = guard.bundle.manifest.classifier
    with pytest.raises(EngineError, match=r"a network: onnxruntime .* has no thread on core 8000") as caught:
        open_session(guard.bundle.files[spec.file], "a network")
    assert "\n" not in str(caught.value)
