"""benchmarks/gpu: the check of a GPU and its pack, on a machine that has none or next to nothing."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
GPU = ROOT / "benchmarks" / "gpu"
#: A driver that shows a GPU; the machine has no compiler then, and nothing of CUDA.
NVIDIA_SMI = "#!/bin/sh\necho 'NVIDIA H200, 580.159.04, 143771 MiB'\n"


def check(tmp_path: Path, *arguments: object, **programs: str) -> tuple[int, dict[str, Any], str]:
    """Exit code, check.json and what was printed, with these programs alone on PATH."""
    folder, out = tmp_path / "bin", tmp_path / "out"
    folder.mkdir(exist_ok=True)
    for name, content in programs.items():
        (folder / name.replace("_", "-")).write_text(content)
        (folder / name.replace("_", "-")).chmod(0o755)
    done = subprocess.run(
        [sys.executable, GPU / "check.py", "--out", out, "--pack", tmp_path / "pack", *map(str, arguments)],
        env={**os.environ, "PATH": str(folder)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    return done.returncode, json.loads((out / "check.json").read_text()), done.stdout + done.stderr


def test_without_a_gpu_it_says_so_and_does_nothing(tmp_path: Path) -> None:
    """One line, exit code 1, and a whole JSON."""
    code, told, said = check(tmp_path)
    assert code == 1 and said == "machine: failed  nvidia-smi shows no GPU\n"
    assert told["complete"] and list(told["steps"]) == ["machine"] and told["machine"]["nvcc"] == ""


@pytest.mark.timeout(300)
def test_on_a_bare_machine_it_says_what_it_could_not_do(tmp_path: Path) -> None:
    """No compiler, no pack, no runtime for the GPU: each with its reason; nothing was compared, so it is no success.
    With no time left no step begins."""
    code, told, said = check(tmp_path, nvidia_smi=NVIDIA_SMI)
    steps = told["steps"]
    assert code == 1 and told["complete"] and "Traceback" not in said
    assert steps["machine"]["status"] == "done" and told["machine"]["gpu"].startswith("NVIDIA H200")
    assert steps["packages"]["why"].endswith("make gpu-pack makes it")
    assert "nvcc, cmake, g++" in steps["build"]["why"]
    for name in ("ONNX Runtime", "TensorRT", "torch"):
        assert steps[f"networks, {name}"]["status"] == "not done", steps
    code, told, _ = check(tmp_path, "--limit", 0.5, nvidia_smi=NVIDIA_SMI)
    assert code == 1 and told["steps"]["networks, torch"]["why"] == "no time was left"


def test_a_step_that_hangs_or_fails_leaves_the_others_and_what_was_found(tmp_path: Path) -> None:
    """The prebuilt test of the kernels, and compute-sanitizer over it: done, not done (77), failed, too slow."""
    pack = tmp_path / "pack"
    pack.mkdir()
    parity = pack / "gpu_parity"
    sanitizer = "#!/bin/sh\ncase $2 in memcheck) ;; racecheck) echo a race; exit 1 ;; *) echo 2025.3; exit 77 ;; esac\n"
    tools = {"memcheck": "done", "racecheck": "failed", "synccheck": "not done"}
    for content, status in (("echo 40 copies are the same", "done"), ("exit 77", "not done"), ("kill -9 $$", "failed")):
        parity.write_text(f"#!/bin/sh\n{content}\n")
        parity.chmod(0o755)
        code, told, _ = check(tmp_path, "--kernels", nvidia_smi=NVIDIA_SMI, compute_sanitizer=sanitizer)
        steps = told["steps"]
        assert steps["parity, prebuilt"]["status"] == status
        assert {tool: steps[tool]["status"] for tool in tools} == tools
        assert code == 1 and steps["racecheck"]["why"] == "a race"
    assert "said" not in steps["parity, prebuilt"]
    parity.write_text("#!/bin/sh\nexec /bin/sleep 60\n")
    _, told, _ = check(tmp_path, "--kernels", "--limit", 4, nvidia_smi=NVIDIA_SMI)
    assert "it took longer than" in told["steps"]["parity, prebuilt"]["why"]


def module(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, GPU / f"{name}.py")
    assert spec is not None and spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


def wheel(folder: Path, name: str, size: int) -> Path:
    """A wheel of one module, with so many bytes in it that don't shrink."""
    path = folder / f"{name}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{name}.py", "VALUE = 7\n")
        archive.writestr(f"{name}.bin", os.urandom(size))
        archive.writestr(f"{name}-1.0.dist-info/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        archive.writestr(
            f"{name}-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{name}-1.0.dist-info/RECORD", "")
    return path


def test_what_is_packed_is_installed_and_what_was_altered_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A wheel of 2.5 MiB in three parts of 1 MiB; one that is here already stays out, but for one asked for by name."""
    packing, pack = module("pack"), tmp_path / "pack"
    monkeypatch.setattr(packing, "fetch", lambda out, _: [str(wheel(out, "made_for_this", 2_600_000))][:0])
    extra = wheel(tmp_path, "another_one", 10)
    monkeypatch.setattr(sys, "argv", ["pack.py", "--out", str(pack), "--part-mib", "1", "--wheel", str(extra)])
    assert packing.main() == 0
    assert "2 wheels, 2.5 MiB" in capsys.readouterr().out
    listed = json.loads((pack / "pack.json").read_text())["wheels"]
    assert len(listed["made_for_this-1.0-py3-none-any.whl"]["parts"]) == 3
    code, told, _ = check(tmp_path, "--kernels", nvidia_smi=NVIDIA_SMI)
    assert told["steps"]["packages"]["status"] == "done", (code, told)

    checking = module("check")
    made = checking.Check(tmp_path / "again", pack, 60.0)
    name, about = next((name, about) for name, about in listed.items() if name.startswith("made"))
    whole = checking._whole(made, name, about)
    assert whole is not None and whole.stat().st_size == about["bytes"]
    (pack / about["parts"][1]).write_bytes(b"\0" * 100)
    assert checking._whole(made, name, about) is None
    (pack / about["parts"][1]).unlink()
    assert checking._whole(made, name, about) is None
