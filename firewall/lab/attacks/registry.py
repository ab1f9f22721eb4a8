"""Attacks by name, with the parameters that data sets, reports and thresholds refer to.

name                   regime               source
fgsm                   one step             Goodfellow et al. 2015
pgd                    the same as pgd-0.03
pgd-0.01 .. pgd-0.06   bounded, L-infinity  Madry et al. 2018
pgd-high-confidence    high confidence      Madry et al. 2018, loss of Carlini and Wagner 2017
deepfool               least change, L2     Moosavi-Dezfooli et al. 2016
cw                     least change, L2     Carlini and Wagner 2017
cw-kappa               high confidence, L2  Carlini and Wagner 2017, with confidence kappa
"""

from __future__ import annotations

from types import MappingProxyType

from firewall.errors import UsageError
from firewall.lab.attacks.carlini_wagner import CarliniWagner
from firewall.lab.attacks.deepfool import DeepFool
from firewall.lab.attacks.fgsm import Fgsm
from firewall.lab.attacks.high_confidence import HighConfidencePgd
from firewall.lab.attacks.pgd import Pgd
from firewall.lab.attacks.protocol import Attack

__all__ = ["ATTACKS", "by_name"]

#: Never change the parameters behind a name: a report of last year must mean the same attack. Add a name.
ATTACKS: MappingProxyType[str, Attack] = MappingProxyType(
    {
        "fgsm": Fgsm(eps=0.03),
        "pgd": Pgd(eps=0.03),
        "pgd-0.01": Pgd(eps=0.01),
        "pgd-0.03": Pgd(eps=0.03),
        "pgd-0.06": Pgd(eps=0.06),
        "pgd-high-confidence": HighConfidencePgd(eps=0.1, step=0.008, targets=4),
        "deepfool": DeepFool(),
        "cw": CarliniWagner(),
        "cw-kappa": CarliniWagner(kappa=8.0),
    }
)


def by_name(name: str) -> Attack:
    """The attack of that name. Raises UsageError, which lists the names there are."""
    try:
        return ATTACKS[name]
    except KeyError:
        raise UsageError(f"no attack is named {name!r}; there are {', '.join(ATTACKS)}") from None
