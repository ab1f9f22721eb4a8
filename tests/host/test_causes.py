"""What ONNX Runtime says, told with the cause first."""

from __future__ import annotations

import pytest

from firewall.host.causes import LONGEST, shortened, told

PREFIX = "[ONNXRuntimeError] : 1 : FAIL : "
RESHAPE = PREFIX + (
    "Non-zero status code returned while running Reshape node. Name:'/head/Reshape' Status Message: "
    "/onnxruntime_src/onnxruntime/core/providers/cpu/tensor/reshape_helper.h:91 "
    "onnxruntime::ReshapeHelper::ReshapeHelper(const onnxruntime::TensorShape&, onnxruntime::TensorShapeVector&, bool) "
    "input_shape_size == requested_shape_size was false. The input tensor cannot be reshaped to the requested shape. "
    "Input shape:{2,3,8,8}, requested shape:{1,192}\n"
)
SIZES = PREFIX + (
    "Got invalid dimensions for input: x for the following indices\n index: 2 Got: 8 Expected: 9\n Please fix either "
    "the inputs/outputs or the model."
)


@pytest.mark.parametrize(
    ("text", "start"),
    [
        (
            RESHAPE,
            "Reshape node '/head/Reshape': The input tensor cannot be reshaped to the requested shape.",
        ),
        (PREFIX + "Fatal error: com.foo:Bar(-1) is not a registered function/op", "onnxruntime"),
        (
            PREFIX + "Could not find an implementation for Conv(11) node with name 'c'",
            "onnxruntime",
        ),
        (
            PREFIX + "Failed to load model because protobuf parsing failed.",
            "it is no",
        ),
        (
            SIZES,
            "its input x has another size (index: 2 Got: 8 Expected: 9)",
        ),
        ("something of no known form", "something of no known form"),
        ("", "str"),
    ],
)
def test_the_cause_stands_first(text: str, start: str) -> None:
    """No code, no path, no C++ signature before it; one line."""
    line = told(text)
    assert line.startswith(start) and "\n" not in line and "::" not in line and len(line) <= LONGEST


def test_a_long_text_keeps_both_ends() -> None:
    """The cause may stand at either."""
    line = shortened("first " + "x" * 5000 + " last")
    assert line.startswith("first") and line.endswith("last") and len(line) <= LONGEST
