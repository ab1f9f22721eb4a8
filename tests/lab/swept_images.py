"""Made-up answers of a classifier to normal and attacked images and their copies: what detectors of labels learn from.

Attacks hold under JPEG and rotation and give way under blur and scaling, each to its own degree.
"""

from __future__ import annotations

import numpy as np

from firewall.lab.database.swept import Swept
from firewall.lab.database.variants import Variants
from firewall.transforms import OPERATIONS_38

CLASSES = 8
ATTACKS = {"fgsm": 3.0, "deepfool": 1.0, "pgd-high-confidence": 7.0}  # by how much the wrong class leads
_WEAR = np.array([4.0 if name.startswith(("blur", "scale")) else 0.3 for name in OPERATIONS_38])


def swept_images(seed: int = 0, normals: int = 240) -> Swept:
    """`normals` images in groups of four, two thirds to train with, and one of each attack on each of them."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, CLASSES, normals)
    group = np.arange(normals) // 4 + 1000 * seed
    split = np.array(["train", "train", "train", "train", "dev", "eval"])[group % 6]
    sure = generator.uniform(3, 8, normals)[:, None]
    originals, copies, attacks = [], [], []
    for name, strength in {"": 0.0, **ATTACKS}.items():
        wrong = (labels + generator.integers(1, CLASSES, normals)) % CLASSES
        truth, other = np.eye(CLASSES)[labels] * sure, np.eye(CLASSES)[wrong] * (sure + strength)
        attacked = truth + other if name else truth
        worn = truth[:, None] + (0 if not name else 1) * np.clip(other[:, None] - _WEAR[None, :, None], 0, None)
        originals.append(attacked + generator.normal(0, 0.4, attacked.shape))
        copies.append(worn + generator.normal(0, 0.4, worn.shape))
        attacks += [name] * normals
    times = 1 + len(ATTACKS)
    return Swept(
        Variants(
            OPERATIONS_38, np.concatenate(originals).astype(np.float32), np.concatenate(copies).astype(np.float32)
        ),
        np.tile(labels, times).astype(np.int64),
        np.array(attacks),
        np.tile(split, times),
        np.tile(group, times).astype(np.int64),
    )
