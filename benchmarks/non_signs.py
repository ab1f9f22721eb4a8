"""How often a label is released for what is no sign: `python -m benchmarks.non_signs [--data DIR]`.

Each picture is judged as a whole, as if a finder had proposed it: drawn discs, blank shapes, lettering, traffic lights,
digits, and signs in inverted colours. Nothing of this was drawn by the code that the jurors learned "not a sign" from
(firewall/lab/training/jury/non_signs.py), though some kinds are alike. Shapes that are signs when blank (a red ring
about white, a red triangle standing on its tip, a yellow diamond with a white border) are left out. With --data the
digits are MNIST's and the inverted signs are GTSDB's, of frames that nothing was trained on; without, scikit-learn's
digits and the demo's drawn signs stand in. With --data there are also halves of GTSDB's signs, as a bad box cuts them,
of which only a wrong label counts as released; and signs on their head, but for those that look alike then.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from benchmarks.machine import machine
from firewall import Firewall
from firewall.demo.signs import DRAWN, draw_sign
from firewall.lab.commands.output import write_json
from firewall.lab.datasets.gtsdb import cut, load_scenes
from firewall.lab.datasets.mnist import open_mnist
from firewall.lab.evaluation.scenes.figures import rate

__all__ = ["KINDS", "measure", "pictures"]

Pixels = npt.NDArray[np.uint8]
Draw = Callable[[int, np.random.Generator], Pixels]
Colour = tuple[int, int, int]

_COLOURS: tuple[Colour, ...] = (
    *((196, 18, 28), (0, 86, 148), (245, 176, 0), (0, 122, 84), (243, 243, 239), (26, 26, 29), (128, 130, 132)),
    *((220, 96, 20), (120, 60, 140), (90, 160, 220)),
)
_RED, _WHITE, _YELLOW = _COLOURS[0], _COLOURS[4], _COLOURS[2]
#: Every so many-th frame of GTSDB's pack is kept for judging (firewall.lab.training.jury.sign_juror.HELD_SCENES).
_HELD = 5
#: Classes that look much alike on their head: priority road, no vehicles, no entry, ends of limits, and arrows, which
#: become other arrows.
_ALIKE = frozenset({12, 15, 17, 32, *range(33, 43)})


def _scenery(size: int, generator: np.random.Generator) -> Pixels:
    """Sky above, something darker below, and blotches."""
    rows = np.linspace(0, 1, size)[:, None, None]
    high, low = generator.uniform(90, 230, 3), generator.uniform(20, 120, 3)
    blotches = cv2.resize(generator.normal(0, 22, (6, 6, 3)), (size, size), interpolation=cv2.INTER_CUBIC)
    return np.clip(high + (low - high) * rows + blotches, 0, 255).astype(np.uint8)


def _seen(picture: Pixels, generator: np.random.Generator) -> Pixels:
    """As a camera has it: a little soft, a little noisy."""
    soft = cv2.GaussianBlur(picture, (0, 0), float(generator.uniform(0.4, 1.1)))
    return np.clip(soft + generator.normal(0, float(generator.uniform(1, 5)), soft.shape), 0, 255).astype(np.uint8)


def _two(generator: np.random.Generator) -> tuple[Colour, Colour]:
    first, second = generator.choice(len(_COLOURS), 2, replace=False).tolist()
    return _COLOURS[first], _COLOURS[second]


def _polygon(picture: Pixels, corners: int, radius: float, turn: float, colour: Colour) -> None:
    size = len(picture)
    angles = turn + np.arange(corners) * 2 * np.pi / corners
    points = size / 2 + radius * size * np.stack([np.cos(angles), np.sin(angles)], 1)
    cv2.fillPoly(picture, [np.round(points * 16).astype(np.int32)], colour, cv2.LINE_AA, 4)


def circles(size: int, generator: np.random.Generator) -> Pixels:
    """A disc in one colour, a ring, or a disc in a disc; never red about white."""
    picture = _scenery(size, generator)
    outer, inner = _two(generator)
    if {outer, inner} == {_RED, _WHITE}:
        inner = _COLOURS[5]
    _polygon(picture, 64, 0.42, 0, outer)
    share = float(generator.choice([0.0, 0.5, 0.75]))
    if share:
        _polygon(picture, 64, 0.42 * share, 0, inner)
    return _seen(picture, generator)


def shapes(size: int, generator: np.random.Generator) -> Pixels:
    """A blank triangle, square, diamond, octagon or pentagon, in one colour or with a border."""
    picture = _scenery(size, generator)
    corners, turn = [(3, -0.5), (4, 0.25), (4, 0.0), (8, 0.125), (5, -0.5)][int(generator.integers(5))]
    outer, inner = _two(generator)
    if corners == 4 and _YELLOW in (outer, inner):
        outer, inner = _COLOURS[8], _COLOURS[6]
    _polygon(picture, corners, 0.47, turn * np.pi, outer)
    if generator.random() < 0.5:
        _polygon(picture, corners, 0.36, turn * np.pi, inner)
    return _seen(picture, generator)


def traffic_lights(size: int, generator: np.random.Generator) -> Pixels:
    """A dark housing with three lamps, one of them lit; or the lit lamp alone, as a box about it has it."""
    picture = _scenery(size, generator)
    lit = int(generator.integers(3))
    bright = ((255, 60, 50), (255, 190, 60), (60, 240, 160))[lit]
    if generator.random() < 0.4:
        picture[:] = 24
        cv2.circle(picture, (size // 2, size // 2), round(size * float(generator.uniform(0.28, 0.45))), bright, -1)
        return _seen(picture, generator)
    half = size // 6
    cv2.rectangle(picture, (size // 2 - half, size // 16), (size // 2 + half, size - size // 16), (22, 24, 26), -1)
    for place in range(3):
        dim = ((70, 24, 24), (70, 54, 20), (20, 60, 46))[place]
        at = (size // 2, round(size * (0.2 + 0.3 * place)))
        cv2.circle(picture, at, round(size * 0.11), bright if place == lit else dim, -1, cv2.LINE_AA)
    return _seen(picture, generator)


def lettering(size: int, generator: np.random.Generator) -> Pixels:
    """Letters on a panel, as on shops and lorries."""
    picture = _scenery(size, generator)
    ground, ink = _two(generator)
    height = int(size * generator.uniform(0.25, 0.5))
    cv2.rectangle(picture, (2, size // 2 - height), (size - 3, size // 2 + height), ground, -1)
    text = "".join(chr(65 + int(code)) for code in generator.integers(0, 26, int(generator.integers(2, 5))))
    scale = size / (22 * len(text))
    cv2.putText(picture, text, (4, size // 2 + size // 8), cv2.FONT_HERSHEY_DUPLEX, scale, ink, max(1, size // 32), 16)
    return _seen(picture, generator)


def inverted(size: int, generator: np.random.Generator) -> Pixels:
    """A drawn sign in the colours opposite to its own."""
    label = int(generator.choice(sorted(DRAWN)))
    sign = draw_sign(label, max(8, round(size * 0.84))).astype(np.float64)
    picture = _scenery(size, generator).astype(np.float64)
    edge = (size - len(sign)) // 2
    place = picture[edge : edge + len(sign), edge : edge + len(sign)]
    cover = sign[..., 3:] / 255
    place[:] = sign[..., :3] * cover + place * (1 - cover)
    return np.asarray(255 - _seen(picture.astype(np.uint8), generator), np.uint8)


@cache
def _handwritten() -> npt.NDArray[np.float64]:
    from sklearn.datasets import load_digits

    return np.asarray(load_digits().images, np.float64)


def digits(size: int, generator: np.random.Generator) -> Pixels:
    """A handwritten digit, white on black as they come, of scikit-learn's 8 x 8."""
    images = _handwritten()
    grey = (images[int(generator.integers(len(images)))] * 255 / 16).astype(np.uint8)
    large = cv2.resize(grey, (size, size), interpolation=cv2.INTER_CUBIC)
    return np.repeat(large[..., None], 3, 2)


#: Kind -> how one is drawn.
KINDS: dict[str, Draw] = {
    "drawn circles": circles,
    "blank shapes": shapes,
    "traffic lights": traffic_lights,
    "lettering": lettering,
    "digits": digits,
    "inverted colours": inverted,
}


def pictures(kind: str, count: int, seed: int = 0) -> list[Pixels]:
    """Some pictures of a kind, of 32 to 96 pixels, the same at each call; uint8 (n, n, 3) each."""
    generator = np.random.default_rng([seed, *kind.encode()])
    return [KINDS[kind](int(generator.integers(32, 97)), generator) for _ in range(count)]


def real(data: Path, count: int, seed: int = 0) -> dict[str, list[Pixels]]:
    """MNIST's digits, and signs of GTSDB's kept frames in inverted colours, each at its own size."""
    generator = np.random.default_rng(seed)
    numbers = open_mnist(data, "test").images
    some = generator.choice(len(numbers), count, replace=False).tolist()
    shown = [np.repeat(np.asarray(numbers[place]).reshape(28, 28, 1), 3, 2) for place in some]
    scenes, signs = load_scenes(data), []
    for place in range(0, len(scenes), _HELD):
        if scenes.boxes[place]:
            frame = scenes.frames[place]
            signs += [np.asarray(255 - cut(frame, box, f"frame {place}"), np.uint8) for box in scenes.boxes[place]]
    return {"digits": shown, "inverted colours": signs[:count]}


def spoilt(data: Path) -> tuple[dict[str, list[Pixels]], dict[str, list[int]]]:
    """Signs of GTSDB's kept frames as no finder should box them: halves, and on their head.

    Returns:
        Kind -> pictures, and of the halves the true label of each.
    """
    scenes = load_scenes(data)
    images: dict[str, list[Pixels]] = {"lower halves": [], "upper halves": [], "left halves": [], "on their head": []}
    labels: list[int] = []
    for place in range(0, len(scenes), _HELD):
        for box in scenes.boxes[place]:
            sign = cut(scenes.frames[place], box, f"frame {place}")
            rows, columns = (side // 2 for side in sign.shape[:2])
            images["lower halves"].append(sign[-rows - 1 :])
            images["upper halves"].append(sign[: rows + 1])
            images["left halves"].append(sign[:, : columns + 1])
            labels.append(box.label)
            if box.label not in _ALIKE:
                images["on their head"].append(np.ascontiguousarray(sign[::-1, ::-1]))
    return images, {kind: labels for kind in images if kind.endswith("halves")}


def measure(
    guard: Firewall, images: dict[str, list[Pixels]], labels: dict[str, list[int]] | None = None
) -> dict[str, Any]:
    """What the firewall makes of each kind.

    Args:
        guard: The firewall.
        images: Kind -> pictures, uint8 (h, w, 3) each.
        labels: Kind -> the label of each picture, where one is right; then only a wrong one counts as released.

    Returns:
        Kind -> how often a label was released, and how often it was said to be no sign; ready for JSON.
    """
    found, names = {}, guard.bundle.manifest.classifier.labels
    for kind, some in images.items():
        verdicts = [guard.screen(image) for image in some]
        right = (labels or {}).get(kind, [None] * len(some))
        wrong = [verdict for verdict, label in zip(verdicts, right, strict=True) if verdict.label not in (None, label)]
        out = Counter(names[verdict.label] for verdict in wrong if verdict.label is not None)
        found[kind] = {
            "released": rate([any(verdict is one for one in wrong) for verdict in verdicts]),
            "not_a_sign": rate([verdict.reason.value == "not a sign" for verdict in verdicts]),
            "withheld_because": dict(Counter(str(v.reason) for v in verdicts if not v.released).most_common()),
            "labels": dict(out.most_common(3)),
        }
    return found


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundle", default="default")
    parser.add_argument("--data", type=Path, help="folder with MNIST and GTSDB")
    parser.add_argument("--count", type=int, default=300, help="pictures of each kind")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    given = parser.parse_args()
    images = {kind: pictures(kind, given.count) for kind in KINDS}
    labels: dict[str, list[int]] = {}
    if given.data is not None:
        images |= real(given.data, given.count)
        cut_or_turned, labels = spoilt(given.data)
        images |= cut_or_turned
    guard = Firewall.load(given.bundle, threads=1)
    kinds = measure(guard, images, labels)
    every = sum(len(some) for some in images.values())
    out = sum(round(entry["released"]["rate"] * entry["released"]["n"]) for entry in kinds.values())
    write_json(
        {
            "kinds": kinds,
            "all": {"n": every, "released": out / every},
            "real": given.data is not None,
            "bundle": {"name": guard.bundle.manifest.name, "sha256": guard.bundle.sha256},
            "machine": machine(),
        },
        given.json,
    )


if __name__ == "__main__":
    main()
