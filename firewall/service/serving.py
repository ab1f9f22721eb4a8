"""`firewall serve`: settings in, one running service with its source, bundle, page and verdict lines."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import ExitStack

from firewall.bundle import load_bundle
from firewall.bundle.trust import Trust
from firewall.config import Settings, read_sweep_key
from firewall.decision.drift import Drift, DriftState
from firewall.decision.golden import GoldenState
from firewall.decision.over_time import over_time, served
from firewall.decision.tracks import Tracks
from firewall.device.notify import Notifier
from firewall.engines import check_device, on_processor, open_engine, what_runs
from firewall.host.pinning import Cores, judge_here, pinned
from firewall.regions import RegionFinder, build, looking_within
from firewall.screening import Firewall
from firewall.server import Change, HostNames, HttpServer, Monitor, create_app, parse_address
from firewall.service.camera import Camera
from firewall.service.golden import SelfTest
from firewall.service.guarded import DEADLINE_MS, Guarded, overlaps
from firewall.service.loop import Alone, Loop
from firewall.service.records import about, bundle_checks, golden_check, network_checks, time_check, told_if_refused
from firewall.service.signals import reopen_on_hangup, self_test_on_signal, stop_on_signals
from firewall.service.together import Together
from firewall.sinks import Event, Outlets, Sink, open_outputs
from firewall.sources import Capture, longest_silence
from firewall.sweep.keyed import sweep_notice

__all__ = ["DEADLINE_MS", "serve"]

#: A moving source without tracks shows one sign in many frames: only each such frame is given to the drift monitor.
_DRIFT_EVERY = 30


def serve(settings: Settings, say: Callable[[str], None]) -> None:
    """Guard one camera or several until all have ended, `max_frames` is reached, or a signal stops it.

    Everything that can be refused is refused before a source is opened.

    Args:
        settings: What to guard, with what, and where verdicts go.
        say: Prints one line for the operator.

    Raises:
        FirewallError: If a setting, the device, the bundle, the port or the source can't be used; of several sources,
            if none can.
    """
    with ExitStack() as kept:
        with told_if_refused(settings):
            cameras = Guarded.of(settings)
            cores = kept.enter_context(pinned(settings.cores, settings.threads, what="cores"))
        _serve(settings, cameras, cores, say)


def _serve(settings: Settings, cameras: tuple[Guarded, ...], cores: Cores | None, say: Callable[[str], None]) -> None:
    with told_if_refused(settings):
        address = None if settings.http == "off" else parse_address(settings.http)
        HostNames(settings.http, settings.http_names)  # refused before anything is opened
        sweep_key = None if settings.sweep_key is None else read_sweep_key(settings.sweep_key)
        # Before anything is opened: if the device or the bundle is refused, nothing is served.
        check_device(settings.device)
        trust = Trust.configured(settings.trust, settings.allow_unsigned, settings.trust_state, vouched=True)
        loaded = load_bundle(settings.bundle, trust=trust)
        finders = {  # those that look in the same way share one
            regions: build(
                regions, settings.region_detector, device=settings.device, threads=settings.threads, bundle=loaded
            )
            for regions in dict.fromkeys(camera.regions for camera in cameras)
        }
        looking = {one.name: looking_within(finders[one.regions], one.within, one.regions) for one in cameras}
        outputs = open_outputs(
            settings.output,
            camera=cameras[0].name,
            others=[camera.name for camera in cameras[1:]],
            operator=settings.operator,
            lossless=not any(camera.spec.live for camera in cameras),
            about=about(settings, loaded),
            say=say,
        )
    with ExitStack() as stack:
        closing = stack.enter_context(ExitStack())
        closing.callback(outputs.close)  # unless the service comes to do it
        stack.enter_context(told_if_refused(settings, outputs))
        for check in bundle_checks(loaded):
            outputs.event(check)
        stack.enter_context(reopen_on_hangup(outputs))
        sinks: list[Sink] = [outputs]

        def changed(change: Change) -> None:
            say(change.line() if len(cameras) == 1 else f"camera {change.camera}: {change.line()}")
            states = {"state": change.state.value, "before": change.before.value}
            outputs.event(Event.of("state", camera=change.camera, **states, cause=change.cause))

        monitor = Monitor(
            bundle=settings.bundle,
            cameras=[camera.watched for camera in cameras],
            overload=(settings.overload.late, settings.overload.frames),
            told=changed,
        )
        monitor.set_outputs(outputs.health)
        monitor.set_cores(cores)
        watched = cameras[0].spec.name if len(cameras) == 1 else f"{len(cameras)} cameras"
        notifier = stack.enter_context(Notifier.from_environment(watched, longest_silence(settings.capture)))
        sinks += [monitor, notifier]
        if address is not None:
            server = HttpServer(create_app(monitor, host=address[0], names=settings.http_names), *address)
            server.start()
            stack.callback(server.stop)
            say(f"live page: {server.url}")
        # After the port is ours: a busy port is reported at once, and the page says that the firewall is starting.
        engine = open_engine(loaded, device=settings.device, threads=settings.threads)
        guard = Firewall(
            *(loaded, engine),
            patches=settings.patches,
            values=settings.values,
            threads=settings.threads,
            sweep_key=sweep_key,
        )
        monitor.set_bundle(loaded.manifest.name, unsigned=loaded.unsigned)
        runs = _networks(guard, finders.values())
        monitor.set_networks(runs)
        for check in network_checks(guard.engine, runs):
            outputs.event(check)
        with_what = f"with bundle {guard.bundle.manifest.name} {guard.bundle.sha256[:12]} on {guard.engine.provider}"
        with_what += on_processor(runs, guard.engine.provider) + ("" if cores is None else f", {cores.line()}")
        if len(cameras) == 1:
            say(f"guarding {cameras[0].spec.name} {with_what}, {cameras[0].line(_looking(finders, cameras[0]))}")
        else:
            say(f"guarding {len(cameras)} cameras {with_what}")
            for camera in cameras:
                say(f"camera {camera.name}: {camera.spec.name}, {camera.line(_looking(finders, camera))}")
        if loaded.unsigned:
            say(loaded.unsigned_notice)
        if notice := sweep_notice(guard.keyed, named=sweep_key is not None):
            say(notice)
        for line in overlaps(cameras, cores):
            say(line)
        judge_here()  # from here on what is started goes elsewhere by name: capture, and readers of several cameras
        self_test = _self_test(settings, cameras, guard, finders, outputs, monitor, say)
        service = _service(settings, cameras, guard, looking, sinks, monitor, notifier, say, stack, self_test)
        with stop_on_signals(service), self_test_on_signal(self_test):
            if self_test is None or not self_test.fault:
                monitor.set_ready(True, "guarding")
            closing.pop_all()
            summary = service.run()
    if len(cameras) > 1:
        for one in service.cameras:
            say(f"camera {one.name}: {one.summary.line()}")
    say(summary.line())


def _networks(guard: Firewall, finders: Iterable[RegionFinder]) -> dict[str, str]:
    """File of each network, those that judge and those that look for signs -> what runs it."""
    found = what_runs(guard.bundle, guard.engine, guard.under_masks, guard.networks)
    for finder in finders:
        found |= finder.networks
    return found


def _looking(finders: dict[str, RegionFinder], camera: Guarded) -> str:
    """What runs the networks that look for signs in this camera's frames, for people."""
    return ", ".join(f"{file} on {provider}" for file, provider in finders[camera.regions].networks.items())


def _self_test(
    settings: Settings,
    cameras: tuple[Guarded, ...],
    guard: Firewall,
    finders: dict[str, RegionFinder],
    outputs: Outlets,
    monitor: Monitor,
    say: Callable[[str], None],
) -> SelfTest | None:
    """The bundle's golden frames, judged for the first time; None if it has none."""
    if not guard.bundle.manifest.golden:
        return None

    def show(state: GoldenState) -> None:
        last = monitor.golden or GoldenState(0)
        before = last.fault
        monitor.set_golden(state)
        if state.rounds > last.rounds or state.fault != before:
            outputs.event(golden_check(state))
        if state.fault or state.rounds > 1:  # before that it is said when all is ready
            monitor.set_ready(not state.fault, f"self-test failed: {state.fault}" if state.fault else "guarding")
        if state.fault != before:
            told = f"failed, everything is withheld: {state.fault}" if state.fault else "passes again"
            say(f"self-test {told}")
        elif test.answering and state.rounds > last.rounds:
            say(
                f"self-test as asked for: {state.fault or f'{state.frames} golden frames are judged as they should be'}"
            )

    test = SelfTest(
        guard,
        next((finder for regions, finder in finders.items() if regions.strip() == "signs"), None),
        every=60 * settings.golden_minutes or None,
        timed=any(camera.deadline_ms is not None for camera in cameras),
        live=[camera.name for camera in cameras if camera.spec.live],
        told=show,
    )
    test.start()
    deadlines = [camera.deadline_ms for camera in cameras if camera.deadline_ms is not None]
    if (check := time_check(test.state, min(deadlines, default=None))) is not None:
        outputs.event(check)
        if not check.told["ok"]:
            monitor.set_warning(check.told["detail"])
            say(f"warning: {check.told['detail']}")
    return test


def _service(
    settings: Settings,
    cameras: tuple[Guarded, ...],
    guard: Firewall,
    looking: dict[str, RegionFinder],
    sinks: list[Sink],
    monitor: Monitor,
    notifier: Notifier,
    say: Callable[[str], None],
    stack: ExitStack,
    self_test: SelfTest | None,
) -> Loop:
    """The loop over one camera, whose source is opened at once, or several."""
    tracks, drift = over_time(guard.bundle)

    def beat() -> None:
        monitor.beat()
        notifier.beat()

    def camera(one: Guarded, capture: Capture) -> Camera:
        shown, named = DriftState(), f"drift of camera {one.name}" if len(cameras) > 1 else "drift"

        def show_drift(state: DriftState) -> None:
            nonlocal shown
            monitor.set_drift(state, one.name)
            if state.spoken and not shown.spoken:
                say(f"{named}: {state.line()}; thresholds may not hold here: calibrate on images of this camera")
            shown = state

        if drift is not None:
            monitor.set_drift(shown, one.name)
        return Camera(
            capture,
            looking[one.name],
            guard.bundle,
            name=one.name,
            deadline_ms=one.deadline_ms,
            tracks=Tracks(served(tracks, settings.confirm)) if one.followed else None,
            drift=None if drift is None else Drift(drift),
            drift_told=show_drift,
            drift_every=_DRIFT_EVERY if one.moving else 1,
        )

    if len(cameras) == 1:
        capture = stack.enter_context(Capture(cameras[0].spec, settings.capture, cores=cameras[0].cores))
        only = camera(cameras[0], capture)
        return Alone(
            guard,
            only,
            sinks,
            max_frames=settings.max_frames,
            heartbeat=beat,
            self_test=self_test,
            ending=monitor.close,
        )
    return Together(
        guard,
        [camera(one, Capture(one.spec, settings.capture, patient=True, cores=one.cores)) for one in cameras],
        sinks,
        max_frames=settings.max_frames,
        heartbeat=beat,
        self_test=self_test,
        ending=monitor.close,
        say=say,
        ended=monitor.ended,
    )
