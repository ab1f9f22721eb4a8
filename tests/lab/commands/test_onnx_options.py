"""The options that say how an ONNX file reads pixels: defined once, the same in every command that has them."""

from __future__ import annotations

from typing import Annotated, Any

import pytest
import typer
from typer.testing import CliRunner

from firewall.export.cli import app as export
from firewall.lab.cli import app as lab
from firewall.lab.commands.onnx_options import Wiring, with_wiring

_NAMES = ("labels", "size", "preparation", "channels", "range", "mean", "std", "output", "accept-preparation")


def _parameters(app: typer.Typer, command: str) -> dict[str, Any]:
    """Option -> what a user sees of it: help, default, form."""
    group: Any = typer.main.get_command(app)
    return {
        one.opts[0].removeprefix("--"): (one.help, one.default, one.metavar) for one in group.commands[command].params
    }


def test_both_commands_have_them_all() -> None:
    """`lab calibrate` and `export bundle` take the same nine options, with the same help and defaults."""
    calibrating, exporting = _parameters(lab, "calibrate"), _parameters(export, "bundle")

    assert set(_NAMES) <= set(calibrating)
    assert {name: calibrating[name] for name in _NAMES} == {name: exporting[name] for name in _NAMES}


@pytest.mark.parametrize(
    ("given", "options", "accepted"),
    [
        ((), {}, False),
        (("--range", "255", "--mean", "1,2,3"), {"range": "255.0", "mean": "1,2,3"}, False),
        (("--labels", "l.txt", "--size", "8x9", "--preparation", "caffe", "--channels", "bgr", "--std", "2"),
         {"labels": "l.txt", "size": "8x9", "preparation": "caffe", "channels": "bgr", "std": "2"}, False),
        (("--output", "y", "--accept-preparation"), {"output": "y"}, True),
    ],
)  # fmt: skip
def test_what_is_given_reaches_the_command(given: tuple[str, ...], options: dict[str, str], accepted: bool) -> None:
    """Each option under the name that the reader of ONNX files knows it by, those not given left out; the command's own
    options beside them as before."""
    seen: list[tuple[str, Wiring, int]] = []
    own = typer.Typer()

    @own.command()
    @with_wiring
    def command(*, first: Annotated[str, typer.Option()], wiring: Wiring, last: int = 3) -> None:
        seen.append((first, wiring, last))

    result = CliRunner().invoke(own, ["--first", "a", "--last", "7", *given])
    assert result.exit_code == 0, result.output
    assert seen == [("a", Wiring(options, accepted), 7)]
