"""What fp16 and int8 change, as ONNX Runtime computes them on the processor: logits, labels and verdicts.

    python benchmarks/precision.py [--bundle DIR] [--images 2000] [--verdicts 400] [--json FILE]

Images are GTSRB's test images, spread evenly; int8 takes its scales from images of the training part. The same files
are what `firewall export tensorrt` builds from; TensorRT's kernels round elsewhere, so these are not its numbers.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from machine import machine

from firewall import Firewall
from firewall.bundle import Bundle, load_bundle
from firewall.bundle.trust import Trust
from firewall.engines import OnnxRuntimeEngine
from firewall.export.images import spread
from firewall.export.parity import compare
from firewall.export.precision import prepare, to_float16, to_int8
from firewall.frame import Pixels
from firewall.host.onnxruntime import ort
from firewall.lab.datasets import data_root, open_dataset
from firewall.transforms import resize

BATCH = 64


def logits(bundle: Bundle, images: Pixels) -> Any:
    """Of uint8 images (N, H, W, 3) at the classifier's size."""
    engine = OnnxRuntimeEngine(bundle, threads=1)
    return np.concatenate([engine.classify(images[start : start + BATCH]) for start in range(0, len(images), BATCH)])


def verdicts(bundle: Bundle, images: list[Pixels]) -> list[Any]:
    """Of images of any size, all detectors asked."""
    guard = Firewall(bundle, OnnxRuntimeEngine(bundle, threads=1), exhaustive=True)
    return [guard.screen(np.ascontiguousarray(image)) for image in images]


def main() -> int:
    """Print a line for each precision."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", default="default")
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--verdicts", type=int, default=400)
    parser.add_argument("--calibration", type=int, default=512)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    bundle = load_bundle(arguments.bundle, trust=Trust())
    spec = bundle.manifest.classifier
    root = data_root(None)

    def sized(part: str, count: int) -> tuple[list[Pixels], Pixels]:
        found = spread(open_dataset("gtsrb", root, part=part).images, count)
        return found, np.stack([resize(np.ascontiguousarray(x), spec.input.width, spec.input.height) for x in found])

    test, pixels = sized("test", arguments.images)
    values = prepare(sized("train", arguments.calibration)[1], spec.input)
    content = bundle.files[spec.file]
    written = {
        "fp16": to_float16(content),
        "int8": to_int8(content, values),
        "int8 for the processor": to_int8(content, values, target="cpu"),
    }
    judged = spread(test, arguments.verdicts)
    expected, said = logits(bundle, pixels), verdicts(bundle, judged)
    results = {}
    for name, network in written.items():
        changed = replace(bundle, files={**bundle.files, spec.file: network})
        parity = asdict(compare(expected, logits(changed, pixels)))
        del parity["relative"]
        pairs = list(zip(said, verdicts(changed, judged), strict=True))
        results[name] = {
            "onnx_bytes": len(network),
            **parity,
            "verdicts": len(pairs),
            "same_decision": sum(one.released == two.released for one, two in pairs),
            "released_before": sum(one.released for one, _ in pairs),
            "released_now": sum(two.released for _, two in pairs),
        }
        print(name, json.dumps(results[name]), flush=True)  # noqa: T201
    found = {
        "machine": machine(),
        "onnxruntime": ort.__version__,
        "bundle": bundle.manifest.name,
        "classifier_sha256": bundle.manifest.files[spec.file].sha256,
        "calibration_images": arguments.calibration,
        "fp32_onnx_bytes": len(content),
        "results": results,
    }
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
