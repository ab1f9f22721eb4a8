"""Lists of cores: as Linux writes them, and against what this machine has."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from firewall.errors import UsageError
from firewall.host import core_list as module
from firewall.host.core_list import allowed, capacities, checked, core_list, isolated, listed


@pytest.fixture
def first() -> Iterator[int]:
    """A core that this thread is kept on while the test runs."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    yield min(before)
    os.sched_setaffinity(0, before)


def kernel(root: Path, **said: str) -> Path:
    """What the kernel says, in a folder of its own."""
    folder = root / "sys/devices/system/cpu"
    for name, text in said.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text + "\n")
    return root


@pytest.mark.parametrize(
    ("written", "cores"),
    [
        ("0", (0,)),
        (" 2-3 , 5 ", (2, 3, 5)),
        ("5,2-3", (5, 2, 3)),
        ("4-4", (4,)),
        ("0-7:1/4", (0, 4)),
        ("0-7:2/4", (0, 1, 4, 5)),
        ("8191", (8191,)),
    ],
)
def test_a_list_is_read_in_its_order(written: str, cores: tuple[int, ...]) -> None:
    """Numbers, ranges, and so many of each group."""
    assert core_list(written) == cores


@pytest.mark.parametrize(
    ("written", "why"),
    [
        ("", "no core is named"),
        ("  ", "no core is named"),
        (",", "numbers and ranges"),
        ("1,", "numbers and ranges"),
        ("all", "numbers and ranges"),
        ("-1", "numbers and ranges"),
        ("1-", "numbers and ranges"),
        ("1.5", "numbers and ranges"),
        ("0x3", "numbers and ranges"),
        ("\u0663", "numbers and ranges"),
        ("0-7:2", "numbers and ranges"),
        ("3-2", "no range"),
        ("9000", "no range"),
        ("0-7:0/4", "of a group"),
        ("0-7:5/4", "of a group"),
        ("0-7:0/0", "of a group"),
        ("1,1", "core 1 is named twice"),
        ("0-3,2", "core 2 is named twice"),
    ],
)
def test_what_is_no_list(written: str, why: str) -> None:
    """With what is wrong in it."""
    with pytest.raises(ValueError, match=why):
        core_list(written)


@pytest.mark.parametrize("cores", [(), (3,), (0, 1, 2), (5, 0, 1), (0, 2, 4, 5, 6, 9)])
def test_what_is_listed_is_read_back(cores: tuple[int, ...]) -> None:
    """Ranges where there are some."""
    assert not cores or sorted(core_list(listed(cores))) == sorted(cores)
    assert listed((5, 0, 1)) == "0-1,5" and listed(()) == ""


def test_cores_of_this_process_are_taken() -> None:
    """In the order in which they are written."""
    may = sorted(allowed(), reverse=True)
    assert checked(",".join(map(str, may))) == tuple(may)


@pytest.mark.parametrize(("written", "why"), [("x", "numbers and ranges"), ("", "no core"), ("0,0", "twice")])
def test_a_list_that_is_none_names_the_option(written: str, why: str) -> None:
    """One line."""
    with pytest.raises(UsageError, match=rf"^--cores '{written}': .*{why}") as caught:
        checked(written)
    assert "\n" not in str(caught.value) and caught.value.exit_code == 2


def test_a_core_that_is_not_there_or_switched_off(tmp_path: Path) -> None:
    """The line says which there are; a Jetson's power mode switches cores off."""
    kernel(tmp_path, present="0-5", online="0-3")
    with pytest.raises(UsageError, match=r"there is no core 6; this machine has 0-5"):
        checked("0,6", root=tmp_path)
    with pytest.raises(UsageError, match=r"cores '4': core 4 is switched off, on are 0-3 .*nvpmodel"):
        checked("4", "cores", tmp_path)
    most = (os.cpu_count() or 1) + 50
    with pytest.raises(UsageError, match=f"there is no core {most}"):  # where the kernel says nothing
        checked(f"{most}", root=tmp_path / "nothing")


def test_a_core_that_this_process_may_not_use(first: int, tmp_path: Path) -> None:
    """taskset has left it one; the other is there, and refused all the same."""
    kernel(tmp_path, present=f"0-{first + 1}", online=f"0-{first + 1}", isolated="")
    assert checked(f"{first}", root=tmp_path) == (first,)
    with pytest.raises(UsageError, match=f"may not run on core {first + 1}, but on {first} .*cgroup"):
        checked(f"{first + 1}", root=tmp_path)
    assert os.sched_getaffinity(0) == {first}


def test_an_isolated_core_is_had_by_asking(first: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """isolcpus= leaves it out of what a process is given; whether it may be had, the kernel is asked."""
    other = first + 1
    kernel(tmp_path, present=f"0-{other}", online=f"0-{other}", isolated=f"{other}")
    asked: list[int] = []

    def taken(core: int) -> bool:
        asked.append(core)
        return core == other

    monkeypatch.setattr(module, "_taken", taken)
    assert checked(f"{other},{first}", root=tmp_path) == (other, first)
    assert asked == [other]


def test_the_kernel_is_asked_and_nothing_is_left_changed(first: int) -> None:
    """A core of this machine can be had, one that isn't there can't."""
    assert module._taken(first) and not module._taken(8000)
    assert os.sched_getaffinity(0) == {first}


def test_elsewhere_than_on_linux(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing there keeps a thread on a core."""
    monkeypatch.delattr(os, "sched_setaffinity")
    monkeypatch.setattr("platform.system", lambda: "Darwin")
    with pytest.raises(UsageError, match="on Linux alone, this is Darwin; leave it out"):
        checked("0")


def test_isolated_cores_and_unlike_ones(tmp_path: Path) -> None:
    """As the kernel says it; where it says nothing there are none."""
    assert isolated(tmp_path) == frozenset() and capacities(tmp_path) == {}
    kernel(tmp_path, isolated="2-3,5")
    assert isolated(tmp_path) == {2, 3, 5}
    kernel(tmp_path, **{f"cpu{core}/cpu_capacity": "1024" for core in range(12)})
    assert capacities(tmp_path) == {}  # all alike
    kernel(tmp_path, **{"cpu0/cpu_capacity": "446", "cpu10/cpu_capacity": "what?"})
    assert capacities(tmp_path) == {0: 446, **dict.fromkeys([*range(1, 10), 11], 1024)}
