"""The Open Inference Protocol v2, as its clients speak it and as nobody should."""

from __future__ import annotations

import base64
import io
import json
import struct
from typing import Any

import numpy as np
import pytest
from PIL import Image

from firewall.frame import Pixels
from firewall.gate.judge import Judge
from firewall.server import HttpServer
from tests.gate.asking import MODEL, PATIENT, ask, infer, make_gate, plain, request_of, served


def png(pixels: Pixels) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def test_health_and_metadata(server: HttpServer) -> None:
    """Alive, ready, and what the model takes and gives, with and without a version; no other model or version."""
    assert ask(server, path="/v2/health/live").json == {"live": True}
    assert ask(server, path="/v2/health/ready").json == {"ready": True}
    assert ask(server).json["extensions"] == ["binary_tensor_data"]
    about = ask(server, path=f"/v2/models/{MODEL}").json
    assert about["name"] == MODEL and about["inputs"][0] == {
        "name": "image",
        "datatype": "UINT8",
        "shape": [-1, -1, -1, 3],
    }
    version = about["versions"][0]
    assert ask(server, path=f"/v2/models/{MODEL}/versions/{version}").json == about
    assert ask(server, path=f"/v2/models/{MODEL}/ready").json == {"name": MODEL, "ready": True}
    for path in ("/v2/models/other", f"/v2/models/{MODEL}/versions/99", "/v2/models/other/ready", "/v3"):
        found = ask(server, path=path)
        assert found.status == 404 and found.json["code"] == "not_found"
    assert ask(server, "POST", "/v2", b"{}").json["code"] == "method_not_allowed"


def test_a_benign_image_gets_its_label_and_a_plain_one_a_reason(server: HttpServer, benign_sign: Pixels) -> None:
    """200 with the label alone, or 422 with the reason, the request's id and no score."""
    found = infer(server, request_of(benign_sign, id="one"))
    assert found.status == 200 and found.labels[0] >= 0
    assert found.json["id"] == "one" and found.json["model_name"] == MODEL
    assert [each["name"] for each in found.json["outputs"]] == [
        "label",
        "label_name",
        "decision",
        "reason",
        "certified",
    ]
    refused = infer(server, request_of(plain(), id="two"))
    assert refused.status == 422
    assert refused.json["code"] == "withheld" and refused.json["id"] == "two"
    assert refused.json["reason"] == refused.json["images"][0]["reason"] == "suspicious"
    assert set(refused.json) == {"error", "code", "reason", "id", "images"}
    assert set(refused.json["images"][0]) == {"index", "decision", "reason"}


def test_a_request_without_an_id_gets_one(server: HttpServer) -> None:
    """Another each time, so that the operator can find it."""
    first, second = (infer(server, request_of(plain())).json["id"] for _ in range(2))
    assert first and second and first != second


def test_a_batch_is_released_whole_or_not_unless_partial(server: HttpServer, benign_sign: Pixels) -> None:
    """One withheld image refuses the batch and says which; who asks for `partial` gets -1 in its place."""
    other = np.full_like(benign_sign, 90)
    batch = np.stack([benign_sign, other, benign_sign])
    refused = infer(server, request_of(batch))
    assert refused.status == 422 and [each["decision"] for each in refused.json["images"]] == [
        "release",
        "withhold",
        "release",
    ]
    found = infer(server, request_of(batch, parameters={"partial": True}))
    first, second, third = found.labels
    assert found.status == 200 and first == third >= 0 and second == -1
    assert infer(server, request_of(np.stack([benign_sign] * 2))).labels == [first, first]


def test_every_way_to_send_an_image_gives_the_same_label(server: HttpServer, judge: Judge, benign_sign: Pixels) -> None:
    """Nested data, NCHW, floats that are pixels, PNG in base64 or binary, binary uint8: all are the same pixels."""
    expected = infer(server, request_of(benign_sign)).labels

    def tensor(datatype: str, array: np.ndarray[Any, Any], **more: Any) -> dict[str, Any]:
        shape = list(array.shape)
        return {"inputs": [{"name": "image", "datatype": datatype, "shape": shape, "data": array.tolist(), **more}]}

    chw = benign_sign.transpose(2, 0, 1)
    assert infer(server, tensor("UINT8", benign_sign)).labels == expected
    assert infer(server, tensor("UINT8", chw[None])).labels == expected
    assert infer(server, tensor("FP32", chw.astype(np.float32))).labels == expected
    encoded = base64.b64encode(png(benign_sign)).decode()
    text = {"name": "image", "datatype": "BYTES", "shape": [1], "data": [encoded]}
    assert infer(server, {"inputs": [{**text, "parameters": {"content_type": "base64"}}]}).labels == expected
    assert infer(server, {"inputs": [text]}).status == 400
    for datatype, shape, blob in (
        ("UINT8", list(benign_sign.shape), benign_sign.tobytes()),
        ("BYTES", [1, 1], struct.pack("<I", len(png(benign_sign))) + png(benign_sign)),
    ):
        parameters = {"binary_data_size": len(blob)}
        head = json.dumps(
            {"inputs": [{"name": "image", "datatype": datatype, "shape": shape, "parameters": parameters}]}
        ).encode()
        assert infer(server, head + blob, Inference_Header_Content_Length=str(len(head))).labels == expected


@pytest.mark.parametrize("floats", ["1", "network"])
def test_floats_are_pixels_or_refused(judge: Judge, benign_sign: Pixels, floats: Any) -> None:
    """Scaled as the operator says, in any order of the same formula; half a brightness level off is refused."""
    spec = judge.guard.bundle.manifest.classifier.input
    scaled = benign_sign.astype(np.float32) / np.float32(255)
    if floats == "network":
        scaled = (scaled - np.array(spec.mean, np.float32)) / np.array(spec.std, np.float32)

    def asked(values: np.ndarray[Any, Any]) -> dict[str, Any]:
        data = values.astype(np.float64).reshape(-1).tolist()
        return {"inputs": [{"name": "image", "datatype": "FP32", "shape": list(values.shape), "data": data}]}

    with served(make_gate(judge, floats=floats)) as server:
        assert infer(server, asked(scaled)).status == 200
        for wrong in (scaled + np.float32(0.5 / 255), scaled * np.float32(255), scaled - 1, scaled * np.float32(1.001)):
            found = infer(server, asked(wrong))
            assert found.status == 400 and "floats that are no pixels" in found.json["error"]


def test_outputs_are_given_as_asked(server: HttpServer, benign_sign: Pixels) -> None:
    """Only those that were asked for, in their order, binary where that was asked for; never an upstream's scores."""
    asked = [{"name": "reason"}, {"name": "label", "parameters": {"binary_data": True}}]
    found = infer(server, request_of(benign_sign, outputs=asked))
    head = int(found.headers["Inference-Header-Content-Length"])
    answer, blob = json.loads(found.body[:head]), found.body[head:]
    assert [each["name"] for each in answer["outputs"]] == ["reason", "label"]
    assert answer["outputs"][0]["data"] == ["benign"] and len(blob) == 8
    for outputs in (
        [{"name": "logits"}],
        [{"name": "label", "parameters": {"classification": 3}}],
        [{"name": "label"}] * 2,
    ):
        refused = infer(server, request_of(benign_sign, outputs=outputs))
        assert refused.status == 400 and refused.json["code"] == "bad_request"


IMAGE = {"name": "image", "datatype": "UINT8", "shape": [1, 1, 3], "data": [1, 2, 3]}


@pytest.mark.parametrize(
    "request_",
    [
        *(b"", b"{", b"[]", b"null", b"\xff\xfe", b"[" * 100_000, b'{"inputs": [], "inputs": []}'),
        *({}, {"inputs": {}}, {"inputs": []}, {"inputs": [1]}, {"inputs": [IMAGE, IMAGE]}),
        {"inputs": [{**IMAGE, "name": "picture"}]},
        *({"inputs": [{**IMAGE, "datatype": each}]} for each in ("uint8", "INT64", "BOOL", "", 7, None, "BYTES")),
        *({"inputs": [{**IMAGE, "shape": each}]} for each in ([1, 3], [3], [1, 1, 1, 1, 3], [1, 1, 4], [-1, 1, 3])),
        *(
            {"inputs": [{**IMAGE, "shape": each}]}
            for each in ([0, 1, 3], [1.0, 1, 3], [True, 1, 3], "1,1,3", [10**30] * 3)
        ),
        *(
            {"inputs": [{**IMAGE, "data": each}]}
            for each in ([1, 2], [1, 2, 256], [1, 2, -1], [1, 2, 3.0], [1, 2, True])
        ),
        *({"inputs": [{**IMAGE, "data": each}]} for each in ([1, 2, "3"], [[1], [2, 3]], [[[1, 2, 3], [4]]], 3, None)),
        *({"inputs": [{**IMAGE, "parameters": each}]} for each in ([], 3, {"shared_memory_region": "x"})),
        *({"inputs": [IMAGE], "id": each} for each in (3, None, "x" * 129, "line\nbreak", "\u2028")),
        *({"inputs": [IMAGE], "parameters": each} for each in ([], {"sequence_id": 7}, {"partial": 1})),
        *({"inputs": [IMAGE], "outputs": each} for each in ("label", [None], {"name": "label"}, [{"name": ["label"]}])),
        *({"inputs": [{**IMAGE, "parameters": {"binary_data_size": each}}]} for each in (3, -1, "3", True)),
        b'{"inputs": [{"name": "image", "datatype": "FP32", "shape": [1, 1, 3], "data": [NaN, 0, 0]}]}',
        b'{"inputs": [{"name": "image", "datatype": "FP32", "shape": [1, 1, 3], "data": [1e999, 0, 0]}]}',
        b'{"inputs": [{"name": "image", "datatype": "UINT8", "shape": [1, 1, 3], "data": [' + b"1" * 9000 + b"]}]}",
    ],
)
def test_what_is_no_request_is_refused(server: HttpServer, request_: Any) -> None:
    """400 with one line that says what is wrong, and never a 500."""
    found = infer(server, request_)
    assert (found.status, found.json["code"]) == (400, "bad_request")
    assert "\n" not in found.json["error"] and len(found.json["error"]) < 400


@pytest.mark.parametrize("length", ["-1", "0x10", "99999999999", "10000000", "", "1,2"])
def test_a_wrong_header_length_is_refused(server: HttpServer, length: str) -> None:
    """Also one that is longer than the body."""
    found = infer(server, request_of(plain(4)), Inference_Header_Content_Length=length)
    assert found.json["code"] == "bad_request"


def test_binary_data_has_to_fit(server: HttpServer) -> None:
    """Of the length that its shape has, all of it named, lengths of BYTES within it."""
    for datatype, shape, size, blob in (
        ("UINT8", [1, 1, 3], 2, b"12"),
        ("UINT8", [1, 1, 3], 3, b"1234"),
        ("BYTES", [1], 5, b"\xff\xff\xff\xff1"),
        ("BYTES", [2], 5, b"\1\0\0\0x"),
        ("BYTES", [1], 2, b"\0\0"),
        ("FP32", [1, 1, 3], 12, struct.pack("<3f", float("nan"), 0, 0)),
    ):
        tensor = {"name": "image", "datatype": datatype, "shape": shape, "parameters": {"binary_data_size": size}}
        head = json.dumps({"inputs": [tensor]}).encode()
        found = infer(server, head + blob, Inference_Header_Content_Length=str(len(head)))
        assert found.json["code"] == "bad_request", found.json


def test_encoded_images_are_refused_as_on_the_command_line(server: HttpServer, benign_sign: Pixels) -> None:
    """Cut, transparent, of 16 bits, GIF, or a page of HTML: withheld with what is wrong, not decoded in some way."""
    cut = png(benign_sign)[:-20]
    transparent, deep, gif = io.BytesIO(), io.BytesIO(), io.BytesIO()
    Image.fromarray(benign_sign).convert("RGBA").save(transparent, "PNG")
    Image.fromarray(np.zeros((40, 40), np.uint16)).save(deep, "PNG")
    Image.fromarray(benign_sign).save(gif, "GIF")
    for data in (cut, transparent.getvalue(), deep.getvalue(), gif.getvalue(), b"<html>", b""):
        tensor = {"name": "image", "datatype": "BYTES", "shape": [1], "parameters": {"content_type": "base64"}}
        found = infer(server, {"inputs": [{**tensor, "data": [base64.b64encode(data).decode()]}]})
        assert (found.status, found.json["code"]) == (400, "bad_request")


def test_too_many_or_too_large_images_are_refused(judge: Judge) -> None:
    """By number and by pixels; of encoded images before one is decoded."""
    limits = type(PATIENT)(time=60.0, rate=0, images=2, pixels=5000)
    with served(make_gate(judge, limits=limits)) as server:
        assert infer(server, request_of(np.stack([plain(8)] * 3))).json["code"] == "too_large"
        assert infer(server, request_of(plain(80))).json["code"] == "too_large"
        bomb = io.BytesIO()
        Image.new("RGB", (8000, 8000)).save(bomb, "PNG")
        tensor = {"name": "image", "datatype": "BYTES", "shape": [1], "parameters": {"content_type": "base64"}}
        data = [base64.b64encode(bomb.getvalue()).decode()]
        assert infer(server, {"inputs": [{**tensor, "data": data}]}).json["code"] == "too_large"
