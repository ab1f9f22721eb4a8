"""How far scores move when only the arithmetic differs, and the margin that thresholds get for it.

Images are scored again with the graph as it is or rewritten, in batches of other sizes, with more threads, and by torch
where it knows the network's operators. Each adds the same products in another order or with other kernels, as another
processor would. What a processor that isn't here does is not measured; so the margin is FACTOR times the largest
difference that was seen.

Some scores depend on which classes come first. If two classes change places, the score jumps by a whole step, however
small the difference was, and FACTOR times a jump would be another threshold rather than a margin. Jumps count once: the
margin is what keeps those images released that were seen to jump over the threshold. The manifest says how many images
changed their label.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt

from firewall.bundle import ClassifierSpec, DetectorSpec
from firewall.bundle.numerics import Measurement, Numerics
from firewall.detectors import Network, build
from firewall.engines import Engine, OnnxRuntimeNetwork
from firewall.engines.sessions import Optimisation
from firewall.lab.measurement.edge import Measured, measure
from firewall.lab.measurement.torch_engine import on_torch

__all__ = ["FACTOR", "VARIED", "Arithmetic", "Batched", "Rescored", "leeway", "rescore", "sampled"]

#: The margin in units of the largest difference seen.
FACTOR = 4.0

#: Detectors whose scores depend on the order of the likeliest classes, and how many of these are looked at.
_JUMPING = ("agreement", "statistics", "attention")
_RANKS = 5
#: Least margin, as a share of the limit or of 1: scores themselves are float64, and so are their sums.
_ROUNDING = 1e-9
#: Images that are scored again: so many spread over all, and so many of those next below each limit.
_SPREAD, _NEAR = 48, 8

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Arithmetic:
    """One way to compute the same network.

    Attributes:
        optimisation: How far ONNX Runtime rewrites the graph.
        threads: Of the processor.
        batch: Most copies that are classified together.
    """

    optimisation: Optimisation
    threads: int
    batch: int

    def __str__(self) -> str:
        threads = "1 thread" if self.threads == 1 else f"{self.threads} threads"
        return f"ONNX Runtime, graph optimisation {self.optimisation}, {threads}, batches of {self.batch}"


#: All degrees of graph rewriting, one and two threads, and batches of up to the papers' 38 operations.
VARIED = (
    Arithmetic("all", 2, 38),
    Arithmetic("extended", 1, 7),
    Arithmetic("basic", 2, 2),
    Arithmetic("none", 1, 1),
)


class Batched:
    """An engine that gives `engine` batches of at most `size` images, and of at least two where `size` allows it."""

    def __init__(self, engine: Engine, size: int) -> None:
        self.provider = engine.provider
        self._engine, self._size = engine, size

    def classify(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """See Engine.classify."""
        parts = [self._engine.classify(images[:0])]
        for start in range(0, len(images), self._size):
            part = images[start : start + self._size]
            filled = np.concatenate([part, part]) if len(part) < min(2, self._size) else part
            parts.append(self._engine.classify(filled)[: len(part)])
        return np.concatenate(parts)


@dataclass(frozen=True, eq=False)
class Rescored:
    """Scores of N images, as the edge gives them and from V other arithmetics.

    Attributes:
        variants: The V arithmetics.
        names: The detectors.
        base: Detector -> scores as the edge gives them, float64 (N,).
        varied: Detector -> scores of the variants, float64 (V, N).
        flips: bool (N,), the label of the image or of a copy changed in some variant.
        reordered: bool (V, N), the likeliest classes came in another order.
    """

    variants: tuple[str, ...]
    names: tuple[str, ...]
    base: dict[str, Floats]
    varied: dict[str, Floats]
    flips: npt.NDArray[np.bool_]
    reordered: npt.NDArray[np.bool_]

    def table(self, rows: Mapping[str, Floats]) -> Floats:
        """Detector -> scores (...) as columns of one table, float64 (..., D)."""
        return np.stack([rows[name] for name in self.names], axis=-1)

    def spread(self, name: str) -> float:
        """By how much rounding may move a score of the detector `name`: FACTOR times what was seen, without jumps."""
        apart = np.abs(self.varied[name] - self.base[name])
        return FACTOR * float(apart.max(initial=0.0, where=~self.reordered if name in _JUMPING else np.True_))

    def margin(self, name: str, limit: float | None) -> float:
        """The margin for a detector's limit.

        Args:
            name: The detector.
            limit: A score above it withholds; None if the detector has no limit of its own.
        """
        if limit is None:
            return max(self.spread(name), _ROUNDING)
        return leeway(self.spread(name), self.base[name], self.varied[name], limit)

    def numerics(self, margin: Mapping[str, float], sums: tuple[str, Floats, Floats] | None = None) -> Numerics:
        """The record for the manifest.

        Args:
            margin: By detector, and of the sum.
            sums: Name of the sum of all scores, its values float64 (N,), and those of the variants, float64 (V, N).
        """
        base, varied = dict(self.base), dict(self.varied)
        if sums is not None:
            base[sums[0]], varied[sums[0]] = sums[1:]
        apart = {name: np.abs(varied[name] - base[name]).max(axis=0) for name in base}
        return Numerics(
            margin=dict(margin),
            measured=Measurement(
                variants=self.variants,
                images=len(self.flips),
                largest={name: float(values.max()) for name, values in apart.items()},
                median={name: float(np.median(values)) for name, values in apart.items()},
                flips=int(self.flips.sum()),
            ),
        )


def leeway(spread: float, base: Floats, varied: Floats, limit: float) -> float:
    """The margin of a limit.

    Args:
        spread: By how much a score may move by rounding.
        base: Scores as the edge gives them, float64 (N,).
        varied: Scores of the variants, float64 (V, N).
        limit: A score above it withholds.

    Returns:
        The largest of `spread`, how far an image below the limit was seen to go above it, and the rounding of float64.
    """
    beyond = varied[:, base <= limit].max(initial=limit) - limit
    return max(spread, float(beyond), _ROUNDING * max(1.0, abs(limit)))


def sampled(count: int, near: Sequence[tuple[Floats, float]]) -> npt.NDArray[np.int64]:
    """Choose the images to score again: some spread over all, and those just below each limit.

    Args:
        count: Number of images.
        near: Pairs of scores, float64 (count,), and their limit.

    Returns:
        The images' places, int64, ascending.
    """
    places = set(np.unique(np.linspace(0, count - 1, min(count, _SPREAD)).astype(np.int64)).tolist())
    for scores, limit in near:
        below = np.flatnonzero(scores <= limit)
        places.update(below[np.argsort(-scores[below], kind="stable")[:_NEAR]].tolist())
    return np.array(sorted(places), np.int64)


def rescore(
    measured: Measured,
    base: Mapping[str, Floats],
    specs: Sequence[DetectorSpec],
    classifier: ClassifierSpec,
    files: Mapping[str, bytes],
    open_engine: Callable[[Arithmetic], Engine],
) -> Rescored:
    """Score images again with each arithmetic of VARIED, and in torch.

    Args:
        measured: The N images, as the edge measured them.
        base: Detector -> scores as the edge gives them, float64 (N,).
        specs: The detectors.
        classifier: The classifier.
        files: The networks of detectors and classifier, by file.
        open_engine: Opens the classifier with an arithmetic.

    Raises:
        EngineError: An engine can't be opened.
    """
    height, width = measured.images.shape[1:3]
    wanted = [str(spec.parameters["file"]) for spec in specs if "file" in spec.parameters]
    runs: list[tuple[str, Callable[[], tuple[Engine, Mapping[str, Network]]]]] = [
        (str(how), partial(_on_onnx_runtime, how, wanted, files, open_engine)) for how in VARIED
    ]
    if (in_torch := on_torch(classifier, wanted, files)) is not None:
        runs.append((in_torch[0].provider, lambda: in_torch))
    scores: dict[str, list[Floats]] = {spec.name: [] for spec in specs}
    flips, reordered = np.zeros(len(measured), bool), []
    expected = _ranks(measured)
    for number, (_, opened) in enumerate(runs, 1):
        engine, networks = opened()
        label = f"other arithmetic, {number} of {len(runs)}"
        again = measure(engine, list(measured.images), measured.operations, width=width, height=height, label=label)
        for spec in specs:
            scores[spec.name].append(again.scores(build(spec, networks.__getitem__)))
        apart = _ranks(again) != expected
        flips |= apart[..., 0].any(axis=1)
        reordered.append(apart.any(axis=(1, 2)))
    return Rescored(
        tuple(name for name, _ in runs),
        tuple(scores),
        {name: base[name] for name in scores},
        {name: np.stack(rows) for name, rows in scores.items()},
        flips,
        np.stack(reordered),
    )


def _on_onnx_runtime(
    how: Arithmetic, wanted: Sequence[str], files: Mapping[str, bytes], open_engine: Callable[[Arithmetic], Engine]
) -> tuple[Engine, Mapping[str, Network]]:
    networks = {
        file: OnnxRuntimeNetwork(files[file], file, threads=how.threads, optimisation=how.optimisation)
        for file in wanted
    }
    return Batched(open_engine(how), how.batch), networks


def _ranks(measured: Measured) -> npt.NDArray[np.int64]:
    """The likeliest classes in order, int64 (N, 1 + operations, ranks); the image itself comes first."""
    logits = np.concatenate([measured.logits[:, None], measured.variants], axis=1)
    ranks: npt.NDArray[np.int64] = np.argsort(-logits, axis=2, kind="stable")[..., :_RANKS]
    return ranks
