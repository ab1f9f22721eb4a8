"""`firewall doctor` tells the truth about this machine, and survives what it looks at."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from firewall import doctor, native
from firewall.bundle import loading
from firewall.doctor import Check, probes
from firewall.errors import FirewallError
from firewall.host.core_list import listed


@pytest.fixture(scope="module")
def checks() -> dict[str, Check]:
    """What the doctor says of this machine, by name."""
    return {check.name: check for check in doctor.inspect()}


def test_what_the_tests_run_on_is_found(checks: dict[str, Check]) -> None:
    """Python, numpy, Pillow, OpenCV with FFmpeg and ONNX Runtime on the CPU are here, and the doctor says so."""
    for name in ("python", "numpy", "pillow", "av", "simplejpeg", "opencv", "onnxruntime", "onnxruntime CPU"):
        assert checks[name].ok is True, checks[name]
    assert checks["python"].detail.startswith(".".join(map(str, sys.version_info[:3])))
    assert str(Path(doctor.__file__).parents[1]) in checks["package"].detail


def test_every_no_has_its_advice(checks: dict[str, Check]) -> None:
    """Whoever reads a no also reads what to do about it; a yes needs no advice."""
    assert any(check.ok is False for check in checks.values())
    for check in checks.values():
        assert check.detail, check
        assert bool(check.advice) == (check.ok is not True), check


def test_all_subjects_are_covered(checks: dict[str, Check]) -> None:
    """Each thing that a user may lack has a line, on any machine."""
    subjects = "package,python,virtual environment,machine,disk,native runtime,operations,native cuda,cuda driver"
    assert {*subjects.split(","), "tensorrt", "torch (lab)"} <= set(checks)
    assert {"--device cpu", "--device cuda", "--device tensorrt"} <= set(checks)
    assert {"opencv gstreamer", "opencv v4l", "onnxruntime CUDA", "onnxruntime Tensorrt", "default bundle"} <= set(
        checks
    )
    assert any(name.startswith("camera") for name in checks)


def test_it_lists_cores_and_how_they_differ(checks: dict[str, Check], monkeypatch: pytest.MonkeyPatch) -> None:
    """What `--cores` may name, which of them the kernel leaves alone, and the big and the little ones."""
    assert checks["cores"].detail.startswith(f"this process may use {listed(os.sched_getaffinity(0))}; isolated: ")
    assert "can do" not in checks["cores"].detail or len(checks["cores"].detail.split("can do")) > 2
    monkeypatch.setattr(doctor, "isolated", lambda: frozenset({4, 5}))
    monkeypatch.setattr(doctor, "capacities", lambda: {0: 446, 1: 446, 4: 1024, 5: 1024})
    (cores,) = doctor._cores()
    assert "isolated: 4-5; 4-5 can do 1024 of 1024; 0-1 can do 446 of 1024 (" in cores.detail


def test_where_tensorrt_is_there_its_plans_are_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """It says which network has one, and how to make what is missing; without TensorRT there is nothing to tell."""
    answers = {"tensorrt": (True, "11.4"), "plans": (False, "classifier.onnx fp16, finder.onnx none in /plans")}
    monkeypatch.setattr(doctor, "ask", lambda question, *_, **__: answers[question])
    _, plans = doctor._tensorrt()
    assert (plans.name, plans.ok) == ("tensorrt plans", False) and "finder.onnx none" in plans.detail
    assert "firewall export tensorrt" in plans.advice
    answers["plans"] = (True, "classifier.onnx fp16, finder.onnx fp16 in /plans")
    assert doctor._tensorrt()[1].ok is True and not doctor._tensorrt()[1].advice
    answers["tensorrt"] = (False, "No module named 'tensorrt'")
    assert [check.name for check in doctor._tensorrt()] == ["tensorrt"]


def test_it_says_which_devices_can_be_named(checks: dict[str, Check]) -> None:
    """The processor can, with proof of where the nodes ran; one whose provider is missing can't, for that reason."""
    assert checks["--device cpu"].ok is True and "CPUExecutionProvider" in checks["--device cpu"].detail
    if "not in this build" in checks["onnxruntime CUDA"].detail:
        assert checks["--device cuda"].ok is False
        assert "built without CUDAExecutionProvider" in checks["--device cuda"].detail


def test_the_native_runtime_is_loaded(checks: dict[str, Check]) -> None:
    """The installed package has its compiled part, of the same version, and its SIMD level is one of the five."""
    assert checks["native runtime"].ok is True, checks["native runtime"]
    assert native.simd_level() in {"avx512", "avx2", "sse2", "neon", "scalar"}
    assert native.simd_level() in checks["native runtime"].detail


def test_it_says_which_code_does_the_operations(checks: dict[str, Check], monkeypatch: pytest.MonkeyPatch) -> None:
    """The native runtime where it is there, compared with Pillow on the spot; Pillow where it isn't; and a difference
    is told."""
    assert "native runtime, equal" in checks["operations"].detail

    monkeypatch.setattr("firewall.transforms.jpeg.jpeg_sweep_reference", lambda pixels, qualities: pixels)
    (_, differing, _) = doctor._native()
    assert differing.ok is False and "differs" in differing.detail

    monkeypatch.setattr(native, "simd_level", lambda: (_ for _ in ()).throw(FirewallError("not built; build it")))
    (_, pillow) = doctor._native()
    assert pillow.ok is True and pillow.detail.startswith("by Pillow")


def test_the_table_says_what_is_missing() -> None:
    """The table shows found, missing and required-but-missing differently, with the advice, and brackets unharmed."""
    out = io.StringIO()
    found = [
        Check("numpy", True, "2.0"),
        Check("tensorrt", False, "No module [red]", "install it"),
        Check("default bundle", False, "gone", "reinstall", required=True),
    ]
    doctor.render(found, console=Console(file=out, width=100))
    lines = [line.split(maxsplit=1) for line in out.getvalue().splitlines()]
    assert [line[0] for line in lines if line[0] in {"yes", "no", "NO"}] == ["yes", "no", "NO"]
    assert "No module [red]" in out.getvalue()
    assert "-> install it" in out.getvalue()
    assert "The main job can't run: default bundle." in out.getvalue()


def test_the_command_prints_json_and_its_exit_code_counts_only_what_is_required() -> None:
    """`firewall doctor --json` is a list of objects on stdout; it ends with 1 only if the main job can't run."""
    done = subprocess.run(
        [sys.executable, "-m", "firewall.cli", "doctor", "--json"],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    found = json.loads(done.stdout)
    assert {"name", "ok", "detail", "advice", "required"} == set(found[0])
    failed = any(check["ok"] is False and check["required"] for check in found)
    assert done.returncode == (1 if failed else 0)


def test_a_check_that_raises_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    """The doctor never raises: a check that does becomes a line."""

    def _torch() -> list[Check]:
        raise RuntimeError("a broken\ninstallation")

    monkeypatch.setattr(doctor, "_torch", _torch)
    assert (
        Check("torch", None, "could not be looked at: a broken installation", "please report this") in doctor.inspect()
    )


def test_a_crash_in_native_code_is_an_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A TensorRT that kills its process at import is a no, and the doctor lives."""
    (tmp_path / "tensorrt.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)\n")
    monkeypatch.setattr(probes, "SEARCH_PATH", json.dumps([str(tmp_path), *sys.path]))
    (check,) = doctor._tensorrt()
    assert (check.ok, check.detail) == (False, "crashed with signal 11")


def test_a_hang_in_native_code_is_an_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A driver that never answers is a no after the time-out."""
    (tmp_path / "tensorrt.py").write_text("import time\ntime.sleep(1000)\n")
    monkeypatch.setattr(probes, "SEARCH_PATH", json.dumps([str(tmp_path), *sys.path]))
    assert probes.ask("tensorrt", patience=3.0) == (False, "gave no answer within 3 s")


def test_a_provider_that_does_not_load_is_no() -> None:
    """Only a provider that computes counts; one that ONNX Runtime silently replaces by the CPU doesn't."""
    ok, detail = probes.ask("provider", "NoSuchExecutionProvider")
    assert not ok
    assert detail


def test_a_device_that_is_no_camera_is_no() -> None:
    """A path that V4L2 can't open gives a no, not a crash."""
    assert doctor._captures(Path("/dev/null")) is None
    ok, detail = probes.ask("camera", "/dev/null")
    assert not ok and detail.startswith("can't open camera /dev/null: not a camera")


def test_firewalld_is_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """firewalld's package of the same name on the search path is named, with what to do about it."""
    (tmp_path / "firewall" / "core").mkdir(parents=True)
    (tmp_path / "firewall" / "core" / "fw.py").touch()
    assert doctor._package()[0].ok is True
    monkeypatch.syspath_prepend(str(tmp_path))
    (check,) = doctor._package()
    assert check.ok is False
    assert str(tmp_path / "firewall") in check.detail
    assert "virtual environment" in check.advice


def test_a_missing_bundle_stops_the_main_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without its bundle the main job can't run, and the check says so."""
    monkeypatch.setattr(loading, "DEFAULT", tmp_path / "gone")
    (check,) = doctor._bundle()
    assert check.ok is False
    assert check.required
