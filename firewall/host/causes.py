"""What ONNX Runtime and others say when a network can't be loaded or run: the cause first, then what to do, in a line.

Their messages begin with codes, files and signatures of C++ functions, hundreds of characters of them; cut to a line
as they are, the cause would be what is cut off.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from re import Match

__all__ = ["LONGEST", "shortened", "told"]

#: The most characters of a cause in a message.
LONGEST = 300

#: "[ONNXRuntimeError] : 1 : FAIL : ", what failed in general, and "/path/file.cc:256 Type Class::function(types) ".
_CODE = re.compile(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ")
_GENERAL = (
    re.compile(r"^Non-zero status code returned while running (\w+) node\. ?Name:'([^']*)' ?Status Message: "),
    re.compile(r"^(?:Exception during initialization|Load model from \S+ failed): ?"),
    re.compile(r"^(?:Fatal error|Failed to load model with error): ?"),
    re.compile(r"^This is an invalid model\. (?:Error: )?"),
)
_PLACE = re.compile(r"^\S*/\S+\.(?:cc|h|cu|cuh|cpp|hpp):\d+ ")
_CONDITION = re.compile(r"^.{1,120}? was false\. ")


def _runtime() -> str:
    """Its name with its version, if it is what failed: nothing is imported for it."""
    return " ".join(
        ("onnxruntime", *([sys.modules["onnxruntime"].__version__] if "onnxruntime" in sys.modules else []))
    )


def _version(match: Match[str]) -> str:
    return (
        f"it is written in ONNX IR version {match[1]}, {_runtime()} reads up to {match[2]}; save it with "
        f"ir_version {match[2]} (a field of the model in Python's onnx), or install a newer onnxruntime"
    )


def _opset(match: Match[str]) -> str:
    return (
        f"it uses opset {match[1]}, {_runtime()} reads up to {match[2]}; export it with an older one, "
        "such as opset_version=17 of torch.onnx.export, or install a newer onnxruntime"
    )


def _operator(match: Match[str]) -> str:
    domain, _, name = match[1].rpartition(":")
    return _unknown(name, domain)


def _unknown(name: str, domain: str) -> str:
    return (
        f"{_runtime()} doesn't know the operator {name}{f' of {domain}' if domain else ''}; export the "
        "network with ONNX's own operators alone, or replace that layer"
    )


#: A cause, and the message for it.
_KNOWN: tuple[tuple[re.Pattern[str], Callable[[Match[str]], str]], ...] = (
    (re.compile(r"[Uu]nsupported model IR version: (\d+), max supported IR version: (\d+)"), _version),
    (re.compile(r"Opset (\d+) is under development.* is till opset (\d+)"), _opset),
    (re.compile(r"([\w.]*:?\w+)\(-?\d+\) is not a registered function/op"), _operator),
    (re.compile(r"No Op registered for (\w+) with domain_version"), lambda match: _unknown(match[1], "")),
    (
        re.compile(r'In Node, \("[^"]*", (\w+), "([^"]*)".*No opset import for domain'),
        lambda match: _unknown(match[1], match[2]),
    ),
    (
        re.compile(r"Could not find an implementation for (\w+)\((\d+)\)"),
        lambda match: (
            f"{_runtime()} has no kernel for the operator {match[1]} (version {match[2]}) with the "
            "types that it has here; export the network in float32"
        ),
    ),
    (
        re.compile(r"Type 'tensor\((\w+)\)' of input parameter \(\S*\) of operator \((\w+)\)"),
        lambda match: (
            f"its operator {match[2]} is given {match[1]}, which it doesn't take; export the network in float32"
        ),
    ),
    (
        re.compile(r"protobuf parsing failed|No graph was found in the protobuf"),
        lambda _: "it is no ONNX file, or is cut off or damaged; copy or export it again",
    ),
    (
        re.compile(
            r"[Gg]ot invalid dimensions for input: (\S+) for the following indices index: 0 Got: (\d+) Expected: (\d+)"
        ),
        lambda match: (
            f"its input {match[1]} is fixed to {match[3]} images at a time, got {match[2]}; export it with a free "
            "batch size"
        ),
    ),
    (
        re.compile(r"dimensions for input: (\S+) for the following indices (.*?) Please fix"),
        lambda match: f"its input {match[1]} has another size ({match[2]})",
    ),
)


def told(error: BaseException | str) -> str:
    """The cause of a failure in one line, and what to do about it where that is known.

    Args:
        error: What ONNX Runtime or another library raised, or its text.

    Returns:
        At most LONGEST characters.
    """
    text = " ".join(str(error).split())
    for pattern, tell in _KNOWN:
        match = pattern.search(text)
        if match:
            return tell(match)
    node = ""
    text = _CODE.sub("", text)
    for pattern in _GENERAL:
        match = pattern.match(text)
        if match:
            node = f"{match[1]} node{f' {match[2]!r}' if match[2] else ''}: " if match.groups() else node
            text = text[match.end() :]
    text, places = _PLACE.subn("", text)
    if places:
        text = _CONDITION.sub("", _after_signature(text))
    return shortened(node + (text or type(error).__name__))


def _after_signature(text: str) -> str:
    """What follows the signature of a C++ function, which ends at the first blank outside of brackets behind one."""
    depth, closed = 0, False
    for place, character in enumerate(text):
        if character in "([":
            depth += 1
        elif character in ")]":
            depth, closed = depth - 1, True
        elif character == " " and depth == 0 and closed and not text.startswith(("const ", "["), place + 1):
            return text[place + 1 :]
    return text


def shortened(text: str, longest: int = LONGEST) -> str:
    """Shorten a text to one line. A longer one loses its middle: the cause may stand at either end.

    Args:
        text: Any.
        longest: The most characters, at least 6.

    Returns:
        The line.
    """
    text = " ".join(text.split())
    if len(text) <= longest:
        return text
    head = (longest - 5) // 2
    return f"{text[:head]} ... {text[-(longest - 5 - head) :]}"
