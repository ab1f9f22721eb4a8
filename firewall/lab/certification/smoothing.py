"""Randomized smoothing: `firewall lab certify smoothing` (Cohen, Rosenfeld, Kolter, ICML 2019, algorithm CERTIFY).

The smoothed classifier names the class that the classifier gives most often to the image with Gaussian noise on every
value. If that class has a probability of at least p > 1/2, no change of l2 norm below sigma * quantile(p) makes it name
another (their theorem 1). p is bounded from below by Clopper and Pearson from the classes of noisy copies, so that each
certificate is wrong with a probability of at most alpha. The noise is added to values in 0..1 and the sum is rounded to
uint8 for the engine: rounding and clipping belong to the classifier that is smoothed, and the theorem holds for any.

What is certified is the smoothed classifier, not the plain one, and a change of the network's input, not of a larger
image that is resized to it. A classifier that was not trained on noise has small certified radii.

An image ends early only if so many copies have another class that even if all the rest had the chosen one the bound
would not exceed 1/2: the classifier abstains then, as it would in the end.

All images are given the same noise, drawn once from the seed and rounded to whole steps of a pixel's value. Each
certificate is wrong with a probability of at most alpha as before, and that all n hold at once has a probability of at
least 1 - n alpha however they depend on each other (Bonferroni).
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.progress import track
from scipy.stats import binomtest, norm

from firewall.errors import UsageError
from firewall.lab.certification.classifier import Images, Subject
from firewall.lab.certification.journal import Journal
from firewall.lab.measurement import metrics

__all__ = ["MOST_COPIES", "Noise", "certified_radius", "certify_smoothing", "lower_bound"]

#: Noisy copies of an image.
MOST_COPIES = 10_000_000

_BATCH = 100
#: Noise that is kept, in bytes.
_KEPT = 400 << 20
#: Probability with which any of all certificates may be wrong where they are to hold at once.
_JOINTLY = 0.05
_RADII = (0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.75, 1.0)


def lower_bound(hits: int, total: int, alpha: float) -> float:
    """The one-sided bound of Clopper and Pearson.

    Args:
        hits: How often the class was given.
        total: Out of how many copies.
        alpha: Probability with which the true rate may lie below the bound.

    Returns:
        0..1.
    """
    return float(binomtest(hits, total, alternative="greater").proportion_ci(1 - alpha, method="exact").low)


def certified_radius(hits: int, total: int, alpha: float, sigma: float) -> tuple[float, float] | None:
    """The certified radius in l2.

    Args:
        hits: How often the class was given.
        total: Out of how many copies.
        alpha: Probability with which the bound may be wrong.
        sigma: Standard deviation of the noise.

    Returns:
        Lower bound of the class's probability, and the radius in the unit of sigma; None: abstain.
    """
    bound = lower_bound(hits, total, alpha)
    return (bound, float(sigma * norm.ppf(bound))) if bound > 0.5 else None


def certify_smoothing(
    subject: Subject,
    images: Images,
    count: int,
    *,
    sigma: float,
    samples: int,
    alpha: float,
    selection: int = 100,
    seed: int = 0,
    journal: Journal | None = None,
) -> dict[str, Any]:
    """Certificates by randomized smoothing.

    Rows have: predicted, None if it abstains; certified, whether predicted is the label; radius, l2, of values in 0..1;
    copies, how many were classified for the bound.

    Args:
        subject: The classifier.
        images: Index, pixels, label.
        count: How many images.
        sigma: Standard deviation of the noise, in units of the full range, 0..10, above 0.
        samples: Noisy copies for the bound.
        alpha: Probability with which a certificate may be wrong, between 0 and 0.5.
        selection: Other noisy copies, to choose the class by.
        seed: What the noise depends on.
        journal: Rows that it knows are not made again.

    Returns:
        What JSON holds: about, summary with certified accuracy by radius, rows.

    Raises:
        UsageError: A number is out of range, or the samples can't certify anything.
    """
    if not 0 < sigma <= 10:
        raise UsageError(f"--sigma must be above 0 and at most 10, in units of the range of a value, got {sigma:g}")
    if not 0 < alpha < 0.5:
        raise UsageError(f"--alpha must lie between 0 and 0.5, got {alpha:g}; usual is 0.001")
    if not 1 <= selection <= MOST_COPIES:
        raise UsageError(f"--selection must lie in 1..{MOST_COPIES}, got {selection}; usual is 100")
    if samples < 1 or lower_bound(samples, samples, alpha) <= 0.5:
        raise UsageError(f"--samples {samples} can't certify anything at --alpha {alpha:g}; take 100 or more")
    if samples > MOST_COPIES:
        raise UsageError(f"--samples must be at most {MOST_COPIES}, got {samples}; usual is 10000")
    journal = journal or Journal()
    noise = Noise(sigma, (subject.height, subject.width, 3), seed)
    needed = _needed(samples, alpha)

    def made(index: int, pixels: npt.NDArray[np.uint8], label: int) -> dict[str, Any]:
        del index
        plain = int(subject.engine.classify(pixels[None]).argmax())
        chosen = int(_counts(subject, noise, pixels, 0, selection).argmax())
        hits, copies = 0, 0
        while copies < samples and copies - hits <= samples - needed:
            size = min(_BATCH, samples - copies)
            hits += int(_counts(subject, noise, pixels, selection + copies, size)[chosen])
            copies += size
        # Of an image that was given up the bound is at most 1/2, whatever the rest would have said.
        found = certified_radius(hits, samples, alpha, sigma) if copies == samples else None
        predicted = None if found is None else chosen
        return {
            "label": label,
            "plain": plain,
            "predicted": predicted,
            "certified": predicted == label,
            "radius": 0.0 if found is None else found[1],
            "probability_at_least": 0.0 if found is None else found[0],
            "hits": hits,
            "copies": copies,
        }

    rows = [
        journal.row(index, partial(made, index, pixels, label))
        for index, pixels, label in track(images, "certifying", count, transient=True)
    ]
    jointly = _JOINTLY / len(rows)
    return {
        "about": {
            **subject.about,
            "threat": "changes of the network's input of an l2 norm below the radius, values in 0..1",
            "input": [subject.height, subject.width],
            "sigma": sigma,
            "samples": samples,
            "selection": selection,
            "alpha": alpha,
            "largest_radius": certified_radius(samples, samples, alpha, sigma),
        },
        "summary": {
            **_summary(rows),
            "wrong_certificates_expected_at_most": alpha * len(rows),
            "all_at_once": {
                "confidence": 1 - _JOINTLY,
                "alpha_of_each": jointly,
                "curve": [
                    [radius, hits / len(rows)] for radius, hits in _jointly(rows, samples, jointly, sigma).items()
                ],
            },
        },
        "rows": rows,
    }


class Noise:
    """Gaussian noise in whole steps of a pixel's value, the same whenever it is asked for.

    Pixels are whole steps themselves, so pixels + noise, rounded, is pixels + rounded noise. It is drawn in blocks of
    100 copies, each from the seed and its number; what fits into memory is kept for the next image.

    Args:
        sigma: Standard deviation, in units of the full range.
        shape: Of an image.
        seed: What it depends on.
    """

    def __init__(self, sigma: float, shape: tuple[int, ...], seed: int) -> None:
        self._sigma, self._shape, self._seed = sigma, shape, seed
        self._most = _KEPT // (2 * _BATCH * int(np.prod(shape)))
        self._blocks: dict[int, npt.NDArray[np.int16]] = {}

    def copies(self, pixels: npt.NDArray[np.uint8], first: int, count: int) -> npt.NDArray[np.uint8]:
        """An image with noise.

        Args:
            pixels: uint8, of the shape.
            first: Number of the first copy's noise.
            count: How many copies.

        Returns:
            uint8 (count, *shape).
        """
        parts, end = [], first + count
        while first < end:
            block, start = divmod(first, _BATCH)
            size = min(end - first, _BATCH - start)
            parts.append(self._block(block)[start : start + size])
            first += size
        noise = parts[0] if len(parts) == 1 else np.concatenate(parts)
        return np.clip(noise + pixels.astype(np.int16), 0, 255).astype(np.uint8)

    def _block(self, number: int) -> npt.NDArray[np.int16]:
        known = self._blocks.get(number)
        if known is not None:
            return known
        drawn = np.random.default_rng([self._seed, number]).standard_normal((_BATCH, *self._shape), np.float32)
        drawn *= np.float32(255 * self._sigma)
        block = np.clip(np.rint(drawn), -30_000, 30_000).astype(np.int16)  # clipped again with the pixel, to 0..255
        if len(self._blocks) < self._most:
            self._blocks[number] = block
        return block


def _needed(samples: int, alpha: float) -> int:
    """The least number of hits that certifies anything."""
    low, high = samples // 2, samples  # the first doesn't, the last does
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if lower_bound(middle, samples, alpha) > 0.5 else (middle, high)
    return high


def _counts(
    subject: Subject, noise: Noise, pixels: npt.NDArray[np.uint8], first: int, count: int
) -> npt.NDArray[np.int64]:
    """How often each class is given to copies first..first + count, (classes,)."""
    counts = np.zeros(len(subject.labels), np.int64)
    for start in range(first, first + count, _BATCH):
        logits = subject.engine.classify(noise.copies(pixels, start, min(_BATCH, first + count - start)))
        counts += np.bincount(logits.argmax(axis=1), minlength=len(counts))
    return counts


def _jointly(rows: list[dict[str, Any]], samples: int, alpha: float, sigma: float) -> dict[float, int]:
    """How many images are certified by radius, each with this alpha."""
    found = [certified_radius(row["hits"], samples, alpha, sigma) for row in rows if row["certified"]]
    return {radius: sum(each is not None and each[1] >= radius for each in found) for radius in _RADII}


def _summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Certified accuracy by radius, with the 95 % interval for independent images."""
    curve = []
    for radius in _RADII:
        hits = sum(row["certified"] and row["radius"] >= radius for row in rows)
        low, high = metrics.rate_interval(hits, len(rows))
        curve.append({"radius": radius, "certified_accuracy": hits / len(rows), "ci95": [low, high]})
    right = [row["radius"] for row in rows if row["certified"]]
    return {
        "clean_accuracy": sum(row["plain"] == row["label"] for row in rows) / len(rows),
        "smoothed_accuracy": len(right) / len(rows),
        "abstained": sum(row["predicted"] is None for row in rows) / len(rows),
        "median_radius_of_right": float(np.median(right)) if right else None,
        "curve": curve,
    }
