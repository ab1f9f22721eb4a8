"""A bundle made without each family of attacks, and one made in the same way with all, for left_out_families.py.

    python benchmarks/left_out_bundles.py --out DIR --scenes PACK [--families light,channel,...] [--base default]
        [--epochs 8] [--every 2] [--moving-average 0.99] [--data DIR] [--bfloat16]

For each: a robust juror is trained on a *short schedule*, is put beside `stability`, `confidence` and `contrast` of the
base bundle, and limits are set on benign images: OUT/FAMILY/bundle, and OUT/nothing/bundle with nothing left out. The
family is in no augmentation of the juror, and in no benign image that limits are set on. The base bundle's other jurors
and its classifier for masks are left out of all, since they have met families; its classifier and the choice of
`stability` are as they are. Stopped at any time, it goes on.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from pathlib import Path

import numpy as np

from firewall.bundle import Bundle, load_bundle
from firewall.errors import BundleError, FirewallError, UsageError
from firewall.lab.calibration.conditional import ConditionalSettings, benign_images, conditional
from firewall.lab.calibration.jury_bundle import with_jury
from firewall.lab.datasets import data_root, gtsrb
from firewall.lab.datasets.families import FAMILIES, named, shifts_without
from firewall.lab.training.jury.sign_juror import SignLot, train_on_lot, without_sign
from firewall.lab.training.jury.training import JurorSettings

__all__ = ["NOTHING", "calibration", "made", "main"]

#: Stands for the bundle that nothing is left out of.
NOTHING = "nothing"
#: Of the base bundle's detectors these need no training, and stay.
_KEPT = ("contrast", "confidence", "stability")
_BENIGN = ("gtsrb@kept-out", "gtsrb@test/train")


def calibration(family: str, rate: float) -> ConditionalSettings:
    """How limits are set without a family.

    Args:
        family: A key of FAMILIES, or NOTHING.
        rate: Share of benign images that may be withheld.
    """
    left_out = () if family == NOTHING else (family,)
    # Smaller copies of benign images are made by resizing, which is a channel.
    far = 0 if "resize" in named(left_out).steps else ConditionalSettings.far
    return ConditionalSettings(rate, far=far, frames=4, shifts=shifts_without(left_out))


def made(
    base: Bundle, family: str, lot: SignLot, out: Path, settings: JurorSettings, rate: float, data: Path, threads: int
) -> Path:
    """Train, put together and calibrate; what is there already is not made again.

    Args:
        base: What the juror is put into.
        family: What is left out, a key of FAMILIES, or NOTHING.
        lot: What the juror learns from.
        out: Folder for the juror's run and the bundle.
        settings: Of the training, with nothing left out.
        rate: Share of benign images that the bundle may withhold.
        data: Folder of the data sets.
        threads: Threads of torch.

    Returns:
        The bundle's folder.

    Raises:
        FirewallError: See `train_on_lot`, `with_jury`, `conditional`.
    """
    juror, bundle = out / "juror", out / "bundle"
    wanted = () if family == NOTHING else (family,)
    schedule = JurorSettings(**{**_fields(settings), "without": wanted})
    if not (juror / "card.json").is_file():
        train_on_lot(lot, juror, schedule, threads=threads, workers=1)
    said = json.loads((juror / "card.json").read_text(encoding="utf-8"))["training"]
    if (tuple(said.get("without", ())), said["epochs"]) != (wanted, settings.epochs):
        raise UsageError(f"{juror} holds a juror of another schedule; name another --out, or remove it")
    if _whole(bundle):
        return bundle
    there = [spec.name for spec in base.manifest.detectors]
    others = [name for name in there if name not in _KEPT and not name.startswith("juror-")]
    draft = with_jury(base, [juror], out / "draft", without=others)
    conditional(draft, [benign_images(draft, spec, data) for spec in _BENIGN], bundle, calibration(family, rate))
    shutil.rmtree(out / "draft")
    return bundle


def _whole(bundle: Path) -> bool:
    try:
        return "conditional.json" in load_bundle(str(bundle)).files
    except BundleError:
        return False


def _fields(settings: JurorSettings) -> dict[str, object]:
    return {name: getattr(settings, name) for name in JurorSettings.__dataclass_fields__}


def _lot(data: Path, scenes: list[Path], every: int) -> SignLot:
    """The training tracks, of each every so many-th frame; the accuracy is told on tracks that were kept out."""
    signs = gtsrb.load_train(data)
    rest, kept = (signs.subset(part) for part in gtsrb.split_tracks(signs, *gtsrb.KEPT_OUT))
    rest = rest.subset(np.arange(len(rest)) % every == 0)
    others = [crop for path in scenes for crop in without_sign(path)]
    tracks = len(np.unique(rest.tracks))
    return SignLot((rest.images, rest.labels), (kept.images, kept.labels), others, tracks)


def main() -> int:
    """Make the bundles; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--families", default=",".join((NOTHING, *FAMILIES)), help="with commas [%(default)s]")
    parser.add_argument("--base", default="default")
    parser.add_argument("--scenes", type=Path, action="append", default=[])
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--every", type=int, default=2, help="of a track every so many-th frame is learnt from")
    # The usual average looks back over 500 steps: on a short schedule that is the first half of the training.
    parser.add_argument(
        "--moving-average", type=float, default=0.99, help="decay of the weights' average [%(default)s]"
    )
    parser.add_argument("--rate", type=float, default=0.02)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--bfloat16", action="store_true")
    given = parser.parse_args()
    try:
        families = tuple(filter(None, given.families.split(",")))
        if unknown := [name for name in families if name not in (NOTHING, *FAMILIES)]:
            raise UsageError(f"unknown family {unknown[0]!r}; known: {NOTHING}, {', '.join(FAMILIES)}")
        if given.epochs < 1 or given.every < 1 or given.threads < 1:
            raise UsageError("--epochs, --every and --threads must be 1 or more")
        if not 0 <= given.moving_average < 1:
            raise UsageError(f"--moving-average {given.moving_average:g}: 0 to below 1 is allowed")
        base, data = load_bundle(given.base), data_root(given.data)
        lot = _lot(data, given.scenes, given.every)
        average = given.moving_average
        settings = JurorSettings(kind="robust", epochs=given.epochs, moving_average=average, bfloat16=given.bfloat16)
        for family in families:
            bundle = made(base, family, lot, given.out / family, settings, given.rate, data, given.threads)
            sys.stderr.write(f"{family}: {bundle}\n")
    except FirewallError as error:
        sys.stderr.write(f"left_out_bundles: {error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
