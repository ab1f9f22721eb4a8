"""examples/ros2/firewall_node.py. There is no ROS 2 here: messages go in and come out as rosbags serializes them by the
definitions of ROS 2 Humble, and a stand-in of a few lines takes the place of rclpy."""

from __future__ import annotations

import importlib.util
import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from firewall.demo.source import DemoReader, truth
from firewall.frame import Pixels
from firewall.sinks.ros_messages import DEFINITIONS
from firewall.verdict import Reason

NODE = Path(__file__).resolve().parents[1] / "examples" / "ros2" / "firewall_node.py"
DETECTIONS, DIAGNOSTICS = "vision_msgs/msg/Detection2DArray", "diagnostic_msgs/msg/DiagnosticArray"


@pytest.fixture(scope="module")
def ros() -> Any:
    """Message types of ROS 2 Humble, and vision_msgs as its package defines them (it is not part of Humble's core)."""
    store = get_typestore(Stores.ROS2_HUMBLE)
    new = get_types_from_msg(DEFINITIONS[DETECTIONS], DETECTIONS)
    store.register({name: fields for name, fields in new.items() if name not in store.types})
    return store


@pytest.fixture(scope="module")
def node() -> Iterator[ModuleType]:
    """The example as a module."""
    spec = importlib.util.spec_from_file_location("firewall_node", NODE)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["firewall_node"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["firewall_node"]


@pytest.fixture(autouse=True)
def patient(node: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine isn't late."""
    monkeypatch.setattr(node, "DEADLINE", 60.0)


Imaged = Callable[..., Any]


@pytest.fixture
def imaged(ros: Any) -> Imaged:
    """Makes a sensor_msgs/Image that has been through CDR, as a subscriber gets it."""
    kinds = {name: ros.types[f"{package}/msg/{name}"] for package, name in PARTS}

    def make(pixels: Pixels, ns: int, encoding: str = "rgb8", padding: int = 0, **other: Any) -> Any:
        flat = pixels.reshape(pixels.shape[0], -1)
        data = np.pad(flat, ((0, 0), (0, padding)))
        stamp = kinds["Time"](sec=ns // 10**9, nanosec=ns % 10**9)
        fields = {"height": pixels.shape[0], "width": pixels.shape[1], "step": data.shape[1]}
        message = kinds["Image"](
            header=kinds["Header"](stamp=stamp, frame_id="front_optical"),
            encoding=encoding,
            is_bigendian=0,
            data=data.reshape(-1),
            **{**fields, **other},
        )
        return ros.deserialize_cdr(ros.serialize_cdr(message, "sensor_msgs/msg/Image"), "sensor_msgs/msg/Image")

    return make


PARTS = [("builtin_interfaces", "Time"), ("std_msgs", "Header"), ("sensor_msgs", "Image")]


def frames(count: int) -> list[Pixels]:
    """The first frames of the demo."""
    return [pixels for (pixels, _), _ in zip(DemoReader({"fps": "0", "loop": "0"}), range(count), strict=False)]


def test_images_become_detections_and_diagnostics(node: ModuleType, imaged: Imaged, ros: Any) -> None:
    """The demo as a topic: a sign that is followed for three frames is released by its name and its box lies on it; the
    header is the image's own; what is withheld has no result; diagnostics count it and say OK, then STALE."""
    guard = node.Guard("front", threads=1)
    status = ros.deserialize_cdr(guard.diagnostics(1), DIAGNOSTICS).status[0]
    assert (int(status.level), status.message) == (3, "no image has come yet")
    released = regions = right = 0
    for number, pixels in enumerate(frames(8)):
        ns = 1_700_000_000 * 10**9 + number * 10**8
        image = imaged(pixels, ns)
        verdicts = guard.judge(image, ns + 20_000_000)
        raw = guard.detections(image, verdicts)
        found = ros.deserialize_cdr(raw, DETECTIONS)
        assert bytes(ros.serialize_cdr(found, DETECTIONS)) == raw
        assert found.header.frame_id == "front_optical" and found.header.stamp.sec == 1_700_000_000
        assert found.header.stamp.nanosec == number * 10**8
        fact = truth(number)
        for each in found.detections:
            regions += 1
            released += len(each.results)
            on_sign = abs(each.bbox.center.position.x - fact.box[0] - fact.box[2] / 2) < fact.box[2] / 2
            if each.results and on_sign:
                told = each.results[0].hypothesis
                assert (told.class_id, told.score) == (guard._guard.bundle.manifest.classifier.labels[fact.label], 1.0)
                assert each.id
                right += 1
    assert 0 < right <= released < regions
    status = ros.deserialize_cdr(guard.diagnostics(5 * 10**9), DIAGNOSTICS).status[0]
    values = {each.key: each.value for each in status.values}
    assert (int(status.level), status.message, status.name) == (0, "guarding", "firewall: front")
    assert (values["images"], values["released"]) == ("8", str(released))
    guard._newest -= 5
    assert int(ros.deserialize_cdr(guard.diagnostics(6 * 10**9), DIAGNOSTICS).status[0].level) == 3


def test_what_is_old_strange_or_damaged_withholds(node: ModuleType, imaged: Imaged, ros: Any) -> None:
    """Old, of the future, repeated, going back, another encoding, too few bytes, no pixels, a blank camera: one
    withheld verdict with its reason, no detection, and diagnostics say ERROR; the node goes on."""
    guard = node.Guard("front", regions="whole", threads=1)
    noise = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)
    grey = np.full_like(noise, 90)
    second = 10**9
    strange = [
        ({"encoding": "yuv422"}, "got 'yuv422'"),
        ({"height": 65}, "are no 96x65 rgb8 image"),
        ({"step": 100}, "of 100 bytes a row"),
        ({"width": 0}, "are no 0x64"),
        ({"width": 2**32 - 1}, "are no 4294967295x64"),
        ({"height": 2**32 - 1, "step": 2**32 - 1}, "are no 96x4294967295"),
    ]
    for image, now, reason, said in [
        (imaged(noise, 10 * second), 12 * second, Reason.STALE, "2.000 s old"),
        (imaged(noise, 10 * second), 9 * second, Reason.STALE, "-1.000 s old"),
        (imaged(noise, 0), 12 * second, Reason.STALE, "12.000 s old"),
        *(
            (imaged(noise, 10 * second + number, **other), 10 * second, Reason.BAD_IMAGE, words)
            for number, (other, words) in enumerate(strange)
        ),
        (imaged(grey, 10 * second + 20), 10 * second, Reason.CAMERA_FAULT, "blank"),
        (imaged(noise, 10 * second + 20), 10 * second, Reason.STALE, "not newer"),
        (imaged(noise, 10 * second + 19), 10 * second, Reason.STALE, "not newer"),
    ]:
        (verdict,) = guard.judge(image, now)
        assert verdict.reason is reason and said in verdict.detail and not verdict.released, verdict
        assert len(ros.deserialize_cdr(guard.detections(image, [verdict]), DETECTIONS).detections) == 0
        status = ros.deserialize_cdr(guard.diagnostics(now), DIAGNOSTICS).status[0]
        assert int(status.level) == 2 and str(reason) in status.message


def test_encodings_and_padded_rows(node: ModuleType, imaged: Imaged) -> None:
    """Each encoding gives the same RGB pixels, with and without padding at the ends of rows."""
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    opaque = np.full((5, 7, 1), 255, np.uint8)
    for encoding, sent in {
        "rgb8": pixels,
        "bgr8": pixels[..., ::-1],
        "rgba8": np.concatenate([pixels, opaque], axis=2),
        "bgra8": np.concatenate([pixels[..., ::-1], opaque], axis=2),
    }.items():
        for padding in (0, 3):
            assert (node.pixels_of(imaged(sent, 0, encoding, padding)) == pixels).all()
    grey = node.pixels_of(imaged(pixels[..., :1], 0, "mono8", 3))
    assert (grey == pixels[..., :1]).all() and grey.shape == (5, 7, 3)


def test_the_node_itself(node: ModuleType, imaged: Imaged, ros: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a stand-in for rclpy: it subscribes and publishes under the names that it says, sends bytes that are the
    messages of those types, and shuts down on Ctrl-C."""
    sent: dict[str, list[bytes]] = {}
    calls: dict[str, Any] = {}

    class Node:
        def declare_parameter(self, name: str, default: str) -> Any:
            return SimpleNamespace(value={"camera": "left", "regions": "whole"}.get(name, default))

        def create_publisher(self, kind: type, topic: str, depth: int) -> Any:
            calls[topic] = kind.__name__
            return SimpleNamespace(publish=sent.setdefault(topic, []).append)

        def create_subscription(self, kind: type, topic: str, callback: Any, qos: Any) -> None:
            calls[topic] = kind.__name__
            calls["image callback"], calls["qos"] = callback, qos

        def create_timer(self, seconds: float, callback: Any) -> None:
            calls["timer callback"] = callback

        def get_clock(self) -> Any:
            return SimpleNamespace(now=lambda: SimpleNamespace(nanoseconds=time.time_ns()))

        def destroy_node(self) -> None:
            calls["destroyed"] = True

    def spin(_: Node) -> None:
        noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
        calls["image callback"](imaged(noise, time.time_ns()))
        calls["timer callback"]()
        raise KeyboardInterrupt

    def module(name: str, **names: Any) -> None:
        made = ModuleType(name)
        vars(made).update(names)
        monkeypatch.setitem(sys.modules, name, made)

    module("rclpy", init=lambda: None, create_node=lambda _: Node(), spin=spin, try_shutdown=lambda: None)
    module("rclpy.qos", QoSProfile=SimpleNamespace, ReliabilityPolicy=SimpleNamespace(BEST_EFFORT="best effort"))
    for package, kind in (
        ("diagnostic_msgs", "DiagnosticArray"),
        ("sensor_msgs", "Image"),
        ("std_msgs", "String"),
        ("vision_msgs", "Detection2DArray"),
    ):
        module(package)
        module(f"{package}.msg", **{kind: type(kind, (), {})})
    node.main()

    assert (calls["image"], calls["detections"], calls["verdict"], calls["/diagnostics"]) == (
        "Image",
        "Detection2DArray",
        "String",
        "DiagnosticArray",
    )
    assert calls["qos"].depth == 1 and calls["qos"].reliability == "best effort" and calls["destroyed"]
    (found,) = [ros.deserialize_cdr(raw, DETECTIONS) for raw in sent["detections"]]
    assert len(found.detections) == 1 and len(found.detections[0].results) == 0
    (line,) = [json.loads(ros.deserialize_cdr(raw, "std_msgs/msg/String").data) for raw in sent["verdict"]]
    assert (line["camera"], line["decision"], line["schema"]) == ("left", "withhold", line["schema"])
    (status,) = [ros.deserialize_cdr(raw, DIAGNOSTICS).status[0] for raw in sent["/diagnostics"]]
    assert status.hardware_id == "left" and int(status.level) == 0
