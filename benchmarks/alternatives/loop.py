"""(a) The published code's way: 38 Pillow copies one at a time, 39 classifications of one image each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from benchmarks.alternatives.turns import here, in_turns, middle, ratio
from benchmarks.operations import by_pillow
from firewall import Firewall
from firewall.bundle import Bundle
from firewall.bundle.manifest import CONDITIONAL_FILE
from firewall.engines import open_engine
from firewall.transforms import OPERATIONS_38, apply_operations

__all__ = ["LIGHTER", "against_the_loop", "lighter"]

Pixels = np.ndarray
#: Guards of fewer detectors -> which.
LIGHTER = {
    "without its jury": ("contrast", "confidence", "stability"),
    "one classification": ("contrast", "confidence"),
}


def against_the_loop(guard: Firewall, bundle: Bundle, images: Sequence[Pixels]) -> dict[str, Any]:
    """What the loop takes, against the guard as it is, without its jury, and against the same 39 labels by the sweep.

    Args:
        guard: The whole guard.
        bundle: Its bundle.
        images: uint8 (H, W, 3) each, at the classifier's size.

    Raises:
        SystemExit: Loop and sweep don't give the same labels.
    """
    guards = {"whole guard": guard} | {name: lighter(bundle, kept) for name, kept in LIGHTER.items()}

    def loop(item: int) -> Pixels:
        copies = np.empty((len(OPERATIONS_38), *images[item].shape), np.uint8)
        by_pillow(images[item], OPERATIONS_38, copies)
        return np.array([guard.engine.classify(each[np.newaxis])[0].argmax() for each in (images[item], *copies)])

    def swept(item: int) -> Pixels:
        batch = np.concatenate([images[item][np.newaxis], apply_operations(images[item], OPERATIONS_38)])
        return guard.engine.classify(batch).argmax(axis=1)

    compared = range(min(50, len(images)))
    equal = sum(np.array_equal(loop(item), swept(item)) for item in compared)
    if equal < len(compared):
        raise SystemExit(f"only {equal} of {len(compared)} images get the same 39 labels by the loop and by the sweep")
    taken = in_turns(
        {
            "loop": here(loop),
            **{name: here(lambda item, one=one: one.screen(images[item])) for name, one in guards.items()},
            "the same 39 labels": here(swept),
            "the 38 copies": here(lambda item: apply_operations(images[item], OPERATIONS_38)),
            "the 38 copies by Pillow": here(
                lambda item: by_pillow(images[item], OPERATIONS_38, np.empty((38, *images[item].shape), np.uint8))
            ),
            "the classifier alone": here(lambda item: guard.engine.classify(images[item][np.newaxis])),
        },
        len(images),
    )
    ours = (*guards, "the same 39 labels")
    verdicts = [guard.screen(image) for image in images]
    return {
        "images": len(images),
        "labels_equal_on": equal,
        "classifications": float(np.mean([verdict.classified for verdict in verdicts])),
        "released": sum(verdict.released for verdict in verdicts),
        "times": {name: middle(spent) for name, spent in taken.items()},
        "ratios": {name: ratio(taken["loop"], taken[name]) for name in ours}
        | {"the 38 copies": ratio(taken["the 38 copies by Pillow"], taken["the 38 copies"])},
    }


def lighter(bundle: Bundle, kept: Sequence[str]) -> Firewall:
    """A guard of the bundle's classifier and of these detectors, each with its own threshold, which nobody set to hold
    alone: it is here for what the others cost."""
    detectors = tuple(spec for spec in bundle.manifest.detectors if spec.name in kept)
    manifest = bundle.manifest.model_copy(update={"detectors": detectors, "fusion": None})
    files = {name: content for name, content in bundle.files.items() if name != CONDITIONAL_FILE}
    light = replace(bundle, manifest=manifest, files=files)
    return Firewall(light, open_engine(light, threads=1), threads=1)
