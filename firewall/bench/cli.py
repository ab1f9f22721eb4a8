"""`firewall bench`: how long a verdict takes on this machine, and how much of that the firewall adds."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Annotated

import typer

from firewall.bundle.cli import AllowUnsigned, TrustedKeys
from firewall.errors import FirewallError, UsageError
from firewall.host.core_option import CoreNumbers

__all__ = ["bench_app"]

bench_app = typer.Typer(
    help="Measure how long verdicts take on this machine, with and without the firewall; compare two runs.",
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Report = Annotated[Path, typer.Argument(metavar="REPORT.json", help="Written by 'firewall bench --json'.")]
_RATES = re.compile(r"\d{1,3}(\.\d{1,3})?(,\d{1,3}(\.\d{1,3})?)*", re.ASCII)
_LIMIT = re.compile(r"(\d{1,4}(?:\.\d{1,3})?)\s*%?", re.ASCII)


@bench_app.callback(invoke_without_command=True)
def bench(
    context: typer.Context,
    bundle: Annotated[str, typer.Option(help="'default' or the folder of a bundle.")] = "default",
    trust: TrustedKeys = None,
    allow_unsigned: AllowUnsigned = None,
    device: Annotated[
        str, typer.Option(help="Device of the classifier: cpu, cuda or tensorrt; no other is used.")
    ] = "cpu",
    threads: Annotated[int, typer.Option(min=0, max=256, help="Threads of the classifier; 0 = one per core.")] = 0,
    cores: CoreNumbers = None,
    images: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Benign images.  \\[default: frames of the demo]")
    ] = None,
    adversarial: Annotated[Path | None, typer.Option(metavar="DIR", help="Attacked images, besides --images.")] = None,
    image: Annotated[Path | None, typer.Option(metavar="FILE", help="One benign image.")] = None,
    regions: Annotated[
        str | None,
        typer.Option(help="Where to look: signs, whole or X,Y,W,H.  \\[default: signs in the demo, whole in images]"),
    ] = None,
    exhaustive: Annotated[
        bool, typer.Option("--exhaustive", help="Ask every detector, even if the verdict is already settled.")
    ] = False,
    samples: Annotated[
        int,
        typer.Option(
            min=1, help="Frames of each kind, with and without the firewall; p99 needs 662, p99.9 needs 6636."
        ),
    ] = 700,
    warm_up: Annotated[int, typer.Option(min=0, help="Frames that are screened before measuring starts.")] = 50,
    fps: Annotated[str, typer.Option(metavar="LIST|off", help="Frame rates of cameras to simulate.")] = "10,30,60",
    fps_frames: Annotated[
        int | None, typer.Option(min=1, help="Frames at each rate.  \\[default: 130, or --samples if that is less]")
    ] = None,
    deadline_ms: Annotated[
        float | None, typer.Option(min=0.001, help="Deadline of a frame at each rate.  \\[default: one period]")
    ] = None,
    cold_starts: Annotated[
        int, typer.Option(min=0, help="New processes that are timed from start to first verdict.")
    ] = 3,
    energy_seconds: Annotated[
        float,
        typer.Option(min=0, max=600, help="Length of each energy measurement, if power can be read here; 0 = none."),
    ] = 5.0,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write the report with all samples as JSON.")
    ] = None,
    picture: Annotated[
        Path | None, typer.Option(metavar="FILE.svg", help="Draw the distribution of the latencies.")
    ] = None,
) -> None:
    """Measure how long verdicts take on this machine, alternating with and without the firewall. Ctrl-C keeps the
    results so far.

    'firewall bench compare A.json B.json' shows what differs between two runs.
    """
    if context.invoked_subcommand is not None:
        return
    if image is not None and images is not None:
        raise UsageError("give --image or --images, not both")
    normal = image if images is None else images
    if adversarial is not None and normal is None:
        raise UsageError("--adversarial needs --images: the same kind of pictures without an attack")
    rates = _rates(fps)
    if picture is not None and picture.suffix.lower() != ".svg":
        raise UsageError(f"--picture is an SVG file, name it so: {picture.with_suffix('.svg')}")
    for file in (json_file, picture):
        _check_writable(file)

    from rich.console import Console

    from firewall.bench import inputs
    from firewall.bench.loading import load
    from firewall.bench.measuring import Plan, measure
    from firewall.bench.picture import draw
    from firewall.bench.tables import render
    from firewall.host.pinning import judge_here, pinned
    from firewall.regions import build

    plan = Plan(
        bundle=bundle,
        trust=None if trust is None else str(trust),
        allow_unsigned=allow_unsigned,
        device=device,
        threads=threads,
        cores=cores,
        regions=regions or ("signs" if normal is None else "whole"),
        exhaustive=exhaustive,
        samples=samples,
        warm_up=warm_up,
        fps=rates,
        fps_frames=min(130, samples) if fps_frames is None else fps_frames,
        deadline_ms=deadline_ms,
        cold_starts=cold_starts,
        energy_seconds=energy_seconds,
    )
    with pinned(cores, threads):
        guard = load(plan.bundle, plan.trust, plan.allow_unsigned, plan.device, plan.threads)
        build(plan.regions, bundle=guard.bundle)  # a wrong value is refused at once
        pictures = inputs.of_demo() if normal is None else inputs.of_files(normal, adversarial)
        judge_here()
        report = measure(guard, pictures, plan)
    render(report, Console())
    if json_file is not None:
        _write(json_file, report.to_json() + "\n")
    if picture is not None and report.full_rate:
        _write(picture, draw(report))
    if not report.complete:
        raise typer.Exit(130)


@bench_app.command()
def compare(
    a: Report,
    b: Report,
    fail_above: Annotated[
        str | None,
        typer.Option(
            metavar="PERCENT",
            help="Exit code 1 if B's median or p99 with the firewall is clearly slower than A's by more than this, "
            "such as 10%.",
        ),
    ] = None,
    anyway: Annotated[
        bool, typer.Option("--anyway", help="Apply --fail-above even if the runs are not comparable.")
    ] = False,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write the comparison as JSON.")
    ] = None,
) -> None:
    """Show by how much B differs from A, how certain that is, and whether the two can be compared at all."""
    limit = None if fail_above is None else _limit(fail_above)
    _check_writable(json_file)

    from rich.console import Console

    from firewall.bench.comparing import compare as compared
    from firewall.bench.comparing import render
    from firewall.bench.report import read

    found = compared(read(a), read(b))
    render(found, Console())
    if json_file is not None:
        _write(json_file, json.dumps(found.to_json(), indent=1, allow_nan=False) + "\n")
    if limit is None:
        return
    if not found.comparable and not anyway:
        raise FirewallError(f"{a} and {b} are not comparable, see above; measure both alike, or use --anyway")
    if not found.differences:
        raise FirewallError(f"{a} and {b} have no latencies in common that --fail-above could compare")
    slower = [f"{one.kind} {one.figure} {one.share:+.1%}" for one in found.slower(limit)]
    if slower:
        raise FirewallError(f"{b} is slower than {a} by more than {100 * limit:g} %: {', '.join(slower)}")


@bench_app.command("jetson-sheet")
def jetson_sheet(
    out: Annotated[
        Path, typer.Option(metavar="DIR", help="Folder of the sheet; one that was begun there goes on.")
    ] = Path("jetson-sheet"),
    watts: Annotated[
        str, typer.Option(metavar="LIST|off", help="Power modes to measure in; off: only the one that is set.")
    ] = "15,30,60",
    yes: Annotated[bool, typer.Option("--yes", help="Change the power mode without asking.")] = False,
    quick: Annotated[bool, typer.Option("--quick", help="A few frames alone, to try the sheet itself.")] = False,
) -> None:
    """On a Jetson: check the board, build plans, compare every runtime with the processor, and measure in each power
    mode, which is put back at the end and at Ctrl-C. Leaves sheet.json and sheet.md to send back, without names,
    addresses or serial numbers. Exit code 1 if a step failed.
    """
    import sys

    from firewall.bench.sheet import Orders, run_sheet

    compact = watts.replace(" ", "")
    numbers = () if compact == "off" else tuple(int(part) for part in compact.split(",") if part.isdecimal())
    if compact != "off" and (len(numbers) != len(compact.split(",")) or not all(1 <= each <= 200 for each in numbers)):
        raise UsageError(f"--watts takes whole watts, 1 to 200, such as 15,30,60, or off; got {watts!r}")

    def ask(question: str) -> bool:
        return typer.confirm(question, err=True)

    def say(line: str) -> None:
        typer.echo(line, err=True)

    orders = Orders(out, watts=numbers, yes=yes, quick=quick)
    if not run_sheet(orders, ask=ask if sys.stdin.isatty() else None, say=say):
        raise typer.Exit(1)


def _rates(text: str) -> tuple[float, ...]:
    if text.strip() in ("off", "0", ""):
        return ()
    compact = text.replace(" ", "")
    rates = tuple(float(part) for part in compact.split(",")) if _RATES.fullmatch(compact) else ()
    if not rates or not all(0 < rate <= 1000 for rate in rates):
        raise UsageError(f"--fps takes frames a second, above 0 and up to 1000, such as 10,30,60, or off; got {text!r}")
    return rates


def _limit(text: str) -> float:
    match = _LIMIT.fullmatch(text.strip())
    if match is None:
        raise UsageError(f"--fail-above takes a percentage such as 10%, got {text!r}")
    return float(match[1]) / 100


def _check_writable(file: Path | None) -> None:
    """Refuse a file that can't be written before minutes are spent on measuring."""
    if file is None:
        return
    folder = file.parent
    if file.is_dir() or not folder.is_dir() or not os.access(file if file.exists() else folder, os.W_OK):
        raise FirewallError(f"can't write {file}: name a file in a folder that exists and can be written")


def _write(file: Path, text: str) -> None:
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise FirewallError(f"can't write {file}: {error.strerror}") from error
