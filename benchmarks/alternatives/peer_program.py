"""The other libraries, in an environment of their own: takes orders as lines of JSON, answers each with one.

    python peer_program.py [CORE]

Orders: {"do": "load", "name": N, "file": F} reads an array, whose first axis is the items; {"do": "make", "name": W,
"kind": K, ...} makes ready what KINDS names; {"do": "run", "name": W, "on": N, "file": F} does all items and writes
what came out; {"do": "time", "name": W, "on": N, "item": I} does one and tells the seconds of the clock and of the
processor.
It imports nothing of the firewall, whose own packages it doesn't have.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

# Before anything imports ONNX Runtime, which also ultralytics and torch do: see firewall.host.telemetry.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

Pixels = Any
Work = Callable[[Pixels], Any]


def nothing() -> Work:
    """Gives back what it gets: what an order costs by itself."""
    return lambda item: item


def session(network: str) -> Any:
    """An ONNX file in ONNX Runtime on one thread."""
    ort = importlib.import_module("onnxruntime")
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return ort.InferenceSession(network, options, providers=["CPUExecutionProvider"])


def art_classifier(network: str, classes: int, size: list[int], defences: dict[str, dict[str, Any]]) -> Any:
    """ART's classifier around a function that asks ONNX Runtime, behind ART's preprocessors with their parameters."""
    preprocessors = importlib.import_module("art.defences.preprocessor")
    estimators = importlib.import_module("art.estimators.classification")
    network_session = session(network)
    name = network_session.get_inputs()[0].name

    def logits(batch: Any) -> Any:
        return network_session.run(None, {name: np.ascontiguousarray(batch.transpose(0, 3, 1, 2), np.float32)})[0]

    made = [getattr(preprocessors, one)(**parameters) for one, parameters in defences.items()]
    return estimators.BlackBoxClassifier(
        logits, (*size, 3), classes, clip_values=(0.0, 1.0), preprocessing_defences=made or None
    )


def art(network: str, classes: int, size: list[int], defences: dict[str, dict[str, Any]]) -> Work:
    """One image (H, W, 3) uint8, at the network's size -> logits (C,) after the defences."""
    classifier = art_classifier(network, classes, size, defences)
    return lambda image: classifier.predict(np.float32(image[np.newaxis]) / 255)[0]


def art_each(network: str, classes: int, size: list[int], wirings: list[dict[str, dict[str, Any]]]) -> Work:
    """One image -> logits (wirings, C): each defence alone, so that their answers can be compared."""
    classifiers = [art_classifier(network, classes, size, defences) for defences in wirings]

    def work(image: Pixels) -> Any:
        batch = np.float32(image[np.newaxis]) / 255
        return np.stack([classifier.predict(batch)[0] for classifier in classifiers])

    return work


def torchvision_jpeg(qualities: list[int]) -> Work:
    """Images (B, H, W, 3) uint8 -> copies (B, Q, H, W, 3): torchvision encodes and decodes lists."""
    torch, image_io = importlib.import_module("torch"), importlib.import_module("torchvision.io")

    def work(images: Pixels) -> Any:
        batch = list(torch.from_numpy(images).permute(0, 3, 1, 2).contiguous())
        copies = [torch.stack(image_io.decode_jpeg(image_io.encode_jpeg(batch, quality=q))) for q in qualities]
        return torch.stack(copies, 1).permute(0, 1, 3, 4, 2).numpy()

    return work


def kornia_jpeg(qualities: list[int]) -> Work:
    """The same by kornia: all copies in one batch of float32 in 0..1, as it wants them and as it gives them."""
    torch, enhance = importlib.import_module("torch"), importlib.import_module("kornia.enhance")
    asked = torch.tensor(qualities, dtype=torch.float32)

    def work(images: Pixels) -> Any:
        batch = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
        with torch.inference_mode():
            each = batch.repeat_interleave(len(qualities), 0)
            copies = enhance.jpeg_codec_differentiable(each, asked.repeat(len(batch)))
        return as_bytes(copies, len(batch), len(qualities))

    return work


def torchvision_rotations(angles: list[float]) -> Work:
    """Images (B, H, W, 3) uint8 -> (B, angles, H, W, 3), nearest neighbour: one call an angle for all images."""
    torch, functional = (
        importlib.import_module("torch"),
        importlib.import_module("torchvision.transforms.v2.functional"),
    )

    def work(images: Pixels) -> Any:
        batch = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()
        return torch.stack([functional.rotate(batch, angle) for angle in angles], 1).permute(0, 1, 3, 4, 2).numpy()

    return work


def kornia_rotations(angles: list[float]) -> Work:
    """The same by kornia, all copies in one batch."""
    torch, geometry = importlib.import_module("torch"), importlib.import_module("kornia.geometry.transform")
    asked = torch.tensor(angles, dtype=torch.float32)

    def work(images: Pixels) -> Any:
        batch = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
        with torch.inference_mode():
            each = batch.repeat_interleave(len(angles), 0)
            copies = geometry.rotate(each, asked.repeat(len(batch)), mode="nearest")
        return as_bytes(copies, len(batch), len(angles))

    return work


def as_bytes(copies: Any, images: int, each: int) -> Any:
    """(N, 3, H, W) in 0..1 -> uint8 (images, each, H, W, 3)."""
    levels = (copies * 255).round().clamp(0, 255).byte().permute(0, 2, 3, 1)
    return levels.reshape(images, each, *levels.shape[1:]).contiguous().numpy()


def yolo(file: str, size: int) -> Work:
    """Writes YOLO11n's network, whose weights are random, as ONNX to `file`, unless it is there; then ultralytics' own
    way from frame (H, W, 3) uint8 to boxes, with ONNX Runtime."""
    from pathlib import Path

    ultralytics = importlib.import_module("ultralytics")
    if not Path(file).is_file():
        written = ultralytics.YOLO("yolo11n.yaml", verbose=False).export(
            format="onnx", imgsz=size, simplify=False, device="cpu", verbose=False
        )
        Path(written).replace(file)
    model = ultralytics.YOLO(file, task="detect")

    def work(frame: Pixels) -> Any:
        found = model.predict(np.ascontiguousarray(frame[:, :, ::-1]), imgsz=size, device="cpu", verbose=False)
        return np.float32(len(found[0].boxes))

    return work


KINDS: dict[str, Callable[..., Work]] = {
    "nothing": nothing,
    "art": art,
    "art-each": art_each,
    "torchvision-jpeg": torchvision_jpeg,
    "kornia-jpeg": kornia_jpeg,
    "torchvision-rotations": torchvision_rotations,
    "kornia-rotations": kornia_rotations,
    "yolo": yolo,
}


class Program:
    """What was loaded and made so far."""

    def __init__(self) -> None:
        self._arrays: dict[str, Any] = {}
        self._works: dict[str, Work] = {}

    def obey(self, order: dict[str, Any]) -> dict[str, Any]:
        """Do what an order says.

        Raises:
            Exception: Whatever a library raises.
        """
        todo = order.pop("do")
        if todo == "load":
            self._arrays[order["name"]] = np.load(order["file"])
            return {}
        if todo == "make":
            name, kind = order.pop("name"), order.pop("kind")
            self._works[name] = KINDS[kind](**order)
            return {}
        if todo == "versions":
            metadata = importlib.import_module("importlib.metadata")
            return {name: metadata.version(name) for name in order["of"]}
        work, items = self._works[order["name"]], self._arrays[order["on"]]
        if todo == "run":
            np.save(order["file"], np.stack([work(item) for item in items]))
            return {}
        started, busy = time.perf_counter(), time.process_time()
        work(items[order["item"]])
        return {"spent": [time.perf_counter() - started, time.process_time() - busy]}


def main() -> None:
    """Answer orders until there are no more."""
    if len(sys.argv) > 1:
        os.sched_setaffinity(0, {int(sys.argv[1])})
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print goes to stderr
    program = Program()
    threads_set = False
    for line in sys.stdin:
        try:
            answer = program.obey(json.loads(line))
            if "torch" in sys.modules and not threads_set:
                sys.modules["torch"].set_num_threads(1)
                threads_set = True
        except Exception as error:  # whatever it is, the one who asked has to know
            answer = {"error": f"{type(error).__name__}: {error}"}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
