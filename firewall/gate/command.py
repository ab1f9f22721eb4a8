"""`firewall gate`: settings in, one running gate."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import TypeVar

from firewall.bundle import PatchSpec, load_bundle
from firewall.bundle.trust import Trust
from firewall.config import read_sweep_key
from firewall.engines import check_device, on_processor, open_engine, what_runs
from firewall.errors import UsageError
from firewall.gate.app import create_app, create_metrics_app
from firewall.gate.clients import Tokens, is_loopback, tls_context
from firewall.gate.gate import Gate, GateLimits
from firewall.gate.history import History
from firewall.gate.http_client import HttpClient
from firewall.gate.judge import Judge
from firewall.gate.pictures import FLOATS, Floats, Layout, Pictures, Scale
from firewall.gate.upstream import Upstream
from firewall.host.pinning import Cores, judge_here, pinned
from firewall.screening import Firewall
from firewall.server import HttpServer, parse_address
from firewall.sweep.keyed import sweep_notice

__all__ = ["GateSettings", "gate"]

_LAYOUTS: tuple[Layout, ...] = ("NHWC", "NCHW")
_MOST_NAME = 128
_Choice = TypeVar("_Choice", bound=str)


@dataclass(frozen=True, slots=True)
class GateSettings:
    """What `firewall gate` was asked for; the command's help says what each means."""

    http: str = "127.0.0.1:8000"
    http_names: tuple[str, ...] = ()
    metrics: str | None = None
    bundle: str = "default"
    trust: Path | None = None
    allow_unsigned: bool | None = None
    model: str | None = None
    upstream: str | None = None
    upstream_ca: Path | None = None
    upstream_output: str | None = None
    upstream_layout: str | None = None
    floats: str = "255"
    token: str | None = None
    tls_cert: Path | None = None
    tls_key: Path | None = None
    client_ca: Path | None = None
    probing_after: int = 100
    withhold_probing: bool = False
    patches: PatchSpec | None = None
    values: float | None = None
    device: str = "cpu"
    threads: int = 0
    cores: str | None = None
    sweep_key: str | None = None
    limits: GateLimits = field(default_factory=GateLimits)


def gate(settings: GateSettings, say: Callable[[str], None]) -> None:
    """Answer until a signal stops it. Everything that can be refused is refused before the port is opened.

    Args:
        settings: What was asked for.
        say: Prints one line for the operator.

    Raises:
        FirewallError: If a setting, the device, the bundle or the port can't be used.
    """
    with pinned(settings.cores, settings.threads) as cores:
        _gate(settings, cores, say)


def _gate(settings: GateSettings, cores: Cores | None, say: Callable[[str], None]) -> None:
    host, port = parse_address(settings.http, otherwise="")
    tls = tls_context(settings.tls_cert, settings.tls_key, settings.client_ca)
    tokens = None if settings.token is None else Tokens(settings.token)
    if not is_loopback(host) and tokens is None and settings.client_ca is None:
        raise UsageError(
            f"--http {settings.http} can be reached from other machines, so clients have to say who they are: give "
            "--token FILE, or --client-ca with --tls-cert and --tls-key; or listen on 127.0.0.1"
        )
    metrics = None if settings.metrics is None else parse_address(settings.metrics, option="--metrics", otherwise="")
    if settings.upstream is None:
        for option, value in (
            ("--upstream-ca", settings.upstream_ca),
            ("--upstream-output", settings.upstream_output),
            ("--upstream-layout", settings.upstream_layout),
        ):
            if value is not None:
                raise UsageError(f"{option} is for a gate with --upstream URL; name the upstream too")
    elif settings.model is None:
        raise UsageError("--upstream needs --model NAME: which of its models is guarded")
    name = settings.model
    if name is not None and not (name.isprintable() and 1 <= len(name) <= _MOST_NAME and "/" not in name):
        raise UsageError(f"{name!r} is no name of a model; give 1 to {_MOST_NAME} printable characters without /")
    floats: Floats = _chosen("--floats", settings.floats, FLOATS)
    layout = (
        None if settings.upstream_layout is None else _chosen("--upstream-layout", settings.upstream_layout, _LAYOUTS)
    )
    client = None if settings.upstream is None else HttpClient(settings.upstream, ca=settings.upstream_ca)
    sweep_key = None if settings.sweep_key is None else read_sweep_key(settings.sweep_key)
    check_device(settings.device)
    loaded = load_bundle(settings.bundle, trust=Trust.configured(settings.trust, settings.allow_unsigned, vouched=True))
    engine = open_engine(loaded, device=settings.device, threads=settings.threads)
    guard = Firewall(
        *(loaded, engine),
        patches=settings.patches,
        values=settings.values,
        threads=settings.threads,
        sweep_key=sweep_key,
    )
    spec = loaded.manifest.classifier
    scale = Scale(floats, spec.input)
    upstream = None
    if client is not None:
        upstream = Upstream(
            client,
            settings.model or "",
            len(spec.labels),
            scale,
            layout=layout,
            output=settings.upstream_output,
        )
    limits = settings.limits
    pictures = Pictures(scale, layout or "NHWC", most_images=limits.images, most_pixels=limits.pixels)
    judge = Judge(guard)
    shared = Gate(
        judge,
        pictures,
        model=settings.model or loaded.manifest.name,
        upstream=upstream,
        tokens=tokens,
        limits=limits,
    )
    if cores is not None:
        judge.submit(judge_here).result()
        shared.metrics.set_cores(cores)
    if settings.probing_after:
        shared.history = History(
            (spec.input.width, spec.input.height),
            after=settings.probing_after,
            withhold=settings.withhold_probing,
            near=shared.metrics.near_identical,
            report=shared.metrics.probing,
        )
    with ExitStack() as stack:
        stack.callback(judge.close)
        stack.enter_context(_logged(say))
        if metrics is not None:
            page = HttpServer(
                create_metrics_app(shared, host=metrics[0], names=settings.http_names),
                *metrics,
                otherwise="name another with --metrics HOST:PORT",
            )
            stack.enter_context(page)
            say(f"metrics: {page.url}metrics")
        server = HttpServer(
            create_app(shared, host=host, names=settings.http_names),
            host,
            port,
            tls=tls,
            otherwise="name another with --http HOST:PORT",
        )
        stop = stack.enter_context(_stopped_by_signals())
        stack.enter_context(server)
        if tokens is not None and tls is None and not is_loopback(host):
            say("the token travels in clear text: add --tls-cert and --tls-key where others can listen")
        if loaded.unsigned:
            say(loaded.unsigned_notice)
        if notice := sweep_notice(guard.keyed, named=sweep_key is not None):
            say(notice)
        runs = what_runs(loaded, guard.engine, guard.under_masks, guard.networks)
        say(
            f"gate: {server.url}v2/models/{shared.model}, bundle {loaded.manifest.name} {loaded.sha256[:12]} on "
            f"{guard.engine.provider}{on_processor(runs, guard.engine.provider)}, "
            + ("" if cores is None else f"{cores.line()}, ")
            + (f"upstream {settings.upstream}" if upstream else "no upstream")
        )
        stop.wait()
    say("gate: stopped")


def _chosen(option: str, value: str, allowed: tuple[_Choice, ...]) -> _Choice:
    for each in allowed:
        if each == value:
            return each
    raise UsageError(f"{option} {value!r} is unknown; give {', '.join(allowed)}")


@contextmanager
def _stopped_by_signals() -> Iterator[threading.Event]:
    """An event that SIGINT and SIGTERM set inside the block; a second one ends the process."""
    stop = threading.Event()

    def handle(number: int, _: FrameType | None) -> None:
        stop.set()
        signal.signal(number, signal.SIG_DFL)

    previous = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


@contextmanager
def _logged(say: Callable[[str], None]) -> Iterator[None]:
    """What the gate's modules log is said to the operator, inside the block."""

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            say(f"gate: {record.getMessage()}")

    logger, handler = logging.getLogger("firewall.gate"), Handler()
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
