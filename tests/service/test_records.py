"""What the audit log of a real guard holds besides verdicts."""

from __future__ import annotations

import hashlib
import json
import shutil
import socket
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from firewall.bundle.signature import generate
from firewall.cli import app, run
from firewall.config import load_settings
from firewall.frame import Pixels
from firewall.service import golden
from firewall.service.records import about, network_checks
from firewall.sinks.audit_check import check_audit
from firewall.sinks.audit_log import audit_files
from tests.fused_bundle import fused_bundle


def records(folder: Path, *events: str) -> list[dict[str, Any]]:
    """All records of an audit log, or those of some kinds."""
    files = audit_files(folder)
    found = [json.loads(line) for number in sorted(files) for line in files[number].read_text().splitlines()]
    return [record for record in found if not events or record["event"] in events]


@pytest.fixture
def pictures(tmp_path: Path, benign_sign: Pixels) -> Path:
    """A folder with three pictures of a sign."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(3):
        Image.fromarray(benign_sign).save(folder / f"{number}.png")
    return folder


def guard(log: Path, *more: str, regions: Sequence[str] = ("--regions", "whole")) -> int:
    """`firewall serve` with that audit log, to its end."""
    options = ["--http", "off", "--threads", "1", *regions, "--output", "-", "--output", f"audit:{log}", *more]
    return run(app, ["serve", *options], "firewall")


def test_each_change_of_state_is_a_record_and_a_line(
    tmp_path: Path, pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """From the start to the end, with its cause and both clocks, in the order of the verdicts; the same on stderr."""
    log = tmp_path / "log"
    assert guard(log, "--source", str(pictures)) == 0
    told = records(log, "state")
    assert [(each["before"], each["state"], each["cause"]) for each in told] == [
        ("starting", "guarding", "frames are judged"),
        ("guarding", "stopped", "the firewall has stopped (all sources have ended); nothing is released"),
    ]
    assert all(each["camera"] == "camera" and each["time"].endswith("Z") and each["monotonic_ns"] for each in told)
    assert [each["event"] for each in records(log, "start", "verdict", "state", "stop")][-2:] == ["state", "stop"]
    assert check_audit(log).faults == []
    err = capsys.readouterr().err
    assert "\nstate starting -> guarding: frames are judged\n" in err and "\nstate guarding -> stopped: " in err


def test_the_record_of_two_cameras_names_them(
    tmp_path: Path, pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One camera that is not there: the other is guarded, and log and lines say which is which."""
    log = tmp_path / "log"
    assert guard(log, "--source", str(pictures), "--source", "http://127.0.0.1:9/none", "--max-frames", "6") == 0
    told = {(each["camera"], each["state"]) for each in records(log, "state")}
    assert {("camera1", "guarding"), ("camera2", "source lost"), ("camera2", "stopped")} <= told
    assert "\ncamera camera2: state starting -> source lost: " in capsys.readouterr().err


def test_the_start_says_what_is_in_use(
    tmp_path: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every setting as it holds, their hash, which anybody can compute again from the record, the bundle's hash and
    who signed it; what was checked of the bundle is a record too. Another setting, another hash."""
    monkeypatch.setenv("FIREWALL_TRUST_STATE", str(tmp_path / "state.json"))
    monkeypatch.setenv("FIREWALL_CONFIRM", "4")
    key = tmp_path / "bundle.key"
    signer = generate(key).fingerprint
    bundle = shutil.copytree(fused_bundle(), tmp_path / "bundle")
    assert run(app, ["bundle", "sign", str(bundle), "--key", str(key)], "firewall") == 0
    log, hashes = tmp_path / "log", set()
    for frames in ("1", "2"):
        options = ("--bundle", str(bundle), "--trust", f"{key}.pub", "--max-frames", frames)
        assert guard(log, "--source", str(pictures), *options) == 0
    for start in records(log, "start"):
        told = start["settings"]
        assert (told["source"], told["confirm"], told["trust"]) == (str(pictures), 4, f"{key}.pub")
        assert list(told) == sorted(told) and set(told) == set(load_settings().model_dump())
        text = json.dumps(told, ensure_ascii=False, separators=(",", ":"))
        assert start["settings_sha256"] == hashlib.sha256(text.encode()).hexdigest()
        hashes.add(start["settings_sha256"])
        manifest = (bundle / "manifest.json").read_bytes()
        assert start["bundle"]["sha256"] == hashlib.sha256(manifest).hexdigest()
        assert (start["bundle"]["signer"], start["bundle"]["standing"]) == (signer, "signed")
    assert len(hashes) == 2
    checks = {each["what"]: each for each in records(log, "integrity")}
    assert all(each["ok"] is True for each in checks.values()) and {"bundle", "trust", "networks"} <= set(checks)
    assert checks["trust"]["detail"] == f"signed by {signer}, which is trusted here"
    assert "classifier.onnx on CPUExecutionProvider" in checks["networks"]["detail"]
    capsys.readouterr()
    assert run(app, ["audit", "show", str(log), "--event", "start"], "firewall") == 0
    out = capsys.readouterr().out
    assert all(f"settings_sha256={each}" in out for each in hashes) and signer in out and " verdict" not in out


def test_no_password_is_in_the_record() -> None:
    """Of sources, of each of several cameras, and of brokers; what only names a key is left."""
    settings = load_settings(
        cameras=[
            {"name": "front", "source": "rtsp://me:hunter2@host/x?password=hunter3"},
            {"name": "rear", "source": "http://me:hunter4@host/y"},
        ],
        output=["mqtt://me:hunter5@host/prefix", "audit:/log@here?key=/a.key", "-"],
        sweep_key="env:HUNTER_KEY",
    )
    text = json.dumps(about(settings))
    assert "hunter" not in text and "me:" not in text
    told = about(settings)["settings"]
    assert told["output"] == ["mqtt:...@host/prefix", "audit:/log@here?key=/a.key", "-"]
    assert told["sweep_key"] == "env:HUNTER_KEY" and told["cameras"][0]["source"] == "rtsp://***@host/x?password=***"
    alone = about(load_settings(source="rtsp://me:hunter2@host/x"))["settings"]
    assert alone["source"] == "rtsp://***@host/x"
    assert about(load_settings(source="p\udcff"))["settings_sha256"]  # a name that is no UTF-8


def test_evidence_and_checks_are_records(
    tmp_path: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Golden frames that fail; and for each case of the quarantine where it lies and of which frame and verdict it is,
    also for one that is only written when the guard ends."""
    monkeypatch.setattr(golden, "judged", lambda *_: "golden-00.png should give class 14, and gives nothing")
    log, kept = tmp_path / "log", tmp_path / "kept"
    assert guard(log, "--source", str(pictures), "--output", f"quarantine:{kept}") == 0
    *_, check = (each for each in records(log, "integrity") if each["what"] == "golden frames")
    assert check["ok"] is False and check["detail"].startswith("golden-00.png should give class 14")
    assert records(log, "evidence") == [] and not list(kept.iterdir())  # the self-test's verdicts are no cases
    monkeypatch.undo()
    blank = tmp_path / "blank"
    blank.mkdir()
    Image.new("RGB", (64, 64), (90, 90, 90)).save(blank / "0.png")
    log = tmp_path / "another"
    assert guard(log, "--source", str(blank), "--output", f"quarantine:{kept}") == 0
    (evidence,) = records(log, "evidence")
    case = json.loads((kept / evidence["case"] / "verdict.json").read_text())
    (verdict,) = (each["verdict"] for each in records(log, "verdict"))
    assert evidence["folder"] == str(kept) and evidence["sha256"] == case["sha256"]
    assert evidence["frame_id"] == verdict["frame_id"] == case["verdict"]["frame_id"]
    (check,) = (each for each in records(log, "integrity") if each["what"] == "golden frames")
    assert check["ok"] is True and check["rounds"] == 1
    assert run(app, ["audit", "show", str(log)], "firewall") == 0
    assert f" evidence case={evidence['case']} folder={kept} camera=camera " in capsys.readouterr().out


def test_a_plan_that_was_opened_is_a_record() -> None:
    """With the SHA-256 of its bytes; a stand-in for an engine of TensorRT."""
    plan = SimpleNamespace(content=b"plan", key=SimpleNamespace(name="abc-fp16-def"))
    networks, found = network_checks(SimpleNamespace(plan=plan), {"classifier.onnx": "TensorRT 10.3 fp16"})
    assert networks.told["detail"] == "classifier.onnx on TensorRT 10.3 fp16" and found.told["what"] == "plan"
    assert found.told["sha256"] == hashlib.sha256(b"plan").hexdigest() and "abc-fp16-def" in found.told["detail"]


def test_a_refused_start_leaves_a_record(
    tmp_path: Path, pictures: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wrong bit of a bundle, a bundle that isn't there, a second output that can't be opened, a port that is taken:
    the cause, and with which settings; the exit code stays. The same again is written once, as of a unit that is
    started again and again."""
    monkeypatch.setenv("FIREWALL_ALLOW_UNSIGNED", "1")
    bundle = shutil.copytree(fused_bundle(), tmp_path / "bundle")
    network = next(bundle.glob("*.onnx"))
    content = bytearray(network.read_bytes())
    content[len(content) // 2] ^= 1
    network.write_bytes(content)
    log = tmp_path / "log"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        cases = (
            (("--bundle", str(bundle)), "is not the file that its bundle was made with"),
            (("--bundle", str(bundle)), ""),
            (("--bundle", f"{tmp_path}/none"), "name a bundle's folder"),
            (("--output", f"jsonl:{tmp_path}/no/where"), "can't write verdict lines"),
            (("--http", f"127.0.0.1:{taken.getsockname()[1]}"), "127.0.0.1"),
        )
        for more, why in cases:
            before = len(records(log, "refused")) if log.exists() else 0
            assert guard(log, "--source", str(pictures), *more) in (1, 2)
            told = records(log, "refused")[before:]
            assert [why in each["why"] for each in told] == [True] * bool(why), (more, told)
            assert why in capsys.readouterr().err
    assert all(start["settings"]["source"] == str(pictures) for start in records(log, "start"))
    assert records(log, "verdict") == [] and check_audit(log).faults == []


def test_a_refusal_that_can_not_be_written_hides_nothing(
    tmp_path: Path, pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """No folder for the log, or no output of that kind: the cause is said as ever."""
    for output in (f"audit:{tmp_path}/no/log", "audit:", "off"):
        options = ["--source", str(pictures), "--bundle", f"{tmp_path}/none", "--output", output, "--http", "off"]
        assert run(app, ["serve", *options], "firewall") == 1
        assert capsys.readouterr().err.startswith(f"firewall: error: can't read {tmp_path}/none/manifest.json")
    assert [each.name for each in tmp_path.iterdir()] == ["pictures"]
