"""`firewall lab certify spatial`, `firewall lab attack spatial` and `firewall lab train spatial`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from firewall.errors import UsageError
from firewall.lab.commands.groups import DatabaseUnlessNamed
from firewall.lab.commands.options import Data, Json
from firewall.lab.commands.output import write_json

if TYPE_CHECKING:
    from firewall.lab.certification.image_certificate import Threat
    from firewall.lab.certification.two_layer import TwoLayer

__all__ = ["attack_app", "attack_spatial", "certify_spatial", "train_spatial"]


attack_app = typer.Typer(
    cls=DatabaseUnlessNamed,
    help="Attack a classifier and keep the images that fool it; 'lab attack spatial' uses flow fields within a budget.",
    context_settings={"help_option_names": ["-h", "--help"]},
)

Network = Annotated[
    str,
    typer.Option(help="plain or certified (both come with the package), PATH.npz, PATH.onnx, or a folder with one."),
]
DataSet = Annotated[str, typer.Option("--dataset", help="Data set: mnist.")]
Limit = Annotated[int, typer.Option(min=1, help="Number of test images.")]
Budget = Annotated[
    float, typer.Option(help="Largest total variation of the flow: L_flow, equation 6 of Nguyen C.'s thesis.")
]
Shift = Annotated[
    float,
    typer.Option(help="Pixels that the whole image may also be shifted each way, outside of the budget; 0: none."),
]
Noise = Annotated[
    float, typer.Option(help="Largest additional noise on each pixel value, 0 to 1 (the unified certificate).")
]
Seed = Annotated[int | None, typer.Option(min=0, help="Draw the test images at random.  [default: the first ones]")]


def certify_spatial(
    network: Network = "certified",
    dataset: DataSet = "mnist",
    limit: Limit = 100,
    budget: Budget = 7.0,
    shift: Shift = 0.0,
    noise: Noise = 0.0,
    seed: Seed = None,
    data: Data = None,
    json_file: Json = None,
) -> None:
    """Prove that no flow field within a budget changes a two-layer network's label (docs/spatial_certificate.md).

    lower_bound: over all flows, the label's logit is proved to exceed every other logit by this much; certified means
    that it is above 0.
    """
    from firewall.lab.certification.image_certificate import Threat, certify

    threat, opened = Threat(budget, shift, noise), _network(network, dataset)
    indices, images, labels = _images(data, limit, seed)
    predicted = opened.logits(images).argmax(1)
    rows: list[dict[str, Any]] = []
    for index, image, label, first in zip(indices, images, labels, predicted, strict=True):
        found = certify(opened, image, int(label), threat)
        rows.append(
            {
                "index": int(index),
                "label": int(label),
                "predicted": int(first),
                "certified": found.certified,
                "lower_bound": found.lower_bound,
                "bound": found.method,
                "cells": found.cells,
            }
        )
    certified = sum(row["certified"] for row in rows)
    result = {
        **_facts(opened, dataset, threat),
        "images": len(rows),
        "clean_accuracy": float((predicted == labels).mean()),
        "certified_accuracy": certified / len(rows),
        "rows": rows,
    }
    typer.echo(f"{certified} of {len(rows)} images certified, {int((predicted == labels).sum())} right", err=True)
    write_json(result, json_file)


def attack_spatial(
    network: Network = "plain",
    dataset: DataSet = "mnist",
    limit: Limit = 100,
    budget: Budget = 7.0,
    shift: Shift = 0.0,
    noise: Noise = 0.0,
    method: Annotated[
        str,
        typer.Option(
            help="search: the strongest attack within what 'certify spatial' certifies. thesis: stAdv with its search "
            "for tau, whose shifts are unlimited, so that no certificate covers it."
        ),
    ] = "search",
    target: Annotated[
        str,
        typer.Option(
            help="random: a wrong class drawn for each image. any: the nearest wrong class (only with search)."
        ),
    ] = "random",
    steps: Annotated[int, typer.Option(min=1, help="Steps of gradient descent, for each start or tau.")] = 80,
    restarts: Annotated[int, typer.Option(min=1, help="Random starts of search.")] = 4,
    seed: Seed = None,
    data: Data = None,
    json_file: Json = None,
) -> None:
    """Attack a two-layer network by flow fields within a budget.

    Flows are stored beside the JSON file: 'flow' (2, H, W), right and down in pixels, with the 'shift' in it; 'noise'.
    """
    import numpy as np

    from firewall.lab.certification.image_certificate import Threat
    from firewall.lab.certification.spatial_attack import Search, attempts, thesis_attack

    threat, opened = Threat(budget, shift, noise), _network(network, dataset)
    if method not in ("search", "thesis"):
        raise UsageError(f"--method must be search or thesis, got {method!r}")
    if noise and method == "thesis":
        raise UsageError(f"--noise is {noise:g}; the thesis's attack knows no noise, --method search does")
    if target not in ("random", "any") or (target == "any" and method == "thesis"):
        raise UsageError(f"--target must be random, or with --method search any, got {target!r}")
    indices, images, labels = _images(data, limit, seed)
    targets = np.array([random_target(int(index), int(label)) for index, label in zip(indices, labels, strict=True)])
    if method == "search":
        search, away = Search(steps=steps, restarts=restarts), target == "any"
        found = attempts(opened, images, labels if away else targets, threat, search, away=away)
    else:
        found = thesis_attack(opened, images, targets, threat.budget, steps=steps)
    flows = None if json_file is None else json_file.with_suffix(".flows")
    rows: list[dict[str, Any]] = []
    for index, label, aim, attempt in zip(indices, labels, targets, found, strict=True):
        file = None
        if flows is not None and attempt.success:
            flows.mkdir(parents=True, exist_ok=True)
            path = flows / f"{index:05d}.npz"
            np.savez_compressed(path, flow=attempt.flow, shift=attempt.shift, noise=attempt.noise)
            file = str(path)
        rows.append(
            {
                "index": int(index),
                "label": int(label),
                "target": int(aim) if target == "random" else None,
                "success": attempt.success,
                "total_variation": attempt.total_variation,
                "gap": attempt.gap,
                "flow_file": file,
            }
        )
    won = sum(row["success"] for row in rows)
    result = {**_facts(opened, dataset, threat), "method": method, "images": len(rows), "successes": won, "rows": rows}
    typer.echo(f"{won} of {len(rows)} attacks succeeded", err=True)
    write_json(result, json_file)


def train_spatial(
    out: Annotated[Path, typer.Option(metavar="FILE.npz", help="File of the network; its checkpoint goes beside it.")],
    budget: Annotated[
        float, typer.Option(help="Total variation of flows (L_flow) that the network is trained against.")
    ] = 12.0,
    shift: Annotated[float, typer.Option(help="Shifts that it is trained against, pixels each way.")] = 4.0,
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the training images.")] = 9,
    share: Annotated[
        float, typer.Option(min=0, max=1, help="Weight of the certified worst case in the loss, 0 to 1.")
    ] = 0.75,
    bound: Annotated[
        str,
        typer.Option(
            metavar="linear|semidefinite",
            help="What bounds the worst case: linear bounds in closed form, or the dual of the semidefinite "
            "relaxation, whose variables are learned with the weights.",
        ),
    ] = "semidefinite",
    seed: Annotated[int, typer.Option(min=0, help="Seed of all random choices.")] = 0,
    data: Data = None,
) -> None:
    """Train a two-layer network of MNIST together with its certificate.

    Stop it at any time; the same command goes on from the last checkpoint.
    """
    from firewall.lab.certification import guarded_training as training
    from firewall.lab.certification.image_certificate import Threat

    if out.suffix != ".npz":
        raise UsageError(f"--out must end in .npz, got {out}")
    if bound not in training.BOUNDS:
        raise UsageError(f"--bound must be one of {', '.join(training.BOUNDS)}, got {bound!r}")
    Threat(budget, shift)  # the same limits
    settings = training.Settings(epochs=epochs, budget=budget, shift=shift, share=share, bound=bound, seed=seed)
    typer.echo(json.dumps(training.train(data, out, settings), indent=1))


def random_target(index: int, label: int, classes: int = 10) -> int:
    """A wrong class drawn from the image's number alone, so that every run attacks towards the same."""
    import numpy as np

    return (label + 1 + int(np.random.default_rng([7, index]).integers(classes - 1))) % classes


def _network(spec: str, dataset: str) -> TwoLayer:
    from firewall.lab.certification.two_layer import open_two_layer

    if dataset != "mnist":
        raise UsageError(
            f"--dataset must be mnist, got {dataset!r}: spatial certificates are for two-layer networks of it"
        )
    network = open_two_layer(spec)
    if (len(network.second), network.height, network.width) != (10, 28, 28):
        raise UsageError(f"{network.name} has {len(network.second)} classes; mnist has 10")
    return network


def _images(data: Path | None, limit: int, seed: int | None) -> tuple[Any, Any, Any]:
    """Indices of test images, the images (N, H, W) in 0..1 and their labels."""
    import numpy as np

    from firewall.lab.datasets import open_dataset

    dataset = open_dataset("mnist", data, part="test")
    indices = np.arange(len(dataset))
    if seed is not None:
        indices = np.random.default_rng(seed).permutation(len(dataset))
    indices = np.sort(indices[:limit])
    images = np.stack([dataset.images[int(index)][..., 0] for index in indices]).astype(np.float64) / 255
    return indices, images, dataset.labels[indices]


def _facts(network: TwoLayer, dataset: str, threat: Threat) -> dict[str, Any]:
    return {
        "network": network.name,
        "network_sha256": network.sha256,
        "dataset": f"{dataset}/test",
        "threat": {"budget": threat.budget, "shift": threat.shift, "noise": threat.noise},
    }
