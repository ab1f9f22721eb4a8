"""Stickers optimised against classifier, masks and tau: do they get a wrong label released where that was ruled out?

    python benchmarks/sticker_attack.py --bundle default --tries 10000 --json FILE

Of every clean image the masks say whether a sticker can get another label released at all (`Dial.shields`), and whether
one can get it released and called certified. An attacker who commands the protected classifier too (any label, at any
image) then tries: gradient steps on the least of all masks' say for a target, by random signs; pieces of signs of the
target's class, of several the one that most masks like best. A network in int8 is
attacked by the gradients of its twin without rounding. Every try is judged as the edge judges it. On images where
nothing was ruled out the same attack shows what it is worth.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from firewall.bundle import load_bundle
from firewall.decision.dial import Dial
from firewall.decision.masking import Kept, Masks, masks_for
from firewall.decision.steps import kept_in_steps
from firewall.errors import DataError, FirewallError, UsageError
from firewall.export.rounded import in_float
from firewall.lab.certification.classifier import Subject, classified, open_subject
from firewall.lab.commands.output import write_json
from firewall.lab.models.opening import load_torch
from firewall.transforms import resize

__all__ = ["attack", "main"]

_STEPS = 12  # of a gradient attack; each is a try
_PIECES = 4  # of which the best is tried
Pixels = npt.NDArray[np.uint8]


@dataclass
class Counts:
    """What became of tries on one kind of images.

    Attributes:
        images: Images of this kind that were attacked.
        tries: Stickers that were judged.
        released: Of them with a wrong label released.
        certified: Of them with a wrong label released and called certified.
        beaten: Images of which any try released a wrong label.
    """

    images: int = 0
    tries: int = 0
    released: int = 0
    certified: int = 0
    beaten: int = 0


@dataclass
class Attack:
    """One attacker of one bundle.

    Attributes:
        subject: The classifiers.
        masks: The masks of the edge.
        dial: The rule of the edge.
        network: The masked classifier with gradients, or None.
        seen: Signs of each class, as an attacker may have them.
        finer: Finer masks along each side of an unsure one; 0: one step.
    """

    subject: Subject
    masks: Masks
    dial: Dial
    network: nn.Module | None
    seen: dict[int, list[Pixels]]
    finer: int = 0
    generator: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))

    def tries(self, shown: Pixels, label: int) -> Iterator[tuple[Pixels, int]]:
        """Stickers without an end: the image with one, and the wrong label that it wants."""
        logits = self.masks.logits(shown, self.subject.under_masks.classify)
        others = np.delete(np.argsort(-logits.max(axis=0)), np.flatnonzero(np.argsort(-logits.max(axis=0)) == label))
        height, width = shown.shape[:2]
        for number in range(1 << 30):
            # Mostly the labels that come closest under some mask, and any other.
            target = int(others[min(int(self.generator.exponential(2.0)), len(others) - 1)])
            top, left = (int(self.generator.integers(0, size - self.masks.side + 1)) for size in (height, width))
            if number % 24 == 0 and self.network is not None:
                yield from ((each, target) for each in self._by_gradient(shown, target, top, left))
            else:
                yield self._by_pieces(shown, target, top, left), target

    def judged(self, patched: Pixels, target: int) -> Kept:
        """What the edge says of a label of an image."""
        classify = self.subject.under_masks.classify
        if self.finer:
            return kept_in_steps(self.masks, self.finer, patched, target, classify, self.dial)
        return self.masks.kept(patched, target, classify, 1, dial=self.dial)

    def ruled_out(self, shown: Pixels, label: int) -> tuple[bool, bool]:
        """Whether no sticker gets another label released, and none another one called certified, by the theorems."""
        logits = self.masks.logits(shown, self.subject.under_masks.classify)
        if not self.finer:
            called = replace(self.dial, rule="agree").shields(logits, label)
            return bool(self.dial.shields(logits, label)), bool(called)
        kept = self.judged(shown, label)
        return kept.certified, kept.holds is True

    def _by_pieces(self, shown: Pixels, target: int, top: int, left: int) -> Pixels:
        side, made = self.masks.side, []
        for _ in range(_PIECES):
            pool = self.seen.get(target)
            if pool:
                sign = pool[self.generator.integers(len(pool))]
                at, across = top, left
                if self.generator.random() < 0.3:
                    at, across = self.generator.integers(0, sign.shape[0] - side + 1, 2)
                piece = sign[at : at + side, across : across + side]
            else:
                piece = self.generator.integers(0, 256, (side, side, 3)).astype(np.uint8)
            patched: Pixels = shown.copy()
            patched[top : top + side, left : left + side] = piece
            made.append(patched)
        say = self.subject.under_masks.classify(np.stack(made))
        return made[int((say[:, target] - np.delete(say, target, axis=1).max(axis=1)).argmax())]

    def _by_gradient(self, shown: Pixels, target: int, top: int, left: int) -> Iterator[Pixels]:
        assert self.network is not None  # noqa: S101 - for the type checker
        side = self.masks.side
        image = torch.from_numpy(shown.copy()).permute(2, 0, 1).float().div(255)
        hidden = torch.zeros(len(self.masks), 1, *shown.shape[:2], dtype=torch.bool)
        for number, (y, x, tall, wide) in enumerate(self.masks.boxes):
            hidden[number, :, y : y + tall, x : x + wide] = True
        place = torch.zeros(1, *shown.shape[:2], dtype=torch.bool)
        place[:, top : top + side, left : left + side] = True
        seed = torch.Generator().manual_seed(int(self.generator.integers(1 << 31)))
        sticker = torch.rand(image.shape, generator=seed)
        for step in range(_STEPS):
            sticker.requires_grad_(True)
            patched = torch.where(place, sticker, image)
            shown_to_it = patched[None].expand(len(hidden), -1, -1, -1).masked_fill(hidden, self.masks.fill / 255)
            logits = self.network(shown_to_it)
            loss = _least(logits, target)
            (slope,) = torch.autograd.grad(loss, sticker)
            with torch.no_grad():
                sticker = (sticker + slope.sign() * (0.25 if step < _STEPS // 2 else 0.08)).clamp(0, 1)
                stored = torch.where(place, sticker, image).mul(255).round().byte()
            yield stored.permute(1, 2, 0).numpy()


def _least(logits: Tensor, target: int) -> Tensor:
    """A smooth least, over masks, of how far the target leads."""
    others = logits.clone()
    others[:, target] = -1e9
    return -torch.logsumexp(-(logits[:, target] - others.amax(dim=1)), dim=0)


def attack(
    name: str,
    area: float,
    along: int,
    dial: Dial,
    tries: int,
    limit: int,
    each: int,
    *,
    finer: int = 0,
) -> dict[str, Any]:
    """Attack images until so many stickers were tried where all was ruled out.

    Args:
        name: `default` or a bundle's folder.
        area: Of the sticker, as a share of the region.
        along: Masks along each side.
        dial: The rule.
        tries: Stickers on images where no wrong label can be released; a fifth of it on the others.
        limit: Images to draw.
        each: The most tries on one image.
        finer: See Attack; of rule "object" alone.
    """
    if finer and dial.rule != "object":
        raise UsageError(f"--finer is attacked under rule 'object', got {dial.rule!r}")
    subject = open_subject(name)
    height, width = subject.size_under_masks
    masks = masks_for(height, width, area, along)
    about, images = classified(subject, "gtsrb", "test", limit, 0, None, own_pixels=True)
    signs = [(index, resize(pixels, width, height), label) for index, pixels, label in images]
    seen: dict[int, list[Pixels]] = {}
    for _, pixels, label in signs:
        seen.setdefault(label, []).append(pixels)
    attacker = Attack(subject, masks, dial, _network(name), seen, finer)
    promised, called, open_ = Counts(), Counts(), Counts()
    for _, shown, label in signs:
        safe, never_called = attacker.ruled_out(shown, label)
        kinds = [promised] if safe else [open_]
        if not safe and never_called:
            kinds.append(called)
        if kinds[0].tries >= (tries if safe else tries // 5):
            continue
        before = open_.released, promised.released
        for number, (patched, target) in enumerate(attacker.tries(shown, label)):
            if number == each:
                break
            kept = attacker.judged(patched, target)
            for kind in kinds:
                kind.tries += 1
                kind.released += kept.holds is True
                kind.certified += kept.holds is True and kept.certified
        for kind in kinds:
            kind.images += 1
            kind.beaten += (open_.released, promised.released) != before
        if promised.tries >= tries and open_.tries >= tries // 5:
            break
    return {
        "rule": dial.rule,
        "tau": dial.tau,
        "finer": finer,
        "side": masks.side,
        "masks": len(masks),
        "gradient": attacker.network is not None,
        "ruled_out": vars(promised),
        "certified_ruled_out": vars(called),
        "not_ruled_out": vars(open_),
        "about": {**subject.about, **about},
    }


def _network(name: str) -> nn.Module | None:
    """The masked classifier with gradients, without rounding; None where there are none."""
    bundle = load_bundle(name)
    spec = bundle.manifest.masked_classifier or bundle.manifest.classifier
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / spec.file
        try:
            file.write_bytes(in_float(bundle.files[spec.file], rounding=False))
            return load_torch(file)
        except DataError as error:
            sys.stderr.write(f"no gradients: {error}\n")
            return None


def main(arguments: list[str] | None = None) -> int:
    """Run as the module says; 0, or 2 with one line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", default="default")
    parser.add_argument("--area", type=float, default=25 / 48**2)
    parser.add_argument("--masks", type=int, default=6)
    parser.add_argument("--tries", type=int, default=10_000)
    parser.add_argument("--limit", type=int, default=600)
    parser.add_argument("--each", type=int, default=60)
    parser.add_argument("--dial", action="append", metavar="RULE:TAU", help="such as object:0.7; may be repeated")
    parser.add_argument("--finer", type=int, default=0, help="finer masks along a side of an unsure one")
    parser.add_argument("--json", type=Path, required=True)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    found = []
    try:
        for text in options.dial or ["object:0.7", "agree:0.5"]:
            rule, tau = text.split(":")
            dial = Dial(rule, float(tau))
            given = (options.bundle, options.area, options.masks, dial, options.tries, options.limit, options.each)
            found.append(attack(*given, finer=options.finer))
            write_json({"sticker_attacks": found}, options.json)
    except FirewallError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
