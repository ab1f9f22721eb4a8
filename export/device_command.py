"""`firewall export tensorrt`: run on the device itself, with what the edge has and no torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from firewall.bundle.cli import AllowUnsigned, TrustedKeys
from firewall.errors import UsageError

__all__ = ["export_tensorrt"]


def export_tensorrt(
    precision: Annotated[str, typer.Option(help="Precision of the plan: fp32, fp16 or int8.")],
    bundle: Annotated[str, typer.Option(help="'default' or the folder of a bundle.")] = "default",
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder of the plans. [$FIREWALL_PLANS, or one in the user's cache]"),
    ] = None,
    images: Annotated[
        Path | None, typer.Option(metavar="DIR", help="For int8: benign images to calibrate on, at least 32.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="The most images that are used, spread evenly.")] = 512,
    keep_float: Annotated[
        list[str] | None,
        typer.Option(metavar="NODE", help="For int8: a node of the ONNX file that stays in float32; may be repeated."),
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
    """Build a bundle's classifier with TensorRT, for this GPU and version. Run it on the device; it needs no torch.
    An existing plan that fits is used. A plan that doesn't compute in the wanted precision is refused. Plans are code:
    never copy one from elsewhere."""
    from firewall.bundle import load_bundle
    from firewall.bundle.onnx_bytes import PRECISIONS
    from firewall.bundle.trust import Trust
    from firewall.engines.device_memory import BACKENDS
    from firewall.export.images import read_images
    from firewall.export.tensorrt import Wanted, build_plan

    chosen = next((known for known in PRECISIONS if known == precision), None)
    if chosen is None:
        raise UsageError(f"--precision must be one of {', '.join(PRECISIONS)}, got {precision!r}")
    backend = next((known for known in BACKENDS if known == memory), None)
    if memory is not None and backend is None:
        raise UsageError(f"--memory must be one of {', '.join(BACKENDS)}, got {memory!r}")
    if (chosen == "int8") != (images is not None):
        raise UsageError("int8 needs --images, benign images to calibrate on; fp32 and fp16 take none")
    loaded = load_bundle(bundle, trust=Trust.configured(trust, allow_unsigned, remember=False))
    wanted = Wanted(
        precision=chosen,
        best=best_batch,
        most=max_batch,
        images=() if images is None else read_images(images, limit),
        kept=tuple(keep_float or ()),
        workspace=workspace,
    )
    built = build_plan(loaded, wanted, folder=out, device_id=device_id, backend=backend)
    key = built.plan.key
    layers = ", ".join(f"{count} in {kind}" for kind, count in built.plan.layers.items())
    how = "was there, and fits" if built.rebuilt is None else f"built in {built.seconds:.0f} s ({built.rebuilt})"
    typer.echo(
        f"{built.path}: {chosen} for {key.gpu} (compute capability {key.compute_capability}) and TensorRT "
        f"{key.tensorrt}, batches of 1 to {key.profile.most}, best at {key.profile.best}; multiplying layers: "
        f"{layers}; {how}"
    )
    if json_file is not None:
        content = {
            "plan": built.path.name,
            "bytes": len(built.plan.content),
            "key": key.model_dump(mode="json"),
            "layers": built.plan.layers,
            "made": built.plan.made,
            "rebuilt": built.rebuilt,
        }
        json_file.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
