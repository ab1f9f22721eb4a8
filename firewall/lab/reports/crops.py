"""The page of `firewall lab evaluate attacks --html`: rates, families, what was released wrongly, all in one file."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from jinja2 import Environment, StrictUndefined

from firewall.lab.database.shards import write_file
from firewall.lab.evaluation.crops.measuring import Measured
from firewall.lab.reports.pictures import pixels_uri

__all__ = ["write"]


def write(measured: Measured, out: Path) -> None:
    """Write the page of an evaluation to the HTML file `out`."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    folder = resources.files("firewall.lab.reports")
    summary = measured.summary
    page = environment.from_string(folder.joinpath("crops.html.j2").read_text(encoding="utf-8")).render(
        style=folder.joinpath("style.css").read_text(encoding="utf-8"),
        summary=summary,
        benign=summary["benign"],
        about=summary["about"],
        rates=list(summary["thresholds"]["at"]),
        wrong=[
            (attack, [(pixels_uri(each.image), each.label, each.released) for each in images])
            for attack, images in measured.wrong.items()
            if images
        ],
    )
    write_file(out, page.encode())
