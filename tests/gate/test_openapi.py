"""The gate is what its OpenAPI description says, also for requests that nobody thought of."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from firewall.gate.judge import Judge
from firewall.gate.openapi import description
from firewall.gate.refusal import Code
from tests.gate.asking import MODEL, ask, make_gate, served


def test_it_is_served_and_printed(judge: Judge) -> None:
    """As JSON, with every refusal under its status; the served one names the model."""
    with served(make_gate(judge)) as server:
        found = ask(server, path="/openapi.json").json
    assert found == description(MODEL, [str(judge.guard.bundle.manifest.version)])
    answers = found["paths"]["/v2/models/{model}/infer"]["post"]["responses"]
    for code in Code:
        assert code.text in answers[str(code.status)]["description"]
    line = [sys.executable, "-m", "firewall", "schema", "gate"]
    printed = subprocess.run(line, check=True, capture_output=True, timeout=100).stdout
    assert json.loads(printed) == description()


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_fuzzer_finds_nothing(judge: Judge, tmp_path: Path) -> None:
    """schemathesis: no 500, no status, header or body that isn't described, no malformed request that is taken.

    One of its checks is left out: that every request which fits the schema is accepted. JSON Schema can't say that a
    shape has as many elements as there are data.
    """
    pytest.importorskip("schemathesis")
    with served(make_gate(judge)) as server:
        command = [
            str(Path(sys.executable).with_name("schemathesis")),
            *("run", f"{server.url}openapi.json", "--phases", "coverage,fuzzing", "--max-examples", "10"),
            *("--checks", "all", "--exclude-checks", "positive_data_acceptance", "--seed", "1", "--no-color"),
            *("--request-timeout", "60"),
        ]
        done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=tmp_path, timeout=280)
        assert done.returncode == 0, done.stdout[-4000:]
        assert "Tested: 9" in done.stdout
        assert ask(server, path="/v2/health/ready").status == 200
