"""Batch sizes: images a second of a bundle's classifier in fp32 and int8 on the CPU, and on CUDA where there is one.

    python benchmarks/throughput.py --data DATA [--bundle default] [--json FILE]

DATA: folder of GTSRB, whose kept-out tracks give int8 its scales and whose test images compare the two. All that is
compared runs in turns in one process, on one thread, and what is taken is the processor time of that thread (on CUDA:
the clock's), so that what else the machine does counts little; the figure of each is its fastest turn, ratios are
medians over the turns. Also: what copies cost written straight into the network's memory and by way of pixels, what
spinning threads and the arena cost, and size, load time and memory of the bundle.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from machine import machine

from firewall import Firewall
from firewall.bundle import Bundle, load_bundle
from firewall.engines import Engine, open_engine
from firewall.errors import FirewallError
from firewall.export.precision import prepare, to_float16, to_int8
from firewall.host.onnxruntime import ort
from firewall.lab.calibration.bundling import calibration_tracks
from firewall.lab.calibration.settings import BenignImages, CalibrationSettings
from firewall.lab.calibration.thresholds import calibrate
from firewall.lab.datasets import gtsrb
from firewall.lab.measurement.edge import engine_for
from firewall.lab.models.classifier_folder import load_card
from firewall.transforms import OPERATIONS_38, SWEEP_76, apply_operations, apply_operations_normalised, resize

BATCHES = (1, 4, 16, 38, 76)
_LOAD = """
import json, sys, time
from firewall import Firewall
def resident(field):
    lines = open("/proc/self/status").read().splitlines()
    return int(next(line for line in lines if line.startswith(field)).split()[1]) / 1024
before = resident("VmRSS")
started = time.process_time()
guard = Firewall.load(sys.argv[1], threads=1)
loaded = time.process_time() - started
import numpy as np
spec = guard.bundle.manifest.classifier.input
guard.exhaustive = True
guard.screen(np.random.default_rng(0).integers(0, 256, (spec.height, spec.width, 3), np.uint8))
print(json.dumps([loaded, before, resident("VmHWM")]))
"""


def main() -> None:
    """Compare, time, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--bundle", default="default")
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--images", type=int, default=1000, help="test images that fp32 and int8 are compared on")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    bundle = load_bundle(arguments.bundle)
    spec = bundle.manifest.classifier
    scales = kept_out(arguments.data, bundle, 256)
    content = to_int8(bundle.files[spec.file], prepare(scales, spec.input), target="cpu")
    engines: dict[str, Engine] = {
        "cpu fp32": open_engine(bundle, threads=1),
        "cpu int8": engine_for(spec.model_copy(update={"precision": "int8"}), content, threads=1),
    }
    missing: dict[str, str] = {}
    try:
        engines["cuda fp32"] = open_engine(bundle, device="cuda")
        half = to_float16(bundle.files[spec.file])
        files = {**bundle.files, spec.file: half}
        engines["cuda fp16"] = open_engine(Bundle(bundle.path, bundle.manifest, files, ""), device="cuda")
    except FirewallError as error:
        missing["cuda"] = str(error)
    result: dict[str, Any] = {
        "machine": machine(),
        "onnxruntime": ort.__version__,
        "threads": 1,
        "bundle": {"name": bundle.manifest.name, "sha256": bundle.sha256},
        "throughput": throughput(engines, spec.input.width, spec.input.height, arguments.turns),
        "missing": missing,
        "int8": {
            "bytes": {"fp32": len(bundle.files[spec.file]), "int8": len(content)},
            **alike(engines["cpu fp32"], engines["cpu int8"], arguments.data, bundle, arguments.images),
            "verdicts": verdicts(bundle, content, arguments.data, 300),
        },
        "copies_ms": sweeps(arguments.turns),
        "sessions_ms": sessions(bundle, arguments.turns),
        "loading": loading(arguments.bundle, bundle),
    }
    sys.stdout.write(json.dumps(result, indent=1) + "\n")
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def kept_out(data: Path, bundle: Bundle, count: int) -> np.ndarray:
    """Images of tracks that the classifier was not trained on, at its size."""
    card, _, _ = load_card(bundle.path)
    return spread(calibration_tracks(data, card["split"]).images, bundle, count)


def spread(images: list[np.ndarray], bundle: Bundle, count: int) -> np.ndarray:
    """So many of them at even distances, at the network's size."""
    spec = bundle.manifest.classifier.input
    places = np.unique(np.linspace(0, len(images) - 1, count).astype(int))
    return np.stack([resize(images[place], spec.width, spec.height) for place in places])


def in_turns(work: dict[str, Callable[[], object]], turns: int) -> dict[str, list[float]]:
    """Seconds of each, `turns` times, one after the other."""
    for each in work.values():
        each()
    taken: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(turns):
        for name, each in work.items():
            clock = time.perf_counter if name.startswith("cuda") else time.process_time
            started = clock()
            each()
            taken[name].append(clock() - started)
    return taken


def throughput(engines: dict[str, Engine], width: int, height: int, turns: int) -> dict[str, Any]:
    """By batch: images a second of each engine at its fastest, and how much faster than fp32 in the middle turn."""
    rng = np.random.default_rng(0)
    found: dict[str, Any] = {}
    for batch in BATCHES:
        images = rng.integers(0, 256, (batch, height, width, 3), np.uint8)
        taken = in_turns({name: (lambda e=engine, i=images: e.classify(i)) for name, engine in engines.items()}, turns)
        base = taken["cpu fp32"]
        found[str(batch)] = {
            name: {
                "images_per_second": round(batch / min(times), 1),
                "ms": round(1e3 * min(times), 3),
                "speedup": round(statistics.median(one / two for one, two in zip(base, times, strict=True)), 3),
            }
            for name, times in taken.items()
        }
    return found


def alike(one: Engine, two: Engine, data: Path, bundle: Bundle, count: int) -> dict[str, Any]:
    """Accuracy of both on test images, and on how many they name the same class."""
    test = gtsrb.load_test(data)
    images = spread(test.images, bundle, count)
    labels = test.labels[np.unique(np.linspace(0, len(test) - 1, count).astype(int))]
    logits = [
        np.concatenate([e.classify(images[at : at + 50]) for at in range(0, len(images), 50)]) for e in (one, two)
    ]
    named = [each.argmax(axis=1) for each in logits]
    return {
        "images": len(images),
        "accuracy": {"fp32": float((named[0] == labels).mean()), "int8": float((named[1] == labels).mean())},
        "same_label": float((named[0] == named[1]).mean()),
        "largest_difference_of_a_logit": float(np.abs(logits[0] - logits[1]).max()),
    }


def verdicts(bundle: Bundle, content: bytes, data: Path, count: int) -> dict[str, Any]:
    """What two bundles say of test images: the classifier in fp32 and in int8, each calibrated for itself on the same
    500 kept-out images, detectors agreement and confidence, 2 % of false alarms asked for."""
    spec = bundle.manifest.classifier
    normal, test = list(kept_out(data, bundle, 500)), spread(gtsrb.load_test(data).images, bundle, count)
    said: dict[str, list[tuple[bool, int | None]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, file in (("fp32", bundle.files[spec.file]), ("int8", content)):
            out, names = Path(folder) / name, ("agreement", "confidence")
            made = calibrate(
                spec, file, BenignImages(normal, "kept-out tracks"), out, CalibrationSettings(names, rate=0.02)
            )
            guard = Firewall(made, open_engine(made, threads=1))
            said[name] = [(found.released, found.label) for found in map(guard.screen, test)]
    return {
        "images": len(test),
        "released": {name: sum(released for released, _ in found) / len(test) for name, found in said.items()},
        "same_verdict": sum(one == two for one, two in zip(said["fp32"], said["int8"], strict=True)) / len(test),
        "other_label_released": sum(
            one[0] and two[0] and one[1] != two[1] for one, two in zip(said["fp32"], said["int8"], strict=True)
        ),
    }


def sweeps(turns: int) -> dict[str, Any]:
    """Milliseconds of copies as the network reads them, without the network: written straight into its memory, and
    first as pixels that are turned into numbers, as it was before. By size of image and list of operations."""
    mean, std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    found: dict[str, Any] = {}
    for side in (48, 224):
        image = np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8)
        for name, operations in (("jpeg 76", [f"jpeg:{q}" for q in SWEEP_76]), ("all 38", list(OPERATIONS_38))):
            tensor = np.empty((len(operations), 3, side, side), np.float32)

            def pixels(o: list[str] = operations, i: np.ndarray = image) -> object:
                batch = np.ascontiguousarray(apply_operations(i, o).transpose(0, 3, 1, 2), np.float32)
                batch *= np.float32(1 / 255)
                batch += np.float32(0)
                return batch

            def direct(o: list[str] = operations, i: np.ndarray = image, out: np.ndarray = tensor) -> object:
                return apply_operations_normalised(i, o, mean, std, out=out)

            if not np.array_equal(pixels(), direct()):
                raise SystemExit("both ways must give the same numbers")
            taken = in_turns({"direct": direct, "by way of pixels": pixels}, turns)
            ratios = [two / one for one, two in zip(taken["direct"], taken["by way of pixels"], strict=True)]
            found[f"{name}, {side}x{side}"] = {
                **{way: round(1e3 * min(times), 3) for way, times in taken.items()},
                "speedup": round(statistics.median(ratios), 3),
            }
    return found


def sessions(bundle: Bundle, turns: int) -> dict[str, Any]:
    """What spinning threads and the arena cost: processor time of 38 images on two threads and of the 20 ms after them,
    in which a camera would be waited for."""
    spec = bundle.manifest.classifier
    values = np.random.default_rng(0).random((38, 3, spec.input.height, spec.input.width), np.float32)

    def opened(spinning: str, arena: bool) -> Callable[[], object]:
        options = ort.SessionOptions()
        options.intra_op_num_threads = 2
        options.add_session_config_entry("session.intra_op.allow_spinning", spinning)
        options.enable_cpu_mem_arena = arena
        session = ort.InferenceSession(bundle.files[spec.file], options, providers=["CPUExecutionProvider"])
        return lambda: (session.run(None, {spec.input.name: values}), time.sleep(0.02))

    work = {
        "as here (no spinning, arena)": opened("0", True),
        "spinning": opened("1", True),
        "no arena": opened("0", False),
    }
    return {name: round(1e3 * min(times), 2) for name, times in in_turns(work, turns).items()}


def loading(name: str, bundle: Bundle) -> dict[str, Any]:
    """Size of the bundle; seconds and memory of loading it in a fresh process, and its memory after a verdict."""
    runs = []
    for _ in range(3):
        done = subprocess.run([sys.executable, "-c", _LOAD, name], capture_output=True, text=True, check=True)
        runs.append(json.loads(done.stdout))
    return {
        "bytes": sum(map(len, bundle.files.values())),
        "files": {file: len(content) for file, content in bundle.files.items()},
        "processor_seconds_to_load": round(min(run[0] for run in runs), 3),
        "resident_mb_before": round(min(run[1] for run in runs), 1),
        "peak_mb_with_a_verdict": round(min(run[2] for run in runs), 1),
    }


if __name__ == "__main__":
    main()
