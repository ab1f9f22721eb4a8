"""`firewall serve`: settings in, one running service with its source, bundle, page and verdict lines."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack

from firewall.bundle import load_bundle
from firewall.bundle.trust import Trust
from firewall.config import Settings, read_sweep_key
from firewall.decision.drift import Drift, DriftState
from firewall.decision.over_time import over_time, served
from firewall.decision.tracks import Tracks
from firewall.engines import check_device, open_engine
from firewall.regions import build
from firewall.screening import Firewall
from firewall.server import HostNames, HttpServer, Monitor, create_app, parse_address
from firewall.service.loop import Service
from firewall.service.signals import reopen_on_hangup, stop_on_signals
from firewall.sinks import Sink, open_outputs
from firewall.sources import Capture, parse
from firewall.sweep.keyed import sweep_notice

__all__ = ["DEADLINE_MS", "serve"]

#: Milliseconds after capture at which a verdict on a live frame is too late: one frame at 30 Hz.
DEADLINE_MS = 33.0
#: A moving source without tracks shows one sign in many frames: only each such frame is given to the drift monitor.
_DRIFT_EVERY = 30


def serve(settings: Settings, say: Callable[[str], None]) -> None:
    """Guard a source until it ends, `max_frames` is reached, or a signal stops it.

    Everything that can be refused is refused before the source is opened.

    Args:
        settings: What to guard, with what, and where verdicts go.
        say: Prints one line for the operator.

    Raises:
        FirewallError: If a setting, the device, the bundle, the port or the source can't be used.
    """
    spec = parse(settings.source)
    address = None if settings.http == "off" else parse_address(settings.http)
    HostNames(settings.http, settings.http_names)  # refused before anything is opened
    deadline_ms = settings.deadline_ms or (DEADLINE_MS if spec.live else None)
    sweep_key = None if settings.sweep_key is None else read_sweep_key(settings.sweep_key)
    # Before anything is opened: if the device or the bundle is refused, nothing is served.
    check_device(settings.device)
    trust = Trust.configured(settings.trust, settings.allow_unsigned, settings.trust_state, vouched=True)
    loaded = load_bundle(settings.bundle, trust=trust)
    finder = build(
        settings.regions, settings.region_detector, device=settings.device, threads=settings.threads, bundle=loaded
    )
    with ExitStack() as stack:
        outputs = open_outputs(
            settings.output,
            camera=settings.camera_name,
            operator=settings.operator,
            lossless=not spec.live,
            say=say,
        )
        closing = stack.enter_context(ExitStack())
        closing.callback(outputs.close)  # unless the service comes to do it
        stack.enter_context(reopen_on_hangup(outputs))
        sinks: list[Sink] = [outputs]
        monitor = Monitor(source=spec.name, bundle=settings.bundle, live=spec.live, deadline_ms=deadline_ms)
        monitor.set_outputs(outputs.health)
        sinks.append(monitor)
        if address is not None:
            server = HttpServer(create_app(monitor, host=address[0], names=settings.http_names), *address)
            server.start()
            stack.callback(server.stop)
            say(f"live page: {server.url}")
        # After the port is ours: a busy port is reported at once, and the page says that the firewall is starting.
        engine = open_engine(loaded, device=settings.device, threads=settings.threads)
        guard = Firewall(loaded, engine, patches=settings.patches, threads=settings.threads, sweep_key=sweep_key)
        monitor.set_bundle(loaded.manifest.name, unsigned=loaded.unsigned)
        monitor.set_networks({**_networks(guard), **finder.networks})
        looking = ", ".join(f"{file} on {provider}" for file, provider in finder.networks.items())
        say(
            f"guarding {spec.name} with bundle {guard.bundle.manifest.name} {guard.bundle.sha256[:12]} on "
            f"{guard.engine.provider}, regions: {settings.regions}{looking and f' ({looking})'}, "
            + (f"deadline {deadline_ms:g} ms" if deadline_ms else "no deadline (not a live source)")
        )
        if loaded.unsigned:
            say(loaded.unsigned_notice)
        if notice := sweep_notice(guard.keyed, named=sweep_key is not None):
            say(notice)
        tracks, drift = over_time(guard.bundle)
        # Single pictures don't follow each other, and a box that stays in place while signs pass by is not a sign.
        moving = spec.live or spec.kind in ("video", "demo")
        follow = moving and settings.regions.strip() in ("signs", "detector")
        shown = DriftState()

        def show_drift(state: DriftState) -> None:
            nonlocal shown
            monitor.set_drift(state)
            if state.spoken and not shown.spoken:
                say(f"drift: {state.line()}; thresholds may not hold here: calibrate on images of this camera")
            shown = state

        if drift is not None:
            monitor.set_drift(shown)
        capture = stack.enter_context(Capture(spec, settings.capture))
        service = Service(
            guard,
            capture,
            finder,
            sinks,
            deadline_ms=deadline_ms,
            max_frames=settings.max_frames,
            heartbeat=monitor.beat,
            tracks=Tracks(served(tracks, settings.confirm)) if follow else None,
            drift=None if drift is None else Drift(drift),
            drift_told=show_drift,
            drift_every=_DRIFT_EVERY if moving else 1,
            camera=settings.camera_name,
        )
        with stop_on_signals(service):
            monitor.set_ready(True, "guarding")
            closing.pop_all()
            summary = service.run()
    say(summary.line())


def _networks(guard: Firewall) -> dict[str, str]:
    """File of each of the bundle's networks that judge -> what runs it."""
    manifest = guard.bundle.manifest
    found = {manifest.classifier.file: guard.engine.provider}
    if manifest.masked_classifier is not None and guard.masks is not None:
        found[manifest.masked_classifier.file] = guard.under_masks.provider
    return found | {file: network.provider for file, network in guard.networks.items()}
