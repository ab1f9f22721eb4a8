"""Options that several commands have."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

__all__ = [
    "Attacks",
    "AttacksOn",
    "Bundle",
    "Classifier",
    "Data",
    "DetectorFolder",
    "Json",
    "Seed",
    "Split",
    "Threads",
    "Work",
    "Workers",
    "names_of",
    "with_options",
]

Bundle = Annotated[str, typer.Option(help="'default' or the folder of a bundle.")]
Classifier = Annotated[str, typer.Option(help="The classifier that the database was made on.")]
AttacksOn = Annotated[Path, typer.Option(metavar="DB", help="Made by 'firewall lab attack' on the classifier.")]
Attacks = Annotated[str, typer.Option(help="Attacks of the database to learn from, with commas.  [default: all]")]
Data = Annotated[
    Path | None,
    typer.Option(help="Folder of the data sets and classifiers.  [default: $FIREWALL_DATA, data, ../shared/data]"),
]
DetectorFolder = Annotated[Path, typer.Option(help="Folder of the trained detector.")]
Json = Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the result as JSON.")]
Seed = Annotated[int, typer.Option(min=0, help="Seed of all random choices.")]
Split = Annotated[str, typer.Option(help="Images to evaluate on: train, dev or eval, several with commas, or all.")]
Threads = Annotated[int, typer.Option(min=1, help="Threads of torch.")]
Work = Annotated[
    Path,
    typer.Option(metavar="DIR", help="Attacked images and verdicts are kept here; a stopped run goes on with them."),
]
Workers = Annotated[int, typer.Option(min=0, help="Processes that prepare training images.")]


def names_of(text: str) -> tuple[str, ...]:
    """The names in "a,b, c"; none in an empty text."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


def with_options(name: str, gathered: Callable[..., object]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Options that several commands have, as one argument of each.

    Typer reads a command's options from its signature, so the command that it sees has those of `gathered` in the place
    of the parameter.

    Args:
        name: The parameter's name.
        gathered: Takes the options by name, each with a default, and makes one object of them.

    Returns:
        A decorator for commands with this parameter.
    """
    options = inspect.signature(gathered, eval_str=True).parameters

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        own = inspect.signature(command, eval_str=True).parameters

        @functools.wraps(command)
        def called(**given: Any) -> None:
            made = gathered(**{option: given.pop(option) for option in options})
            command(**given, **{name: made})

        parameters = [each for key, one in own.items() for each in (options.values() if key == name else (one,))]
        vars(called)["__signature__"] = inspect.Signature(parameters)
        called.__annotations__ = {one.name: one.annotation for one in parameters}
        return called

    return decorate
