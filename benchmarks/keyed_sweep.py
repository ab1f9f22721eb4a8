"""Does a keyed sweep lower the adaptive wrong-release rate at equal false alarms, and what does a verdict cost with it?

Four bundles, made of the default one and given limits by size in the same way: `none` has no sweep, `stability` the
default's own four fixed copies, `fixed` four copies that are the same of every image and known to the attacker, `keyed`
four that are drawn by a key that he doesn't know. The attack goes on from the images that `firewall lab attack
adaptive` made against the default bundle, towards the class that was aimed at there, by gradients of each whole bundle;
through `keyed` it averages over draws of other keys. First the images that beat the default bundle, then (--all) those
that didn't; what is not attacked again counts as held, and its number is given. Whatever was found is also shown to
devices with `keyed` and other keys. Rows are kept, and the same command goes on from the last one.

    python benchmarks/keyed_sweep.py --data DIR --attacked adaptive_linf_8.json [--attacked ...] --work runs/keyed
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import pickle
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from machine import machine
from PIL import Image

from firewall.bundle import Bundle, DetectorSpec, load_bundle
from firewall.bundle.conditional import CONDITIONAL_FILE
from firewall.detectors.draws import DrawSpec
from firewall.engines import OnnxRuntimeEngine
from firewall.frame import Pixels
from firewall.lab.attacks.adaptive import Attacker, Plan
from firewall.lab.attacks.adaptive.aims import Aims
from firewall.lab.attacks.adaptive.ball import Ball
from firewall.lab.attacks.adaptive.whole import Walk
from firewall.lab.calibration.bundling import rewritten
from firewall.lab.calibration.conditional import ConditionalSettings, benign_images, scored
from firewall.lab.calibration.conditional_fit import Scored, fit_conditional
from firewall.lab.datasets import open_dataset
from firewall.lab.evaluation.adaptive_attack import victims
from firewall.lab.measurement.intervals import rate_interval
from firewall.screening import Firewall
from firewall.sweep.keyed import NONCE_BYTES, KeyedSweep, copies, key_of

VARIANTS = ("none", "stability", "fixed", "keyed")
#: Of the device that the attacker of `keyed` may ask.
DEVICE = 1000
#: Devices that an attacked image is shown to afterwards.
OTHERS = range(2000, 2012)
#: How limits are set, of all in the same way: on fewer frames and shifts than those of the default bundle, with the
#: rate at which about 1 % of clean images are withheld.
LIMITS = ConditionalSettings(rate=0.025, frames=2, far=1, shifts=("rain", "dark"))
Row = dict[str, Any]


@contextmanager
def setting(variant: str) -> Iterator[None]:
    """Everything inside judges as the variant does: `fixed` draws the same copies of every image."""
    if variant != "fixed":
        yield
        return
    with patch("firewall.sweep.keyed.nonce_of", lambda _: bytes(NONCE_BYTES)):
        yield


def detectors(variant: str, copies: int) -> tuple[DetectorSpec, ...]:
    """The default bundle's detectors, with the variant's sweep."""
    there = load_bundle("default").manifest.detectors
    kept = tuple(spec for spec in there if spec.name != "stability" or variant == "stability")
    if variant in ("none", "stability"):
        return kept
    parameters = {"draw": DrawSpec(copies=copies).model_dump()}
    return (*kept, DetectorSpec(name="keyed", parameters=parameters, threshold=0.0))


def written(folder: Path, specs: tuple[DetectorSpec, ...], limits: bytes | None = None) -> Bundle:
    """The default bundle with other detectors."""
    default = load_bundle("default")
    files = {name: content for name, content in default.files.items() if not name.endswith(".json")}
    plain = Bundle(default.path, default.manifest, files, default.sha256)
    added = {} if limits is None else {CONDITIONAL_FILE: limits}
    return rewritten(plain, folder, added, detectors=specs, fusion=None, correction=None)


def benign_scores(variant: str, options: argparse.Namespace) -> Scored:
    """Scores of the images that limits are set on; what two variants have in common is made once."""
    specs = {spec.name: spec for spec in detectors("stability", options.copies)}
    parts = [("common", tuple(specs.values()))]
    if variant not in ("none", "stability"):
        parts.append((variant, detectors(variant, options.copies)[-1:]))
    found = []
    for name, part in parts:
        file = options.work / f"scores-{name}.pickle"
        if not file.exists():
            made = written(options.work / f"scoring-{name}", part)
            with setting(variant):
                images = [benign_images(made, spec, options.data) for spec in ("gtsrb@kept-out", "gtsrb@test/train")]
                file.write_bytes(pickle.dumps(scored(made, images, LIMITS, progress=False)))
        found.append(pickle.loads(file.read_bytes()))  # noqa: S301 - written above
    first = found[0]
    names = tuple(name for each in found for name in each.detectors)
    wanted = [spec.name for spec in detectors(variant, options.copies)]
    columns = [names.index(name) for name in names if name in wanted]
    whole = np.concatenate([each.scores for each in found], axis=1)[:, columns]
    return Scored(tuple(names[column] for column in columns), whole, first.sides, first.tracks, first.parts)


def bundle_of(variant: str, options: argparse.Namespace) -> Bundle:
    """The variant's bundle, made and given limits unless it is there."""
    folder = options.work / f"bundle-{variant}"
    if not (folder / CONDITIONAL_FILE).exists():
        data, settings = benign_scores(variant, options), LIMITS
        summed = [name for name in data.detectors if name.startswith("juror-") or name in ("stability", "keyed")]
        fitted = fit_conditional(
            data,
            settings.edges,
            settings.rate,
            power=settings.power,
            summed=summed,
            shifted=settings.shifted,
            least=settings.least,
            margins=[0.0] * len(data.detectors),
            seed=settings.seed,
        )
        written(folder, detectors(variant, options.copies), (fitted.spec.model_dump_json(indent=1) + "\n").encode())
    return load_bundle(folder)


def guard_of(bundle: Bundle, key: int) -> Firewall:
    """The bundle on a device with this key."""
    return Firewall(bundle, OnnxRuntimeEngine(bundle, threads=1), threads=1, sweep_key=key_of(key))


def attacker_of(bundle: Bundle, variant: str, options: argparse.Namespace) -> Attacker:
    """Who knows all but the device's key; of `fixed` he knows the copies."""
    walk = Walk(tuple(options.ways.split(",")), steps=options.steps, restarts=1, targets=1)
    attacker = Attacker(bundle, Plan(Ball("linf", 1 / 255), "all", walk), key_of(0 if variant == "fixed" else DEVICE))
    if variant == "fixed" and attacker.picture is not None:
        attacker.picture.draws = lambda draw: [copies(key_of(0), bytes(NONCE_BYTES), draw)]
    return attacker


@contextmanager
def started(pixels: Pixels, aim: int) -> Iterator[None]:
    """Attacks inside start from this image and aim at this class."""
    point = torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float().div(255)
    aims = Aims(torch.tensor([aim]), point, torch.zeros(1))
    with patch("firewall.lab.attacks.adaptive.whole.aims_of", lambda *_, **__: aims):
        yield


@dataclass(frozen=True)
class Victim:
    """An image that was attacked before.

    Attributes:
        index: Its number in the data set.
        label: Its class.
        eps: Radius of the attack, of full range.
        aim: The wrong class that was nearest; None: the classifier can't be fooled there.
        beaten: Whether the default bundle released it with a wrong label.
        file: The attacked image.
    """

    index: int
    label: int
    eps: float
    aim: int | None
    beaten: bool
    file: Path


def victims_of(path: Path) -> list[Victim]:
    """The images of a run of `firewall lab attack adaptive`, those that beat the bundle first."""
    content = json.loads(path.read_text())
    eps = content["ball"]["eps"]
    found = [
        Victim(row["index"], row["label"], eps, row["target"], row["wrong"], path.parent / row["file"])
        for row in content["rows"]
    ]
    return sorted(found, key=lambda each: (not each.beaten, each.index))


class Rows:
    """A file of rows, one for each thing that was measured."""

    def __init__(self, path: Path) -> None:
        self.path = path
        lines = path.read_text().splitlines() if path.exists() else []
        self.known: dict[str, Row] = {row["id"]: row for row in map(json.loads, lines)}

    def row(self, name: str, make: Callable[[], Row]) -> Row:
        """The row of this name, made unless it is there."""
        if name not in self.known:
            self.known[name] = {"id": name, **make()}
            with self.path.open("a") as file:
                file.write(json.dumps(self.known[name]) + "\n")
        return self.known[name]


def attack(options: argparse.Namespace, rows: Rows, chosen: list[Victim]) -> None:
    """Attack image by image, all variants, so that whatever is done can be compared."""
    bundles = {variant: bundle_of(variant, options) for variant in VARIANTS}
    data = open_dataset("gtsdb", options.data)
    attackers = {variant: attacker_of(bundle, variant, options) for variant, bundle in bundles.items()}
    device = guard_of(bundles["keyed"], 0)

    def one(victim: Victim, variant: str) -> Row:
        attacker = attackers[variant]
        attacker.plan = replace(attacker.plan, ball=Ball("linf", victim.eps))
        pixels, before = np.array(data.images[victim.index]), np.asarray(Image.open(victim.file).convert("RGB"))
        kept: list[Pixels] = []
        begun = time.thread_time()
        with setting(variant), started(before, victim.aim or 0):
            row = attacker.row(victim.index, pixels, victim.label, lambda image: str(kept.append(image)))
        found = {name: row[name] for name in ("wrong", "queries", "steps", "method", "linf", "size")}
        verdicts = []
        for key in OTHERS:
            device.keyed = KeyedSweep(device.engine, key_of(key))
            verdicts.append(device.screen(kept[0]))
        passed = float(np.mean([each.released and each.label != victim.label for each in verdicts]))
        found |= {"index": victim.index, "variant": variant, "eps": victim.eps, "seconds": time.thread_time() - begun}
        return found | {"others": passed}

    for victim in chosen:
        for variant in VARIANTS:
            rows.row(f"attack {victim.index} {255 * victim.eps:g} {variant}", partial(one, victim, variant))


def benign(options: argparse.Namespace, rows: Rows) -> None:
    """Signs of GTSDB as they are: how many are withheld, and what a verdict costs, one image after the other."""
    bundles = {variant: bundle_of(variant, options) for variant in VARIANTS}
    data, chosen = victims(bundles["none"], open_dataset("gtsdb", options.data), options.benign, 1, options.least)
    guards = {variant: guard_of(bundle, 0) for variant, bundle in bundles.items()}

    def measure() -> Row:
        seconds: dict[str, list[float]] = {variant: [] for variant in VARIANTS}
        withheld = dict.fromkeys(VARIANTS, 0)
        for turn, index in enumerate([*chosen[:20], *chosen]):  # the first twenty only warm up
            for variant, guard in guards.items():
                with setting(variant):
                    begun = time.thread_time()
                    verdict = guard.screen(np.array(data.images[index]))
                    if turn >= 20:
                        seconds[variant].append(time.thread_time() - begun)
                        withheld[variant] += not verdict.released
        return {
            "n": len(chosen),
            "withheld": withheld,
            "ms": {name: 1e3 * float(np.mean(values)) for name, values in seconds.items()},
            "ms_p99": {name: 1e3 * float(np.quantile(values, 0.99)) for name, values in seconds.items()},
        }

    rows.row("benign", measure)


def where_set(folder: Path) -> float | None:
    """Share of the clean images behind the limits that is withheld, each judged by limits of other tracks."""
    if not (folder / CONDITIONAL_FILE).exists():
        return None
    entries = json.loads((folder / CONDITIONAL_FILE).read_text())["coverage"]
    return next(entry["withheld"] for entry in entries if entry["part"] == "clean" and entry["group"] is None)


def summary(options: argparse.Namespace, rows: Rows, chosen: list[Victim]) -> Row:
    """The figures, ready for JSON."""
    found: Row = {
        "question": __doc__.splitlines()[0],
        "machine": machine(),
        "draw": DrawSpec(copies=options.copies).model_dump(),
        "protocol": f"GTSDB signs of {options.least} pixels and more, linf, {options.ways}, {options.steps} steps, "
        "going on from what was found against the default bundle (two targets, all four ways); through `keyed` 4 draws "
        "a step, by other keys. wrong: a wrong label is released at any query of the device that is asked; signs that "
        "were not attacked again count as held. others: the image that was found, shown once to each of 12 devices "
        "with `keyed` and other keys. Times: one core, processor time.",
        "withheld_where_set": {variant: where_set(options.work / f"bundle-{variant}") for variant in VARIANTS},
    }
    cost = rows.known.get("benign")
    if cost is not None:
        found["benign"] = {
            variant: {
                "withheld": cost["withheld"][variant] / cost["n"],
                "n": cost["n"],
                "ci95": list(rate_interval(cost["withheld"][variant], cost["n"])),
                "ms": cost["ms"][variant],
                "ms_p99": cost["ms_p99"][variant],
            }
            for variant in VARIANTS
        }
    if "draws" in rows.known:
        found["other_draws"] = {name: value for name, value in rows.known["draws"].items() if name != "id"}
    made = [row for row in rows.known.values() if row["id"].startswith("attack")]
    found["adaptive"] = {
        f"{255 * eps:g}": compared(
            [row for row in made if row["eps"] == eps], [each for each in chosen if each.eps == eps]
        )
        for eps in sorted({each.eps for each in chosen})
    }
    return found


def compared(made: list[Row], chosen: list[Victim]) -> Row:
    """The variants on the images that all of them were attacked with."""
    by = {variant: {row["index"]: row for row in made if row["variant"] == variant} for variant in VARIANTS}
    whole = sorted(set.intersection(*(set(each) for each in by.values())))
    left = sum(each.beaten and each.index not in whole for each in chosen)
    # Images of the default bundle's defeats that there was no time for don't count; those it held do, as held.
    count = len(chosen) - left
    table: Row = {
        "n": count,
        "attacked_again": len(whole),
        "default_bundle_beaten": sum(each.beaten for each in chosen),
    }
    for variant in VARIANTS:
        part = [by[variant][index] for index in whole]
        won = sum(row["wrong"] for row in part)
        table[variant] = {
            "wrong": won / count,
            "ci95": list(rate_interval(won, count)),
            "queries": float(np.mean([row["queries"] for row in part])) if part else None,
            "others": sum(row["others"] for row in part) / count,
        }
    for first, second in itertools.combinations(VARIANTS, 2):
        only = [
            sum(by[one][place]["wrong"] and not by[other][place]["wrong"] for place in whole)
            for one, other in ((first, second), (second, first))
        ]
        table[f"{first} and {second}"] = {"only_first": only[0], "only_second": only[1], "p": sign_test(*only)}
    return table


def sign_test(first: int, second: int) -> float:
    """Two-sided p of so uneven a split of the images that only one of two let through."""
    total, most = first + second, max(first, second)
    return min(1.0, 2 * sum(math.comb(total, k) for k in range(most, total + 1)) / 2**total)


def main() -> None:
    """Measure what isn't measured yet, and write the summary."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the data sets")
    parser.add_argument("--work", type=Path, default=Path("runs/keyed"), help="bundles and rows")
    parser.add_argument("--results", type=Path, help="folder of keyed_sweep.json")
    parser.add_argument("--least", type=int, default=24, help="their shorter side, pixels")
    parser.add_argument("--benign", type=int, default=400, help="signs to judge as they are")
    parser.add_argument(
        "--attacked",
        type=Path,
        action="append",
        required=True,
        help="JSON of lab attack adaptive on gtsdb, images beside",
    )
    parser.add_argument("--all", action="store_true", help="also go on where the default bundle held")
    parser.add_argument("--ways", default="sum")
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--copies", type=int, default=4)
    parser.add_argument("--summary", action="store_true", help="only make the summary of the rows that there are")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    rows = Rows(options.work / "rows.jsonl")
    chosen = [victim for path in options.attacked for victim in victims_of(path)]
    if not options.summary:
        attack(options, rows, [victim for victim in chosen if victim.beaten])
        benign(options, rows)
        if options.all:
            attack(options, rows, [victim for victim in chosen if not victim.beaten and victim.aim is not None])
    text = json.dumps(summary(options, rows, chosen), indent=1) + "\n"
    if options.results is not None:
        (options.results / "keyed_sweep.json").write_text(text)
    sys.stdout.write(text)


if __name__ == "__main__":
    main()
