"""What a jury for somebody's own classifier is worth: how much less is released wrongly, at the same false alarms.

    python benchmarks/own_jury.py --jury DIR --classifier NAME --images DATASET/PART --name NAME [--json FILE] ...

jury: the folder of 'firewall lab jury'; its card's figures are repeated. classifier: as of 'firewall lab attack', with
gradients. images: benign images with labels that the jury has not learnt from; --kept-out: of the images that it was
made of, those that it kept out. Some of them set thresholds for 1, 2 and 5 % of benign images withheld (--fit), others
are judged (--judge), and of these as many are attacked as --attacked says, where the classifier is right. The attacker
knows the classifier alone; results are rounded to 8 bits, at the classifier's input size. The classifier is fooled
where its label is wrong then; the *wrong-release rate* is the share of all attacked images whose wrong label is
released. Withheld is what any detector's score says, each with its share of the rate: confidence alone, or with the
jurors.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from machine import machine

from firewall.detectors import build
from firewall.errors import DataError, FirewallError
from firewall.frame import Pixels
from firewall.lab.attacks.registry import by_name
from firewall.lab.attacks.rounding import quantise, to_input
from firewall.lab.calibration.jury_bundle import read_juror
from firewall.lab.calibration.thresholds import detector_specs, networks_of
from firewall.lab.measurement.conformal import needed_tracks
from firewall.lab.measurement.edge import Measured
from firewall.lab.models import Protected, open_classifier
from firewall.lab.training.detector_folder import Trained
from firewall.lab.training.jury.figures import rate
from firewall.lab.training.jury.material import load_material

ATTACKS = "fgsm,pgd-0.01,pgd-0.03,pgd-0.03@jpeg-75,pgd-high-confidence,two-bars,triangle"
RATES = (0.01, 0.02, 0.05)


def main() -> None:
    """Measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jury", type=Path, required=True)
    parser.add_argument("--classifier", required=True)
    parser.add_argument("--images", required=True)
    parser.add_argument("--kept-out", action="store_true")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--fit", type=int, default=1500)
    parser.add_argument("--judge", type=int, default=1000)
    parser.add_argument("--attacked", type=int, default=300)
    parser.add_argument("--attacks", default=ATTACKS, help="with commas [%(default)s]")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--name", required=True)
    parser.add_argument("--json", type=Path, help="added to what is there, under --name")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    classifier = open_classifier(arguments.classifier, arguments.data)
    largest = 2 * max(classifier.width, classifier.height)
    material = load_material(arguments.images, classifier.labels, largest, arguments.data)
    places = np.flatnonzero(material.held) if arguments.kept_out else np.arange(len(material.images))
    places = np.random.default_rng(arguments.seed).permutation(places)
    if len(places) < arguments.fit + arguments.judge:
        raise DataError(f"{len(places)} images are there; --fit and --judge ask for more")
    fit = looked(classifier, [material.images[place] for place in places[: arguments.fit]])
    chosen = places[arguments.fit : arguments.fit + arguments.judge]
    judge, truth = looked(classifier, [material.images[place] for place in chosen]), material.known[chosen]
    card = json.loads((arguments.jury / "card.json").read_text(encoding="utf-8"))
    jurors = [trained(arguments.jury / kind) for kind in card["jurors"]]
    systems: dict[str, list[Trained]] = {
        "confidence": [],
        "confidence and jury": jurors,
        **{f"confidence and {juror.name}": [juror] for juror in jurors},
    }
    networks = networks_of(jurors)
    limits: dict[str, dict[float, Any]] = {
        system: {
            share: detector_specs(["confidence"], fit, share, trained=members)
            for share in RATES
            if len(fit) >= needed_tracks(share / (1 + len(members)))
        }
        for system, members in systems.items()
    }

    def released(system: str, share: float, seen: Measured) -> np.ndarray:
        out = np.ones(len(seen), bool)
        for spec in limits[system][share]:
            out &= seen.scores(build(spec, networks.__getitem__)) <= spec.threshold
        return out

    result: dict[str, Any] = {
        "machine": machine(),
        "classifier": {"name": arguments.classifier, "right on benign images": rate(judge.labels == truth)},
        "images": {"name": arguments.images, "thresholds set on": len(fit), "judged": len(judge)},
        "jury": {
            kind: {key: part[key] for key in ("juror", "training", "kept-out images")}
            for kind, part in card["jurors"].items()
        },
        "benign withheld": {
            system: {f"{share:g}": rate(~released(system, share, judge)) for share in limits[system]}
            for system in systems
        },
        "attacks": {},
    }
    right = np.flatnonzero(judge.labels == truth)[: arguments.attacked]
    for name in filter(None, arguments.attacks.split(",")):
        images = attacked(classifier, name, judge.images[right], truth[right], arguments.seed)
        seen = looked(classifier, list(images))
        wrong = seen.labels != truth[right]
        result["attacks"][name] = {
            "classifier fooled": rate(wrong),
            "wrong release": {
                system: {f"{share:g}": rate(wrong & released(system, share, seen)) for share in limits[system]}
                for system in systems
            },
        }
        print(name, json.dumps(result["attacks"][name]), file=sys.stderr)  # noqa: T201
    sys.stdout.write(json.dumps(result, indent=1) + "\n")
    if arguments.json is not None:
        known = json.loads(arguments.json.read_text(encoding="utf-8")) if arguments.json.is_file() else {}
        known[arguments.name] = result
        arguments.json.write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")


def looked(classifier: Protected, images: list[Pixels]) -> Measured:
    """The classifier's answers."""
    stack = np.stack([classifier.prepare(image) for image in images])
    logits = classifier.logits(stack)
    return Measured(stack, logits, (), np.empty((len(stack), 0, logits.shape[1]), np.float32))


def attacked(classifier: Protected, name: str, images: np.ndarray, labels: np.ndarray, seed: int) -> np.ndarray:
    """Images at the input size after an attack on the classifier, uint8."""
    attack, parts = by_name(name), []
    for start in range(0, len(images), attack.chunk):
        batch, aims = images[start : start + attack.chunk], labels[start : start + attack.chunk]
        parts.append(quantise(attack.run(classifier.network, to_input(batch), torch.from_numpy(aims), seed + start)))
    return np.concatenate(parts)


def trained(folder: Path) -> Trained:
    """A juror as a detector of a bundle."""
    spec, content, card = read_juror(folder)
    return Trained(spec.name, spec.parameters, content, str(card["classifier"]), card)


if __name__ == "__main__":
    try:
        main()
    except FirewallError as mistake:
        sys.stderr.write(f"own_jury: {mistake}\n")
        sys.exit(mistake.exit_code)
