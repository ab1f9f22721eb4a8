"""The certified network that `--values` asks: `values.json` and the file that it names, in a bundle that has them.

`firewall lab add-values` puts them in. They decide nothing by themselves: what is asked is the operator's.
"""

from __future__ import annotations

import math

from pydantic import Field

from firewall.bundle.loading import Bundle
from firewall.bundle.manifest import FileName
from firewall.bundle.strict import Sha256, Strict
from firewall.errors import BundleError, UsageError

__all__ = ["VALUES_FILE", "VALUES_NETWORK", "VALUES_REMEDY", "ValuesSpec", "eps_of", "values_of"]

VALUES_FILE, VALUES_NETWORK = "values.json", "values.onnx"
VALUES_REMEDY = "'firewall lab add-values --network DIR --out BUNDLE'"


class ValuesSpec(Strict):
    """The content of `values.json`.

    Attributes:
        file: An ONNX file of the bundle: RGB values in 0..1 -> the classifier's logits, in its order.
        network: SHA-256 of that file.
        width: Of its input in pixels.
        height: Of its input in pixels.
    """

    file: FileName
    network: Sha256
    width: int = Field(ge=8, le=256)
    height: int = Field(ge=8, le=256)


def values_of(bundle: Bundle) -> ValuesSpec | None:
    """The certified network of a bundle.

    Args:
        bundle: A verified bundle.

    Returns:
        What it says of it, or None if it has none.

    Raises:
        BundleError: It is not valid, or of another file than the bundle has.
    """
    spec = bundle.part(VALUES_FILE, ValuesSpec, "firewall lab add-values")
    if spec is None:
        return None
    there = bundle.manifest.files.get(spec.file)
    if there is None or there.sha256 != spec.network:
        raise BundleError(
            f"{VALUES_FILE} of bundle {bundle.path} is of another network than its file {spec.file}: make it again "
            f"with {VALUES_REMEDY}"
        )
    return spec


def eps_of(text: str, option: str = "--eps") -> float:
    """A change of a value: "2/255" or "0.0078".

    Args:
        text: As the user wrote it.
        option: What it was given for, for the message.

    Returns:
        Above 0, at most 1.

    Raises:
        UsageError: It is anything else.
    """
    whole, slash, part = text.partition("/")
    try:
        eps = float(whole) / float(part) if slash else float(whole)
    except (ValueError, ZeroDivisionError):
        eps = math.nan
    if not 0 < eps <= 1:
        raise UsageError(
            f"{option} must be above 0 and at most 1, as a share of a value's range, such as 2/255; got {text!r}"
        )
    return eps
