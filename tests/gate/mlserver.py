"""A real MLServer with the bundle's classifier, from the virtual environment that `make mlserver` makes."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import pytest

from firewall.bundle import Bundle

__all__ = ["CLASSIFIER", "running_mlserver"]

ROOT = Path(__file__).resolve().parents[2]
CLASSIFIER = Path(__file__).parent / "mlserver_model" / "classifier.py"
_COMMAND = ROOT / "build" / "mlserver" / "bin" / "mlserver"
_PATIENCE = 90.0  # seconds until it is up; the machine may be busy


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def write_models(folder: Path, bundle: Bundle) -> None:
    """Three models of one network: `pixels` (uint8), `scaled` (floats in, NCHW) and `labels` (a label out)."""
    spec = bundle.manifest.classifier
    network = folder / "classifier.onnx"
    network.write_bytes(bundle.files[spec.file])
    (folder / "classifier.py").write_bytes(CLASSIFIER.read_bytes())
    height, width, classes = spec.input.height, spec.input.width, len(spec.labels)
    pixels = {"name": "input", "datatype": "UINT8", "shape": [-1, height, width, 3]}
    scaled = {"name": "input", "datatype": "FP32", "shape": [-1, 3, height, width]}
    logits = {"name": "logits", "datatype": "FP32", "shape": [-1, classes]}
    label = {"name": "class", "datatype": "INT64", "shape": [-1, 1]}
    for name, tensor, output, extra in (
        ("pixels", pixels, logits, {}),
        ("scaled", scaled, logits, {}),
        ("labels", pixels, label, {"labels": True}),
    ):
        (folder / name).mkdir()
        settings: dict[str, Any] = {
            "name": name,
            "implementation": "classifier.Classifier",
            "parameters": {"uri": str(network), "extra": extra},
            "inputs": [tensor],
            "outputs": [output],
        }
        (folder / name / "model-settings.json").write_text(json.dumps(settings))


@contextmanager
def running_mlserver(folder: Path, bundle: Bundle) -> Iterator[str]:
    """Its URL. Skips the test where it isn't installed.

    Args:
        folder: An empty folder for its models.
        bundle: Whose classifier it serves.
    """
    if not _COMMAND.exists():
        pytest.skip("MLServer is not installed: make mlserver")
    write_models(folder, bundle)
    http, grpc, metrics = (_free_port() for _ in range(3))
    settings = {
        "debug": False,
        "host": "127.0.0.1",
        "http_port": http,
        "grpc_port": grpc,
        "metrics_port": metrics,
        "parallel_workers": 0,
        "use_structured_logging": False,
    }
    (folder / "settings.json").write_text(json.dumps(settings))
    environment = {**os.environ, "PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([_COMMAND, "start", folder], stdout=log, stderr=log, env=environment, cwd=folder)
    url = f"http://127.0.0.1:{http}"
    try:
        _wait(process, url, folder / "log")
        yield url
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    limit = time.monotonic() + _PATIENCE
    while time.monotonic() < limit:
        if process.poll() is not None:
            break
        try:
            if all(urlopen(f"{url}/v2/models/{name}/ready", timeout=5).status == 200 for name in ("pixels", "labels")):
                return
        except (URLError, OSError):
            time.sleep(0.2)
    pytest.fail(f"MLServer did not start: {log.read_text(errors='replace')[-2000:]}")
