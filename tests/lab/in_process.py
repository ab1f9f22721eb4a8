"""`firewall lab ...` in the tests' own process: what a command prints and its exit code, without a start of torch each.

That a real process does the same is held by the databases of tests/lab/conftest.py, which are made by one.
"""

from __future__ import annotations

import io
from contextlib import redirect_stderr, redirect_stdout
from subprocess import CompletedProcess

from firewall import cli
from firewall.lab.cli import app

__all__ = ["lab"]


def lab(*arguments: object) -> CompletedProcess[str]:
    """Exit code, stdout and stderr of the command."""
    line = [str(argument) for argument in arguments]
    with redirect_stdout(io.StringIO()) as out, redirect_stderr(io.StringIO()) as err:
        code = cli.run(app, line, "firewall lab")
    return CompletedProcess(line, code, out.getvalue(), err.getvalue())
