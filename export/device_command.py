"""`firewall export tensorrt`: run on the device itself, with what the edge has and no torch."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from firewall.bundle.cli import AllowUnsigned, TrustedKeys
from firewall.errors import UsageError

if TYPE_CHECKING:
    from firewall.export.tensorrt import Built

__all__ = ["export_tensorrt"]


def export_tensorrt(
    precision: Annotated[str, typer.Option(help="Precision of the plans: fp32, fp16 or int8.")],
    bundle: Annotated[str, typer.Option(help="'default' or the folder of a bundle.")] = "default",
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder of the plans. [$FIREWALL_PLANS, or one in the user's cache]"),
    ] = None,
    network: Annotated[
        str,
        typer.Option(
            help="Which network: classifier, finder, masked (the classifier of masked images), detectors, or all "
            "that the bundle has."
        ),
    ] = "all",
    images: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="For int8 of all but the finder: benign images to calibrate on, at least 32."),
    ] = None,
    frames: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="For the finder's int8: road frames to calibrate on, at least 32."),
    ] = None,
    frame: Annotated[
        str | None,
        typer.Option(metavar="WIDTHxHEIGHT", help="Frames that the finder's plan is tuned for. \\[default: 1280x720]"),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="The most images that are used, spread evenly.")] = 512,
    keep_float: Annotated[
        list[str] | None,
        typer.Option(metavar="NODE", help="For int8: a node of the classifier that stays in float32; may be repeated."),
    ] = None,
    best_batch: Annotated[
        int | None, typer.Option(min=1, help="Batch size that the plan is tuned for. \\[default: the bundle's sweep]")
    ] = None,
    max_batch: Annotated[
        int | None, typer.Option(min=1, help="Largest batch size; larger batches are run in parts.")
    ] = None,
    workspace: Annotated[int | None, typer.Option(min=1, help="MiB that TensorRT may use to build.")] = None,
    device_id: Annotated[int, typer.Option(min=0, help="Number of the GPU, as CUDA counts.")] = 0,
    memory: Annotated[
        str | None,
        typer.Option(
            help="Package for the GPU's memory: cuda.bindings or pycuda. \\[default: the one that is installed]"
        ),
    ] = None,
    trust: TrustedKeys = None,
    allow_unsigned: AllowUnsigned = None,
    json_file: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the result as JSON.")] = None,
) -> None:
    """Build a bundle's networks with TensorRT, for this GPU and version. Run it on the device; it needs no torch. An
    existing plan that fits is used. A plan that doesn't compute in the wanted precision is refused. Plans are code:
    never copy one from elsewhere."""
    from firewall.bundle import load_bundle
    from firewall.bundle.onnx_bytes import PRECISIONS
    from firewall.bundle.trust import Trust
    from firewall.engines.device_memory import BACKENDS
    from firewall.export.images import read_images
    from firewall.export.networks import NETWORKS, Wanted, plans_of
    from firewall.export.tensorrt import build_plan

    chosen = next((known for known in PRECISIONS if known == precision), None)
    if chosen is None:
        raise UsageError(f"--precision must be one of {', '.join(PRECISIONS)}, got {precision!r}")
    backend = next((known for known in BACKENDS if known == memory), None)
    if memory is not None and backend is None:
        raise UsageError(f"--memory must be one of {', '.join(BACKENDS)}, got {memory!r}")
    if network not in (*NETWORKS, "all"):
        raise UsageError(f"--network must be one of {', '.join(NETWORKS)}, all, got {network!r}")
    size = None if frame is None else _frame_size(frame)
    if chosen != "int8" and (images is not None or frames is not None):
        raise UsageError(f"--images and --frames are to calibrate int8; fp32 and fp16 take none, got {chosen}")
    if chosen == "int8" and network != "finder" and images is None:
        raise UsageError("int8 needs --images, benign images to calibrate on, or --network finder")
    loaded = load_bundle(bundle, trust=Trust.configured(trust, allow_unsigned, remember=False))
    built_of = plans_of(loaded, network)
    if chosen == "int8" and "finder" in built_of and frames is None:
        raise UsageError("int8 needs --frames, road frames to calibrate the sign finder on, or --network classifier")
    wanted = Wanted(
        precision=chosen,
        best=best_batch,
        most=max_batch,
        images=() if images is None else read_images(images, limit),
        kept=tuple(keep_float or ()),
        workspace=workspace,
        frames=() if frames is None else read_images(frames, limit),
        frame=size,
    )
    told = []
    for each in built_of:
        built = build_plan(loaded, wanted, each, folder=out, device_id=device_id, backend=backend)
        typer.echo(_line(each, built))
        told.append({"network": each, **_told(built)})
    if json_file is not None:
        content = {**told[0], "plans": told}
        json_file.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def _line(network: str, built: Built) -> str:
    """What was built, for people."""
    key = built.plan.key
    layers = ", ".join(f"{count} in {kind}" for kind, count in built.plan.layers.items())
    how = "was there, and fits" if built.rebuilt is None else f"built in {built.seconds:.0f} s ({built.rebuilt})"
    if key.frame is None:
        sizes = f"batches of 1 to {key.profile.most}, best at {key.profile.best}"
    else:
        (high, wide), (tall, broad) = key.frame.best, key.frame.most
        sizes = f"frames of up to {broad}x{tall}, best at {wide}x{high}"
    return (
        f"{built.path}: {network} in {key.precision} for {key.gpu} (compute capability {key.compute_capability}) and "
        f"TensorRT {key.tensorrt}, {sizes}; multiplying layers: {layers}; {how}"
    )


def _told(built: Built) -> dict[str, Any]:
    """What was built, for JSON."""
    return {
        "plan": built.path.name,
        "bytes": len(built.plan.content),
        "key": built.plan.key.model_dump(mode="json", exclude_none=True),
        "layers": built.plan.layers,
        "made": built.plan.made,
        "rebuilt": built.rebuilt,
    }


def _frame_size(text: str) -> tuple[int, int]:
    """(height, width). Raises UsageError for anything but WIDTHxHEIGHT."""
    sides = re.fullmatch(r"([1-9][0-9]{0,4})x([1-9][0-9]{0,4})", text)
    if sides is None:
        raise UsageError(f"--frame is WIDTHxHEIGHT in pixels, such as 1280x720, got {text!r}")
    return int(sides[2]), int(sides[1])
