"""containers/: linted by hadolint, and held to what docs/device.md promises. No image is built here."""

from __future__ import annotations

import fnmatch
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from firewall.config import load_settings

CONTAINERS = Path(__file__).resolve().parents[2] / "containers"
DOCKERFILES = {"Dockerfile": "x86_64", "Dockerfile.jetpack6": "aarch64", "Dockerfile.jetpack7": "aarch64"}
PYTHON = {"Dockerfile": "cp311", "Dockerfile.jetpack6": "cp310", "Dockerfile.jetpack7": "cp312"}


def instructions(name: str) -> list[str]:
    """The lines of a Dockerfile, continued ones joined, without comments."""
    lines = [line for line in (CONTAINERS / name).read_text().splitlines() if not line.lstrip().startswith("#")]
    return [" ".join(line.split()) for line in "\n".join(lines).replace("\\\n", " ").splitlines() if line.strip()]


@pytest.mark.parametrize("name", DOCKERFILES)
def test_hadolint_has_nothing_to_say(name: str) -> None:
    """Also of the shell commands in it (ShellCheck is part of hadolint)."""
    program = shutil.which("hadolint", path=str(Path(sys.executable).parent)) or shutil.which("hadolint")
    if program is None:
        pytest.skip("hadolint is not installed: the 'dev' extra has it for x86-64")
    done = subprocess.run([program, CONTAINERS / name], capture_output=True, text=True, check=False, timeout=100)
    assert (done.returncode, done.stdout) == (0, ""), done.stdout + done.stderr
    broken = subprocess.run([program, "-"], input="FROM a\nRUN cd $X\n", capture_output=True, text=True, check=False)
    assert broken.returncode != 0  # it would have something to say


@pytest.mark.parametrize("name", DOCKERFILES)
def test_an_image_is_what_the_docs_say(name: str) -> None:
    """Nobody is root, the health is asked with our own command, no host of a registry is named, the wheel is one that
    `make wheels` makes, and nothing is compiled."""
    lines = instructions(name)
    final = lines[max(index for index, line in enumerate(lines) if line.startswith("FROM ")) :]
    users = [line.split()[1] for line in final if line.startswith("USER ")]
    assert users == ["10001:44"] and final.index("USER 10001:44") > max(
        [index for index, line in enumerate(final) if line.startswith("RUN ")], default=0
    )
    (health,) = [line for line in final if line.startswith("HEALTHCHECK ")]
    assert health.endswith('CMD ["firewall", "device", "health"]')
    assert not re.findall(r"\b[\w-]+(?:\.[\w-]+)*\.(?:io|com|org|net|dev)\b", "\n".join(lines))
    assert not re.findall(r"g\+\+|gcc|build-essential|cmake|make ", "\n".join(lines))
    (copied,) = [line.split()[1] for line in lines if line.startswith("COPY dist/")]
    wheel = f"dist/perception_firewall-0.2.0-{PYTHON[name]}-{PYTHON[name]}-manylinux_2_34_{DOCKERFILES[name]}.whl"
    assert fnmatch.fnmatchcase(wheel, copied)
    extras = re.search(r"ARG EXTRAS=(\S+)", "\n".join(lines))
    project = (CONTAINERS.parent / "pyproject.toml").read_text()
    assert extras is not None and all(f"\n{extra} = [" in project for extra in extras[1].split(","))
    ignored = (CONTAINERS.parent / ".dockerignore").read_text().splitlines()
    assert {"*", "!dist/*.whl", "!constraints.txt"} <= set(ignored)


def merged(*names: str) -> dict[str, Any]:
    """The service `firewall` as compose merges the files."""
    service: dict[str, Any] = {}
    for name in names:
        for key, value in yaml.safe_load((CONTAINERS / name).read_text())["services"]["firewall"].items():
            old = service.get(key)
            service[key] = old + value if isinstance(value, list) and old else {**old, **value} if old else value
    return service


@pytest.mark.parametrize("names", [("compose.yaml",), ("compose.yaml", "compose.jetson.yaml")])
def test_compose_gives_no_more_than_is_needed(names: tuple[str, ...]) -> None:
    """A read-only root, no capability, no privilege, one camera, the page for this machine alone; on a Jetson NVIDIA's
    runtime and the socket of nvargus-daemon beside it. The settings file is valid."""
    service = merged(*names)
    assert service["read_only"] is True and service["cap_drop"] == ["ALL"] and service["user"] == "10001:44"
    assert "no-new-privileges:true" in service["security_opt"]
    assert not {"privileged", "network_mode", "pid", "ipc", "cap_add"} & set(service)
    assert service["devices"] == ["/dev/video0:/dev/video0"]
    assert all(port.startswith("127.0.0.1:") for port in service["ports"])
    writable = [volume for volume in service["volumes"] if not volume.endswith(":ro")]
    assert writable == ["state:/state", *(["/tmp/argus_socket:/tmp/argus_socket"] if len(names) == 2 else [])]
    assert (service.get("runtime") == "nvidia") == (len(names) == 2)
    file = service["build"]["dockerfile"]
    assert [name for name in DOCKERFILES if fnmatch.fnmatch(f"containers/{name}", re.sub(r"\$\{.*\}", "*", file))]
    settings = load_settings(CONTAINERS / "firewall.yaml")
    assert settings.source == "/dev/video0" and settings.output[1].startswith("jsonl:/state/")
