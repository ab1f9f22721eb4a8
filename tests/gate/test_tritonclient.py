"""NVIDIA's own client against the gate: it needs to know nothing of us."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest

from firewall.frame import Pixels
from firewall.gate.clients import Tokens
from firewall.gate.judge import Judge
from firewall.server import HttpServer
from tests.gate.asking import MODEL, make_gate, plain, served

triton = pytest.importorskip("tritonclient.http")


@pytest.fixture
def client(server: HttpServer) -> Iterator[Any]:
    """It."""
    with triton.InferenceServerClient(urlsplit(server.url).netloc, network_timeout=100.0) as client:
        yield client


def tensor(array: Any, datatype: str = "UINT8", *, binary: bool = True) -> list[Any]:
    found = triton.InferInput("image", list(array.shape), datatype)
    found.set_data_from_numpy(array, binary_data=binary)
    return [found]


def test_it_finds_the_server_and_its_model(client: Any) -> None:
    """Live, ready, metadata; a model that isn't there is not ready."""
    assert client.is_server_live() and client.is_server_ready() and client.is_model_ready(MODEL)
    assert not client.is_model_ready("other")
    assert "binary_tensor_data" in client.get_server_metadata()["extensions"]
    assert client.get_model_metadata(MODEL)["outputs"][0]["name"] == "label"


@pytest.mark.parametrize("binary", [True, False])
def test_it_gets_labels(client: Any, benign_sign: Pixels, binary: bool) -> None:
    """Binary and JSON, one image and a batch, all outputs and one, with its id."""
    found = client.infer(MODEL, tensor(benign_sign, binary=binary), request_id="seven")
    label = found.as_numpy("label")
    assert found.get_response()["id"] == "seven" and label.dtype == np.int64 and label.shape == (1,)
    assert found.as_numpy("decision").tolist() == [b"release"]
    batch = np.stack([benign_sign] * 3)
    asked = [triton.InferRequestedOutput("label", binary_data=binary)]
    again = client.infer(MODEL, tensor(batch, binary=binary), outputs=asked)
    assert again.as_numpy("label").tolist() == label.tolist() * 3 and again.as_numpy("reason") is None


def test_it_gets_labels_of_floats(client: Any, benign_sign: Pixels) -> None:
    """As most models take images: FP32, NCHW."""
    values = np.ascontiguousarray(benign_sign.transpose(2, 0, 1)[None].astype(np.float32))
    assert client.infer(MODEL, tensor(values, "FP32")).as_numpy("label")[0] >= 0


def test_it_is_refused_with_a_status_and_a_reason(client: Any, benign_sign: Pixels) -> None:
    """As its own exception; nothing of it is mistaken for a label."""
    with pytest.raises(triton.InferenceServerException) as error:
        client.infer(MODEL, tensor(plain()))
    assert error.value.status() == "422" and "withheld: suspicious" in error.value.message()
    partial = client.infer(MODEL, tensor(np.stack([plain()] * 2)), parameters={"partial": True})
    assert partial.as_numpy("label").tolist() == [-1, -1]
    for asked in ([triton.InferRequestedOutput("logits")], [triton.InferRequestedOutput("label", class_count=3)]):
        with pytest.raises(triton.InferenceServerException, match="no scores"):
            client.infer(MODEL, tensor(benign_sign), outputs=asked)


def test_it_sends_a_token(judge: Judge, benign_sign: Pixels, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a header, as its users do."""
    monkeypatch.setenv("GATE", "0123456789abcdef0123456789abcdef")
    with (
        served(make_gate(judge, tokens=Tokens("env:GATE"))) as server,
        triton.InferenceServerClient(urlsplit(server.url).netloc) as client,
    ):
        with pytest.raises(triton.InferenceServerException):
            client.infer(MODEL, tensor(benign_sign))
        headers = {"Authorization": "Bearer 0123456789abcdef0123456789abcdef"}
        assert client.infer(MODEL, tensor(benign_sign), headers=headers).as_numpy("label").shape == (1,)
