"""`firewall lab certify ...`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from firewall.errors import FirewallError

__all__ = ["certify_app"]

certify_app = typer.Typer(
    help="Prove what no attack within a stated budget can do, and bound what attacks did.", no_args_is_help=True
)

Bundle = Annotated[str, typer.Option(help="'default' or the folder of a bundle.")]
Json = Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the result as JSON.")]


@certify_app.command("firewall")
def certify_firewall(
    evaluation: Annotated[
        list[Path],
        typer.Option(metavar="FILE", help="JSON of 'lab evaluate --database' of this bundle; may be given repeatedly."),
    ],
    bundle: Bundle = "default",
    confidence: Annotated[float, typer.Option(help="Of each bound.")] = 0.95,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write the bundle with it; may be the bundle's own folder.")
    ] = None,
    json_file: Json = None,
) -> None:
    """Exact bounds on false alarms, and on misses by attack and by family of attacks; what they do not cover."""
    from firewall.bundle import load_bundle
    from firewall.certificate import CERTIFICATE_FILE
    from firewall.lab.certification.whole import certify
    from firewall.lab.over_time import with_file

    loaded = load_bundle(bundle)
    spec = certify(loaded, evaluation, confidence=confidence)
    if out is not None:
        with_file(loaded, out, CERTIFICATE_FILE, spec)
    tell(spec.model_dump(mode="json"), json_file)


def tell(result: object, json_file: Path | None) -> None:
    """Write `result` as JSON, to stdout if no file is named. Raises FirewallError if the file can't be written."""
    text = json.dumps(result, indent=1) + "\n"
    if json_file is None:
        typer.echo(text, nl=False)
        return
    try:
        json_file.parent.mkdir(parents=True, exist_ok=True)
        json_file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise FirewallError(f"can't write {json_file}: {error.strerror}") from error
