from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from firewall import Firewall
from firewall.frame import Pixels

PUBLIC = {
    *("source", "sequence", "region", "decision", "label", "label_name", "reason", "latency_ms"),
    *("schema", "time", "monotonic_ns", "camera", "frame_id", "track", "frames_seen", "bundle", "age_ms"),
    "certified",
}


def firewall(*arguments: object, timeout: float = 60) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "firewall", *map(str, arguments)]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=timeout)


def lines(result: subprocess.CompletedProcess[str]) -> list[dict[str, object]]:
    return [json.loads(line) for line in result.stdout.splitlines()]


def is_one_line_error(result: subprocess.CompletedProcess[str]) -> bool:
    errors = [line for line in result.stderr.splitlines() if line.startswith("firewall: error: ")]
    return len(errors) == 1 and "Traceback" not in result.stderr


def test_screen_prints_a_line_for_each_image(tmp_path: Path, benign_sign: Pixels) -> None:
    """A benign sign is released, a blank image withheld; the lines have exactly the contract's keys; exit code 0."""
    Image.fromarray(benign_sign).save(tmp_path / "sign.png")
    Image.fromarray(np.full((60, 60, 3), 90, np.uint8)).save(tmp_path / "blank.png")

    result = firewall("screen", tmp_path / "sign.png", tmp_path / "blank.png")

    sign, blank = lines(result)
    assert result.returncode == 0
    assert set(sign) == set(blank) == PUBLIC
    assert sign["decision"] == "release" and isinstance(sign["label"], int)
    assert blank["decision"] == "withhold" and blank["label"] is None


def test_screen_for_the_operator(tmp_path: Path, benign_sign: Pixels) -> None:
    """--operator adds scores, and every detector is asked."""
    Image.fromarray(benign_sign).save(tmp_path / "sign.png")

    (line,) = lines(firewall("screen", tmp_path / "sign.png", "--operator"))

    guard = Firewall.load("default", threads=1)
    copies = {operation for detector in guard.detectors for operation in detector.operations}
    assert set(line["scores"]) == {detector.name for detector in guard.detectors}  # type: ignore[call-overload]
    assert line["classified"] == 1 + len(copies) and line["suspected_label"] == line["label"]


def pictures(folder: Path) -> dict[str, Path]:
    grey = np.full((40, 40), 99, np.uint8)
    colour = np.full((40, 40, 3), 99, np.uint8)
    files = {
        "text": folder / "text.png",
        "empty": folder / "empty.png",
        "sixteen bit": folder / "sixteen.png",
        "cmyk": folder / "cmyk.jpg",
        "alpha": folder / "alpha.png",
        "animated": folder / "animated.gif",
        "truncated": folder / "truncated.png",
        "enormous": folder / "enormous.png",
    }
    files["text"].write_text("this is no image")
    files["empty"].write_bytes(b"")
    Image.fromarray(grey.astype(np.uint16) * 200).save(files["sixteen bit"])
    Image.fromarray(colour).convert("CMYK").save(files["cmyk"])
    Image.fromarray(np.dstack([colour, grey])).save(files["alpha"])
    shades = [Image.fromarray(np.full((40, 40), shade, np.uint8)) for shade in (0, 128, 255)]
    shades[0].save(files["animated"], save_all=True, append_images=shades[1:])
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)
    Image.fromarray(noise).save(files["truncated"])
    files["truncated"].write_bytes(files["truncated"].read_bytes()[:2000])
    Image.new("1", (20000, 20000)).save(files["enormous"])
    return files


def test_bad_images_are_withheld_one_line_each(tmp_path: Path, benign_sign: Pixels) -> None:
    """Text named .png, 0 bytes, 16-bit, CMYK, alpha, animated, truncated, 20000x20000: each withheld with a reason that
    names the file, exit code 1, and a good image among them is still judged."""
    files = pictures(tmp_path)
    Image.fromarray(benign_sign).save(tmp_path / "sign.png")

    result = firewall("screen", *files.values(), tmp_path / "sign.png")

    *bad, good = lines(result)
    assert result.returncode == 1 and "Traceback" not in result.stderr
    assert good["decision"] == "release"
    for (kind, file), line in zip(files.items(), bad, strict=True):
        assert line["decision"] == "withhold" and line["label"] is None, kind
        assert str(line["reason"]).startswith("bad image: ") and file.name in str(line["reason"]), kind


def test_a_one_pixel_image_is_judged_and_withheld(tmp_path: Path) -> None:
    """1x1 is an image like any other, and no sign."""
    Image.fromarray(np.zeros((1, 1, 3), np.uint8)).save(tmp_path / "dot.png")

    result = firewall("screen", tmp_path / "dot.png")

    assert result.returncode == 0
    assert lines(result)[0]["decision"] == "withhold"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["screen"], "PATH"),
        (["screen", "x.png", "--regions", "nowhere"], "nowhere"),
        (["screen", "x.png", "--regions", "1,2,3"], "1,2,3"),
        (["surprise"], "surprise"),
        (["serve", "--surprise"], "surprise"),
        (["serve", "--camera", "0", "--source", "demo"], "not both"),
        (["serve", "--camera", "front"], "front"),
        (["serve", "--source", "gopher://x"], "gopher"),
        (["serve", "--http", "nonsense"], "nonsense"),
        (["serve", "--http-name", "http://guard.lan"], "http://guard.lan"),
        (["serve", "--output", "xml:x"], "xml:x"),
        (["serve", "--max-frames", "0"], "max_frames"),
        (["serve", "--deadline-ms", "-3"], "deadline_ms"),
        (["bench", "--samples", "0"], "samples"),
    ],
)
def test_wrong_use_ends_with_2_and_one_line(arguments: list[str], words: str) -> None:
    """Every wrong option or argument is named in one line without a traceback; nothing is printed on stdout."""
    result = firewall(*arguments)

    assert result.returncode == 2 and is_one_line_error(result), result.stderr
    assert words in result.stderr and result.stdout == ""


@pytest.mark.parametrize("command", [[], ["serve"], ["screen"], ["doctor"], ["bench"], ["lab"], ["lab", "train"]])
def test_help_everywhere(command: list[str]) -> None:
    """-h and --help explain every command and end with 0."""
    for option in ("-h", "--help"):
        result = firewall(*command, option)
        assert result.returncode == 0 and "Usage: firewall" in result.stdout


def test_an_unknown_setting_in_the_config(tmp_path: Path) -> None:
    """A typo in the settings file is refused, not ignored."""
    (tmp_path / "firewall.yaml").write_text("sorce: demo\n")

    result = firewall("serve", "--config", tmp_path / "firewall.yaml")

    assert result.returncode == 2 and is_one_line_error(result) and "'sorce'" in result.stderr


def test_a_bundle_with_one_flipped_byte(tmp_path: Path) -> None:
    """Nothing is served or judged from an altered bundle: one line, exit code 1."""
    from firewall.bundle import DEFAULT

    for file in DEFAULT.iterdir():
        content = bytearray(file.read_bytes())
        if file.suffix == ".onnx":
            content[len(content) // 2] ^= 1
        (tmp_path / file.name).write_bytes(content)
    for command in (["serve", "--http", "off", "--allow-unsigned"], ["screen", "x.png"], ["bench"]):
        result = firewall(*command, "--bundle", tmp_path)
        assert result.returncode == 1 and is_one_line_error(result) and result.stdout == ""
        assert "is not the file that its bundle was made with" in result.stderr


def test_a_missing_camera() -> None:
    """/dev/video97 isn't there: one line that says so, exit code 1, in time."""
    result = firewall("serve", "--camera", "97", "--http", "off")

    assert result.returncode == 1 and is_one_line_error(result) and "video97" in result.stderr
    assert result.stdout == ""


def test_a_busy_port() -> None:
    """The page's port is taken: one line that names it and the way out, exit code 1."""
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        address = f"127.0.0.1:{busy.getsockname()[1]}"
        result = firewall("serve", "--http", address)

    assert result.returncode == 1 and is_one_line_error(result) and address in result.stderr


def test_serve_the_demo(tmp_path: Path) -> None:
    """The main job on the embedded demo: lines on stdout, signs released, attacked ones withheld, a summary."""
    result = firewall("serve", "--source", "demo?fps=0&loop=0", "--http", "off", timeout=120)

    assert result.returncode == 0, result.stderr
    decisions = [line["decision"] for line in lines(result)]
    assert decisions.count("release") > 20 and decisions.count("withhold") > 20
    assert "labels released" in result.stderr.splitlines()[-1]


def test_output_to_a_file(tmp_path: Path) -> None:
    """jsonl:PATH takes the lines instead of stdout, and a later run appends."""
    path = tmp_path / "verdicts.jsonl"
    for _ in range(2):
        result = firewall("serve", "--http", "off", "--max-frames", "5", "--output", f"jsonl:{path}")
        assert result.returncode == 0 and result.stdout == ""

    assert len({json.loads(line)["sequence"] for line in path.read_text().splitlines()}) == 5
    assert len(path.read_text().splitlines()) >= 10


def test_output_to_a_dash_is_stdout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """jsonl:- is stdout, as - is, and no file of that name."""
    monkeypatch.chdir(tmp_path)

    result = firewall("serve", "--http", "off", "--max-frames", "2", "--output", "jsonl:-")

    assert result.returncode == 0 and lines(result) and not list(tmp_path.iterdir())


def test_a_video_file(tmp_path: Path, demo_frames: list[Pixels]) -> None:
    """Every frame of a real video file is judged; nothing of a file is dropped or late."""
    path = tmp_path / "drive.avi"
    height, width = demo_frames[0].shape[:2]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 25, (width, height))
    for pixels in demo_frames[:12]:
        writer.write(np.ascontiguousarray(pixels[..., ::-1]))
    writer.release()

    result = firewall("serve", "--source", path, "--http", "off", timeout=120)

    assert result.returncode == 0, result.stderr
    assert {line["sequence"] for line in lines(result)} == set(range(12))
    assert "0 frames dropped" in result.stderr and "late" not in {line["reason"] for line in lines(result)}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_end_serve_cleanly(number: int) -> None:
    """Ctrl-C and SIGTERM: whole lines, a one-line summary, exit code 0, and no process left behind."""
    command = [sys.executable, "-m", "firewall", "serve", "--source", "test://pattern?fps=20", "--http", "off"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        if number == signal.SIGINT:
            os.killpg(process.pid, number)  # as a terminal does: the children get it too
        else:
            process.send_signal(number)
        out, err = process.communicate(timeout=30)
        code = process.returncode
    assert code == 0, err
    assert all(json.loads(line) for line in out.splitlines())
    assert "labels released" in err.splitlines()[-1] and "Traceback" not in err
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and _group_lives(process.pid):
        time.sleep(0.05)
    assert not _group_lives(process.pid)


def _group_lives(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_reader_that_goes_away(benign_sign: Pixels) -> None:
    """`firewall serve | head -1` ends without a traceback."""
    command = f"{sys.executable} -m firewall serve --source 'demo?fps=0' --http off | head -1"
    result = subprocess.run(["bash", "-c", command], check=False, capture_output=True, text=True, timeout=60)

    assert json.loads(result.stdout)["source"] and "Traceback" not in result.stderr
