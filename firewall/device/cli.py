"""`firewall device`: have systemd start the guard with the machine, and ask a running guard how it is."""

from __future__ import annotations

import http.client
from pathlib import Path
from typing import Annotated

import typer

from firewall.errors import FirewallError, UsageError
from firewall.host.output import print_line, readable

__all__ = ["device_app"]

device_app = typer.Typer(
    help="Have the guard start with the machine (systemd), and ask a running one how it is.",
    no_args_is_help=True,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@device_app.command()
def install(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="Its settings are in /etc/perception-firewall/NAME.yaml.")
    ],
    root: Annotated[
        Path, typer.Option(metavar="DIR", help="The file system to place it in, for an image that is being built.")
    ] = Path("/"),
    python: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The Python that has the package there.  \\[default: this one]")
    ] = None,
) -> None:
    """Place the systemd unit perception-firewall@NAME and print the commands that start it."""
    from firewall.device.unit import install as place

    placed = place(name, root=root, python=python)
    for file in placed.files:
        print_line(readable(f"# placed {file}"))
    for command in placed.next:
        print_line(command)


@device_app.command()
def health(
    address: Annotated[
        str | None,
        typer.Option(
            "--http",
            metavar="HOST:PORT",
            help="Address of the live page.  \\[default: $FIREWALL_HTTP or 127.0.0.1:8080]",
        ),
    ] = None,
    ready: Annotated[
        bool, typer.Option("--ready", help="Ask if frames are judged, not only if the guard is alive.")
    ] = False,
    timeout: Annotated[float, typer.Option(min=0.1, max=60, help="Longest wait for the answer, in seconds.")] = 5.0,
) -> None:
    """Ask the guard on this machine whether it is alive, for HEALTHCHECK of a container. Exit code 1 if it isn't."""
    from firewall.config import load_settings
    from firewall.server import parse_address

    where = load_settings(http=address).http
    if where == "off":
        raise UsageError("the guard has no page (http is 'off'), so its health can't be asked; name it with --http")
    host, port = parse_address(where)
    # A guard that listens on all addresses is asked at this machine's own.
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - nothing is bound here
    path = "/v2/health/ready" if ready else "/v2/health/live"
    connection = http.client.HTTPConnection(host, port, timeout=timeout)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        said = answer.read(100_000).decode("utf-8", "replace")
    except (OSError, http.client.HTTPException) as error:
        raise FirewallError(f"no answer from http://{where}{path}: {str(error) or type(error).__name__}") from error
    finally:
        connection.close()
    print_line(readable(" ".join(said.split())))
    if answer.status != http.client.OK:
        raise FirewallError(f"http://{where}{path} answered {answer.status}")
