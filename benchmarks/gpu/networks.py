"""The default bundle's networks on this GPU against the processor: what each answers, and the guard's verdicts.

    python benchmarks/gpu/networks.py cuda|tensorrt|torch [--json FILE] [--images N]

cuda: ONNX Runtime's CUDA provider. tensorrt: plans in fp16 and fp32, which are built first; their CUDA graphs are also
compared with runs that are queued kernel by kernel, and both are timed. torch: PyTorch's kernels in
device memory that our kernels fill: no runtime of the product, but it needs nothing else, and it tries the product's
stream, its memory and the copies that are made on the GPU. Exit code 77 where it can't be done here, 1 where a label, a
verdict or an answer differs by more than rounding.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from firewall.bundle import Bundle, load_bundle
from firewall.demo.source import DemoReader, truth
from firewall.engines import Engine, check_device, open_engine, what_runs
from firewall.engines.device_memory import open_device
from firewall.errors import EngineError, FirewallError, MissingExtraError
from firewall.export.finder_parity import FinderParity
from firewall.export.verification import Verified, verify
from firewall.frame import Pixels
from firewall.screening import Firewall

_SKIPPED = 77


def signs(count: int) -> list[Pixels]:
    """Signs of the demo, with and without an attack, evenly from the first to the last."""
    frames = [pixels for pixels, _ in DemoReader({"fps": "0", "loop": "0"})]
    found = []
    for place in np.linspace(0, len(frames) - 1, count).astype(int).tolist():
        x, y, width, height = truth(place).box
        found.append(np.ascontiguousarray(frames[place][max(0, y - 8) : y + height + 8, max(0, x - 8) : x + width + 8]))
    return found


def on_cuda(bundle: Bundle) -> tuple[list[Engine], list[Any], str]:
    """The classifier and the finder on ONNX Runtime."""
    from firewall.export.on_device import open_cuda

    check_device("cuda")
    return open_cuda(bundle)


def on_tensorrt(bundle: Bundle) -> tuple[list[Engine], list[Any], str]:
    """Plans of all networks, built here."""
    from firewall.export.networks import Wanted, plans_of
    from firewall.export.on_device import open_finders, open_plans
    from firewall.export.tensorrt import build_plan

    for precision in ("fp32", "fp16"):
        for network in plans_of(bundle, "all"):
            build_plan(bundle, Wanted(precision), network)  # type: ignore[arg-type]
    engines, missing = open_plans(bundle)
    return [*engines], [*open_finders(bundle)[0]], missing


def on_torch(bundle: Bundle) -> tuple[list[Engine], list[Any], str]:
    """The classifier in PyTorch, on memory and a stream of ours."""
    try:
        import onnx
        import torch
    except ModuleNotFoundError as error:
        raise MissingExtraError(f"{error.name} is not installed") from error
    if not torch.cuda.is_available():
        raise EngineError("this PyTorch can't use the GPU")
    return [TorchOnDevice(bundle, torch, onnx)], [], ""


class _View:
    """Device memory for whoever speaks __cuda_array_interface__."""

    def __init__(self, address: int, shape: tuple[int, ...]) -> None:
        self.__cuda_array_interface__ = {"shape": shape, "typestr": "<f4", "data": (address, False), "version": 3}


class TorchOnDevice:
    """A DeviceEngine that computes in PyTorch: what the copies on the GPU are tried with where nothing else is here."""

    most = 128

    def __init__(self, bundle: Bundle, torch: Any, onnx: Any) -> None:
        from firewall.engines.preparation import scale_and_shift
        from firewall.lab.models.onnx_network import OnnxNetwork

        spec = bundle.manifest.classifier
        self.provider = f"torch {torch.__version__} on CUDA"
        self.memory = open_device()
        self._torch, self._shape = torch, (3, spec.input.height, spec.input.width)
        self._scale, self._shift = scale_and_shift(spec.input)
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
        self._stream = torch.cuda.ExternalStream(self.memory.stream)
        model = onnx.load_model_from_string(bundle.files[spec.file])
        self._network = OnnxNetwork(model, spec.output).eval().cuda()
        self._images = self.memory.page_locked((self.most, *self._shape), np.float32)
        self._address = self.memory.allocate(self._images.nbytes)

    def classify(self, images: Any) -> Any:
        """See Engine.classify."""
        parts = []
        for start in range(0, len(images), self.most):
            part = images[start : start + self.most].transpose(0, 3, 1, 2)
            self._images[: len(part)] = part * self._scale + self._shift
            self.memory.activate()
            self.memory.to_device(self._address, self._images[: len(part)])
            parts.append(self.classify_at(self._address, len(part)))
        return np.concatenate(parts)

    def classify_at(self, address: int, count: int) -> Any:
        """See DeviceEngine.classify_at."""
        torch = self._torch
        with torch.no_grad(), torch.cuda.stream(self._stream):
            values = torch.as_tensor(_View(address, (count, *self._shape)), device="cuda")
            logits = self._network(values)
            self._stream.synchronize()
            return logits.float().cpu().numpy()


def timed(guard: Firewall, images: Sequence[Pixels], rounds: int = 20) -> dict[str, float]:
    """Milliseconds from an image to its verdict: median and p99 over all images, in turns."""
    for image in images[:4]:
        guard.screen(image)
    times = []
    for _ in range(rounds):
        for image in images:
            started = time.perf_counter()
            guard.screen(image)
            times.append((time.perf_counter() - started) * 1e3)
    return {"median_ms": statistics.median(times), "p99_ms": float(np.percentile(times, 99)), "verdicts": len(times)}


def replayed(bundle: Bundle, engines: Sequence[Engine], rounds: int = 50) -> list[dict[str, Any]]:
    """What CUDA graphs of TensorRT plans answer and cost, against the same plans queued kernel by kernel.

    Args:
        bundle: The bundle that the plans were built from.
        engines: Those that are no TensorRT plan are left out.
        rounds: Turns; in each both ways classify the same images, which are others in the next turn.

    Returns:
        For each plan and size of batch: whether it was recorded, the reason if not, the largest difference of a logit,
        and the median milliseconds of both ways, copies there and back included.
    """
    from firewall.engines.tensorrt_engine import TensorRTEngine

    told = []
    for engine in (each for each in engines if isinstance(each, TensorRTEngine)):
        plain = TensorRTEngine(bundle, engine.plan, open_device(), graphs=0)
        size = bundle.manifest.classifier.input
        random = np.random.default_rng(0)
        for count in sorted({1, min(16, engine.most), engine.most}):
            before, apart = len(engine.graphs), 0.0
            times: dict[str, list[float]] = {"graph_ms": [], "plain_ms": []}
            for turn in range(rounds + 3):
                images = random.integers(0, 256, (count, size.height, size.width, 3), np.uint8)
                answers = []
                for way, each in (("graph_ms", engine), ("plain_ms", plain)):
                    started = time.perf_counter()
                    answers.append(each.classify(images))
                    if turn >= 3:  # plain, recorded, and once replayed
                        times[way].append((time.perf_counter() - started) * 1e3)
                apart = max(apart, float(np.abs(answers[0] - answers[1]).max()))
            row = {"plan": engine.provider, "images": count, "apart": apart, "refused": engine.graphs.refused}
            row |= {way: statistics.median(taken) for way, taken in times.items()}
            told.append({**row, "recorded": len(engine.graphs) > before or (count == 1 and before > 0)})
        plain.close()
    return told


def fault_of(compared: Verified | FinderParity) -> str:
    """What differs by more than rounding; empty if nothing does."""
    try:
        compared.check()
    except EngineError as error:
        return str(error)
    return ""


def main() -> int:
    """Open, compare, time."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("way", choices=("cuda", "tensorrt", "torch"))
    parser.add_argument("--json", type=Path)
    parser.add_argument("--images", type=int, default=32)
    arguments = parser.parse_args()
    bundle, images = load_bundle("default"), signs(arguments.images)
    opening: dict[str, Callable[[Bundle], tuple[list[Engine], list[Any], str]]]
    opening = {"cuda": on_cuda, "tensorrt": on_tensorrt, "torch": on_torch}
    try:
        engines, finders, missing = opening[arguments.way](bundle)
    except FirewallError as error:
        engines, finders, missing = [], [], str(error)
    if not engines:
        sys.stdout.write(f"not done: {missing}\n")
        return _SKIPPED
    told: dict[str, Any] = {"way": arguments.way, "images": len(images), "compared": [], "times": {}}
    compared: list[Verified | FinderParity] = verify(bundle, images, threads=4, plans=engines, finders=finders)
    told["compared"] = [each.to_json() for each in compared]
    for engine in (open_engine(bundle, threads=1), *engines):
        guard = Firewall(bundle, engine, threads=1)
        runs = what_runs(bundle, engine, guard.under_masks, guard.networks)
        told["times"][engine.provider] = {**timed(guard, images), "copies": guard.copies.where, "networks": runs}
        if arguments.json:
            arguments.json.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    graphs = told["graphs"] = replayed(bundle, engines)
    wrong = [line for line in map(fault_of, compared) if line]
    wrong += [
        f"{row['plan']}: a CUDA graph of {row['images']} images gives logits {row['apart']:.3g} apart"
        for row in graphs
        if not row["apart"] <= 1e-3
    ]
    told["wrong"] = wrong
    recorded = sum(row["recorded"] for row in graphs)
    said = f"; {recorded} of {len(graphs)} sizes of batch as CUDA graphs" if graphs else ""
    if arguments.json:
        arguments.json.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    sys.stdout.write("".join(f"{line}\n" for line in wrong) or f"{len(compared)} comparisons, all the same{said}\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
