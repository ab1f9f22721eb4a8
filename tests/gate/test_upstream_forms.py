"""The forms in which upstreams take images and give labels: binary data, PNG, channels first, HTTPS."""

from __future__ import annotations

import base64
import io
import ssl
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
from PIL import Image

from firewall.errors import UsageError
from firewall.frame import Pixels
from firewall.gate.clients import tls_context
from firewall.gate.http_client import HttpClient
from firewall.gate.judge import Judge
from firewall.gate.pictures import Scale
from firewall.gate.refusal import Refusal
from firewall.gate.upstream import Model, Upstream
from tests.gate.asking import MODEL, infer, make_gate, plain, request_of, served
from tests.gate.test_clients import make_certificates


def upstream_at(judge: Judge, url: str, *, ca: Path | None = None, **how: Any) -> Upstream:
    manifest = judge.guard.bundle.manifest.classifier
    client = HttpClient(url, ca=ca)
    return Upstream(client, MODEL, len(manifest.labels), Scale("255", manifest.input), **how)


def test_a_gate_before_a_gate_speaks_binary(judge: Judge, benign_sign: Pixels) -> None:
    """The second one is a real server with binary data, labels and several outputs, of which one is named."""
    with served(make_gate(judge)) as second:
        upstream = upstream_at(judge, second.url, output="label")
        with served(make_gate(judge, upstream=upstream)) as first:
            expected = infer(second, request_of(benign_sign)).labels
            found = infer(first, request_of(np.stack([benign_sign] * 2)))
            assert found.status == 200 and found.labels == expected * 2
            # Withheld by both; the second one's refusal is an upstream's status.
            assert infer(first, request_of(plain())).json["code"] == "upstream_status"
        unnamed = upstream_at(judge, second.url)
        with served(make_gate(judge, upstream=unnamed)) as third:
            refused = infer(third, request_of(benign_sign))
            assert refused.json["code"] == "upstream_model" and "--upstream-output" in refused.json["error"]


def test_https_is_verified(judge: Judge, tmp_path: Path, benign_sign: Pixels) -> None:
    """By the authority that is named: another one's certificate, or another name than asked for, is unreachable."""
    make_certificates(tmp_path)
    tls = tls_context(tmp_path / "server.pem", tmp_path / "server.key", None)
    with served(make_gate(judge), tls=tls) as second:
        port = urlsplit(second.url).port
        for host, ca, status in (("localhost", "ca", 200), ("localhost", "other", 502), ("127.0.0.1", "ca", 502)):
            upstream = upstream_at(judge, f"https://{host}:{port}", ca=tmp_path / f"{ca}.pem", output="label")
            with served(make_gate(judge, upstream=upstream)) as first:
                found = infer(first, request_of(benign_sign))
                assert found.status == status
                if status != 200:
                    assert found.json["code"] == "upstream_unreachable"
    with pytest.raises(UsageError, match="is for an upstream with https"):
        HttpClient("http://localhost", ca=tmp_path / "ca.pem")
    with pytest.raises(UsageError, match="can't use --upstream-ca"):
        HttpClient("https://localhost", ca=tmp_path / "none")
    assert ssl.create_default_context().check_hostname


def model(datatype: str, shape: tuple[int, ...], layout: Any = "NHWC") -> Model:
    return Model("input", datatype, shape, layout, "logits", "scores", "FP32", (), False)


def test_pixels_become_the_tensor_that_a_model_takes(judge: Judge, benign_sign: Pixels) -> None:
    """PNG, uint8 or floats, channels first or last, one image or a batch: always the same pixels."""
    scale = Scale("1", judge.guard.bundle.manifest.classifier.input)
    shape, elements = model("BYTES", (-1, 1)).tensor([benign_sign] * 2, scale)
    assert shape == (2, 1)
    assert all(np.array_equal(np.asarray(Image.open(io.BytesIO(each))), benign_sign) for each in elements)
    height, width = benign_sign.shape[:2]
    shape, values = model("UINT8", (-1, 3, -1, -1), "NCHW").tensor([benign_sign], scale)
    assert shape == (1, 3, height, width) and np.array_equal(values[0].transpose(1, 2, 0), benign_sign)
    shape, values = model("FP32", (height, width, 3)).tensor([benign_sign], scale)
    assert shape == (height, width, 3) and values.dtype == np.float32
    assert np.array_equal(scale.pixels_of(values[None]), benign_sign[None])


@pytest.mark.parametrize(
    ("shape", "images"),
    [
        ((1, 40, 40, 3), [plain(), plain()]),
        ((40, 40, 3), [plain(), plain()]),
        ((-1, 40, 40, 3), [plain(41)]),
        ((-1, -1, -1, 3), [plain(40), plain(41)]),
    ],
)
def test_images_that_a_model_doesnt_take_are_refused(
    judge: Judge, shape: tuple[int, ...], images: list[Pixels]
) -> None:
    """Too many, of another size, of several sizes: the client's mistake, with what is taken."""
    scale = Scale("255", judge.guard.bundle.manifest.classifier.input)
    with pytest.raises(Refusal) as refusal:
        model("UINT8", shape).tensor(images, scale)
    assert refusal.value.code.text == "bad_request" and "the upstream" in refusal.value.message


def test_base64_is_strict(judge: Judge, benign_sign: Pixels) -> None:
    """Another alphabet or bytes in between could be read in two ways."""
    file = io.BytesIO()
    Image.fromarray(benign_sign).save(file, "PNG")
    good = base64.b64encode(file.getvalue()).decode()
    with served(make_gate(judge)) as server:
        for text, status in ((good, 200), (good + "\n", 400), (good[:50] + "*" + good[50:], 400), (good[:-1], 400)):
            tensor = {"name": "image", "datatype": "BYTES", "shape": [1], "parameters": {"content_type": "base64"}}
            assert infer(server, {"inputs": [{**tensor, "data": [text]}]}).status == status
