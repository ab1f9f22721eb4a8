"""`python -m benchmarks.papers pages`: one page for each paper, its numbers beside ours, and an index.

The numbers come from files that other commands write, one for each method; nothing is measured here.
"""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any, Literal

from jinja2 import Environment, StrictUndefined
from matplotlib.figure import Figure as Picture
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from firewall.errors import DataError
from firewall.lab.database.shards import write_file
from firewall.lab.reports.pictures import data_uri

__all__ = ["Figure", "Measured", "Paper", "Row", "Table", "read_paper", "write"]

_HERE = Path(__file__).parent


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Measured(_Entry):
    """A share 0..1 of n images, with its 95 % interval where there is one."""

    value: float = Field(ge=0, le=1)
    low: float | None = Field(None, ge=0, le=1)
    high: float | None = Field(None, ge=0, le=1)
    n: int = Field(ge=1)


class Row(_Entry):
    """A row of a table.

    Args:
        key: One text for each of the table's key columns.
        theirs: As the paper prints it.
        same: Ours with the paper's protocol.
        honest: Ours with splits by track and thresholds on benign images that are not measured.
    """

    key: tuple[str, ...]
    theirs: str | None = None
    same: Measured | None = None
    honest: Measured | None = None


class Table(_Entry):
    """columns: names of the key columns."""

    title: str
    note: str = ""
    columns: tuple[str, ...] = Field(min_length=1)
    rows: tuple[Row, ...]

    @model_validator(mode="after")
    def _keys_fit(self) -> Table:
        for row in self.rows:
            if len(row.key) != len(self.columns):
                raise ValueError(
                    f"a row of table {self.title!r} has the key {row.key}; it needs {len(self.columns)} parts"
                )
        return self


class Figure(_Entry):
    """x: positions, or names of bars. series: by name, as long as x."""

    title: str
    kind: Literal["histogram", "lines", "bars"]
    x: tuple[float, ...] | tuple[str, ...]
    series: dict[str, tuple[float | None, ...]]
    xlabel: str = ""
    ylabel: str = ""
    caption: str = ""

    @model_validator(mode="after")
    def _lengths_fit(self) -> Figure:
        for name, values in self.series.items():
            if len(values) != len(self.x) and not (self.kind == "histogram" and len(values) == len(self.x) - 1):
                raise ValueError(
                    f"series {name!r} of figure {self.title!r} has {len(values)} values for {len(self.x)} places"
                )
        return self


class Paper(_Entry):
    """What `benchmarks/results/papers/NAME.json` holds. Further keys are not shown on the page."""

    model_config = ConfigDict(extra="ignore", frozen=True, allow_inf_nan=False)

    method: str
    paper: str
    differences: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()
    figures: tuple[Figure, ...] = ()
    commands: tuple[str, ...] = ()


def read_paper(path: Path) -> Paper:
    """A paper's results.

    Args:
        path: The file.

    Returns:
        The results.

    Raises:
        DataError: The file is missing or of another form.
    """
    try:
        return Paper.model_validate_json(path.read_bytes())
    except OSError as error:
        raise DataError(f"can't read {path}: {error.strerror}") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the whole"
        raise DataError(f"{path} is no paper's results: {where}: {first['msg']}; make it again") from error


def write(results: Path, out: Path) -> list[Path]:
    """Write a page for each paper, and index.html.

    Args:
        results: Folder of the `*.json`.
        out: Folder of the pages.

    Returns:
        The pages' paths.

    Raises:
        DataError: There is no result, or one is not of the form of Paper.
    """
    files = sorted(results.glob("*.json")) if results.is_dir() else []
    if not files:
        raise DataError(f"{results} holds no results of papers (*.json); make them with 'python -m benchmarks.papers'")
    papers = {path.stem: read_paper(path) for path in files}
    environment = _environment()
    out.mkdir(parents=True, exist_ok=True)
    written = []
    for name, paper in papers.items():
        figures = [{**figure.model_dump(), "picture": data_uri(_drawn(figure))} for figure in paper.figures]
        shown = [[name for name in _TITLES if _any(table, name)] for table in paper.tables]
        page = environment.from_string(_text("paper.html.j2")).render(
            paper=paper, figures=figures, shown=shown, titles=_TITLES, style=_style()
        )
        written.append(out / f"{name}.html")
        write_file(written[-1], page.encode())
    rows = {name: [row for table in paper.tables for row in table.rows] for name, paper in papers.items()}
    entries = [
        {
            "file": f"{name}.html",
            "paper": paper,
            "rows": len(rows[name]),
            "honest": sum(row.honest is not None for row in rows[name]),
        }
        for name, paper in papers.items()
    ]
    index = environment.from_string(_text("index.html.j2")).render(entries=entries, style=_style())
    write_file(out / "index.html", index.encode())
    return [out / "index.html", *written]


_TITLES = {"theirs": "theirs", "same": "ours, same protocol", "honest": "ours, honest protocol"}


def _any(table: Table, name: str) -> bool:
    """Whether the column has any number, so that it is worth its place."""
    return any(getattr(row, name) is not None for row in table.rows)


def _environment() -> Environment:
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["bare"] = _bare
    environment.filters["percent"] = lambda value: f"{_bare(value)} %"
    return environment


def _bare(value: float) -> str:
    """A share in per cent: two decimals, as the papers print them."""
    return f"{100 * value:.2f}"


def _style() -> str:
    return resources.files("firewall.lab.reports").joinpath("style.css").read_text(encoding="utf-8")


def _text(name: str) -> str:
    return _HERE.joinpath(name).read_text(encoding="utf-8")


def _drawn(figure: Figure) -> Picture:
    picture = Picture(figsize=(7.2, 4.0), layout="constrained")
    axes = picture.subplots()
    places: Any = list(range(len(figure.x))) if figure.kind == "bars" else list(figure.x)
    for number, (name, values) in enumerate(figure.series.items()):
        heights = [float("nan") if value is None else value for value in values]
        if figure.kind == "lines":
            axes.plot(places, heights, marker="o", markersize=3, linewidth=1.4, label=name)
        elif figure.kind == "bars":
            width = 0.8 / len(figure.series)
            axes.bar([place - 0.4 + (number + 0.5) * width for place in places], heights, width, label=name)
        elif len(heights) == len(places) - 1:
            axes.stairs(heights, places, fill=number == 0, alpha=0.6 if number == 0 else 1.0, label=name)
        else:
            axes.step(places, heights, where="mid", label=name)
    if figure.kind == "bars":
        long = max((len(str(name)) for name in figure.x), default=0) * len(figure.x) > 80
        axes.set_xticks(
            places, [str(name) for name in figure.x], rotation=45 if long else 0, ha="right" if long else "center"
        )
    axes.set(xlabel=figure.xlabel, ylabel=figure.ylabel)
    axes.grid(axis="y", linewidth=0.4, alpha=0.6)
    axes.set_axisbelow(True)
    if len(figure.series) > 1:
        axes.legend(fontsize="small")
    return picture
