"""Guard a classifier of your own: an ONNX file and a folder of benign images in, a bundle and its first verdict out.

python examples/own_classifier.py net.onnx benign/ my-bundle
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from firewall import Firewall
from firewall.sources import read_image


def main(network: str, benign: str, out: str, rate: str = "0.01") -> None:
    """Calibrate on the benign images, of which `rate` may be withheld, then judge one of them."""
    command = ["firewall", "export", "bundle", "--classifier", network, "--images", benign, "--out", out]
    command += ["--false-positive-rate", rate, "--name", "mine"]
    subprocess.run([sys.executable, "-m", *command], check=True)
    guard = Firewall.load(out)
    picture = next(path for path in sorted(Path(benign).rglob("*")) if path.suffix in (".png", ".jpg"))
    verdict = guard.screen(read_image(picture))
    print(f"{picture.name}: {verdict.decision}, {verdict.reason}, label {verdict.label_name}")


if __name__ == "__main__":
    main(*sys.argv[1:5])
