"""The question whether a label holds for every image near the one that is seen: what `--values` asks of a guard.

Let f be the certified network of the bundle and x' its input, a region at f's size. A label y is released only if f's
margins of y over all images within eps of x', in every value, are proved to be above 0. Then every x within eps of x'
has f(x) = y. So whatever is done to a sign x within eps, no label but f(x) is released (docs/certificates.md).
"""

from __future__ import annotations

from fractions import Fraction

from firewall.bundle import Bundle
from firewall.bundle.values import VALUES_REMEDY, values_of
from firewall.decision.proved_network import ProvedNetwork
from firewall.detectors import Evidence
from firewall.errors import BundleError, UsageError

__all__ = ["Values"]


class Values:
    """The certified network of a bundle, and how far values may be changed.

    Args:
        bundle: A verified bundle.
        eps: Largest change of a value of the network's input, as a share of 0..1.

    Raises:
        UsageError: The bundle has no such network, or eps is out of range.
        BundleError: Nothing can be proved of it, or it has other classes.
    """

    def __init__(self, bundle: Bundle, eps: float) -> None:
        if not 0 < eps <= 1:
            raise UsageError(f"--values must be above 0 and at most 1, such as 2/255, got {eps:g}")
        spec = values_of(bundle)
        if spec is None:
            raise UsageError(
                f"--values needs a certified network in the bundle, and {bundle.path} has none; {VALUES_REMEDY} puts "
                "one into a bundle"
            )
        self.eps, self.spec = eps, spec
        what = f"{spec.file} of bundle {bundle.path}"
        self.network = ProvedNetwork.read(bundle.files[spec.file], what, spec.height, spec.width)
        classes = len(bundle.manifest.classifier.labels)
        if self.network.classes != classes:
            raise BundleError(f"{what} has {self.network.classes} classes, the bundle's classifier {classes}")

    @property
    def told(self) -> str:
        """How far, for people: "2/255"."""
        steps = Fraction(self.eps * 255).limit_denominator(100)
        return f"{steps}/255" if float(steps) / 255 == self.eps and steps.denominator == 1 else f"{self.eps:g}"

    def hold(self, evidence: Evidence) -> bool:
        """Whether a region's label is proved.

        Args:
            evidence: The region, at the network's size made from its own pixels.
        """
        image = evidence.resized(self.network.width, self.network.height)
        label = int(evidence.logits.argmax())
        # Written so that a margin that is no number doesn't hold.
        return bool((self.network.margins(image, label, self.eps) > 0).all())
