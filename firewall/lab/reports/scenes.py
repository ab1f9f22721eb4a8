"""The page of `firewall lab evaluate scenes --html`: figures; pictures of every miss, wrong release and phantom."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from jinja2 import Environment, StrictUndefined

from firewall.lab.database.shards import write_file
from firewall.lab.evaluation.scenes.measuring import Measured
from firewall.lab.reports.pictures import photo_uri

__all__ = ["write"]

#: What is shown first.
_ORDER = ("phantoms", "released wrong", "released on another sign", "missed", "withheld")


def write(measured: Measured, out: Path) -> None:
    """Write the page of an evaluation to the HTML file `out`."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    folder = resources.files("firewall.lab.reports")
    groups: dict[str, list[tuple[str, str, str]]] = {kind: [] for kind in _ORDER}
    for each in measured.shown:
        groups.setdefault(each.kind, []).append((photo_uri(each.image), each.where, each.caption))
    page = environment.from_string(folder.joinpath("scenes.html.j2").read_text(encoding="utf-8")).render(
        style=folder.joinpath("style.css").read_text(encoding="utf-8"),
        found=measured.summary,
        about=measured.summary["about"],
        groups=[(kind, pictures) for kind, pictures in groups.items() if pictures],
    )
    write_file(out, page.encode())
