"""A report as tables for people."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

from firewall.bench.fields import Summary
from firewall.bench.machine import NOT_A_JETSON
from firewall.bench.report import FullRate, Report
from firewall.bench.subjects import STAGES
from firewall.engines import on_processor

__all__ = ["render"]

_FIGURES = ("min", "mean", "median", "p90", "p95", "p99", "p99.9", "max")


def render(report: Report, console: Console) -> None:
    """Print a report. What was not measured is named, with the reason.

    Args:
        report: What is printed.
        console: Where.
    """
    _head(report, console)
    for kind, rate in report.full_rate.items():
        _full_rate(kind, rate, console)
    for kind, reason in report.not_measured.items():
        _say(console, f"{kind} pictures: {reason}")
    _needs(report, console)
    if report.full_rate:
        _stages(report.full_rate, console)
    _fixed_rate(report, console)
    _device(report, console)
    _rest(report, console)
    _jetson(report, console)


def _say(console: Console, text: str, style: str | None = None) -> None:
    console.print(text, style=style, markup=False, highlight=False, soft_wrap=True)


def _head(report: Report, console: Console) -> None:
    bundle, machine, settings = report.bundle, report.machine, report.settings
    if not report.complete:
        _say(console, f"INCOMPLETE: stopped during {report.stopped}; what was measured until then:", "bold red")
    _say(
        console,
        f"{machine['label']}, {machine['cpu'] or machine['architecture']}, {report.threads} threads, "
        f"{_cores(machine)}load "
        f"{machine['load']:.1f}; {bundle['provider']}"
        f"{on_processor(bundle.get('networks', {}), bundle['provider'])}, bundle {bundle['name']} "
        f"{bundle['sha256'][:12]}",
    )
    if machine["load"] > machine["usable_cores"]:
        _say(console, "the machine was busy before this began: expect shorter times on a quiet one", "bold red")
    asked = "every detector asked" if settings["exhaustive"] else "detectors asked until the verdict is settled"
    _say(
        console,
        f"{report.samples} frames of each kind from {settings['pictures']}, after {report.warm_up} to warm up; "
        f"regions: {settings['regions']}; {asked}",
    )
    _say(console, f"the clock covers {settings['clock_covers']}; not {settings['clock_leaves_out']}")
    for kind, left in settings["left_out"].items():
        _say(console, f"{kind} pictures left out, since there were too many to hold: {left}")


def _cores(machine: dict[str, Any]) -> str:
    """Where they run; reports of earlier versions don't say."""
    found = str(machine.get("cores_in_use", ""))
    return f"{found if ' ' in found else f'any of cores {found}'}, " if found else ""


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False, padding=(0, 1, 0, 0))
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left", no_wrap=True)
    return table


def _full_rate(kind: str, rate: FullRate, console: Console) -> None:
    table = _table(f"\n{kind} pictures at full rate, ms a frame", "", *_FIGURES, "fps")
    for name, found, throughput in (
        ("with firewall", rate.guarded.latency, rate.guarded.throughput),
        ("without", rate.unguarded.latency, rate.unguarded.throughput),
        ("added", rate.added, None),
    ):
        table.add_row(name, *_cells(found), "" if throughput is None else f"{throughput:.1f}")
    console.print(table)
    low, high = rate.added_median
    _say(console, f"the firewall adds {rate.added.median:.2f} ms (median; 95 % interval {low:.2f} to {high:.2f})")
    decided = sum(rate.guarded.decisions.values())
    told = ", ".join(f"{name} {count / decided:.1%}" for name, count in rate.guarded.decisions.items())
    _say(
        console,
        f"{rate.guarded.verdicts:.2f} verdicts and {rate.guarded.classified:.1f} images classified a frame; {told}",
    )


def _cells(found: Summary) -> list[str]:
    values = [found.minimum, found.mean, found.median, found.p90, found.p95, found.p99, found.p99_9, found.maximum]
    return [_number(value) for value in values]


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _needs(report: Report, console: Console) -> None:
    for rate in report.full_rate.values():
        for name, least in rate.guarded.latency.needs.items():
            _say(console, f"{name} needs at least {least} samples (--samples)")
        return


def _stages(rates: dict[str, FullRate], console: Console) -> None:
    columns = [f"{kind if figure == 'share' else ''}\n{figure}" for kind in rates for figure in _STAGE_FIGURES]
    table = _table("\nstages with the firewall, ms", "stage", *columns)
    known = [stage for rate in rates.values() for stage in rate.guarded.stages]
    for stage in [*(name for name in STAGES if name in known), *sorted({*known} - {*STAGES})]:
        cells = []
        for rate in rates.values():
            found = rate.guarded.stages.get(stage)
            if found is None:
                cells += ["-"] * len(_STAGE_FIGURES)
            else:
                share = f"{rate.guarded.shares[stage]:.1%}"
                cells += [share, _number(found.mean), _number(found.median), _number(found.p99)]
        table.add_row(stage, *cells)
    console.print(table)


_STAGE_FIGURES = ("share", "mean", "median", "p99")


def _fixed_rate(report: Report, console: Console) -> None:
    if not report.fixed_rate:
        return
    kinds = list(report.fixed_rate[0].kinds)
    table = _table(
        "\nat a camera's rate with the firewall, ms from due to verdict",
        *("fps", "limit", "due", "late", "dropped", "missed", "median", "p90", "max"),
        *(f"{kind}\nmissed" for kind in kinds),
    )
    for rate in report.fixed_rate:
        missed = [rate.kinds[kind] for kind in kinds]
        age = rate.age
        table.add_row(
            f"{rate.fps:g}",
            f"{rate.deadline_ms:.1f}",
            *(str(count) for count in (rate.due, rate.late, rate.dropped)),
            f"{rate.missed:.1%}",
            *(_number(value) for value in ((age.median, age.p90, age.maximum) if age else (None, None, None))),
            *(f"{(kind.late + kind.dropped) / kind.due:.1%}" if kind.due else "-" for kind in missed),
        )
    console.print(table)


def _device(report: Report, console: Console) -> None:
    times = report.device_times
    parts = {
        "host to device": times.host_to_device,
        "enqueue": times.enqueue,
        "compute": times.compute,
        "device to host": times.device_to_host,
    }
    if not any(parts.values()):
        _say(console, f"\nhost to device, compute, device to host, enqueue: not told, {times.reason}")
        return
    table = _table(f"\nclassifying {times.batch} images on the device, ms", "", *_FIGURES)
    for name, found in parts.items():
        if found is not None:
            table.add_row(name, *_cells(found))
    console.print(table)


def _rest(report: Report, console: Console) -> None:
    cold, memory = report.cold_start, report.memory
    if cold is not None:
        _say(
            console,
            f"\ncold start: {cold.total:.2f} s to the first verdict (interpreter {cold.interpreter:.2f}, imports "
            f"{cold.imports:.2f}, load {cold.load:.2f}, verdict {cold.first_verdict:.2f}; median of {cold.runs} fresh "
            "processes, files in the system's cache)",
        )
    gpu = f"GPU {memory.gpu:.0f} MB" if memory.gpu is not None else f"GPU not told: {memory.gpu_reason}"
    if memory.loaded is not None and memory.peak is not None:
        _say(console, f"memory: {memory.loaded:.0f} MB loaded, at most {memory.peak:.0f} MB after a verdict; {gpu}")
    _say(console, f"memory of this benchmark with its pictures: at most {memory.benchmark_peak:.0f} MB")


def _jetson(report: Report, console: Console) -> None:
    if report.jetson is None:
        _say(console, f"{NOT_A_JETSON}: no power mode, clocks, temperatures or power rails to tell of")
        return
    board, after = report.jetson, report.jetson_after or report.jetson
    jetpack = board["jetpack"] or {"version": "", "l4t": ""}
    held = {True: "on", False: "off", None: "unknown"}[board["jetson_clocks"]]
    _say(
        console,
        f"\n{report.platform}: JetPack {jetpack['version'] or 'unknown'} (L4T {jetpack['l4t'] or 'unknown'}), power "
        f"mode {board['power_mode'] or 'unknown'} (id {board['power_mode_id']}), jetson_clocks {held}",
    )
    clocks = {**board["cpu"], **board["gpu"]}
    _say(console, "MHz: " + ", ".join(f"{name} {_number(clock['current'])}" for name, clock in clocks.items()))
    heat = {name: (degrees, after["temperatures"].get(name)) for name, degrees in board["temperatures"].items()}
    _say(
        console,
        "degrees Celsius: "
        + ", ".join(f"{name} {first:.1f} -> {_number(last)}" for name, (first, last) in heat.items()),
    )
    for event in report.jetson_events:
        _say(console, f"doubtful: {event}", "bold red")
    if not report.energy:
        _say(console, "energy: not measured")
        return
    table = _table("\nenergy", "", "seconds", "frames", "mean mW", "highest mW", "mJ a frame")
    for name, window in report.energy.items():
        each = None if window.a_frame is None else 1e3 * window.a_frame
        cells = (f"{window.seconds:.1f}", str(window.frames), f"{window.power:.0f}", f"{window.highest:.0f}")
        table.add_row(name, *cells, _number(each))
    console.print(table)
    first = next(iter(report.energy.values()))
    _say(console, f"total of {' + '.join(first.total_of)}; {first.readings} readings in each window of this length")
