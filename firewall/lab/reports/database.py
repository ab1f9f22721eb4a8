"""`firewall lab report database`: a page and tables on adversarial databases."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any, get_args

import numpy as np
import numpy.typing as npt
from jinja2 import Environment, StrictUndefined

from firewall.lab.database import Attacked, Database
from firewall.lab.database.card import Split
from firewall.lab.database.exporting import png
from firewall.lab.database.shards import write_file
from firewall.lab.measurement import metrics

__all__ = ["write"]

#: How much the difference of two images is enlarged.
GAIN = 20
_EXAMPLES = 3
_SHOWN = 160  # pixels that an example is wide at least


def write(databases: Sequence[Database], out: Path) -> tuple[Path, Path]:
    """Write a page and its tables as Markdown.

    Several databases also get a table of successes by attack and classifier, like the paper's table 1.

    Args:
        databases: One or more.
        out: The HTML file, which needs no others.

    Returns:
        The paths of the page and of the Markdown beside it.
    """
    parts = [_facts(database) for database in databases]
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    source = resources.files("firewall.lab.reports").joinpath("database.html.j2").read_text(encoding="utf-8")
    write_file(out, environment.from_string(source).render(parts=parts, table=_table(parts), gain=GAIN).encode())
    markdown = out.with_suffix(".md")
    text = [_markdown(part) for part in parts]
    write_file(markdown, "\n".join([_markdown_table(parts), *text] if len(parts) > 1 else text).encode())
    return out, markdown


def _table(parts: list[dict[str, Any]]) -> list[tuple[str, list[str]]]:
    """Kept of attempted by attack (rows) and database (columns)."""
    attacks = dict.fromkeys(row["attack"] for part in parts for row in part["rows"])
    tried = [[row for row in part["rows"] if row["attempted"]] for part in parts]
    cells = [{row["attack"]: f"{row['kept']} / {row['attempted']}" for row in rows} for rows in tried]
    return [(attack, [column.get(attack, "-") for column in cells]) for attack in attacks]


def _markdown_table(parts: list[dict[str, Any]]) -> str:
    heads = [f"{part['card'].classifier.name}, {part['card'].dataset.name}" for part in parts]
    lines = [
        "# Attack success by attack and classifier: kept / attempted",
        "",
        "| attack | " + " | ".join(heads) + " |",
    ]
    lines.append("| --- " * (1 + len(heads)) + "|")
    lines += [f"| {attack} | " + " | ".join(cells) + " |" for attack, cells in _table(parts)]
    return "\n".join([*lines, ""])


def _facts(database: Database) -> dict[str, Any]:
    card = database.card
    rows, examples = [], []
    splits: dict[str, list[int]] = {name: [int(database.where(name).sum())] for name in get_args(Split)}
    for attack, parameters in card.attacks.items():
        attacked = database.attacked(attack)
        rows.append(_row(attack, parameters, attacked))
        for name, counts in splits.items():
            counts.append(sum(database.split_of(entry) == name for entry in attacked.entries))
        examples.append({"attack": attack, "pictures": _examples(database, attacked)})
    return {
        "card": card,
        "rows": rows,
        "splits": splits,
        "examples": examples,
        "accuracy": len(card.normal) / card.looked_at,
    }


def _row(attack: str, parameters: dict[str, Any], attacked: Attacked) -> dict[str, Any]:
    count = len(attacked.entries)
    low, high = metrics.rate_interval(count, attacked.attempted) if attacked.attempted else (0.0, 1.0)
    mean = (
        {name: float(np.mean([getattr(entry, name) for entry in attacked.entries])) for name in _MEANS} if count else {}
    )
    shown = {key: value for key, value in parameters.items() if key not in ("name", "kind", "chunk")}
    return {
        "attack": attack,
        "parameters": ", ".join(f"{key} {_short(value)}" for key, value in shown.items()),
        "attempted": attacked.attempted,
        "kept": count,
        "share": count / attacked.attempted if attacked.attempted else None,
        "interval": (low, high),
        "seconds": attacked.seconds / attacked.attempted if attacked.attempted else None,
        **{name: mean.get(name) for name in _MEANS},
    }


_MEANS = ("linf", "l2", "changed", "probability")


def _short(value: object) -> str:
    if isinstance(value, dict):
        return " ".join(f"{key}={_short(part)}" for key, part in value.items())
    return f"{value:g}" if isinstance(value, float) else str(value)


def _examples(database: Database, attacked: Attacked) -> list[dict[str, Any]]:
    card = database.card
    pictures = []
    for entry, image in list(zip(attacked.entries, attacked.images, strict=True))[:_EXAMPLES]:
        normal = database.normal[entry.normal]
        change = np.clip(128 + GAIN * (image.astype(np.int16) - normal), 0, 255).astype(np.uint8)
        label = card.normal[entry.normal].label
        wrong = entry.top5[0]
        pictures.append(
            {
                "source": card.normal[entry.normal].source,
                "label": card.labels[label],
                "named": card.labels[wrong] if 0 <= wrong < len(card.labels) else f"class {wrong}",
                "probability": entry.probability,
                "images": [_data_uri(picture) for picture in (normal, image, change)],
                "width": max(_SHOWN, normal.shape[1]),
            }
        )
    return pictures


def _data_uri(image: npt.NDArray[np.uint8]) -> str:
    return "data:image/png;base64," + base64.b64encode(png(image)).decode()


def _markdown(facts: dict[str, Any]) -> str:
    card = facts["card"]
    lines = [
        f"# Adversarial database: {card.dataset.name}, {card.classifier.name}",
        "",
        f"Classifier SHA-256: {card.classifier.sha256}.",
        f"Benign images: {len(card.normal)} that it gets right, of {card.looked_at} looked at.",
        "Kept: attacked images that still fool it after rounding to 8 bits, storing and reading again.",
        "",
        "| attack | attempted | kept | share (95 %) | mean linf | mean L2 | pixels changed | s an image, one thread |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in facts["rows"]:
        low, high = row["interval"]
        cells = [row["attack"], str(row["attempted"]), str(row["kept"])]
        cells.append("-" if row["share"] is None else f"{row['share']:.3f} ({low:.3f} - {high:.3f})")
        cells.append("-" if row["linf"] is None else f"{row['linf'] * 255:.1f} / 255")
        cells.append("-" if row["l2"] is None else f"{row['l2']:.3f}")
        cells.append("-" if row["changed"] is None else f"{row['changed']:.3f}")
        cells.append("-" if row["seconds"] is None else f"{row['seconds']:.3g}")
        lines.append("| " + " | ".join(cells) + " |")
    lines += ["", "| split | normal | " + " | ".join(row["attack"] for row in facts["rows"]) + " |"]
    lines.append("| --- " * (2 + len(facts["rows"])) + "|")
    lines += [f"| {name} | " + " | ".join(map(str, counts)) + " |" for name, counts in facts["splits"].items()]
    lines += ["", f"Data: {card.dataset.citation} Licence: {card.dataset.licence}", ""]
    return "\n".join(lines)
