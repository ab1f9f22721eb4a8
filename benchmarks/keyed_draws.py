"""Would other draws of a keyed sweep help? How well one score parts benign signs from images that beat the default one.

The images are those that `firewall lab attack adaptive` made against the default bundle; the copies were not attacked.
So this is the most that such a score can add: an attacker who expects the sweep leaves less. Classifier and robust
juror are asked about copies drawn from several ranges, and the juror about the image itself. Caught: share of the
attacked images above the 98 % quantile of benign ones. The row goes to the rows of keyed_sweep.py, which puts it into
its summary.

    python benchmarks/keyed_draws.py --data DIR --attacked adaptive_linf_8.json [--attacked ...] --work runs/keyed
"""

from __future__ import annotations

import argparse
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from keyed_sweep import Rows, victims_of
from PIL import Image

from firewall.bundle import load_bundle
from firewall.detectors.draws import DrawSpec
from firewall.detectors.juror import odds_against
from firewall.engines import OnnxRuntimeEngine, OnnxRuntimeNetwork
from firewall.frame import Pixels
from firewall.lab.datasets import open_dataset
from firewall.lab.evaluation.adaptive_attack import victims
from firewall.sweep.keyed import KeyedSweep, key_of
from firewall.transforms import resize

RANGES = {
    "as it is": DrawSpec(),
    "jpeg 15 to 60": DrawSpec(quality=(15, 60), angle=0, factor=None, shift=0, mask=0),
    "strong geometry": DrawSpec(quality=None, angle=15, factor=(0.65, 1.5), shift=0.12, mask=0),
    "masks up to 20 %": DrawSpec(mask=0.2),
    "all strong": DrawSpec(quality=(15, 60), angle=15, factor=(0.65, 1.5), shift=0.12, mask=0.15),
}
Floats = npt.NDArray[np.float64]


def batch(pixels: Pixels) -> npt.NDArray[np.float32]:
    """Images (N, H, W, 3) as a juror reads them."""
    return np.ascontiguousarray(pixels.transpose(0, 3, 1, 2), np.float32) / np.float32(255)


def parted(benign: Floats, attacked: Floats) -> dict[str, float]:
    """How well two sets of scores are apart."""
    limit = float(np.quantile(benign, 0.98))
    return {
        "auroc": float((attacked[:, None] > benign).mean() + 0.5 * (attacked[:, None] == benign).mean()),
        "caught": float((attacked > limit).mean()),
        "benign_median": float(np.median(benign)),
        "attacked_median": float(np.median(attacked)),
    }


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """The row."""
    bundle = load_bundle("default")
    engine = OnnxRuntimeEngine(bundle, threads=1)
    juror = OnnxRuntimeNetwork(bundle.files["juror-robust.onnx"], "juror-robust.onnx", threads=1)
    data, chosen = victims(bundle, open_dataset("gtsdb", options.data), options.benign, 1, 24)
    beaten = [each for path in options.attacked for each in victims_of(path) if each.beaten]
    images = {
        "benign": [resize(np.array(data.images[index]), 48, 48) for index in chosen],
        "attacked": [resize(np.asarray(Image.open(each.file).convert("RGB")), 48, 48) for each in beaten],
    }
    sweep = KeyedSweep(engine, key_of(7))
    labels = {part: [int(engine.classify(image[None]).argmax()) for image in found] for part, found in images.items()}
    rows: dict[str, Any] = {"benign": len(images["benign"]), "attacked": len(images["attacked"]), "scores": {}}
    plain = {
        part: np.concatenate(
            [odds_against(juror(batch(image[None])), label) for image, label in zip(found, labels[part], strict=True)]
        )
        for part, found in images.items()
    }
    rows["scores"]["robust juror, the image itself"] = parted(plain["benign"], plain["attacked"])
    for name, draw in RANGES.items():
        odds: dict[tuple[str, str], list[Floats]] = {}
        for part, found in images.items():
            for image, label in zip(found, labels[part], strict=True):
                drawn = sweep.of(image, draw, lambda _: nullcontext())
                odds.setdefault(("classifier", part), []).append(odds_against(drawn.logits, label))
                odds.setdefault(("robust juror", part), []).append(odds_against(juror(batch(drawn.pixels)), label))
        for network in ("classifier", "robust juror"):
            for statistic in ("mean", "max"):
                make = getattr(np, statistic)
                pair = [make(np.array(odds[network, part]), axis=1) for part in ("benign", "attacked")]
                rows["scores"][f"{network}, 4 copies, {name}, {statistic}"] = parted(*pair)
    return rows


def main() -> None:
    """Measure, unless the row is there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the data sets")
    parser.add_argument("--attacked", type=Path, action="append", required=True, help="as of keyed_sweep.py")
    parser.add_argument("--work", type=Path, default=Path("runs/keyed"), help="where the rows are")
    parser.add_argument("--benign", type=int, default=120, help="benign signs")
    options = parser.parse_args()
    Rows(options.work / "rows.jsonl").row("draws", lambda: measure(options))


if __name__ == "__main__":
    main()
