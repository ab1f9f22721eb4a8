"""`make mutation`: would a test notice if a line of `decision` or `screening` were wrong? See docs/mutation.md.

mutmut writes the mutants: a copy of the package in mutants/, in which each function can be switched to one of its wrong
versions. Its own way to run them starts pytest for each. Here the tests are collected and their costly fixtures made
once; then each mutant is tried in a fork of that process, by the tests that call its function, the quickest first.

    python -m tests.mutated [--jobs N] [--tests FILES] [PATTERN...]      such as 'firewall.decision.policy*'; else all

What was killed and whose function has not changed since is not tried again; what survived is.
"""

from __future__ import annotations

import argparse
import fnmatch
import gc
import io
import os
import resource
import shutil
import signal
import sys
import sysconfig
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

import pytest
from _pytest.runner import runtestprotocol

TESTS = ("tests/decision", "tests/test_screening.py", "tests/test_screening_setup.py")
#: A mutant may take so many times what its tests take, and so many seconds more, of processor time: some never end.
_TIMES, _MORE = 5, 10
#: Exit codes as mutmut keeps them.
_SURVIVED, _KILLED, _UNTESTED = 0, 1, 33
#: A mutant that never ends is noticed too.
_NOTICED = (_KILLED, -signal.SIGXCPU)


class Judge:
    """A pytest plugin that runs the tests once as they are, and then for each mutant those that concern it."""

    def __init__(self, names: list[str], jobs: int, keep: Callable[[dict[str, int]], None]) -> None:
        from mutmut.state import state

        self.names, self.jobs, self._keep = names, jobs, keep
        self.codes: dict[str, int] = {}
        self._called: set[str] = state()._stats  # functions that were called; mutmut adds to it
        self._by_test: dict[pytest.Item, set[str]] = {}
        self._by_fixture: dict[Any, set[str]] = {}
        self._seconds: dict[pytest.Item, float] = {}

    def pytest_configure(self, config: pytest.Config) -> None:
        """Hypothesis draws the same examples each time, and doesn't look for the smallest one that fails."""
        from hypothesis import Phase, settings

        settings.register_profile("mutants", derandomize=True, database=None, phases=(Phase.explicit, Phase.generate))
        settings.load_profile("mutants")

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: Any, request: Any) -> Generator[None, object, object]:
        """What is made for many tests is made once: what it called concerns each of them."""
        if fixturedef.scope == "function":
            return (yield)
        before = set(self._called)
        self._called.clear()
        try:
            return (yield)
        finally:
            self._by_fixture.setdefault(fixturedef, set()).update(self._called)
            self._called |= before

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """In the place of pytest's own loop."""
        from mutmut.mutation.trampoline import set_mutant_under_test

        set_mutant_under_test("stats")
        items = session.items
        for item, following in zip(items, [*items[1:], items[0]], strict=True):
            self._called.clear()
            started = time.process_time()
            # The last test is followed by the first: one that nothing follows would end the session's fixtures.
            reports = runtestprotocol(item, log=False, nextitem=following)
            if any(report.failed for report in reports):
                print(f"{item.nodeid} fails without any mutant", reports)
                raise session.Failed
            self._by_test[item], self._seconds[item] = set(self._called), time.process_time() - started
        for item in items:
            for fixture, called in self._by_fixture.items():
                if fixture.argname in item.fixturenames:  # type: ignore[attr-defined]
                    self._by_test[item] |= called
        gc.freeze()
        if (pid := os.fork()) == 0:
            os._exit(self._tried("", "", sorted(items, key=lambda test: self._seconds[test])))
        if os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) != _SURVIVED:
            print("a test fails in a fork, or in another order, without any mutant")
            raise session.Failed
        self._run_all()
        return True

    def _run_all(self) -> None:
        from mutmut.utils.format_utils import mangled_name_from_mutant_name

        started, running = time.monotonic(), dict[int, str]()
        for number, name in enumerate(self.names, 1):
            function = mangled_name_from_mutant_name(name)
            concerned = [test for test, called in self._by_test.items() if function in called]
            tests = sorted(concerned, key=lambda test: self._seconds[test])
            if not tests:
                self.codes[name] = _UNTESTED
                continue
            if len(running) == self.jobs:
                self._wait(running)
            pid = os.fork()
            if pid == 0:
                os._exit(self._tried(name, function, tests))
            running[pid] = name
            if number % 50 == 0:
                self._keep(self.codes)
                print(f"{number} of {len(self.names)} mutants, {time.monotonic() - started:.0f} s", flush=True)
        while running:
            self._wait(running)

    def _wait(self, running: dict[int, str]) -> None:
        pid, status = os.wait()
        name, code = running.pop(pid), os.waitstatus_to_exitcode(status)
        self.codes[name] = code
        if code not in _NOTICED:
            print(f"{name}: {'survived' if code == _SURVIVED else f'exit code {code}'}", flush=True)

    def _tried(self, name: str, function: str, tests: list[pytest.Item]) -> int:
        """In a process of its own."""
        from mutmut.mutation.trampoline import set_mutant_under_test

        said = os.dup(2)
        quiet = os.open(os.devnull, os.O_WRONLY)
        os.dup2(quiet, 1)
        os.dup2(quiet, 2)
        most = int(_TIMES * sum(self._seconds[test] for test in tests)) + _MORE
        resource.setrlimit(resource.RLIMIT_CPU, (most, most + 5))
        signal.alarm(60 * most)  # for one that waits instead
        set_mutant_under_test(name)
        for fixture, called in self._by_fixture.items():
            if function in called:
                fixture._finalizers.clear()  # pytest has none of a fixture that has not been made
                fixture.cached_result = None
        tests[0].session._setupstate.teardown_exact(tests[0])  # what the process before had ready for another test
        for test, following in zip(tests, [*tests[1:], tests[-1]], strict=True):
            failed = [report for report in runtestprotocol(test, log=False, nextitem=following) if report.failed]
            if failed:
                if not name:
                    os.write(said, f"{test.nodeid}: {failed[0].longrepr}\n".encode())
                return _KILLED
        return _SURVIVED


def main() -> int:
    """Write the mutants, try them, and say which survived; the exit code is pytest's."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutated")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--tests", default=" ".join(TESTS), help="files or folders [%(default)s]")
    parser.add_argument("patterns", nargs="*", default=["*"])
    given = parser.parse_args()

    from mutmut.__main__ import create_mutants
    from mutmut.mutation.data import SourceFileMutationData
    from mutmut.utils.file_utils import copy_also_copy_files, copy_src_dir, walk_mutatable_files

    with redirect_stdout(io.StringIO()):  # a line for each file
        if Path("mutants/firewall").exists():  # a whole copy would have all mutants written again
            shutil.copytree("tests", "mutants/tests", dirs_exist_ok=True)
        else:
            Path("mutants").mkdir(exist_ok=True)
            copy_src_dir()
            copy_also_copy_files()
        create_mutants(given.jobs)
    root, kept = Path.cwd(), []
    for path in walk_mutatable_files():
        kept.append(SourceFileMutationData(path=path))
        kept[-1].load()
    names = [
        name
        for data in kept
        for name, code in data.exit_code_by_key.items()
        if code not in _NOTICED and any(fnmatch.fnmatch(name, pattern) for pattern in given.patterns)
    ]
    print(f"{sum(len(data.exit_code_by_key) for data in kept)} mutants, {len(names)} to try", flush=True)

    def keep(codes: dict[str, int]) -> None:
        with chdir(root):
            for data in kept:
                data.exit_code_by_key |= {name: codes[name] for name in data.exit_code_by_key if name in codes}
                data.save()

    judge = Judge(names, given.jobs, keep)
    os.chdir("mutants")
    _import_from_here()
    code = pytest.main(["-q", "-s", "-p", "no:cacheprovider", "-p", "no:xdist", *given.tests.split()], plugins=[judge])
    os.chdir(root)
    if code:
        return int(code)
    keep(judge.codes)
    left = sorted(name for name, found in judge.codes.items() if found not in _NOTICED)
    print("\n".join([f"{len(names) - len(left)} of {len(names)} killed; not killed:", *left]))
    return 0


@contextmanager
def chdir(folder: Path) -> Iterator[None]:
    """Another current folder for a while; `contextlib` has it from Python 3.11 on."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def _import_from_here() -> None:
    """Let the tests import the package that lies in mutants/.

    An editable install finds `firewall` before anything on the path does, so that no mutant would ever be run. Its
    finder is taken out; only the compiled module still comes from the installation.
    """
    here = Path.cwd()
    sys.meta_path[:] = [finder for finder in sys.meta_path if not type(finder).__name__.startswith("ScikitBuild")]
    sys.path[:] = [str(here), *(place for place in sys.path if place and Path(place).resolve() != here.parent)]
    for module in [name for name in sys.modules if name.partition(".")[0] in ("tests", "firewall")]:
        del sys.modules[module]
    import firewall

    if not Path(firewall.__file__).is_relative_to(here):
        raise ImportError(f"{firewall.__file__} would be tested, not the mutants in {here}")
    firewall.__path__.append(str(Path(sysconfig.get_path("platlib")) / "firewall"))


if __name__ == "__main__":
    sys.exit(main())
