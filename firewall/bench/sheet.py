"""`firewall bench jetson-sheet`: everything that is to be known of a board, in one run, as one JSON and one page.

Each step is a process of its own with a time limit, and what it told is written before the next one begins: a run that
was stopped goes on where it was, and a step that failed leaves the others alone. Nothing leaves the machine, and what
is written holds no names, addresses, serial numbers or folders (firewall.bench.privacy).
"""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from firewall import __version__
from firewall.bench import sheet_figures as figures
from firewall.bench.jetson import Jetson, look
from firewall.bench.power_modes import ModeKeeper, PowerMode, chosen, current, may_change, modes
from firewall.bench.privacy import without_names
from firewall.bench.sheet_page import page
from firewall.bench.sheet_process import last_line, run_command
from firewall.errors import FirewallError, UsageError
from firewall.host.file_writing import replace_file

__all__ = ["Orders", "run_sheet"]

#: Free space that plans, pictures and reports may need, in bytes.
_ROOM = 500_000_000
#: Seconds to wait after a change of mode, until clocks and power have settled.
_SETTLE = 5.0


@dataclass(frozen=True)
class Orders:
    """What to do.

    Attributes:
        folder: Where the sheet is written; one that is there already goes on.
        watts: Power modes to measure in, by their watts; empty: only the one that is set.
        yes: Change the power mode without asking.
        quick: A few frames alone, to try the sheet itself.
        root: Folder with /proc, /sys and /etc, for tests.
        program: The firewall's command.
        settle: Seconds to wait after a change of mode.
    """

    folder: Path
    watts: tuple[int, ...] = (15, 30, 60)
    yes: bool = False
    quick: bool = False
    root: Path = Path("/")
    program: tuple[str, ...] = (sys.executable, "-m", "firewall")
    settle: float = _SETTLE


@dataclass
class _Sheet:
    """What is known so far, and where it is kept."""

    path: Path
    clean: Callable[[Any], Any]
    told: dict[str, Any] = field(default_factory=dict)

    def save(self) -> None:
        content = self.clean(self.told)
        text = json.dumps(content, indent=1, allow_nan=False) + "\n"
        replace_file(self.path, text.encode(), mode=0o644)
        replace_file(self.path.with_name("sheet.md"), page(content).encode(), mode=0o644)

    def done(self, name: str) -> bool:
        return bool(self.told["steps"].get(name, {}).get("status") == "done")

    def note(self, name: str, status: str, **more: Any) -> None:
        self.told["steps"][name] = {"status": status, **more}
        self.save()


def run_sheet(orders: Orders, *, ask: Callable[[str], bool] | None, say: Callable[[str], None]) -> bool:
    """Do all steps that are not done yet.

    Args:
        orders: What to do.
        ask: Asks somebody a question; None if nobody is there.
        say: Tells people in one line.

    Returns:
        Whether every step is done.

    Raises:
        UsageError: If this machine is no Jetson, or the folder holds something else.
        FirewallError: If there is no room, or the sheet can't be written.
        KeyboardInterrupt: At Ctrl-C; the power mode is put back and what was found out is kept.
    """
    jetson = look(orders.root)
    if jetson is None:
        raise UsageError(
            "this machine is no Jetson (nothing of NVIDIA Tegra in /proc/device-tree), and the sheet is for one; for "
            "any other: firewall bench --json bench.json"
        )
    sheet = _opened(orders)
    say(f"{jetson.label}: the sheet is {sheet.path}; it goes on where it was if you stop it with Ctrl-C")
    sheet.told["machine"] = _machine(orders, jetson)
    sheet.save()
    steps = _Steps(orders, sheet, say)
    keeper, wanted = _keeper(orders, sheet, ask, say)
    try:
        steps.before_modes()
        if keeper is None:
            steps.measure(None)
        else:
            with keeper.kept():
                for mode in wanted:
                    steps.in_mode(mode, keeper)
    except KeyboardInterrupt:
        sheet.told["stopped"] = True
        raise
    finally:
        if keeper is not None and current() == sheet.told.get("mode_before"):
            sheet.told["mode_before"] = None
        sheet.save()
    states = [step["status"] for step in sheet.told["steps"].values()]
    sheet.told["complete"] = all(state in ("done", "not there") for state in states)
    sheet.save()
    say(f"{states.count('done')} of {len(states)} steps are done; send back {sheet.path} and sheet.md beside it")
    return bool(sheet.told["complete"])


def _opened(orders: Orders) -> _Sheet:
    """The sheet in the folder, or a new one. One of another version of the firewall begins again."""
    try:
        (orders.folder / "work").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FirewallError(f"can't make {orders.folder} ({error.strerror}); name another folder") from error
    free = shutil.disk_usage(orders.folder).free
    if free < _ROOM:
        raise FirewallError(
            f"{orders.folder} has {free / 1e6:.0f} MB left; plans and reports need {_ROOM / 1e6:.0f}: make room, or "
            "name a folder elsewhere"
        )
    path = orders.folder / "sheet.json"
    told: dict[str, Any] = {}
    if path.exists():
        try:
            told = json.loads(path.read_text(encoding="utf-8"))
            if told["format"] != 1 or not isinstance(told["steps"], dict):
                raise KeyError("format")
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UsageError(f"{path} is no run sheet of this version; name another folder") from error
        if told.get("firewall") != __version__ or told.get("quick") != orders.quick:
            told = {"mode_before": told.get("mode_before")}
    begun = {"format": 1, "firewall": __version__, "quick": orders.quick, "steps": {}, "mode_before": None}
    sheet = _Sheet(path, without_names(orders.root), {**begun, **told, "complete": False, "stopped": False})
    sheet.save()
    return sheet


def _machine(orders: Orders, jetson: Jetson) -> dict[str, Any]:
    """What the board is; no serial number is among it."""
    return {
        **jetson.model_dump(mode="json"),
        "modes": [{"number": mode.number, "name": mode.name} for mode in modes(orders.root)],
        "free_disk_mb": round(shutil.disk_usage(orders.folder).free / 1e6),
        "python": ".".join(map(str, sys.version_info[:3])),
    }


def _keeper(
    orders: Orders, sheet: _Sheet, ask: Callable[[str], bool] | None, say: Callable[[str], None]
) -> tuple[ModeKeeper | None, list[PowerMode]]:
    """What changes the power mode, and the modes to go through. None: it stays as it is, and the sheet says why."""
    unfinished, now = sheet.told["mode_before"], current()
    wanted, missing = chosen(modes(orders.root), orders.watts)
    prefix = may_change(ask_for_password=ask is not None)
    why = ""
    if not orders.watts:
        why = "only the mode that is set was asked for"
    elif now is None:
        why = "nvpmodel is not there, or does not say which mode is set"
    elif not wanted:
        why = "; ".join(missing)
    elif prefix is None:
        why = "changing the power mode takes root, and sudo can't be used here without a password"
    elif not orders.yes:
        names = ", ".join(mode.name for mode in wanted)
        question = f"measure in the power modes {names}, one after the other, and set mode {now} again at the end?"
        if ask is None:
            why = "nobody was there to allow it; --yes does"
        elif not ask(question):
            why = "it was not allowed"
    if prefix is not None and unfinished is not None and now is not None and unfinished != now:
        ModeKeeper(unfinished, prefix, say).put_back()  # a run before this one was cut off
        now = current()
    for place, reason in enumerate(missing):
        sheet.told["steps"][f"mode {place} that is missing"] = {"status": "not there", "why": reason}
    if why or prefix is None or now is None:
        say(f"the power mode stays as it is: {why}")
        sheet.told["modes_not_changed"] = why
        sheet.save()
        return None, []
    sheet.told.pop("modes_not_changed", None)
    sheet.told["mode_before"] = now  # before it is changed: whoever comes after a power cut knows it
    sheet.save()
    return ModeKeeper(now, prefix, say), wanted


class _Steps:
    """The steps, each done at most once."""

    def __init__(self, orders: Orders, sheet: _Sheet, say: Callable[[str], None]) -> None:
        self._orders, self._sheet, self._say = orders, sheet, say
        self._work = orders.folder / "work"
        self._plans = self._work / "plans"

    def before_modes(self) -> None:
        """What doesn't depend on the power mode: what can run here, plans, and that all runtimes say the same."""
        program = list(self._orders.program)
        self.step("doctor", [*program, "doctor", "--json"], codes=(0, 1), reads=figures.checks)
        if "tensorrt" in self._devices():
            command = [*program, "export", "tensorrt", "--precision", "fp16", "--json", str(self._work / "plans.json")]
            self.step("plans", command, file="plans.json", reads=figures.plans)
        images = self._images()
        command = [*program, "export", "verify", "--images", str(images), "--json", str(self._work / "verify.json")]
        self.step("verify", command, file="verify.json", reads=figures.compared, codes=(0,))
        for device in self._devices():
            command = [*self._python(), "-m", "firewall.bench.golden", "--device", device]
            self.step(f"golden frames on {device}", command, codes=(0,), reads=lambda told: told)
        parity = _parity_program()
        if parity is not None:
            self.step("kernels on the GPU", [str(parity)], reads=None)

    def in_mode(self, mode: PowerMode, keeper: ModeKeeper) -> None:
        """Set a mode and measure in it."""
        if all(self._sheet.done(f"{mode.name}, {device}") for device in self._devices()):
            return
        self._say(f"power mode {mode.name}")
        try:
            keeper.change(mode.number)
        except FirewallError as error:
            self._sheet.note(f"{mode.name}, set", "failed", why=str(error))
            self._say(f"{mode.name}: {error}")
            return
        self._sheet.told["steps"].pop(f"{mode.name}, set", None)
        time.sleep(self._orders.settle)
        self.measure(mode)

    def measure(self, mode: PowerMode | None) -> None:
        """Benchmark every device in the mode that is set."""
        name = "the mode that was set" if mode is None else mode.name
        for device in self._devices():
            file = f"bench-{mode.number if mode else 'set'}-{device}.json"
            command = [*self._orders.program, "bench", "--device", device, "--json", str(self._work / file)]
            command += ["--cold-starts", "1"]
            if self._orders.quick:
                command += ["--samples", "5", "--warm-up", "1", "--fps", "off", "--energy-seconds", "1"]
            self.step(f"{name}, {device}", command, file=file, reads=figures.figures)

    def step(
        self,
        name: str,
        command: Sequence[str],
        *,
        reads: Callable[[Any], Any] | None,
        file: str = "",
        codes: tuple[int, ...] = (0,),
    ) -> Any:
        """Run a command, unless it is done.

        Args:
            name: Of the step.
            command: What to run.
            reads: What the sheet keeps of the JSON that it tells; None: it tells none.
            file: File of that JSON in the work folder; empty: it prints it.
            codes: Exit codes of success.

        Returns:
            What the sheet keeps; None if it failed.
        """
        sheet = self._sheet
        if sheet.done(name):
            return sheet.told["steps"][name].get("found", {})
        self._say(f"{name} ...")
        if file:
            (self._work / file).unlink(missing_ok=True)
        started = time.monotonic()
        sheet.note(name, "interrupted")
        code, printed, errors = run_command(command, self._plans)
        seconds = round(time.monotonic() - started, 1)
        found, why = None, "" if code in codes else last_line(errors or printed) or f"exit code {code}"
        try:
            content = (self._work / file).read_text(encoding="utf-8") if file else printed
            found = {} if reads is None else reads(json.loads(content))
        except (OSError, ValueError, KeyError, TypeError) as error:
            why = why or f"it told nothing that can be read ({type(error).__name__})"
        sheet.note(name, "failed" if why else "done", seconds=seconds, found=found, **({"why": why} if why else {}))
        if why:
            self._say(f"{name}: {why}")
        return None if why else found

    def _devices(self) -> list[str]:
        """What the doctor says can be used."""
        found = self._sheet.told["steps"].get("doctor", {}).get("found") or {}
        return [device for device in ("cpu", "cuda", "tensorrt") if device == "cpu" or found.get(f"--device {device}")]

    def _python(self) -> list[str]:
        """The interpreter of the firewall's command."""
        return [self._orders.program[0]]

    def _images(self) -> Path:
        """Signs of the demo, to compare runtimes on; made once."""
        from PIL import Image

        from firewall.demo.source import DemoReader, truth

        folder = self._work / "signs"
        folder.mkdir(exist_ok=True)
        every, most = (60, 4) if self._orders.quick else (20, 40)
        for sequence, (pixels, _) in enumerate(DemoReader({"fps": "0", "loop": "0"})):
            if sequence % every or sequence // every >= most:
                continue
            x, y, width, height = truth(sequence).box
            crop = pixels[max(0, y - 8) : y + height + 8, max(0, x - 8) : x + width + 8]
            Image.fromarray(crop).save(folder / f"{sequence:04d}.png")
        return folder


def _parity_program() -> Path | None:
    """The test of the CUDA kernels, if run_sheet.sh could build it."""
    path = Path(__file__).parents[2] / "build/gpu/tests/native/gpu_parity"
    return path if path.is_file() else None
