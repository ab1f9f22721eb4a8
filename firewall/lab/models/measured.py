"""What `firewall lab classifiers` measured of classifiers whose files hold no card, by the SHA-256 of the ONNX file.

Data sets as that command names them; 95 % intervals and top-5 are in benchmarks/results/classifiers.json.
"""

from __future__ import annotations

from typing import Any

__all__ = ["tests_of"]

#: (data, images, share of them that the classifier names rightly)
_MEASURED: dict[str, tuple[tuple[str, int, float], ...]] = {
    # default
    "253ddee933e277fc2f68350ae6bf1f15fb2b3eaec17186e1c1c2e9fdb2d930ce": (("gtsrb/test", 10104, 0.9954),),
    # cifar10_resnet20
    "57d837fcdea2b96016dd022b0b4372eb86dd09ed2fdba0f49e8728618d2813ca": (
        ("cifar10/test", 10000, 0.8103),
        ("cifar10/lossless", 4000, 0.998),
    ),
    # mobilenet_v1_0.25_128
    "c6f3c4437052410ad7983a13f23a10bc9f9b933c202a2df04bcb6a4222a2c5b4": (("nips17/test", 300, 0.4667),),
    # mobilenet_v1_0.5_160
    "4bc6ad08613090fe912c825fbef77c2bf6a69249505f46da451af96eedf4c370": (("nips17/test", 300, 0.72),),
    # mobilenet_v1_0.75_192
    "998f0e5cd300909dc9d8c0ed91c62ab38d032c63f50eae99517558b0d4e24638": (("nips17/test", 300, 0.7833),),
    # mobilenet_v2_1.0_224
    "b8402021779147d704a487708feb1b23ee0fcd37b886beb0d34d96420775b483": (("nips17/test", 300, 0.8567),),
    # cifar10_resnet56
    "6e6de1827e5006bface8be2b4f73071e75219d0a1e66ffe3bc41a95c0e84cb39": (
        ("cifar10/test", 10000, 0.832),
        ("cifar10/lossless", 4000, 1.0),
    ),
}

_NOTES = {
    "cifar10/test": "kept out of training, but already JPEG at quality 75 where the images come from the pack",
    "cifar10/lossless": "not kept out: the network was trained on these images",
    "nips17/test": "not ImageNet's own validation images, but like them",
}


def tests_of(sha256: str) -> list[dict[str, Any]]:
    """For the card: data, images, accuracy and notes of each measurement; empty for a file that wasn't measured."""
    return [
        {"data": data, "images": images, "accuracy": accuracy, "notes": _NOTES.get(data, "kept out of training")}
        for data, images, accuracy in _MEASURED.get(sha256, ())
    ]
