"""The command line: `firewall serve | screen | doctor | bench | bundle | device | audit | schema | lab | export`.

Exit codes: 0 done, 1 failed, 2 wrong use. Verdicts and results go to stdout, everything else to stderr.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

import firewall
from firewall.bench.cli import bench_app
from firewall.bundle.cli import AllowUnsigned, TrustedKeys, bundle_app
from firewall.bundle.patch_options import Patches, PatchRule, Tau, asked_of_patches
from firewall.bundle.value_options import Values
from firewall.device.audit_command import audit_app
from firewall.device.cli import device_app
from firewall.errors import EngineError, FirewallError, ImageError, MissingExtraError, UsageError
from firewall.gate.cli import gate_command
from firewall.host.core_option import CoreNumbers
from firewall.host.output import close_output, json_text, open_standard_streams, print_line, readable

__all__ = ["app", "main"]

app = typer.Typer(
    name="firewall",
    help="Release a classifier's label only if the image is judged benign. Otherwise withhold it and say why.",
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(bench_app, name="bench")
app.add_typer(bundle_app, name="bundle")
app.add_typer(device_app, name="device")
app.add_typer(audit_app, name="audit")
_stderr = Console(stderr=True, highlight=False, soft_wrap=True)

Bundle = Annotated[str, typer.Option(help="'default' or the folder of a bundle.")]
Device = Annotated[str, typer.Option(help="Device of classifier and sign finder: cpu, cuda or tensorrt; no other.")]
RegionDetector = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Your own region detector: an ONNX file, or a settings file (.yaml) with a group region_detector.",
    ),
]
Within = Annotated[
    str | None,
    typer.Option(
        metavar="X,Y,W,H",
        help="Part of each frame that --regions signs or detector looks at, in pixels or shares (0,0.12,1,0.72). "
        "A sign outside of it is missed for certain.  \\[default: all of it]",
    ),
]
SweepKey = Annotated[
    str | None,
    typer.Option(
        metavar="FILE|env:NAME",
        help="Secret of this device, 16 bytes or more, that keyed sweeps are drawn by.  \\[default: one for each run]",
    ),
]
Threads = Annotated[int, typer.Option(min=0, max=256, help="Threads of the classifier; 0 = one per core.")]


def main() -> None:
    """Entry point of the `firewall` command."""
    open_standard_streams()
    code = run(app, sys.argv[1:], "firewall")
    sys.exit(close_output(code, lambda text: _say(f"firewall: error: {text}")))


def run(command: typer.Typer, arguments: list[str], name: str) -> int:
    """Run a command line. An error that the user can correct is printed as one line without a traceback.

    Args:
        command: The commands.
        arguments: What stands after the program's name.
        name: The program's name, for messages.

    Returns:
        The exit code: 0 done, 1 failed, 2 wrong use, 130 interrupted.
    """
    try:
        result = command(args=arguments, prog_name=name, standalone_mode=False)
    except FirewallError as error:
        _say(f"firewall: error: {' '.join(str(error).split())}")
        return error.exit_code
    except OSError as error:  # of the machine and not of the program: a full disk, a folder that may not be read
        named = "" if error.filename is None else f" {error.filename}:"
        _say(f"firewall: error:{named} {error.strerror or error}")
        return 1
    except (typer.Abort, KeyboardInterrupt):
        _say("firewall: interrupted")
        return 130
    except Exception as error:
        if hasattr(error, "format_message") and hasattr(error, "exit_code"):  # click's own errors: wrong use
            _say(f"firewall: error: {error.format_message()} (see {name} -h)")
            return 2
        raise
    return result if isinstance(result, int) else 0


def _say(text: str) -> None:
    _stderr.print(readable(text), markup=False)


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    if version:
        typer.echo(f"perception-firewall {firewall.__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
        raise typer.Exit(2)


@app.command()
def serve(
    camera: Annotated[
        list[str] | None, typer.Option(metavar="N", help="Number of a camera: /dev/videoN (V4L2); may be repeated.")
    ] = None,
    source: Annotated[
        list[str] | None,
        typer.Option(
            metavar="URI",
            help="What to guard; may be repeated: N, /dev/videoN, csi://N, rtsp://, http:// (MJPEG, snapshots), a "
            "video, an image, a directory, a quoted glob, test://pattern or demo.  \\[default: demo]",
        ),
    ] = None,
    bundle: Annotated[str | None, typer.Option(help="'default' or the folder of a bundle.")] = None,
    trust: TrustedKeys = None,
    allow_unsigned: AllowUnsigned = None,
    regions: Annotated[
        str | None, typer.Option(help="Where to look: signs, whole, detector or X,Y,W,H.  \\[default: signs]")
    ] = None,
    region_detector: RegionDetector = None,
    within: Within = None,
    http: Annotated[
        str | None,
        typer.Option(metavar="HOST:PORT", help="Address of the live page, or 'off'.  \\[default: 127.0.0.1:8080]"),
    ] = None,
    http_name: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME", help="A host name that the page may be opened by, besides addresses; may be repeated."
        ),
    ] = None,
    output: Annotated[
        list[str] | None,
        typer.Option(
            metavar="WHERE",
            help="Where verdicts go; may be repeated: '-' (stdout), jsonl:PATH, video:PATH, mcap:PATH, audit:FOLDER, "
            "mqtt://HOST, can://CHANNEL or 'off'. SIGHUP opens lines' files again.  \\[default: -]",
        ),
    ] = None,
    max_frames: Annotated[int | None, typer.Option(help="Stop after this many frames.")] = None,
    patches: Patches = None,
    tau: Tau = None,
    patch_rule: PatchRule = None,
    values: Values = None,
    deadline_ms: Annotated[
        float | None,
        typer.Option(help="Withhold labels later than this after capture.  \\[default: 33 if live, else none]"),
    ] = None,
    operator: Annotated[
        bool | None,
        typer.Option("--operator", help="Add the detectors' scores to the verdict lines. Keep such lines secret."),
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(help="Device of classifier and sign finder: cpu, cuda or tensorrt; no other.  \\[default: cpu]"),
    ] = None,
    sweep_key: SweepKey = None,
    threads: Annotated[int | None, typer.Option(help="Threads of the classifier; 0 = one per core.")] = None,
    cores: CoreNumbers = None,
    camera_name: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Name of the camera in verdicts and topics; of several, one for each, in their order.  "
            "\\[default: camera; of several camera1, camera2 ...]",
        ),
    ] = None,
    config: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Settings in YAML; the command line's options win over them.")
    ] = None,
) -> None:
    """Guard a camera, stream or file: find the signs, judge each, and release or withhold its label."""
    from firewall.bundle.values import eps_of
    from firewall.config import cameras_named, load_region_detector, load_settings
    from firewall.service import serving

    if camera and source:
        raise UsageError("give --camera or --source, not both")
    for number in camera or ():
        if not number.isdecimal():
            allowed = "takes a number such as 0 (= /dev/video0)"
            raise UsageError(f"--camera {allowed}, got {number!r}; use --source for a URI")
    detector = None if region_detector is None else load_region_detector(region_detector)
    settings = load_settings(
        config,
        **cameras_named(camera or source or [], camera_name or []),
        bundle=bundle,
        trust=trust,
        allow_unsigned=allow_unsigned,
        regions="detector" if regions is None and detector is not None else regions,
        region_detector=None if detector is None else detector.model_dump(exclude_unset=True),
        within=within,
        http=http,
        http_names=http_name or None,
        output=output or None,
        patches=asked_of_patches(patches, tau, patch_rule),
        values=None if values is None else eps_of(values, "--values"),
        max_frames=max_frames,
        deadline_ms=deadline_ms,
        operator=operator,
        device=device,
        sweep_key=sweep_key,
        threads=threads,
        cores=cores,
    )
    serving.serve(settings, _say)


@app.command()
def screen(
    paths: Annotated[
        list[str], typer.Argument(metavar="PATH...", help="Images to judge, each cropped to one sign; - is stdin.")
    ],
    bundle: Bundle = "default",
    trust: TrustedKeys = None,
    allow_unsigned: AllowUnsigned = None,
    regions: Annotated[
        str | None, typer.Option(help="Where to look: whole, signs, detector or X,Y,W,H.  \\[default: whole]")
    ] = None,
    region_detector: RegionDetector = None,
    within: Within = None,
    patches: Patches = None,
    tau: Tau = None,
    patch_rule: PatchRule = None,
    values: Values = None,
    operator: Annotated[bool, typer.Option("--operator", help="Add the detectors' scores; keep them secret.")] = False,
    device: Device = "cpu",
    sweep_key: SweepKey = None,
    threads: Threads = 0,
    cores: CoreNumbers = None,
) -> None:
    """Judge image files: one JSON line per region of each image. Exit code 1 if an image could not be judged."""
    from firewall.bundle import PatchSpec, load_bundle
    from firewall.bundle.trust import Trust
    from firewall.bundle.values import eps_of
    from firewall.config import Part, load_region_detector, read_sweep_key
    from firewall.engines import check_device, open_engine
    from firewall.host.pinning import judge_here, pinned
    from firewall.regions import build, looking_within
    from firewall.screening import Firewall, Stages
    from firewall.sources import read_input
    from firewall.sweep.keyed import sweep_notice
    from firewall.verdict import BundleStamp, Reason, Stamps, Verdict

    asked = asked_of_patches(patches, tau, patch_rule)
    wanted = None if asked is None else PatchSpec.model_validate(asked)
    eps = None if values is None else eps_of(values, "--values")
    detector = None if region_detector is None else load_region_detector(region_detector)
    part = None if within is None else Part.named(within)
    place = regions or ("whole" if detector is None else "detector")
    check_device(device)
    key = None if sweep_key is None else read_sweep_key(sweep_key)
    with pinned(cores, threads) as where:
        loaded = load_bundle(bundle, trust=Trust.configured(trust, allow_unsigned))
        found_by = build(place, detector, device=device, threads=threads, bundle=loaded)
        finder = looking_within(found_by, part, place)
        engine = open_engine(loaded, device=device, threads=threads)
        guard = Firewall(
            loaded, engine, exhaustive=operator, patches=wanted, values=eps, threads=threads, sweep_key=key
        )
        judge_here()
        if where is not None:
            _say(where.line())
        if loaded.unsigned:
            _say(loaded.unsigned_notice)
        if notice := sweep_notice(guard.keyed, named=key is not None):
            _say(notice)
        stamps = Stamps(BundleStamp.of(loaded.manifest.name, loaded.manifest.version, loaded.sha256))
        unreadable = 0
        for sequence, path in enumerate(paths):
            started, stages, there = time.monotonic(), Stages(), True
            try:
                pixels = read_input(path)
                found = finder.find(pixels)
            except FirewallError as error:
                reason = Reason.BAD_IMAGE if isinstance(error, ImageError) else Reason.SOURCE_ERROR
                reason = Reason.ENGINE_ERROR if isinstance(error, EngineError) else reason
                age = (time.monotonic() - started) * 1e3
                verdicts = [Verdict(path, sequence, (0, 0, 0, 0), reason=reason, detail=str(error), latency_ms=age)]
                _say(f"firewall: {error}")
                unreadable, there = unreadable + 1, False
            else:
                verdicts = guard.screen_frame(firewall.Frame(pixels, path, sequence, started), found, stages=stages)
            for verdict in stamps.on(verdicts, captured_at=started, frame=there, stages=stages):
                final = replace(verdict, unsigned=loaded.unsigned)
                print_line(json_text(final.line(operator=operator)))
    if unreadable:
        raise typer.Exit(1)


app.command()(gate_command(_say))


@app.command()
def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Say what this machine can run, and how to get what is missing. Exit code 1 if 'firewall serve' can't run."""
    from firewall import doctor as doctors

    checks = doctors.inspect()
    doctors.render(checks, as_json=as_json)
    if any(check.ok is False and check.required for check in checks):
        raise typer.Exit(1)


@app.command()
def schema(what: Annotated[str, typer.Argument(metavar="verdict|gate", help="What the schema is of.")]) -> None:
    """Print the JSON Schema of a verdict line ('verdict'), or the OpenAPI description of the gate ('gate')."""
    from firewall.gate.openapi import description
    from firewall.verdict import verdict_schema

    schemas = {"verdict": verdict_schema, "gate": description}
    if what not in schemas:
        raise UsageError(
            f"there is no schema of {what!r}; 'firewall schema verdict' prints that of a verdict line, 'firewall "
            "schema gate' the gate's"
        )
    print_line(json_text(schemas[what](), indent=2))


_PASSED_ON: dict[str, Any] = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}


@app.command(context_settings=_PASSED_ON, add_help_option=False)
def lab(context: typer.Context) -> None:
    """Offline: train, calibrate, attack and evaluate. Needs the extra 'lab'."""

    def commands() -> typer.Typer:
        from firewall.lab.cli import app as lab_app

        return lab_app

    raise typer.Exit(_extra("lab", commands, context.args))


@app.command(context_settings=_PASSED_ON, add_help_option=False)
def export(context: typer.Context) -> None:
    """Offline: turn a trained classifier into ONNX and a signed bundle, verified. Needs the extra 'lab'."""

    def commands() -> typer.Typer:
        from firewall.export.cli import app as export_app

        return export_app

    raise typer.Exit(_extra("export", commands, context.args))


def _extra(name: str, commands: Callable[[], typer.Typer], arguments: list[str]) -> int:
    try:
        return run(commands(), arguments, f"firewall {name}")
    except ImportError as error:
        package = (error.name or str(error)).partition(".")[0]
        if package == "firewall":
            raise
        raise MissingExtraError(
            f"'firewall {name}' needs {package}, which is not installed: pip install 'perception-firewall[lab]'"
        ) from error


if __name__ == "__main__":
    main()
