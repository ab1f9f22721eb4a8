"""The lines that `firewall serve` and `firewall screen` really write fit the schema that `firewall schema` prints, and
a wall clock that is set changes nothing but what it shows."""

from __future__ import annotations

import calendar
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator, FormatChecker
from PIL import Image

from firewall.frame import Pixels

CHECKOUT = Path(__file__).resolve().parents[2]
PATIENT = 60.0  # seconds: the machine may be busy
_OLD = ["source", "sequence", "region", "decision", "label", "label_name", "reason", "latency_ms"]

# Stands before the C library: the wall clock is off by as many seconds as the file says; the monotonic clock is not.
_CLOCK = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
static volatile long long *shift;
static long long off(void) {
    if (!shift) {
        int file = open(getenv("CLOCK_SHIFT"), O_RDONLY);
        shift = (long long *)mmap(0, 8, PROT_READ, MAP_SHARED, file, 0);
    }
    return *shift;
}
int clock_gettime(clockid_t id, struct timespec *now) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    int done = real(id, now);
    if (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE) now->tv_sec += off();
    return done;
}
time_t time(time_t *out) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (out) *out = now.tv_sec;
    return now.tv_sec;
}
int gettimeofday(struct timeval *out, void *zone) {
    struct timespec now;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &now);
    out->tv_sec = now.tv_sec;
    out->tv_usec = now.tv_nsec / 1000;
    return 0;
}
"""


def firewall(*arguments: object) -> str:
    """What the command prints."""
    command = [sys.executable, "-m", "firewall", *map(str, arguments)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=PATIENT)
    assert done.returncode in (0, 1), done.stderr
    return done.stdout


def set_clock(file: Path, shift: int) -> None:
    """In place: processes have the file mapped."""
    with file.open("r+b") as mapped:
        mapped.write(shift.to_bytes(8, "little", signed=True))


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    """As the command prints it."""
    printed: dict[str, Any] = json.loads(firewall("schema", "verdict"))
    return printed


def check(schema: dict[str, Any], lines: list[dict[str, Any]], *, operator: bool) -> None:
    """Each line fits, has no key that the schema doesn't tell of, and has all keys in the schema's order."""
    validator = Draft202012Validator(schema, format_checker=FormatChecker())
    order = list(schema["properties"])
    for line in lines:
        validator.validate(line)
        assert list(line)[:8] == _OLD
        assert [key for key in order if key in line] == list(line)
        told = {key for key in line if schema["properties"][key]["description"].startswith("operator only")}
        assert bool(told) == operator


def test_the_page_of_the_docs_is_what_the_command_prints(schema: dict[str, Any]) -> None:
    """docs/verdict.schema.json is the printed schema; make it again with `firewall schema verdict`."""
    assert json.loads((CHECKOUT / "docs" / "verdict.schema.json").read_text()) == schema


def test_lines_of_serve_fit_the_schema(schema: dict[str, Any]) -> None:
    """The demo for the operator, released, unconfirmed and suspicious: time and monotonic clock never go back, a sign
    keeps its track while its frames count up, all lines of a frame bear one frame_id and the camera's name."""
    before = time.time()
    printed = firewall(
        *("serve", "--source", "demo?fps=0&loop=0", "--http", "off", "--max-frames", "24", "--operator"),
        *("--camera-name", "front_left"),
    )
    lines = [json.loads(line) for line in printed.splitlines()]
    check(schema, lines, operator=True)
    assert {"release", "withhold"} == {line["decision"] for line in lines}
    assert {line["camera"] for line in lines} == {"front_left"} and len(
        {line["bundle"]["version"] for line in lines}
    ) == 1
    moments = [line["monotonic_ns"] for line in lines]
    assert moments == sorted(moments)
    times = [line["time"] for line in lines]
    assert times == sorted(times)
    assert time.strftime("%Y-%m-%dT%H:%M", time.gmtime(before)) <= times[0]
    by_frame: dict[str, set[int]] = {}
    for line in lines:
        by_frame.setdefault(line["frame_id"], set()).add(line["sequence"])
        assert line["age_ms"] >= line["latency_ms"] and line["stages_ms"]["classify"] > 0
    assert all(len(sequences) == 1 for sequences in by_frame.values())
    assert len(by_frame) == len({line["sequence"] for line in lines})
    first = [line["frames_seen"] for line in lines if line["track"] == 1]
    assert first[:3] == [1, 2, 3] and first == sorted(first)
    assert {line["track"] for line in lines if line["decision"] == "release"} >= {1}


def test_lines_of_screen_and_of_a_lost_source_fit_the_schema(
    schema: dict[str, Any], tmp_path: Path, benign_sign: Pixels
) -> None:
    """Pictures of the command line have no camera and no track; where there was no picture there is no frame_id; and
    a folder with a broken picture tells of it in a line that fits too."""
    Image.fromarray(benign_sign).save(tmp_path / "sign.png")
    (tmp_path / "text.png").write_text("no picture")
    printed = firewall("screen", tmp_path / "sign.png", tmp_path / "text.png")
    lines = [json.loads(line) for line in printed.splitlines()]
    check(schema, lines, operator=False)
    assert [line["frame_id"] is None for line in lines] == [False, True]
    assert all(line["time"] and line["camera"] is None and line["track"] is None for line in lines)
    assert len({line["bundle"]["hash"] for line in lines}) == 1
    printed = firewall("serve", "--source", tmp_path, "--regions", "whole", "--http", "off")
    lines = [json.loads(line) for line in printed.splitlines()]
    check(schema, lines, operator=False)
    assert [line["frame_id"] is None for line in lines] == [False, True]


def test_a_clock_that_is_set_neither_reorders_nor_releases(tmp_path: Path, schema: dict[str, Any]) -> None:
    """A live camera under a deadline that nothing can hold. The wall clock is set back by an hour, then ahead by a day:
    `time` jumps with it; sequence, monotonic clock and ages go on as before, and every verdict stays late."""
    compiler = next(filter(None, map(shutil.which, ("c++", "g++", "clang++"))))
    (tmp_path / "clock.c").write_text(_CLOCK)
    library, file = tmp_path / "clock.so", tmp_path / "shift"
    build = [compiler, "-x", "c", "-shared", "-fPIC", "-o", library, tmp_path / "clock.c", "-ldl"]
    subprocess.run(list(map(str, build)), check=True)
    file.write_bytes(bytes(8))
    command = [sys.executable, "-m", "firewall", "serve", "--source", "test://pattern?fps=50", "--http", "off"]
    lines = []
    with subprocess.Popen(
        [*command, "--regions", "whole", "--deadline-ms", "0.01", "--max-frames", "24"],
        env={**os.environ, "LD_PRELOAD": str(library), "CLOCK_SHIFT": str(file)},
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        for text in process.stdout:
            lines.append(json.loads(text))
            if len(lines) in (6, 12):
                set_clock(file, {6: -3600, 12: 86_400}[len(lines)])
    assert process.returncode == 0
    check(schema, lines, operator=False)
    moments = [line["monotonic_ns"] for line in lines]
    sequences = [line["sequence"] for line in lines]
    assert moments == sorted(set(moments)) and sequences == sorted(set(sequences))
    assert {line["reason"] for line in lines} == {"late"}
    assert all(0 < line["age_ms"] < PATIENT * 1e3 for line in lines)
    seconds = [calendar.timegm(time.strptime(line["time"][:19], "%Y-%m-%dT%H:%M:%S")) for line in lines]
    ahead = [
        round((second - moment / 1e9 - seconds[0] + moments[0] / 1e9) / 3600)
        for second, moment in zip(seconds, moments, strict=True)
    ]
    assert list(dict.fromkeys(ahead)) == [0, -1, 24]
