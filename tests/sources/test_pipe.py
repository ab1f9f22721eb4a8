from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from firewall.errors import ImageError, SourceUriError
from firewall.frame import Pixels
from firewall.sources import parse, pipe, read_input

NOISE: Pixels = np.random.default_rng(1).integers(0, 256, (40, 60, 3), dtype=np.uint8)


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    Image.fromarray(NOISE).save(tmp_path / "x.png")
    return tmp_path / "x.png"


def shell(line: str, *, feed: bytes | None = None, timeout: float = 60) -> subprocess.CompletedProcess[bytes]:
    """Runs a line of bash in which $FIREWALL is the command line."""
    environment = {**os.environ, "FIREWALL": f"{sys.executable} -m firewall", "FIREWALL_HTTP": "off"}
    command = ["bash", "-c", line]
    return subprocess.run(command, input=feed, check=False, capture_output=True, timeout=timeout, env=environment)


def verdicts(done: subprocess.CompletedProcess[bytes]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize(
    ("line", "source"),
    [
        ("cat {} | $FIREWALL screen -", "-"),
        ("$FIREWALL screen - < {}", "-"),
        ("cat {} | $FIREWALL screen /dev/stdin", "/dev/stdin"),
        ("cat {0} | $FIREWALL screen <(cat {0}) {0} -", "-"),
    ],
)
def test_screen_reads_an_image_from_standard_input(line: str, source: str, picture: Path) -> None:
    """A pipe, a file that is sent in, the shell's <(...), among other images: each is judged as its file is."""
    done = shell(line.format(picture))
    told = verdicts(done)

    assert done.returncode == 0 and told[-1]["source"] == source
    assert all(item["region"] == [0, 0, 60, 40] and "empty" not in item["reason"] for item in told)
    assert len({(item["decision"], item["label"], item["reason"]) for item in told}) == 1
    assert len(told) == (3 if "<(" in line else 1)


def test_screen_of_a_standard_input_that_holds_no_image() -> None:
    """Nothing, half an image, text: withheld with its reason, exit code 1, one line."""
    whole = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys; from PIL import Image; Image.new('RGB', (90, 90)).save(sys.stdout.buffer, 'PNG')",
        ],
        check=True,
        capture_output=True,
    ).stdout
    for feed, said in (
        (b"", "standard input is empty (0 bytes)"),
        (whole[: len(whole) // 2], "standard input is truncated or damaged"),
        (b"hello\n", "standard input is not an image we can read"),
    ):
        done = shell("$FIREWALL screen -", feed=feed)
        (line,) = verdicts(done)
        assert done.returncode == 1 and line["reason"].startswith(f"bad image: {said}") and line["source"] == "-"
        assert b"Traceback" not in done.stderr


def test_a_fifo_is_read_once(picture: Path, tmp_path: Path) -> None:
    """What its writer sends, also in small parts with pauses."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    data = picture.read_bytes()

    def write() -> None:
        with fifo.open("wb", buffering=0) as file:
            for start in range(0, len(data), 1000):
                file.write(data[start : start + 1000])
                time.sleep(0.01)

    writer = threading.Thread(target=write)
    writer.start()
    np.testing.assert_array_equal(read_input(fifo), NOISE)
    writer.join()


def test_a_fifo_that_nobody_writes_into_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor one whose writer stops half-way, or never stops, or sends more than any image has."""
    monkeypatch.setattr(pipe, "PATIENCE", 0.2)
    fifo = tmp_path / "fifo.png"
    os.mkfifo(fifo)
    with pytest.raises(ImageError, match=r"nothing came out of .*fifo\.png within 0 s; does anything write into it"):
        read_input(fifo)

    file = os.open(fifo, os.O_RDWR)
    os.write(file, b"\x89PNG")
    with pytest.raises(ImageError, match=r"after 4 bytes, the end of .*fifo\.png did not come within 0 s"):
        read_input(fifo)
    monkeypatch.setattr(pipe, "LONGEST", 1000)
    os.write(file, bytes(2000))
    with pytest.raises(ImageError, match="holds more than 0 MiB"):
        read_input(fifo)
    monkeypatch.setattr(pipe, "LONGEST", 1 << 20)
    monkeypatch.setattr(pipe, "MOST_SECONDS", 0.5)
    stop = threading.Event()

    def drip() -> None:
        while not stop.wait(0.05):
            os.write(file, b"x")

    writer = threading.Thread(target=drip)
    writer.start()
    with pytest.raises(ImageError, match="did not come within"):
        read_input(fifo)
    stop.set()
    writer.join()
    os.close(file)


def test_what_screen_reads_otherwise(tmp_path: Path, picture: Path) -> None:
    """Files as ever, `./-` is a file; a folder, a device, a link to nothing are refused."""
    np.testing.assert_array_equal(read_input(picture), NOISE)
    dash = tmp_path / "-"
    picture.rename(dash)
    done = shell(f"cd {tmp_path} && $FIREWALL screen ./-", feed=b"")
    assert verdicts(done)[0]["region"] == [0, 0, 60, 40]
    (tmp_path / "link.png").symlink_to("gone")
    for path, said in ((tmp_path, "is a folder, not a file"), ("/dev/zero", "is a device, not a file")):
        with pytest.raises(ImageError, match=said):
            read_input(path)
    for path, said in (
        (tmp_path / "link.png", "No such file"),
        ("a\0b", "not a file name"),
        ("/dev/fd/987", "Bad file"),
    ):
        with pytest.raises(ImageError, match=said):
            read_input(path)


def test_serve_says_that_it_reads_no_video_from_a_pipe(picture: Path, tmp_path: Path) -> None:
    """Standard input, <(...), a FIFO that nobody writes into: one line with what to use, at once, exit code 2; never
    "empty", never a wait."""
    os.mkfifo(tmp_path / "fifo")
    for line in (
        f"cat {picture} | $FIREWALL serve --source -",
        f"cat {picture} | $FIREWALL serve --source /dev/stdin",
        f"$FIREWALL serve --source <(cat {picture})",
        f"$FIREWALL serve --source {tmp_path}/fifo",
    ):
        done = shell(line)
        assert done.returncode == 2 and b"empty" not in done.stderr
        assert b"is a pipe, and a video is not read from one: name its file, or give it a URL" in done.stderr
    with pytest.raises(SourceUriError, match="is a pipe"):
        parse(str(tmp_path / "fifo"))


def test_serve_takes_the_file_behind_standard_input(picture: Path) -> None:
    """`< x.png` is that file, though its capture process has another standard input."""
    done = shell(f"$FIREWALL serve --source - --regions whole < {picture}")
    (line,) = verdicts(done)

    assert done.returncode == 0 and line["region"] == [0, 0, 60, 40]
