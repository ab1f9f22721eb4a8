"""`firewall bench` and `firewall bench compare` as a user calls them."""

from __future__ import annotations

import io
import json
import signal
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from PIL import Image

from firewall.bench.subjects import Guarded
from firewall.cli import app, run
from firewall.frame import Pixels
from firewall.host.onnxruntime import ort

#: Parts that take seconds and have tests of their own.
SHORT = ("--fps", "off", "--cold-starts", "0")


@dataclass(frozen=True)
class Done:
    returncode: int
    stdout: str
    stderr: str


def firewall(*arguments: object) -> Done:
    """The command line in this process."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = run(app, [str(argument) for argument in arguments], "firewall")
    return Done(code, out.getvalue(), err.getvalue())


def refused(result: Done, code: int) -> str:
    """The one line on stderr of a command that did nothing."""
    errors = [line for line in result.stderr.splitlines() if line.startswith("firewall: error: ")]
    assert result.returncode == code and len(errors) == 1, result.stderr
    return errors[0]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory, benign_sign: Pixels) -> tuple[Path, Path]:
    """Normal pictures, and others that stand for attacked ones."""
    normal, attacked = tmp_path_factory.mktemp("normal"), tmp_path_factory.mktemp("attacked")
    Image.fromarray(benign_sign).save(normal / "a.png")
    Image.fromarray(benign_sign[::-1]).save(attacked / "b.png")
    return normal, attacked


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory, folders: tuple[Path, Path]) -> tuple[dict[str, Any], str, Path]:
    """A run with all parts: the JSON, what was printed, and the folder of its files."""
    folder = tmp_path_factory.mktemp("bench")
    result = firewall(
        *("bench", "--images", folders[0], "--adversarial", folders[1], "--samples", 70, "--warm-up", 2),
        *("--threads", 1, "--fps", "60", "--fps-frames", 12, "--cold-starts", 1),
        *("--json", folder / "bench.json", "--picture", folder / "bench.svg"),
    )
    assert result.returncode == 0, result.stderr
    return json.loads((folder / "bench.json").read_text()), result.stdout, folder


def test_bench_writes_its_result(report: tuple[dict[str, Any], str, Path]) -> None:
    """A table for people, JSON with raw samples, and no percentile that the samples don't carry. The fields of the
    first format are still there."""
    found, printed, _ = report

    assert len(found["samples_ms"]) == found["samples"] == 70
    assert found["minimum"] <= found["p50"] <= found["p90"] <= found["maximum"]
    assert found["p99"] is None and "p99 needs at least 662 samples" in printed
    assert sum(found["stages"].values()) == pytest.approx(1, abs=0.01)
    assert "not Jetson" in printed or "jetson" in found["machine"]["board"].lower()


def test_with_and_without_the_firewall_and_both_kinds(report: tuple[dict[str, Any], str, Path]) -> None:
    """Each kind has figures of both, of the same pictures in the same rounds, and the differences frame by frame."""
    found, printed, _ = report

    assert set(found["full_rate"]) == {"normal", "adversarial"}
    for kind in found["full_rate"].values():
        guarded, unguarded = kind["with_firewall"], kind["without_firewall"]
        assert len(guarded["samples_ms"]) == len(unguarded["samples_ms"]) == 70
        differences = [a - b for a, b in zip(guarded["samples_ms"], unguarded["samples_ms"], strict=True)]
        assert kind["added"]["mean"] == pytest.approx(sum(differences) / 70, abs=0.01)
        assert kind["added_median"][0] <= kind["added"]["median"] <= kind["added_median"][1]
        assert guarded["throughput"] == pytest.approx(1e3 / guarded["latency"]["mean"], rel=0.01)
        assert {"regions", "resize", "classify", "other"} <= set(guarded["stages"])
        assert "sweep" not in unguarded["stages"] and unguarded["shares"]["classify"] > 0
        assert sum(guarded["decisions"].values()) == 70 and guarded["classified"] >= 1
    assert "with firewall" in printed and "without" in printed and "added" in printed


def test_what_this_device_does_not_have_is_null_with_the_reason(report: tuple[dict[str, Any], str, Path]) -> None:
    """On the processor nothing is copied or queued; no number is invented for it."""
    found, printed, _ = report

    times = found["device_times"]
    assert [times[name] for name in ("host_to_device", "compute", "device_to_host", "enqueue")] == [None] * 4
    assert "processor" in times["reason"] and times["reason"] in printed
    assert found["memory"]["gpu"] is None and found["memory"]["gpu_reason"]
    assert found["jetson"] or ("not a Jetson" in printed and found["platform"] == "not a Jetson")


def test_a_rate_and_a_cold_start(report: tuple[dict[str, Any], str, Path]) -> None:
    """Frames that were due are judged, late or dropped; a fresh process tells its parts, and its memory."""
    found, _, _ = report

    (rate,) = found["fixed_rate"]
    judged = sum(len(kind["ages_ms"]) for kind in rate["kinds"].values())
    assert rate["fps"] == 60 and rate["due"] == 12 == judged + rate["dropped"]
    assert rate["late"] == sum(age > 1000 / 60 for kind in rate["kinds"].values() for age in kind["ages_ms"])
    cold = found["cold_start"]
    parts = sum(cold[part] for part in ("interpreter", "imports", "load", "first_verdict"))
    assert cold["runs"] == 1 and cold["total"] == pytest.approx(parts, abs=0.01) and cold["load"] > 0
    assert 20 < found["memory"]["loaded"] <= found["memory"]["peak"]


def test_the_picture_is_one(report: tuple[dict[str, Any], str, Path]) -> None:
    """Well-formed SVG with a curve for each of the four series in both panels."""
    root = ET.parse(report[2] / "bench.svg").getroot()  # noqa: S314 - our own file

    curves = [path for path in root.iter("{http://www.w3.org/2000/svg}path") if path.get("fill") == "none"]
    assert len(curves) == 4 * 3  # legend, how often, how many took longer


def test_compare_with_itself(report: tuple[dict[str, Any], str, Path], tmp_path: Path) -> None:
    """Nothing differs, nothing is slower, and the limit is kept."""
    file = report[2] / "bench.json"

    result = firewall("bench", "compare", file, file, "--fail-above", "1%", "--json", tmp_path / "c.json")

    assert result.returncode == 0, result.stderr
    found = json.loads((tmp_path / "c.json").read_text())
    assert found["comparable"] and found["differ"] == {}
    assert found["differences"] and all(one["change"] == 0 for one in found["differences"])
    assert found["others"]["cold start, s"][0] > 0 and "missed at 60 fps" in result.stdout


def test_compare_with_a_slower_run(report: tuple[dict[str, Any], str, Path], tmp_path: Path) -> None:
    """Half as slow again is seen, and is exit code 1 only if a limit is given; a run on another machine is not held
    against the limit unless one insists."""
    steady, slower = (json.loads(json.dumps(report[0])) for _ in range(2))
    for one, factor in ((steady, 1.0), (slower, 1.5)):  # of a busy machine's own samples nothing can be told
        for kind in one["full_rate"].values():
            count = len(kind["with_firewall"]["samples_ms"])
            kind["with_firewall"]["samples_ms"] = [factor * (10 + number % 7 / 10) for number in range(count)]
    first, second = tmp_path / "steady.json", tmp_path / "slower.json"
    first.write_text(json.dumps(steady))
    second.write_text(json.dumps(slower))

    shown = firewall("bench", "compare", first, second)
    assert shown.returncode == 0 and "+50.0%" in shown.stdout and "slower" in shown.stdout
    told = refused(firewall("bench", "compare", first, second, "--fail-above", "10%"), 1)
    assert "by more than 10 %: normal median +50.0%" in told
    assert firewall("bench", "compare", second, first, "--fail-above", "10%").returncode == 0  # it became faster

    slower["machine"]["cpu"] = "Another One"
    second.write_text(json.dumps(slower))
    elsewhere = firewall("bench", "compare", first, second, "--fail-above", "10%")
    assert "not comparable" in refused(elsewhere, 1)
    assert "NOT COMPARABLE" in elsewhere.stdout and "Another One" in elsewhere.stdout
    assert "slower" in refused(firewall("bench", "compare", first, second, "--fail-above", "10%", "--anyway"), 1)


def test_ctrl_c_keeps_what_there_is(
    tmp_path: Path, folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGINT in the midst of a frame: the report is written, says that it is incomplete and where it was stopped; exit
    code 130."""
    judge, seen = Guarded.run, []

    def judge_and_interrupt(self: Guarded, pixels: Pixels) -> Any:
        seen.append(pixels)
        if len(seen) == 6:
            signal.raise_signal(signal.SIGINT)
        return judge(self, pixels)

    monkeypatch.setattr(Guarded, "run", judge_and_interrupt)
    file = tmp_path / "bench.json"

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job inherits that it's ignored
    try:
        result = firewall("bench", "--images", folders[0], "--warm-up", 0, "--threads", 1, *SHORT, "--json", file)
    finally:
        signal.signal(signal.SIGINT, before)

    assert result.returncode == 130, result.stderr
    found = json.loads(file.read_text())
    assert not found["complete"] and found["stopped"] == "full rate" and "INCOMPLETE" in result.stdout
    assert found["samples"] == len(found["samples_ms"]) == 5
    assert found["full_rate"]["normal"]["added"]["samples"] == 5 and "adversarial" in found["not_measured"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--fps", "fast"], "'fast'"),
        (["--fps", "10,0"], "'10,0'"),
        (["--image", "a.png", "--images", "b"], "not both"),
        (["--adversarial", "b"], "--images"),
        (["--picture", "chart.png"], "chart.svg"),
        (["--device", "abacus"], "abacus"),
        (["--regions", "nowhere"], "nowhere"),
        (["surprise"], "surprise"),
        (["compare", "a.json", "b.json", "--fail-above", "much"], "'much'"),
        (["compare", "no.json", "b.json"], "no.json"),
    ],
)
def test_wrong_use(arguments: list[str], words: str) -> None:
    """Each is named in one line, before anything is measured; exit code 2."""
    assert words in refused(firewall("bench", *arguments), 2)


def test_what_can_not_be_done(tmp_path: Path) -> None:
    """A device that isn't there, a folder that can't be written to: one line, exit code 1, nothing on stdout."""
    if "TensorrtExecutionProvider" not in ort.get_available_providers():
        result = firewall("bench", "--device", "tensorrt", *SHORT)
        assert "tensorrt" in refused(result, 1).lower() and result.stdout == ""
    result = firewall("bench", "--json", tmp_path / "missing" / "bench.json", *SHORT)
    assert "missing" in refused(result, 1) and result.stdout == ""


def test_a_folder_without_pictures(tmp_path: Path) -> None:
    """It is named in one line; exit code 2."""
    assert str(tmp_path) in refused(firewall("bench", "--images", tmp_path, *SHORT), 2)


def test_a_report_whose_samples_are_not_pairs(report: tuple[dict[str, Any], str, Path], tmp_path: Path) -> None:
    """A file that somebody has cut is refused, in one line and without a traceback."""
    cut = json.loads(json.dumps(report[0]))
    for wrong in (cut["full_rate"]["normal"]["with_firewall"]["samples_ms"][:-1], [], [float("nan")] * 70):
        cut["full_rate"]["normal"]["with_firewall"]["samples_ms"] = wrong
        (tmp_path / "cut.json").write_text(json.dumps(cut))
        assert "damaged" in refused(firewall("bench", "compare", tmp_path / "cut.json", report[2] / "bench.json"), 2)


@pytest.mark.parametrize(
    "content", ["{}", "[1, 2", "[" * 100_000, '{"format": 1, "samples_ms": []}', '{"format": 2, "complete": 3}']
)
def test_a_file_that_is_no_report(tmp_path: Path, content: str) -> None:
    """One line that names the file; exit code 2."""
    file = tmp_path / "some.json"
    file.write_text(content)

    assert str(file) in refused(firewall("bench", "compare", file, file), 2)
