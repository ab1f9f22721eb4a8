"""A gate in this process, over real sockets."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from firewall import Firewall
from firewall.gate.gate import Gate
from firewall.gate.judge import Judge
from firewall.server import HttpServer
from tests.gate.asking import make_gate, served


@pytest.fixture(scope="session")
def judge(guard: Firewall) -> Iterator[Judge]:
    """The tests' firewall in the gate's thread; tests of one worker don't run at the same time."""
    judge = Judge(guard)
    yield judge
    judge.close()


@pytest.fixture(scope="session")
def gate(judge: Judge) -> Gate:
    """A gate without an upstream."""
    return make_gate(judge)


@pytest.fixture(scope="session")
def server(gate: Gate) -> Iterator[HttpServer]:
    """It, on a free port."""
    with served(gate) as server:
        yield server
