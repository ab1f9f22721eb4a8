"""The part of the page of certificates on changes of every value: `firewall lab certify linf`."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined

__all__ = ["html", "sort"]


def sort(found: dict[str, Any], path: Path, content: Any) -> bool:
    """Take a result of `firewall lab certify linf`, whole or without its rows, into found["linf"].

    Args:
        found: Results by kind, changed in place.
        path: The file.
        content: What is in it.

    Returns:
        Whether it is one.

    Raises:
        KeyError: It is one, and something is missing in it.
    """
    about = content.get("about") if isinstance(content, dict) else None
    if not isinstance(about, dict) or not {"eps", "attack", "beside"} <= about.keys():
        return False
    entry = {"file": path.name, "about": about, "summary": content["summary"], "images": about["images"]}
    found["linf"].append(entry)
    found["linf"].sort(key=lambda each: (str(each["about"]["classifier"]), float(each["about"]["eps"])))
    return True


def html(results: list[dict[str, Any]]) -> str:
    """The table, and what a guard may promise.

    Args:
        results: found["linf"].

    Returns:
        HTML, escaped.
    """
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    text = resources.files("firewall.lab.reports").joinpath("certify_norms.html.j2").read_text(encoding="utf-8")
    return environment.from_string(text).render(results=results)
