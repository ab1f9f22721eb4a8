"""The options of `firewall gate`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from firewall.bundle.cli import AllowUnsigned, TrustedKeys
from firewall.bundle.patch_options import Patches, PatchRule, Tau, asked_of_patches
from firewall.bundle.value_options import Values
from firewall.errors import UsageError
from firewall.host.core_option import CoreNumbers

__all__ = ["gate_command"]


def gate_command(say: Callable[[str], None]) -> Callable[..., None]:
    """The command.

    Args:
        say: Prints one line for the operator.
    """

    def gate(
        http: Annotated[str, typer.Option(metavar="HOST:PORT", help="Where clients connect.")] = "127.0.0.1:8000",
        upstream: Annotated[
            str | None,
            typer.Option(metavar="URL", help="Model server whose labels are answered: Triton, KServe, MLServer."),
        ] = None,
        model: Annotated[
            str | None,
            typer.Option(metavar="NAME", help="The upstream's model; without one, what the bundle is called here."),
        ] = None,
        token: Annotated[
            str | None,
            typer.Option(metavar="FILE|env:NAME", help="Bearer tokens, one a line; 'name token' names the client."),
        ] = None,
        tls_cert: Annotated[Path | None, typer.Option(metavar="FILE", help="Certificate for HTTPS, PEM.")] = None,
        tls_key: Annotated[Path | None, typer.Option(metavar="FILE", help="Its private key, PEM.")] = None,
        client_ca: Annotated[
            Path | None, typer.Option(metavar="FILE", help="Clients need a certificate that these signed, PEM.")
        ] = None,
        http_name: Annotated[
            list[str] | None,
            typer.Option(metavar="NAME", help="A host name that it may be asked by, besides addresses; repeatable."),
        ] = None,
        metrics: Annotated[
            str | None, typer.Option(metavar="HOST:PORT", help="Where /metrics is served.  \\[default: nowhere]")
        ] = None,
        bundle: Annotated[str, typer.Option(help="'default' or the folder of a bundle.")] = "default",
        trust: TrustedKeys = None,
        allow_unsigned: AllowUnsigned = None,
        floats: Annotated[
            str, typer.Option(help="What float tensors hold: 255 (0..255), 1 (0..1), network (as the classifier).")
        ] = "255",
        upstream_output: Annotated[
            str | None, typer.Option(metavar="NAME", help="The upstream's output with scores or labels.")
        ] = None,
        upstream_layout: Annotated[
            str | None, typer.Option(metavar="NHWC|NCHW", help="The upstream's, where its metadata don't tell.")
        ] = None,
        upstream_ca: Annotated[
            Path | None, typer.Option(metavar="FILE", help="Who signed the upstream's certificate, PEM.")
        ] = None,
        max_body: Annotated[int, typer.Option(min=1, help="Bytes of a request.")] = 8 << 20,
        max_batch: Annotated[int, typer.Option(min=1, max=1024, help="Images in a request.")] = 32,
        max_pixels: Annotated[int, typer.Option(min=1, help="Pixels in a request.")] = 1 << 22,
        concurrency: Annotated[
            int, typer.Option(min=1, max=4096, help="Requests in hand; one client may have half of them.")
        ] = 32,
        rate: Annotated[float, typer.Option(min=0, help="Images a second of one client; 0 = no limit.")] = 200.0,
        timeout: Annotated[
            float, typer.Option(min=0.01, max=600, help="Seconds from a whole request to its answer.")
        ] = 5.0,
        probing_after: Annotated[
            int, typer.Option(min=0, help="Near-identical images within 10 minutes that are probing; 0 = don't look.")
        ] = 100,
        withhold_probing: Annotated[
            bool, typer.Option("--withhold-probing", help="Withhold the labels of images that probe.")
        ] = False,
        patches: Patches = None,
        tau: Tau = None,
        patch_rule: PatchRule = None,
        values: Values = None,
        device: Annotated[str, typer.Option(help="Device of the classifier: cpu, cuda or tensorrt.")] = "cpu",
        sweep_key: Annotated[
            str | None, typer.Option(metavar="FILE|env:NAME", help="Secret that keyed sweeps are drawn by.")
        ] = None,
        threads: Annotated[int, typer.Option(min=0, max=256, help="Threads of the classifier; 0 = one per core.")] = 0,
        cores: CoreNumbers = None,
    ) -> None:
        """Guard a model server: the Open Inference Protocol v2, with a label only where the image is judged benign."""
        from firewall.bundle import PatchSpec
        from firewall.bundle.values import eps_of
        from firewall.gate.command import GateSettings
        from firewall.gate.command import gate as run
        from firewall.gate.gate import GateLimits

        asked = asked_of_patches(patches, tau, patch_rule)
        if withhold_probing and not probing_after:
            raise UsageError("--withhold-probing needs --probing-after above 0")
        run(
            GateSettings(
                http=http,
                http_names=tuple(http_name or ()),
                metrics=metrics,
                bundle=bundle,
                trust=trust,
                allow_unsigned=allow_unsigned,
                model=model,
                upstream=upstream,
                upstream_ca=upstream_ca,
                upstream_output=upstream_output,
                upstream_layout=upstream_layout,
                floats=floats,
                token=token,
                tls_cert=tls_cert,
                tls_key=tls_key,
                client_ca=client_ca,
                probing_after=probing_after,
                withhold_probing=withhold_probing,
                patches=None if asked is None else PatchSpec.model_validate(asked),
                values=None if values is None else eps_of(values, "--values"),
                device=device,
                threads=threads,
                cores=cores,
                sweep_key=sweep_key,
                limits=GateLimits(
                    body=max_body,
                    images=max_batch,
                    pixels=max_pixels,
                    in_hand=concurrency,
                    rate=rate,
                    time=timeout,
                ),
            ),
            say,
        )

    return gate
