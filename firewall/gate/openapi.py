"""The OpenAPI 3.1 description of the gate, served as /openapi.json and printed by `firewall schema gate`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from firewall.gate.protocol import HEADER_LENGTH, OUTPUTS
from firewall.gate.refusal import Code
from firewall.verdict import Reason

__all__ = ["description"]

_ALWAYS = (Code.UNAUTHORIZED, Code.NOT_FOUND, Code.METHOD_NOT_ALLOWED, Code.FAILED)
_UPSTREAM = tuple(code for code in Code if code.text.startswith("upstream_"))


def description(model: str | None = None, versions: Sequence[str] = ()) -> dict[str, Any]:
    """The description, ready for JSON.

    Args:
        model: The only model that is served; None: any.
        versions: Its versions, if they are known.
    """
    known = {"model": [model] if model else [], "version": list(versions)}
    paths: dict[str, Any] = {
        "/v2": {"get": _get("Name and version of the server", "Server", ())},
        "/v2/health/live": {"get": _get("Whether the gate runs", "Live", (), down="Live", known=())},
        "/v2/health/ready": {"get": _get("Whether labels can be given", "Ready", (), down="Ready", known=())},
        "/openapi.json": {"get": _get("This description", "Any", (), known=())},
    }
    for path, parameters in (
        ("/v2/models/{model}", ["model"]),
        ("/v2/models/{model}/versions/{version}", ["model", "version"]),
    ):
        named = [
            {
                "name": each,
                "in": "path",
                "required": True,
                "schema": {"type": "string", **({"enum": known[each]} if known[each] else {})},
            }
            for each in parameters
        ]
        paths[path] = {"parameters": named, "get": _get("What the model takes and gives", "Model", _UPSTREAM)}
        paths[f"{path}/ready"] = {
            "parameters": named,
            "get": _get("Whether the model is ready", "ModelReady", _UPSTREAM, down="ModelReady"),
        }
        paths[f"{path}/infer"] = {"parameters": named, "post": _infer()}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Perception firewall: gate",
            "version": "2",
            "summary": "The Open Inference Protocol v2: a label only if the image is judged benign.",
        },
        "paths": paths,
        "components": {
            "schemas": _schemas(),
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{"token": []}, {}],
    }


def _ref(name: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{name}"}


def _json(schema: str, text: str) -> dict[str, Any]:
    return {"description": text, "content": {"application/json": {"schema": _ref(schema)}}}


def _refusals(codes: Iterable[Code]) -> dict[str, Any]:
    by_status: dict[int, list[str]] = {400: [], 421: []}
    for code in codes:
        by_status.setdefault(code.status, []).append(code.text)
    # 400 and 421 may also come as plain text: of a request that is no HTTP, or for a host that isn't served.
    plain = {"text/plain": {"schema": {"type": "string"}}}
    return {
        str(status): {
            "description": "`code`: " + ", ".join(texts) if texts else "For a host that is not served, or no HTTP",
            "content": {
                **({"application/json": {"schema": _ref("Refusal")}} if texts else {}),
                **(plain if status in (400, 421) else {}),
            },
        }
        for status, texts in sorted(by_status.items())
    }


def _get(
    summary: str, schema: str, codes: tuple[Code, ...], *, down: str = "", known: tuple[Code, ...] = _ALWAYS
) -> dict[str, Any]:
    responses = {"200": _json(schema, summary), **_refusals((*known, *codes, Code.METHOD_NOT_ALLOWED))}
    if down:
        responses["503"] = _json(down, "Not now")
    return {"summary": summary, "responses": responses, **({} if known else {"security": []})}


def _infer() -> dict[str, Any]:
    head = {"schema": {"type": "string", "pattern": "^[0-9]{1,10}$"}, "required": False}
    return {
        "summary": "Labels of one image or several",
        "description": "With binary tensor data the body is the JSON, as long as the header says, and then the data.",
        "parameters": [{"name": HEADER_LENGTH, "in": "header", **head}],
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {"schema": _ref("Request")},
                "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
            },
        },
        "responses": {
            "200": {
                "description": "All labels are released, or the request said `partial`",
                "content": {
                    "application/json": {"schema": _ref("Answer")},
                    "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
                },
            },
            "408": {"description": "The request didn't come in time"},
            **_refusals(Code),
        },
    }


def _object(required: list[str], **properties: Any) -> dict[str, Any]:
    return {"type": "object", "required": required, "properties": properties}


def _schemas() -> dict[str, Any]:
    text, whole, flag = {"type": "string"}, {"type": "integer"}, {"type": "boolean"}
    sizes = {"type": "array", "items": whole}
    identity = {"type": "string", "maxLength": 128, "pattern": "^[ -~]*$"}
    described = _object(["name", "datatype", "shape"], name=text, datatype=text, shape=sizes)
    image = {"type": "integer", "minimum": 0, "maximum": 255}
    return {
        "Any": {"type": "object"},
        "Server": _object(
            ["name", "version", "extensions"], name=text, version=text, extensions={"type": "array", "items": text}
        ),
        "Live": _object(["live"], live=flag),
        "Ready": _object(["ready"], ready=flag),
        "ModelReady": _object(["name", "ready"], name=text, ready=flag),
        "Model": _object(
            ["name", "versions", "platform", "inputs", "outputs"],
            name=text,
            versions={"type": "array", "items": text},
            platform=text,
            inputs={"type": "array", "items": described},
            outputs={"type": "array", "items": described},
        ),
        "Request": _object(
            ["inputs"],
            id=identity,
            parameters={
                "type": "object",
                "properties": {
                    "partial": {**flag, "description": "labels of released images though others are withheld"},
                    "binary_data_output": {**flag, "description": "all outputs as binary data"},
                },
            },
            inputs={"type": "array", "minItems": 1, "maxItems": 1, "items": _input(image)},
            outputs={
                "type": "array",
                "items": _object(
                    ["name"],
                    name={"enum": list(OUTPUTS)},
                    parameters={"type": "object", "properties": {"binary_data": flag}},
                ),
            },
        ),
        "Answer": _object(
            ["model_name", "id", "outputs"],
            model_name=text,
            model_version=text,
            id=identity,
            parameters={"type": "object"},
            outputs={
                "type": "array",
                "items": _object(
                    ["name", "datatype", "shape"],
                    name={"enum": list(OUTPUTS)},
                    datatype={"enum": sorted(set(OUTPUTS.values()))},
                    shape=sizes,
                    data={"type": "array"},
                ),
            },
        ),
        "Refusal": _object(
            ["error", "code", "reason", "id"],
            error=text,
            code={"enum": [code.text for code in Code]},
            reason={"enum": [code.text for code in Code] + [reason.value for reason in Reason]},
            id=identity,
            images={
                "type": "array",
                "items": _object(
                    ["index", "decision", "reason"],
                    index=whole,
                    decision={"enum": ["release", "withhold"]},
                    reason={"enum": [reason.value for reason in Reason]},
                ),
            },
        ),
    }


def _input(pixel: dict[str, Any]) -> dict[str, Any]:
    size = {"type": "integer", "minimum": 0}
    return {
        "type": "object",
        "required": ["name", "datatype", "shape"],
        "properties": {
            "name": {"type": "string"},
            "datatype": {"enum": ["UINT8", "FP16", "FP32", "FP64", "BYTES"]},
            "shape": {"type": "array", "items": size, "minItems": 1, "maxItems": 4},
            "parameters": {
                "type": "object",
                "properties": {
                    "content_type": {"type": "string", "description": "`base64` for BYTES in JSON"},
                    "binary_data_size": {"type": "integer", "minimum": 0},
                },
            },
            "data": {"type": "array", "items": {"anyOf": [pixel, {"type": ["number", "string", "array"]}]}},
        },
    }
