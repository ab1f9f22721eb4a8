"""Whether TensorRT's own ONNX parser takes what we write in each precision, and its builder makes an engine of it.

    python benchmarks/tensorrt_build.py --library WORDS [--bundle DIR] [--json FILE]

Parses and builds every network of a bundle in fp32, fp16 and int8 (calibrated on what the networks read for the demo's
frames), and what TensorRT is known to refuse: ONNX Runtime's default static quantisation (biases in int32) and its
dynamic quantisation. Each build runs in a process of its own: TensorRT ends a process rather than raise.

Whatever `import tensorrt` finds is asked. --library says what that is: a lab without a GPU can lay NVIDIA's bindings
over the library of TensorRT for RTX, which builds without one. That is no supported setup. A plan can neither be loaded
nor run there, so this shows that files and calls are accepted, and nothing of speed or of the built types.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from machine import machine

from firewall import Firewall
from firewall.bundle import load_bundle
from firewall.bundle.onnx_bytes import PRECISIONS
from firewall.bundle.trust import Trust
from firewall.demo.source import DemoReader, truth
from firewall.engines import OnnxRuntimeEngine, OnnxRuntimeNetwork
from firewall.engines.plan_cache import FrameSizes, PlanCache, PlanKey, Profile
from firewall.engines.tensorrt_library import open_tensorrt
from firewall.errors import FirewallError
from firewall.export.finder_scales import delicate
from firewall.export.precision import prepare, with_precision, with_whole_weights
from firewall.host.onnxruntime import ort, ort_module
from firewall.transforms import resize

Values = npt.NDArray[np.float32]


@contextlib.contextmanager
def listening() -> Iterator[dict[str, list[Values]]]:
    """What each of the detectors' networks is asked while the block runs, by the file's name."""
    heard: dict[str, list[Values]] = defaultdict(list)
    ask = OnnxRuntimeNetwork.__call__

    def listen(self: OnnxRuntimeNetwork, values: Values) -> Values:
        heard[self._what.partition(" ")[0]].append(values.copy())
        return ask(self, values)

    OnnxRuntimeNetwork.__call__ = listen  # type: ignore[method-assign]
    try:
        yield heard
    finally:
        OnnxRuntimeNetwork.__call__ = ask  # type: ignore[method-assign]


def read_by_networks(folder: str, frames: int) -> tuple[dict[str, bytes], dict[str, Values]]:
    """(files, what each reads) of a bundle whose verdicts on the demo's signs are computed to the end."""
    bundle = load_bundle(folder, trust=Trust())
    spec = bundle.manifest.classifier
    signs, scenes = [], []
    with listening() as heard:
        guard = Firewall(bundle, OnnxRuntimeEngine(bundle, threads=1), exhaustive=True)
        for sequence, (pixels, _) in enumerate(DemoReader({"fps": "0", "loop": "0"})):
            if len(signs) == frames:
                break
            x, y, width, height = truth(sequence).box
            scenes.append(pixels)
            sign = np.ascontiguousarray(pixels[y : y + height, x : x + width])
            guard.screen(sign)
            signs.append(resize(sign, spec.input.width, spec.input.height))
    values = {file: np.concatenate(parts) for file, parts in heard.items()}
    values[spec.file] = prepare(np.stack(signs), spec.input)
    files = {file: content for file, content in bundle.files.items() if file in values}
    finder = bundle.manifest.finder
    if finder is not None:
        height, width = (-(-side // finder.multiple) * finder.multiple for side in scenes[0].shape[:2])
        frames = np.zeros((len(scenes), 3, height, width), np.float32)
        frames[:, :, : scenes[0].shape[0], : scenes[0].shape[1]] = np.stack(scenes).transpose(0, 3, 1, 2)
        files[finder.file], values[finder.file] = bundle.files[finder.file], frames
    return files, values


def refused(content: bytes, values: Values) -> dict[str, bytes]:
    """The network as TensorRT doesn't take it."""

    def model() -> onnx.ModelProto:  # a new one for each: the quantisers change what they are given
        fresh = onnx.load_model_from_string(content)
        del fresh.graph.value_info[:]
        return fresh

    class Reader:
        parts = iter([{model().graph.input[0].name: values[:32]}])

        def get_next(self) -> dict[str, Values] | None:
            return next(self.parts, None)

    quantization = ort_module("quantization")
    with tempfile.TemporaryDirectory() as folder:
        static, dynamic = Path(folder) / "static.onnx", Path(folder) / "dynamic.onnx"
        quantization.quantize_static(model(), str(static), Reader(), quant_format=quantization.QuantFormat.QDQ)
        found = {"default static quantisation": static.read_bytes()}
        with contextlib.suppress(ValueError):  # it can't take weights that are stored in float16
            quantization.quantize_dynamic(model(), str(dynamic))
            found["dynamic quantisation"] = dynamic.read_bytes()
        return found


def build(content: bytes, answer: Any) -> None:
    """Parse and build as `firewall export tensorrt` does, with the calls that it makes. Sends what came of it."""
    from rich.console import Console

    from firewall.engines.tensorrt_library import Journal
    from firewall.export.tensorrt import serialize

    library = open_tensorrt()
    started = time.perf_counter()
    graph = onnx.load_model_from_string(content).graph
    sides = graph.input[0].type.tensor_type.shape.dim
    shape = tuple(side.dim_value if side.HasField("dim_value") else -1 for side in sides)
    # A network that takes whole frames of any size is built for sizes, not for batches.
    frames = FrameSizes(least=(32, 32), best=(736, 1280), most=(2048, 2048)) if shape[-1] == -1 else None
    with tempfile.TemporaryDirectory() as folder:
        key = PlanKey(
            onnx="0" * 64,
            output=graph.output[0].name,
            tensorrt=library.__version__,
            gpu="none",
            compute_capability="0.0",
            precision="fp32",
            profile=Profile(best=38, most=76) if frames is None else Profile(best=1, most=1),
            frame=frames,
        )
        cache = PlanCache(Path(folder) / "plans")
        cache.prepare()
        try:
            plan, products = serialize(
                library,
                Journal(library),
                content,
                key,
                cache,
                tensor=(graph.input[0].name, shape),
                what="network",
                console=Console(stderr=True, quiet=True),
                cancelled=threading.Event(),
            )
        except FirewallError as error:
            answer.send({"accepted": False, "reason": str(error)})
            return
    answer.send(
        {
            "accepted": True,
            "plan_bytes": len(plan),
            "multiplying_layers": len(products),
            "seconds": round(time.perf_counter() - started, 2),
        }
    )


def in_a_process(content: bytes) -> dict[str, Any]:
    """What `build` sends, or how its process ended."""
    context = multiprocessing.get_context("spawn")
    mine, theirs = context.Pipe(duplex=False)
    process = context.Process(target=build, args=(content, theirs))
    process.start()
    theirs.close()
    try:
        found: dict[str, Any] = mine.recv()
    except EOFError:
        found = {}
    process.join()
    return found or {"accepted": None, "reason": f"the process ended with {process.exitcode}"}


def main() -> int:
    """Exit code 1 if a network isn't built, or one is that was thought to be refused."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--library", required=True, help="what `import tensorrt` finds here, in words")
    parser.add_argument("--bundle", default="default")
    parser.add_argument("--frames", type=int, default=64, help="demo frames to calibrate on")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    files, values = read_by_networks(arguments.bundle, arguments.frames)
    results = []
    for file, content in files.items():
        # As `export tensorrt` writes them: what reads whole frames keeps three nodes and takes mean scales in int8.
        whole = values[file].shape[-1] > 512
        kept = delicate(with_whole_weights(content)) if whole else ()
        variants = {
            precision: with_precision(content, precision, values[file], kept=kept, averaged=whole)
            for precision in PRECISIONS
        }
        for kind, written in {**variants, **refused(content, values[file])}.items():
            found = {"network": file, "kind": kind, "onnx_bytes": len(written), **in_a_process(written)}
            found["as_expected"] = found["accepted"] is (kind in PRECISIONS)
            results.append(found)
            print(json.dumps(found), flush=True)  # noqa: T201
    content = {
        "machine": machine(),
        "library": arguments.library,
        "bindings": open_tensorrt().__version__,
        "onnx": onnx.__version__,
        "onnxruntime": ort.__version__,
        "bundle": arguments.bundle if arguments.bundle == "default" else Path(arguments.bundle).name,
        "profile": [1, 38, 76],
        "frames": [[32, 32], [736, 1280], [2048, 2048]],
        "calibration_frames": arguments.frames,
        "results": results,
    }
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return 0 if all(found["as_expected"] for found in results) else 1


if __name__ == "__main__":
    sys.exit(main())
