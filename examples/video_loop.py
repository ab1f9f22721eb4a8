"""Judge every frame of a video in a loop of your own.

python examples/video_loop.py drive.mp4
"""

from __future__ import annotations

import sys

# --8<-- [start:loop]
import cv2

from firewall import Firewall


def guarded(path: str) -> None:
    """Print what the firewall releases in a video of cropped signs."""
    guard = Firewall.load("default")
    video = cv2.VideoCapture(path)
    while True:
        good, bgr = video.read()
        if not good:
            break
        verdict = guard.screen(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB))  # uint8 (H, W, 3) RGB, a crop of one sign
        if verdict.released:
            print(verdict.label, verdict.label_name)  # act on it
        else:
            print("withheld:", verdict.reason)  # carry on as if nothing had been seen


# --8<-- [end:loop]

if __name__ == "__main__":
    guarded(sys.argv[1])
