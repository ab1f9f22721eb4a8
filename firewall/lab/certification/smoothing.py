"""Randomized smoothing: `firewall lab certify smoothing` (Cohen, Rosenfeld, Kolter, ICML 2019, algorithm CERTIFY).

The smoothed classifier names the class that the classifier gives most often to the image with Gaussian noise on every
value. If that class has a probability of at least p > 1/2, no change of l2 norm below sigma * quantile(p) makes it name
another (their theorem 1). p is bounded from below by Clopper and Pearson from the classes of noisy copies, so that each
certificate is wrong with a probability of at most alpha. The noise is added to values in 0..1 and the sum is rounded to
uint8 for the engine: rounding and clipping belong to the classifier that is smoothed, and the theorem holds for any.

What is certified is the smoothed classifier, not the plain one, and a change of the network's input, not of a larger
image that is resized to it. A classifier that was not trained on noise has small certified radii.
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

__all__ = ["certified_radius", "certify_smoothing", "lower_bound"]

_BATCH = 100
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

    Rows have: predicted, None if it abstains; certified, whether predicted is the label; radius, l2, of values in 0..1.

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
    if samples < 1 or lower_bound(samples, samples, alpha) <= 0.5:
        raise UsageError(f"--samples {samples} can't certify anything at --alpha {alpha:g}; take 100 or more")
    journal = journal or Journal()

    def made(index: int, pixels: npt.NDArray[np.uint8], label: int) -> dict[str, Any]:
        generator = np.random.default_rng([seed, index])
        plain = int(subject.engine.classify(pixels[None]).argmax())
        chosen = int(_counts(subject, pixels, sigma, selection, generator).argmax())
        hits = int(_counts(subject, pixels, sigma, samples, generator)[chosen])
        found = certified_radius(hits, samples, alpha, sigma)
        predicted = None if found is None else chosen
        return {
            "label": label,
            "plain": plain,
            "predicted": predicted,
            "certified": predicted == label,
            "radius": 0.0 if found is None else found[1],
            "probability_at_least": lower_bound(hits, samples, alpha),
            "hits": hits,
        }

    rows = [
        journal.row(index, partial(made, index, pixels, label))
        for index, pixels, label in track(images, "certifying", count, transient=True)
    ]
    return {
        "about": {
            **subject.about,
            "threat": "changes of the network's input of an l2 norm below the radius, values in 0..1",
            "sigma": sigma,
            "samples": samples,
            "selection": selection,
            "alpha": alpha,
            "largest_radius": certified_radius(samples, samples, alpha, sigma),
        },
        "summary": _summary(rows),
        "rows": rows,
    }


def _counts(
    subject: Subject, pixels: npt.NDArray[np.uint8], sigma: float, samples: int, generator: np.random.Generator
) -> npt.NDArray[np.int64]:
    """How often each class is given to a noisy copy, (classes,)."""
    counts = np.zeros(len(subject.labels), np.int64)
    for start in range(0, samples, _BATCH):
        size = min(_BATCH, samples - start)
        noisy = pixels[None] + generator.normal(0, 255 * sigma, (size, *pixels.shape))
        logits = subject.engine.classify(np.clip(np.rint(noisy), 0, 255).astype(np.uint8))
        counts += np.bincount(logits.argmax(axis=1), minlength=len(counts))
    return counts


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
