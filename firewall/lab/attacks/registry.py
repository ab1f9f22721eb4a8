"""Attacks by name, with the parameters that data sets, reports and thresholds refer to.

name                     what it does                                      source
fgsm                     one sign step of 0.03                             Goodfellow et al. 2015
pgd                      another name of pgd-0.03
pgd-0.01 .. pgd-0.06     bounded, L-infinity                               Madry et al. 2018
pgd-high-confidence      bounded, as certain as it can                     Madry et al. 2018, Carlini and Wagner 2017
deepfool, -top5          least change, L2                                  Moosavi-Dezfooli et al. 2016
cw, -top5                least change, L2                                  Carlini and Wagner 2017
cw-kappa                 high confidence, L2                               Carlini and Wagner 2017, confidence kappa
lbfgs                    target at 0.99, least change, L2                  Szegedy et al. 2014
bim, l1-bim, l2-bim      target at 0.99, least radius of L-inf, L1, L2     Kurakin et al. 2017
pgd-targeted             target at 0.99, least radius, random start        Madry et al. 2018
gradient, -top5          one step of least length, L2                      Foolbox 1.8
fgsm-top5                one step of least length, L-infinity              Goodfellow et al. 2015
newtonfool, -top5        least change, L2                                  Jang et al. 2017
adef, -top5              deformation                                       Alaifari et al. 2019
jsma, -top5              few values, L0                                    Papernot et al. 2016
apgd-ce, apgd-dlr        bounded, L-infinity                               Croce, Hein 2020
fab-t                    least change, L-infinity                          Croce, Hein 2020
autoattack-standard      APGD-CE, APGD-T, FAB-T, Square (5000 queries)     Croce, Hein 2020, the standard version
apgd-square              APGD on both losses, then Square (1000 queries)   parts of it, quicker; no FAB
autoattack               old name of apgd-square
square                   bounded, black box by scores                      Andriushchenko et al. 2020
hopskipjump              least change, black box by labels                 Chen et al. 2020
one-pixel, five-pixels   one or five pixels, black box by scores           Su et al. 2019
universal                one change for all images, L-infinity             Moosavi-Dezfooli et al. 2017
stadv, stadv-targeted    flow of total variation 7.0 or less               Xiao et al. 2018, Nguyen C. 2018
stadv-wide               flow of 3 pixels or less, for larger images       Xiao et al. 2018
substitute, -drawn       black box by labels, transferred                  Papernot et al. 2017, Sun et al.
patch                    a disc that may lie anywhere                      Brown et al. 2017
stickers                 black and white rectangles on the sign            after Eykholt et al. 2018
shadow, triangle         shadow of a polygon; of a triangle, lightness .43 Zhong et al. 2022, most confident of 300
shadow-refined           the same after 200, then 100 neighbours           after Zhong et al. 2022
railing                  shadow of parallel bars                           most confident of 300
bars, two-bars           bars of .04 of the area; two, black or white      most confident of 300
stickers-drawn           coloured rectangles and discs, .04 of the area    most confident of 300
leaves, scribble         leaves; a stroke of paint, .04 of the area        most confident of 300
beam, glare, flicker     laser or lamp, low sun, lamp on AC                most confident of 300
projector                smooth coloured light                             most confident of 300
projector-gradient       the same by gradient                              after Gnanasambandam et al. 2021
dirt, drops              splashes on the sign, drops on the lens           most confident of 300
pose, pose-wide          perspective, a turn of 20 degrees; of 25          most confident of 300
cast                     colour cast and exposure                          most confident of 300
linf-2 .. linf-32        most confident wrong image, L-infinity, of 255    Madry et al. 2018, best point kept
blurred-8, -16           the same, the change blurred, sigma 1             in a subspace that a camera lets through
low-frequency-16, -32    the same, lowest 12 x 12 DCT coefficients         Guo et al. 2018, Sharma et al. 2019
smooth-8, -16            the same, total variation penalised               after Sharif et al. 2016

-top5: the label has to leave the first five classes, as in the statistics paper, and not only the first place.
Most confident of 300: black box by scores; of 300 random draws of `firewall.lab.datasets.obstructions`, each such that
a person still reads the sign, the one that the network is surest of. `decision_only` sees only what is released.

Behind a name may stand, each after an @ and in this order,

input                    for crops: brought to the network's size first, and attacked there (see `attack_crops`)
a channel, or several    what the attacked image goes through: jpeg-90, h264-23, blur ... (see `channels.names`)
known or eot             what the attacker knows of it: this very channel, or that there is one of many; else nothing

as in pgd-0.03@jpeg-90, linf-8@blur@jpeg-75 (or linf-8@blur+jpeg-75), linf-8@input@h264-23@known and linf-8@eot.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType

from firewall.errors import UsageError
from firewall.lab.attacks.adef import ADef
from firewall.lab.attacks.apgd import Apgd
from firewall.lab.attacks.attack import Attack
from firewall.lab.attacks.autoattack import AutoAttack
from firewall.lab.attacks.bim import Bim
from firewall.lab.attacks.bounded import Bounded
from firewall.lab.attacks.carlini_wagner import CarliniWagner
from firewall.lab.attacks.channelled import KNOWLEDGE, Channelled
from firewall.lab.attacks.criteria import TOP_5, Target
from firewall.lab.attacks.deepfool import DeepFool
from firewall.lab.attacks.fab import FabT
from firewall.lab.attacks.fgsm import Fgsm
from firewall.lab.attacks.gradient import GradientStep
from firewall.lab.attacks.high_confidence import HighConfidencePgd
from firewall.lab.attacks.hopskipjump import HopSkipJump
from firewall.lab.attacks.jsma import Jsma
from firewall.lab.attacks.lbfgs import Lbfgs
from firewall.lab.attacks.newtonfool import NewtonFool
from firewall.lab.attacks.one_pixel import OnePixel
from firewall.lab.attacks.patch import Patch
from firewall.lab.attacks.pgd import Pgd
from firewall.lab.attacks.physical import Physical
from firewall.lab.attacks.projector import Projector
from firewall.lab.attacks.square import Square
from firewall.lab.attacks.stadv import StAdv
from firewall.lab.attacks.stickers import Stickers
from firewall.lab.attacks.substitute import Substitute
from firewall.lab.attacks.universal import Universal

__all__ = ["ATTACKS", "BLACK_BOX", "PAPER_TARGETED", "PAPER_UNTARGETED", "Named", "by_name", "named"]

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
        "deepfool-top5": DeepFool(criterion=TOP_5),
        "cw": CarliniWagner(),
        "cw-top5": CarliniWagner(criterion=TOP_5),
        "cw-kappa": CarliniWagner(kappa=8.0),
        "lbfgs": Lbfgs(),
        "bim": Bim(),
        "l1-bim": Bim(norm="l1", name="l1-bim"),
        "l2-bim": Bim(norm="l2", name="l2-bim"),
        "pgd-targeted": Bim(steps=40, searches=6, random_start=True, name="pgd-targeted"),
        "gradient": GradientStep(),
        "gradient-top5": GradientStep(criterion=TOP_5),
        "fgsm-top5": GradientStep(norm="linf", criterion=TOP_5, name="fgsm"),
        "newtonfool": NewtonFool(),
        "newtonfool-top5": NewtonFool(criterion=TOP_5),
        "adef": ADef(),
        "adef-top5": ADef(criterion=TOP_5),
        "jsma": Jsma(),
        "jsma-top5": Jsma(criterion=TOP_5),
        "apgd-ce": Apgd(),
        "apgd-dlr": Apgd(loss="dlr"),
        "fab-t": FabT(eps=None),
        "autoattack-standard": AutoAttack.standard(0.03),
        "apgd-square": AutoAttack(),
        "autoattack": AutoAttack(),
        "square": Square(eps=0.06),
        "hopskipjump": HopSkipJump(),
        "one-pixel": OnePixel(),
        "five-pixels": OnePixel(pixels=5),
        "universal": Universal(),
        "stadv": StAdv(),
        "stadv-targeted": StAdv(criterion=Target(0.5)),
        "stadv-wide": StAdv(cap=2500.0, reach=3.0, step=0.3),
        "substitute": Substitute(),
        "substitute-drawn": Substitute(seeds="drawn", count=100),
        "patch": Patch(),
        "stickers": Stickers(),
        "shadow": Physical("shadow", name="shadow"),
        "shadow-refined": Physical("shadow", draws=200, refined=100, name="shadow"),
        "triangle": Physical("triangle", name="triangle"),
        "railing": Physical("railing", name="railing"),
        "bars": Physical("bars", name="bars"),
        "two-bars": Physical("two-bars", name="two-bars"),
        "stickers-drawn": Physical("stickers", name="stickers-drawn"),
        "leaves": Physical("leaves", name="leaves"),
        "scribble": Physical("scribble", name="scribble"),
        "beam": Physical("beam", name="beam"),
        "glare": Physical("glare", name="glare"),
        "flicker": Physical("flicker", name="flicker"),
        "projector": Physical("projector", name="projector"),
        "projector-gradient": Projector(),
        "dirt": Physical("dirt", name="dirt"),
        "drops": Physical("drops", name="drops"),
        "pose": Physical("pose", name="pose"),
        "pose-wide": Physical("pose-wide", name="pose-wide"),
        "cast": Physical("cast", name="cast"),
        "linf-2": Bounded(eps=2 / 255),
        "linf-4": Bounded(eps=4 / 255),
        "linf-8": Bounded(eps=8 / 255),
        "linf-16": Bounded(eps=16 / 255),
        "linf-32": Bounded(eps=32 / 255),
        "blurred-8": Bounded(eps=8 / 255, subspace="blurred"),
        "blurred-16": Bounded(eps=16 / 255, subspace="blurred"),
        "low-frequency-16": Bounded(eps=16 / 255, subspace="low-frequency"),
        "low-frequency-32": Bounded(eps=32 / 255, subspace="low-frequency"),
        "smooth-8": Bounded(eps=8 / 255, total_variation=10.0),
        "smooth-16": Bounded(eps=16 / 255, total_variation=10.0),
    }
)

#: The rows of the statistics paper's Table 1, in its order: targets at 0.99, then the label out of the first five.
PAPER_TARGETED = ("lbfgs", "bim", "pgd-targeted", "l1-bim", "l2-bim")
PAPER_UNTARGETED = (
    *("gradient-top5", "fgsm-top5", "deepfool-top5", "newtonfool-top5", "adef-top5", "jsma-top5", "cw-top5"),
)

#: Attacks that a network without gradients can be attacked with, such as one that runs outside torch.
BLACK_BOX = tuple(name for name, attack in ATTACKS.items() if not attack.needs_gradient)


@dataclass(frozen=True)
class Named:
    """What a name stands for.

    Args:
        attack: With its channel and what the attacker knows of that.
        at_input: Crops are brought to the network's size before they are attacked.
    """

    attack: Attack
    at_input: bool


def by_name(name: str) -> Attack:
    """The attack of that name, alone or with a channel.

    Args:
        name: A key of ATTACKS, perhaps followed by channels and the like: see above.

    Returns:
        The attack, with the parameters that the name stands for.

    Raises:
        UsageError: There is none; the message lists the names.
        MissingExtraError: The codec of a channel is not installed.
    """
    return named(name).attack


def named(name: str) -> Named:
    """As `by_name`, and whether crops are attacked at the network's size.

    Args:
        name: As `by_name` takes it.

    Returns:
        What it stands for.

    Raises:
        UsageError: There is none; the message lists the names.
        MissingExtraError: The codec of a channel is not installed.
    """
    base, *parts = name.split("@")
    if base not in ATTACKS:
        raise UsageError(f"no attack is named {base!r}; there are {', '.join(ATTACKS)}")
    attack, at_input, knows = ATTACKS[base], parts[:1] == ["input"], "nothing"
    parts = parts[at_input:]
    if parts and parts[-1] in KNOWLEDGE[1:]:
        knows = parts.pop()
    late = [part for part in parts if part in ("input", *KNOWLEDGE[1:])]
    if late or (knows == "known" and not parts):
        raise UsageError(
            f"attack {name!r}: allowed are NAME, NAME@input first, then channels, then eot or (of a channel) known; "
            "such as linf-8@input@jpeg-90@known"
        )
    if parts or knows != "nothing":
        attack = Channelled(attack, "+".join(parts), knows)
    return Named(attack, at_input)
