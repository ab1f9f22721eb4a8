"""Bounds of `firewall lab certify linf` against those of auto_LiRPA 0.3 (Xu et al. 2020), on the same images.

auto_LiRPA is no dependency. It wants an old torch and numpy; what it misses in the present ones is put in here.
Run it in an environment of its own that also sees the project's packages:

    python -m venv /tmp/lirpa && /tmp/lirpa/bin/pip install --no-deps auto_LiRPA==0.3
    PYTHONPATH=.:.venv/lib/python3.11/site-packages /tmp/lirpa/bin/python benchmarks/auto_lirpa.py NETWORK OUT.json

Like is compared with like, without the allowance for float32 engines: intervals, and lines over intervals (CROWN-IBP).
Theirs are computed in float32 and not rounded outward, so ours may be smaller by that much, and should never be larger
by more than float32 loses.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from firewall.lab.certification.classifier import classified, open_subject
from firewall.lab.certification.intervals import box_of, intervals
from firewall.lab.certification.layers import Affine, Convolution, Layers, Rectified, open_layers
from firewall.lab.certification.linf import _least, interval_margins


def _shimmed() -> Any:
    """auto_LiRPA, with the parts of old torch and numpy that it names."""
    module = types.ModuleType("numpy.lib.arraysetops")
    vars(module)["isin"] = np.isin
    sys.modules["numpy.lib.arraysetops"] = module
    inner = "torch.onnx._internal.torchscript_exporter"
    known = importlib.import_module(f"{inner}._globals").GLOBALS
    for name, value in (
        ("symbolic_helper._set_opset_version", lambda version: setattr(known, "export_onnx_opset_version", version)),
        ("utils._optimize_graph", importlib.import_module(f"{inner}.utils")._optimize_graph),
    ):
        place, attribute = name.split(".")
        setattr(importlib.import_module(f"torch.onnx.{place}"), attribute, value)
    if not hasattr(torch._C.Node, "__getitem__"):
        torch._C.Node.__getitem__ = lambda node, key: getattr(node, node.kindOf(key))(key)  # type: ignore[attr-defined]
    import auto_LiRPA

    return auto_LiRPA


def _module(network: Layers) -> nn.Sequential:
    """The same network in float32, of torch's own layers."""
    parts: list[nn.Module] = []
    for layer in network.layers:
        if isinstance(layer, Convolution):
            out, inputs, *kernel = layer.weight.shape
            made: Any = nn.Conv2d(inputs, out, tuple(kernel), layer.stride, layer.padding)  # type: ignore[arg-type]
        elif isinstance(layer, Affine):
            if not any(isinstance(part, nn.Flatten) for part in parts):
                parts.append(nn.Flatten())
            made = nn.Linear(layer.weight.shape[1], layer.weight.shape[0])
        elif isinstance(layer, Rectified):
            parts.append(nn.ReLU())
            continue
        else:
            sys.exit(f"{type(layer).__name__} is not compared")
        made.weight.data, made.bias.data = layer.weight.float(), layer.bias.float()
        parts.append(made)
    return nn.Sequential(*parts).eval()


def main() -> None:
    """Compare, and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("network")
    parser.add_argument("out", type=Path)
    parser.add_argument("--eps", type=float, nargs="+", default=[1 / 255, 2 / 255])
    parser.add_argument("--limit", type=int, default=60)
    given = parser.parse_args()
    lirpa, network = _shimmed(), open_layers(given.network)
    module = _module(network)
    about, images = classified(open_subject(given.network), "gtsrb", "test", given.limit, 0, None)
    bounded = lirpa.BoundedModule(module, torch.zeros(1, *network.input), device="cpu")
    rows: list[dict[str, Any]] = []
    for index, pixels, label in images:
        image = torch.from_numpy(pixels.transpose(2, 0, 1).astype(np.float64) / 255)
        others = torch.arange(network.classes) != label
        spec = (
            torch.eye(network.classes, dtype=torch.float64)[label] - torch.eye(network.classes, dtype=torch.float64)
        )[others]
        for eps in given.eps:
            box = box_of(image, eps, float32=False)
            found = intervals(network, box, float32=False)
            ours = {
                "IBP": interval_margins(network, found, label)[others],
                "CROWN-IBP": _least(network, found, spec, len(network.layers)),
            }
            low, high = box.low.float()[None], box.high.float()[None]
            norm = lirpa.PerturbationLpNorm(norm=np.inf, eps=eps, x_L=low, x_U=high)
            shown = lirpa.BoundedTensor(image.float()[None], norm)
            for method, bound in ours.items():
                theirs = bounded.compute_bounds(x=(shown,), C=spec.float()[None], method=method, bound_upper=False)[0]
                theirs = theirs.detach().double()[0]
                rows.append(
                    {
                        "index": index,
                        "eps": eps,
                        "method": method,
                        "same_verdict": bool((bound.min() > 0) == (theirs.min() > 0)),
                        "certified": bool(bound.min() > 0),
                        "ours_above": float(((bound - theirs) / (1 + theirs.abs())).max()),
                        "ours_below": float(((theirs - bound) / (1 + theirs.abs())).max()),
                    }
                )
    summary = [
        {
            "method": method,
            "eps": eps,
            "images": len(part),
            "certified": sum(row["certified"] for row in part),
            "same_verdict": sum(row["same_verdict"] for row in part),
            "ours_above_at_most": max(row["ours_above"] for row in part),
            "ours_below_at_most": max(row["ours_below"] for row in part),
        }
        for method in ("IBP", "CROWN-IBP")
        for eps in given.eps
        if (part := [row for row in rows if row["method"] == method and row["eps"] == eps])
    ]
    result = {
        "what": "margins by firewall.lab.certification.linf and by auto_LiRPA, relative to 1 + the size of the margin",
        "versions": {
            "auto_LiRPA": "0.3, with what it misses of old torch and numpy put in",
            "torch": torch.__version__,
        },
        "about": {**about, "classes": network.classes},
        "summary": summary,
    }
    given.out.write_text(json.dumps(result, indent=1) + "\n")
    sys.stdout.write(json.dumps(summary, indent=1) + "\n")


if __name__ == "__main__":
    main()
