"""`firewall lab attack adaptive`."""

from __future__ import annotations

from typing import Annotated

import typer

from firewall.errors import UsageError
from firewall.lab.commands.options import Bundle, Data, Json, Seed, Threads
from firewall.lab.commands.output import write_json

__all__ = ["attack_adaptive"]


def attack_adaptive(
    dataset: Annotated[
        str,
        typer.Option(help="gtsrb, cifar10, nips17 ... or folder:PATH; a part behind it, as in gtsrb/kept-out."),
    ],
    bundle: Bundle = "default",
    norm: Annotated[str, typer.Option(help="What bounds the change: linf or l2.")] = "linf",
    eps: Annotated[
        float, typer.Option(help="How far: for linf in 1/255, for l2 the length over the whole crop, values 0 to 1.")
    ] = 4.0,
    limit: Annotated[int, typer.Option(min=1, help="How many images; one of each track before a second of any.")] = 100,
    method: Annotated[
        str,
        typer.Option(
            help="hinge, sum, orthogonal, selective, worst: by gradients of the whole firewall; all: these in turn. "
            "search: by its suspicion, without gradients. decision: seeing only what it releases."
        ),
    ] = "all",
    subspace: Annotated[
        str,
        typer.Option(
            help="What the change is made of: pixels, low-frequency; with --method decision also boundary (a walk of "
            "noise from other signs' pictures); with search and decision --family's names.  [default: pixels; for "
            "search and decision low-frequency]"
        ),
    ] = "",
    family: Annotated[
        str,
        typer.Option(
            help="What lies on the sign, which --eps doesn't bound: shadow, two-bars, dirt, drops or another draw; "
            "any: all four. Searched for with the firewall's own scores, or with --method decision without them."
        ),
    ] = "",
    frequencies: Annotated[
        int, typer.Option(min=1, help="By gradient in the low-frequency subspace: rows and columns of the cosines.")
    ] = 12,
    steps: Annotated[int, typer.Option(min=1, help="Steps by gradient, for each way, target and start.")] = 60,
    restarts: Annotated[int, typer.Option(min=1, help="Starts for each target class.")] = 2,
    targets: Annotated[int, typer.Option(min=1, help="Wrong classes that are aimed at to the end.")] = 3,
    copies: Annotated[
        int, typer.Option(min=0, help="Transformed copies in each step, drawn at random; 0: all of a detector's.")
    ] = 5,
    queries: Annotated[int, typer.Option(min=1, help="For search and decision: images shown to the firewall.")] = 1000,
    through: Annotated[
        str,
        typer.Option(
            help="A channel that images go through before the attack, such as contrast-15 or jpeg-75; --eps counts "
            "from there, and the classifier has to be right there."
        ),
    ] = "",
    min_side: Annotated[int, typer.Option(min=0, help="Only images whose shorter side has so many pixels.")] = 0,
    seed: Seed = 0,
    threads: Threads = 1,
    data: Data = None,
    json_file: Json = None,
) -> None:
    """Attack a whole firewall, knowing all of it, at the images' own size; what the real firewall releases counts.

    Success: the image, rounded to 8 bits, is released with a wrong label. The wrong-release rate and a row for each
    image go to the JSON file, the attacked images to a folder beside it.

    Stop it at any time; with --json the same command goes on from the last image.
    """
    import torch

    from firewall.bundle import load_bundle
    from firewall.lab.attacks.adaptive import Attacker, Plan
    from firewall.lab.attacks.adaptive.ball import NORMS, Ball
    from firewall.lab.attacks.adaptive.descent import WAYS
    from firewall.lab.attacks.adaptive.search import EVERY, Search
    from firewall.lab.attacks.adaptive.whole import Walk
    from firewall.lab.attacks.channels import parse_channel
    from firewall.lab.certification.journal import Journal
    from firewall.lab.datasets.obstructions import DRAWS
    from firewall.lab.evaluation.adaptive_attack import attack_bundle, open_images, received, settings_of, victims

    if norm not in NORMS:
        raise UsageError(f"--norm must be one of {', '.join(NORMS)}, got {norm!r}")
    if not 0 < eps < 1e6:
        raise UsageError(f"--eps must be above 0 and below 1000000, got {eps:g}")
    if family and subspace:
        raise UsageError(f"give --family or --subspace, got both: {family}, {subspace}")
    if family:
        if family not in (*DRAWS, EVERY):
            raise UsageError(f"--family must be one of {', '.join((*DRAWS, EVERY))}, got {family!r}")
        subspace, method = family, "search" if method == "all" else method
    blind = method in ("search", "decision")
    subspace = subspace or ("low-frequency" if blind else "pixels")
    low = subspace == "low-frequency" and not blind
    ball = Ball("l2" if norm == "l2" else "linf", eps if norm == "l2" else eps / 255, frequencies if low else 0)
    ways = (method,) if method in WAYS else WAYS
    walk = Walk(ways, steps=steps, restarts=restarts, targets=targets, most=copies)
    plan = Plan(ball, method, walk, Search(queries, subspace), seed)
    torch.set_num_threads(threads)
    loaded = load_bundle(bundle)
    images = open_images(dataset, data)
    images = received(images, parse_channel(through), seed) if through else images
    images, chosen = victims(loaded, images, limit, seed, min_side)
    attacker = Attacker(loaded, plan)
    for notice in attacker.notices:
        typer.echo(f"firewall: {notice}", err=True)
    settings = settings_of(loaded, dataset, plan, min_side, through)
    journal = Journal(json_file, settings)
    folder = None if json_file is None else json_file.with_suffix(".images")

    def report(done: int, won: int) -> None:
        typer.echo(f"{done} of {len(chosen)} images attacked, {won} released wrongly", err=True)

    found = attack_bundle(attacker, images, chosen, journal.row, folder, report)
    write_json({**settings, "notices": attacker.notices, **found}, json_file)
    journal.done()
