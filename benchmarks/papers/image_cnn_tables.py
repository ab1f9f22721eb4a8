"""Tables and figures of Nguyen H., Kuribayashi et al., section 4, from what the networks said of each image."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.papers.image_cnn_runs import ATTACKS, Run
from firewall.errors import DataError
from firewall.lab.measurement import metrics

__all__ = [
    "RATE",
    "SHARE",
    "Answers",
    "Part",
    "attack_cells",
    "by_attack",
    "cell",
    "figures",
    "history",
    "left_out",
    "load_answers",
    "rate_cell",
    "score",
    "table6",
]

Scores = npt.NDArray[np.float64]
Tracks = npt.NDArray[np.int64]
#: Outputs (N, 2) of normal images and of each attack's, with their tracks, by the set that they are of.
Answers = dict[str, npt.NDArray[Any]]
#: Scores and tracks of normal images, and of each attack.
Part = tuple[Scores, Tracks, dict[str, tuple[Scores, Tracks]]]

#: The adversarial images' share of the paper's eval set: the accuracy of a detector that calls everything adversarial.
SHARE = 0.8389
#: The share of normal images, of other tracks, that a threshold withholds.
RATE = 0.05
#: Accuracy and EER of Table 6 by network, start and loss, as printed.
_THEIRS: dict[tuple[str, bool, str], tuple[str, str]] = {
    ("resnet50", False, "softmax"): ("83.89 %", "48.00 %"),
    ("resnet50", True, "softmax"): ("93.29 %", "9.00 %"),
    ("xception", False, "softmax"): ("83.89 %", "49.33 %"),
    ("xception", True, "softmax"): ("92.59 %", "15.23 %"),
    ("resnet50", False, "raw"): ("83.89 %", "49.09 %"),
    ("resnet50", True, "raw"): ("99.49 %", "0.66 %"),
    ("xception", False, "raw"): ("99.95 %", "0.15 %"),
    ("xception", True, "raw"): ("99.60 %", "0.49 %"),
}


def load_answers(path: Path) -> Answers:
    """What a run said, as `train_runs` keeps it. Raises DataError if the file is damaged."""
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{path} is damaged ({error}); remove it and run the command with --train again") from error


def score(outputs: npt.NDArray[Any]) -> Scores:
    """The adversarial minus the normal output, (N,)."""
    difference: Scores = (outputs[:, 1] - outputs[:, 0]).astype(np.float64)
    return difference


def _set(answers: Answers, name: str) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64], dict[str, Any]]:
    """Scores and tracks of the normal images, and by attack both."""
    attacks = {
        attack: (score(answers[f"{name}/{attack}"]), answers[f"{name}/{attack}/tracks"].astype(np.int64))
        for attack in ATTACKS
        if len(answers.get(f"{name}/{attack}", ()))
    }
    return score(answers[f"{name}/normal"]), answers[f"{name}/tracks"].astype(np.int64), attacks


def cell(value: float, low: float | None, high: float | None, count: int) -> dict[str, Any]:
    """One number of a table, with its 95 % interval and the number of images it is of."""
    return {"value": float(value), "low": low, "high": high, "n": count}


def _overall(answers: Answers, name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Accuracy at the boundary for the paper's share of classes, and EER, over all attacks together."""
    normal, tracks, attacks = _set(answers, name)
    attacked = np.concatenate([scores for scores, _ in attacks.values()])
    origin = np.concatenate([groups for _, groups in attacks.values()])
    found = metrics.separate(normal, attacked, rates=(), normal_tracks=tracks, adversarial_tracks=origin, resamples=300)
    value, low, high = _accuracy(normal > 0, tracks, attacked > 0, origin)
    count = len(normal) + len(attacked)
    return cell(value, low, high, count), cell(found.eer.value, found.eer.low, found.eer.high, count)


def _accuracy(
    normal: npt.NDArray[np.bool_],
    tracks: npt.NDArray[np.int64],
    attacked: npt.NDArray[np.bool_],
    origin: npt.NDArray[np.int64],
) -> tuple[float, float, float]:
    """SHARE of true positives + the rest of true negatives, with the interval of the two rates' own (tracks drawn)."""
    point = metrics.operating_point(
        normal.astype(float), attacked.astype(float), 0.5, normal_tracks=tracks, adversarial_tracks=origin
    )
    hit, false = point.true_positives, point.false_positives
    value = SHARE * hit.value + (1 - SHARE) * (1 - false.value)
    down = np.hypot(SHARE * (hit.value - hit.low), (1 - SHARE) * (false.high - false.value))
    up = np.hypot(SHARE * (hit.high - hit.value), (1 - SHARE) * (false.value - false.low))
    return value, max(0.0, value - float(down)), min(1.0, value + float(up))


def table6(runs: Mapping[Run, Answers]) -> dict[str, Any]:
    """Accuracy and EER of every finished run that the paper has, and of the small network."""
    rows = []
    for run, answers in runs.items():
        if run.leave_out or run.history != "same":
            continue
        theirs = _THEIRS.get((run.network, run.start, run.loss), (None, None))
        same, honest = _overall(answers, "held"), _overall(answers, "judged")
        key = [
            run.network,
            "fine-tuned" if run.start else "from scratch",
            "softmax" if run.loss == "softmax" else "none",
        ]
        rows += [
            {"key": [*key, measure], "theirs": theirs[place], "same": same[place], "honest": honest[place]}
            for place, measure in enumerate(("accuracy", "EER"))
        ]
    return {
        "title": "Table 6: accuracy and equal error rate of each network",
        "note": "Accuracy for 83.89 % adversarial images, at the network's own boundary. The paper's best detector by "
        "statistics has 94.20 % and 9.67 %. Shifted training images were not used here.",
        "columns": ["network", "training", "softmax in training", "measure"],
        "rows": rows,
    }


def by_attack(runs: Mapping[Run, Answers]) -> list[dict[str, Any]]:
    """A table for each of those runs."""
    tables = []
    for run, answers in runs.items():
        if run.leave_out or run.history != "same":
            continue
        rows = []
        threshold = metrics.threshold_at(score(answers["dev/normal"]), RATE)
        same, honest = _set(answers, "held"), _set(answers, "judged")
        for attack in honest[2]:
            cells = [attack_cells(part, attack, threshold) for part in (same, honest)]
            rows += [
                {"key": [attack, measure], "theirs": None, "same": cells[0][measure], "honest": cells[1][measure]}
                for measure in cells[1]
            ]
        false = [rate_cell(part[0] > threshold, part[1]) for part in (same, honest)]
        rows.append({"key": ["normal images", "withheld"], "theirs": None, "same": false[0], "honest": false[1]})
        tables.append(
            {
                "title": f"By attack: {run.network}, {'fine-tuned' if run.start else 'from scratch'}, "
                f"{'softmax' if run.loss == 'softmax' else 'no softmax'}",
                "note": "Withheld at a threshold that 5 % of the normal images of the kept-out dev split exceed.",
                "columns": ["attack", "measure"],
                "rows": rows,
            }
        )
    return tables


def attack_cells(part: tuple[Any, Any, dict[str, Any]], attack: str, threshold: float) -> dict[str, dict[str, Any]]:
    """AUROC, EER and the share above `threshold` of one attack."""
    normal, tracks, attacks = part
    scores, origin = attacks[attack]
    found = metrics.separate(normal, scores, rates=(), normal_tracks=tracks, adversarial_tracks=origin, resamples=300)
    return {
        "AUROC": cell(found.auroc.value, found.auroc.low, found.auroc.high, len(scores)),
        "EER": cell(found.eer.value, found.eer.low, found.eer.high, len(scores)),
        "withheld": rate_cell(scores > threshold, origin),
    }


def rate_cell(hits: npt.NDArray[np.bool_], tracks: npt.NDArray[np.int64]) -> dict[str, Any]:
    """The share of hits; the interval counts a track as one draw.

    Args:
        hits: Bool (N,).
        tracks: (N,).

    Returns:
        A cell of a table.
    """
    values = hits.astype(float)
    rate = metrics.operating_point(values, values, 0.5, normal_tracks=tracks, adversarial_tracks=tracks).true_positives
    return cell(rate.value, rate.low, rate.high, rate.total)


def left_out(runs: Mapping[Run, Answers]) -> dict[str, Any]:
    """What the runs that left out a family say of its attacks."""
    rows = []
    for run, answers in runs.items():
        if not run.leave_out:
            continue
        threshold = metrics.threshold_at(score(answers["dev/normal"]), RATE)
        part = _set(answers, "judged")
        for attack in part[2]:
            cells = attack_cells(part, attack, threshold)
            rows += [
                {"key": [run.leave_out, attack, name], "theirs": None, "same": None, "honest": cell}
                for name, cell in cells.items()
            ]
    return {
        "title": "One family of attacks left out of training: the high-pass network, softmax",
        "note": "6 epochs each. Threshold as above; judged on the test images.",
        "columns": ["left out", "attack", "measure"],
        "rows": rows,
    }


def history(runs: Mapping[Run, Answers]) -> dict[str, Any]:
    """What the run with two file histories says of images of either."""
    rows: list[dict[str, Any]] = []
    for run, answers in runs.items():
        if run.history != "jpeg":
            continue
        parts = {name: _set(answers, name) for name in ("held", "judged")}
        lossless = {
            name: {a: (score(answers[f"{name}/{a}/lossless"]), tracks) for a, (_, tracks) in part[2].items()}
            for name, part in parts.items()
        }

        def hits(attacks: dict[str, Any]) -> dict[str, Any]:
            scores = np.concatenate([scores for scores, _ in attacks.values()])
            return rate_cell(scores > 0, np.concatenate([tracks for _, tracks in attacks.values()]))

        saved = {name: score(answers[f"{name}/normal-100"]) > 0 for name in parts}
        cells = {
            "accuracy, adversarial images saved as JPEG 100, normal ones not": {
                name: _overall(answers, name)[0] for name in parts
            },
            "normal images called adversarial, lossless": {n: rate_cell(p[0] > 0, p[1]) for n, p in parts.items()},
            "normal images called adversarial, saved as JPEG 100 too": {
                n: rate_cell(saved[n], p[1]) for n, p in parts.items()
            },
            "adversarial images found, saved as JPEG 100": {n: hits(p[2]) for n, p in parts.items()},
            "adversarial images found, lossless": {n: hits(part) for n, part in lossless.items()},
        }
        rows += [
            {"key": [what], "theirs": None, "same": cell["held"], "honest": cell["judged"]}
            for what, cell in cells.items()
        ]
    return {
        "title": "Two file histories: what a network learns if adversarial images alone are saved as JPEG 100",
        "note": "The high-pass network, softmax, 6 epochs, at its own boundary. If it judged attacks, its answer would "
        "not hang on how an image was saved.",
        "columns": ["what"],
        "rows": rows,
    }


def figures(runs: Mapping[Run, Answers]) -> list[dict[str, Any]]:
    """Fig. 2: how the differences of the logits spread over the judged images, for each run."""
    figures = []
    for run, answers in runs.items():
        if run.leave_out or run.history != "same":
            continue
        normal, _, attacks = _set(answers, "judged")
        attacked = np.concatenate([scores for scores, _ in attacks.values()])
        low, high = np.quantile(np.concatenate([normal, attacked]), [0.002, 0.998])
        edges = np.linspace(low, high + 1e-6, 41)
        series = {
            name: (np.histogram(np.clip(values, low, high), edges)[0] / len(values)).round(5).tolist()
            for name, values in (("normal", normal), ("adversarial", attacked))
        }
        how = f"{run.network}, {'fine-tuned' if run.start else 'from scratch'}"
        figures.append(
            {
                "title": f"Fig. 2: {how}, {'with' if run.loss == 'softmax' else 'without'} softmax in training",
                "kind": "histogram",
                "x": ((edges[:-1] + edges[1:]) / 2).round(4).tolist(),
                "series": series,
                "xlabel": "adversarial less normal logit",
                "ylabel": "share of the images of a class",
                "caption": f"{len(normal)} normal and {len(attacked)} adversarial test images, of no track seen in "
                "training; the paper draws the two logits as points, here is their difference, whose boundary is 0.",
            }
        )
    return figures
