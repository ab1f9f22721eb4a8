"""Road scenes with one traffic sign, rendered from a seed: what a camera behind a windscreen sees on its way past.

The scenery is made once for each encounter; a step then moves the road, enlarges the scenery and the sign, and lets
light, blur and sensor noise fall on all of it alike.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import cv2
import numpy as np
import numpy.typing as npt

from firewall.demo.signs import draw_sign
from firewall.errors import UsageError
from firewall.frame import Pixels, Region

__all__ = ["BAND", "HEIGHT", "WIDTH", "Encounter", "render"]

WIDTH, HEIGHT = 640, 400
#: Rows at the bottom that show no scene: a dark band, free for a caption.
BAND = 32
_ROWS = HEIGHT - BAND
_HORIZON = 196
#: Side of the sign in pixels at the first and at the last step.
_FAR, _NEAR = 36.0, 110.0
#: In sides of the sign: camera above the road; sign's middle above the camera and beside the line of travel.
_CAMERA, _SIGN_UP, _SIGN_OUT = 1.9, 0.45, 2.75
_DARK = (38, 40, 43)

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Encounter:
    """A drive past one sign. `label`: a class that `draw_sign` knows; `seed`: of all that is random in it;
    `steps`: number of frames, at least 1; `attack`: name of the attack that altered it, None for a benign one."""

    label: int
    seed: int
    side: Literal["left", "right"] = "right"
    light: Literal["day", "dusk", "overcast"] = "day"
    steps: int = 10
    attack: str | None = None


def render(encounter: Encounter, step: int, *, empty: bool = False) -> tuple[Pixels, Region]:
    """The frame at `step` (0 .. steps - 1), (400, 640, 3) uint8 RGB, and the box of its sign.

    The same encounter and step always give the same pixels; `attack` changes nothing here. `empty`: the same road
    without its sign, whose box is (0, 0, 0, 0).

    Raises:
        UsageError: If the encounter doesn't have this step.
    """
    if not 0 <= step < encounter.steps:
        raise UsageError(f"step {step} is not in this encounter; it has steps 0 to {encounter.steps - 1}")
    stage = _stage(encounter.label, encounter.seed, encounter.side, encounter.light)
    generator = np.random.default_rng([encounter.seed, step, 1])
    nearness = step / max(encounter.steps - 1, 1)
    side = 1 / (1 / _FAR + nearness * (1 / _NEAR - 1 / _FAR))  # even speed: the distance shrinks evenly
    scene = stage.scenery(side)
    stage.draw_road(scene, side)
    box = (0, 0, 0, 0) if empty else stage.put_sign(scene, side, generator)
    lit = cv2.LUT(scene, stage.light)
    blur = stage.softness * float(generator.uniform(0.8, 1.25))
    blurred = cv2.GaussianBlur(lit, (0, 0), blur * (1 + 0.7 * nearness), sigmaY=blur)  # the sign drifts outwards
    pixels = np.empty((HEIGHT, WIDTH, 3), np.uint8)
    cv2.add(blurred, _noise(generator, stage.noise), dst=pixels[:_ROWS], dtype=cv2.CV_8U)
    pixels[_ROWS:] = _DARK
    return pixels, box


@lru_cache(maxsize=2)
def _stage(label: int, seed: int, side: str, light: str) -> _Stage:
    return _Stage(label, seed, side, light)


class _Stage:
    """All of an encounter that doesn't change from step to step."""

    def __init__(self, label: int, seed: int, side: str, light: str) -> None:
        generator = np.random.default_rng([seed, 0])
        self.sense = 1 if side == "right" else -1
        self.vanishing = WIDTH / 2 - self.sense * 62
        self.light = _light(light, generator)
        self.softness = float(generator.uniform(0.5, 0.75))
        self.noise = {"day": 2.2, "overcast": 3.0, "dusk": 4.5}[light]
        self.far = _far(light, generator)
        self._ground(generator)
        self.sign = _weathered(draw_sign(label, 240), generator)
        self.yaw, self.roll = float(generator.uniform(-22, 22)), float(generator.uniform(-5, 5))
        self.post_grey = int(generator.integers(105, 150))

    def scenery(self, side: float) -> Pixels:
        """Sky and all that stands far away; it grows much less than the sign does."""
        scale = 1 + 0.12 * (side - _FAR) / (_NEAR - _FAR)
        matrix = np.array([[scale, 0, self.vanishing * (1 - scale)], [0, scale, _HORIZON * (1 - scale)]])
        return np.asarray(cv2.warpAffine(self.far, matrix, (WIDTH, _ROWS), borderMode=cv2.BORDER_REPLICATE), np.uint8)

    def _ground(self, generator: np.random.Generator) -> None:
        rows = np.arange(_HORIZON, _ROWS, dtype=np.float32)[:, None]
        self.depth = 1 / (rows - _HORIZON + 1)  # distance along the road, where the camera's height is 1 / focal length
        across = (np.arange(WIDTH, dtype=np.float32)[None] - np.float32(self.vanishing)) * self.depth * self.sense
        self.map_x = across * 44
        self.grain = _clouds(generator, 256, 256, (48, 128, 256))
        road = (across > -3.4) & (across < 1.24)
        self.grain_weight = np.clip((rows - _HORIZON) / 40, 0.15, 1) * np.where(road, 7, 22).astype(np.float32)
        verge = (np.minimum(np.abs(across + 3.4), np.abs(across - 1.24)) < 0.1) & ~road
        line = np.minimum(np.abs(across + 3.28), np.abs(across - 1.12)) < 0.022
        green = np.array([[92, 108, 62], [112, 114, 74], [84, 100, 66]][int(generator.integers(3))], np.float32)
        asphalt = np.float32(generator.uniform(92, 112)) * np.array([1, 1, 1.02], np.float32)
        fade = np.clip((rows - _HORIZON) / 90, 0, 1)[..., None]
        base = np.where(verge[..., None], green * 0.5 + 54, green * (1.12 - 0.24 * fade))
        base = np.where(road[..., None], asphalt * (1.1 - 0.12 * fade), base)
        base = np.where(line[..., None], np.float32(196), base).astype(np.float32)
        self.base = cv2.GaussianBlur(base, (0, 0), 0.7)
        self.phase = float(generator.uniform(0, 1))

    def draw_road(self, scene: Pixels, side: float) -> None:
        """Asphalt, grass and lane marks below the horizon, as far along as the sign's size says."""
        travelled = (1 / _FAR - 1 / side) / _CAMERA
        map_y = np.broadcast_to(self.depth * 20000 + np.float32(travelled * 20000), self.map_x.shape)
        grain = cv2.remap(self.grain, self.map_x, np.ascontiguousarray(map_y), cv2.INTER_LINEAR, None, cv2.BORDER_WRAP)
        ground = cv2.add(self.base, cv2.merge([grain * self.grain_weight] * 3), dtype=cv2.CV_8U)
        period = 1 / 38  # of a mark and its gap, in the measure of `depth`
        for number in range(9):
            near = (number - (travelled / period + self.phase) % 1) * period
            ends = [1 / max(distance, 1 / (2 * _ROWS)) for distance in (near, near + period * 0.45)]
            if near + period * 0.45 < 1 / _ROWS or ends[0] - ends[1] < 0.5:
                continue
            corners = [(ends[0], -0.024), (ends[0], 0.024), (ends[1], 0.024), (ends[1], -0.024)]
            shape = np.array([(self.vanishing + (half - 1.12 * self.sense) * y, y) for y, half in corners])
            cv2.fillConvexPoly(ground, np.round(shape * 16).astype(np.int32), (200, 200, 197), cv2.LINE_AA, 4)
        scene[_HORIZON:] = ground

    def put_sign(self, scene: Pixels, side: float, generator: np.random.Generator) -> Region:
        """Post and sign; the box encloses every pixel that the plate covers at least half."""
        x = self.vanishing + self.sense * _SIGN_OUT * side
        y = _HORIZON - _SIGN_UP * side + float(generator.uniform(-0.6, 0.6))
        self._post(scene, x, y, side)
        patch = round(side * 0.7)
        left, top = round(x) - patch, round(y) - patch
        warped = self._warp(side, (x - left, y - top), 2 * patch, generator)
        colour, alpha = warped[..., :3].astype(np.float32), warped[..., 3:].astype(np.float32) / 255
        window = scene[top : top + 2 * patch, left : left + 2 * patch]
        window[:] = np.round(window + (colour - window) * alpha).astype(np.uint8)
        covered = warped[..., 3] > 127
        columns, rows = np.flatnonzero(covered.any(axis=0)), np.flatnonzero(covered.any(axis=1))
        box = (left + columns[0], top + rows[0], columns[-1] - columns[0] + 1, rows[-1] - rows[0] + 1)
        return int(box[0]), int(box[1]), int(box[2]), int(box[3])

    def _warp(self, side: float, at: tuple[float, float], room: int, generator: np.random.Generator) -> Pixels:
        """The sign in perspective as (room, room, 4), its middle `at`; drawn at twice the size and shrunk."""
        yaw = np.deg2rad(self.yaw + float(generator.uniform(-1, 1)))
        roll = np.deg2rad(self.roll + float(generator.uniform(-0.5, 0.5)))
        corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]], np.float64)
        turned = corners @ np.array([[np.cos(roll), np.sin(roll)], [-np.sin(roll), np.cos(roll)]])
        distance = 1 + 0.12 * turned[:, :1] * np.sin(yaw)
        target = (turned * (np.cos(yaw), 1) / distance * side / 2 + at) * 2
        master = cv2.resize(self.sign, (round(side * 2),) * 2, interpolation=cv2.INTER_AREA)
        source = (corners + 1) / 2 * len(master) - 0.5
        matrix = cv2.getPerspectiveTransform(source.astype(np.float32), (target - 0.5).astype(np.float32))
        clear = [*(int(value) for value in master[0, 0, :3]), 0]  # the colour of the edge: none other may mix in
        large = cv2.warpPerspective(master, matrix, (2 * room, 2 * room), borderValue=clear)
        return np.asarray(cv2.resize(large, (room, room), interpolation=cv2.INTER_AREA), np.uint8)

    def _post(self, scene: Pixels, x: float, y: float, side: float) -> None:
        width = max(side * 0.09, 2.0)
        top, bottom = max(round(y - side * 0.52), 0), min(round(_HORIZON + _CAMERA * side), _ROWS)
        left, right = round((x - width / 2) * 16), round((x + width / 2) * 16)
        lane = cv2.cvtColor(np.full((1, 1), self.post_grey, np.uint8), cv2.COLOR_GRAY2RGB)[0, 0]
        for share, tone in ((1.0, 0.72), (0.75, 1.0), (0.3, 1.22)):
            edge = round(left + (right - left) * share)
            outline = np.array([[left, top * 16], [edge, top * 16], [edge, bottom * 16], [left, bottom * 16]], np.int32)
            cv2.fillConvexPoly(scene, outline, tuple(float(v * tone) for v in lane), cv2.LINE_AA, 4)


# Surfaces -------------------------------------------------------------------------------------------------------------


def _clouds(generator: np.random.Generator, height: int, width: int, grains: tuple[int, ...]) -> Floats:
    """Smooth noise of several grain counts, about -1 to 1, float32 (height, width)."""
    total = np.zeros((height, width), np.float32)
    for index, grain in enumerate(grains):
        cells = generator.uniform(-1, 1, (max(round(grain * height / width), 2), grain)).astype(np.float32)
        total += cv2.resize(cells, (width, height), interpolation=cv2.INTER_CUBIC) * np.float32(0.72**index)
    return np.asarray(total / np.float32(sum(0.72**index for index in range(len(grains)))), np.float32)


def _weathered(sign: npt.NDArray[np.uint8], generator: np.random.Generator) -> npt.NDArray[np.uint8]:
    """Sheen from one side, faint stains and bleaching."""
    size = len(sign)
    axis = np.linspace(-1, 1, size, dtype=np.float32)
    angle = generator.uniform(0, 2 * np.pi)
    sheen = 0.07 * (axis[None] * np.float32(np.cos(angle)) + axis[:, None] * np.float32(np.sin(angle)))
    tone = (1 + sheen + 0.035 * _clouds(generator, size, size, (3, 8, 24)))[..., None]
    colour = sign[..., :3].astype(np.float32)
    grey = colour.mean(2, keepdims=True)
    colour = (colour + (grey - colour) * np.float32(generator.uniform(0, 0.12))) * tone * 0.96
    return np.concatenate([np.clip(colour, 0, 255).astype(np.uint8), sign[..., 3:]], 2)


def _far(light: str, generator: np.random.Generator) -> Pixels:
    """Sky, hills, houses and trees, (rows, 640, 3)."""
    rows = np.linspace(0, 1, _HORIZON, dtype=np.float32)[:, None, None]
    high, low = np.array([[168, 186, 206], [222, 226, 226]], np.float32)
    if light == "dusk":
        high, low = np.array([[150, 160, 186], [250, 226, 204]], np.float32)
    sky = high + (low - high) * rows**0.8
    cloud = np.clip(_clouds(generator, _HORIZON, WIDTH, (5, 11, 28, 70)) * 1.6 + 0.15, 0, 1)[..., None] * (1.3 - rows)
    picture = np.empty((_ROWS, WIDTH, 3), np.float32)
    picture[:_HORIZON] = sky + (np.float32(234) - sky) * cloud * 0.75
    picture[_HORIZON:] = (96, 106, 74)
    _plant(picture, generator, (8, 26), [128, 142, 138], 7)
    scenery = [x for x in np.linspace(-20, WIDTH - 60, 7) if generator.random() < 0.5]
    for x in scenery:
        _build(picture, generator, int(x + generator.integers(40)))
    _plant(picture, generator, (14, 74), [76, 92, 58], 16)
    return np.asarray(np.clip(picture, 0, 255), np.uint8)


def _plant(
    picture: Floats, generator: np.random.Generator, heights: tuple[int, int], colour: list[int], contrast: int
) -> None:
    """A row of foliage that stands on the horizon, between the two heights in pixels."""
    profile = _clouds(generator, 4, WIDTH, (9, 30, 90))[1] * 0.9 + 0.5
    edge = _clouds(generator, _HORIZON, WIDTH, (60, 160)) * 5
    top = _HORIZON - (heights[0] + np.clip(profile, 0, 1) * (heights[1] - heights[0]))
    rows = np.arange(_HORIZON, dtype=np.float32)[:, None]
    cover = np.clip((rows - top[None] + edge) / 2, 0, 1)[..., None]
    leaves = _clouds(generator, _HORIZON, WIDTH, (40, 110, 260))[..., None] * contrast * 2.2
    tint = 1 + 0.12 * _clouds(generator, 4, WIDTH, (8, 20))[1][None, :, None] * np.array([1.4, 0.6, 0.2], np.float32)
    shade = 1.1 - 0.3 * np.clip((rows - top[None]) / 60, 0, 1)[..., None]
    foliage = np.array(colour, np.float32) * tint * shade + leaves
    picture[:_HORIZON] += (foliage - picture[:_HORIZON]) * cover


def _build(picture: Floats, generator: np.random.Generator, x: int) -> None:
    """A house with a slate roof, `x` its left wall."""
    width, height = int(generator.integers(46, 90)), int(generator.integers(24, 42))
    top = _HORIZON - height
    wall = np.array([186, 180, 168], float) * generator.uniform(0.75, 1.08)
    roof = np.array([84, 80, 80], float) * generator.uniform(0.8, 1.2)
    ridge = top - int(generator.integers(14, 26))
    cv2.rectangle(picture, (x, top), (x + width, _HORIZON), wall.tolist(), cv2.FILLED)
    outline = np.array([[x - 4, top], [x + 8, ridge], [x + width - 8, ridge], [x + width + 4, top]], np.int32)
    cv2.fillConvexPoly(picture, outline, roof.tolist(), cv2.LINE_AA)
    for left in range(x + 7, x + width - 8, 15):
        cv2.rectangle(picture, (left, top + 7), (left + 7, top + 17), (92, 98, 104), cv2.FILLED)


def _light(name: str, generator: np.random.Generator) -> npt.NDArray[np.uint8]:
    """The tone curve of a light, (1, 256, 3) uint8: exposure, contrast and colour."""
    gain, gamma, lift, tint = {
        "day": (1.02, 0.95, 0.0, (1.02, 1.0, 0.97)),
        "overcast": (0.78, 1.05, 0.03, (0.98, 1.0, 1.03)),
        "dusk": (0.56, 1.12, 0.015, (1.0, 0.97, 1.04)),
    }[name]
    values = np.linspace(0, 1, 256)[None, :, None] ** (gamma * generator.uniform(0.95, 1.05))
    curve = values * gain * generator.uniform(0.92, 1.06) * np.array(tint) + lift
    return np.asarray(np.clip(curve * 255 + 0.5, 0, 255), np.uint8)


@lru_cache(maxsize=1)
def _noise_field() -> npt.NDArray[np.float32]:
    field = np.random.default_rng(20).normal(0, 1, (_ROWS + 128, WIDTH + 128, 3)).astype(np.float32)
    return np.asarray(cv2.GaussianBlur(field, (0, 0), 0.6) / np.float32(0.47), np.float32)


@lru_cache(maxsize=4)
def _scaled_noise(strength: float) -> npt.NDArray[np.int16]:
    return np.asarray(np.round(_noise_field() * np.float32(strength)), np.int16)


def _noise(generator: np.random.Generator, strength: float) -> npt.NDArray[np.int16]:
    """Sensor noise, (rows, 640, 3): a window of one fixed field, since fresh noise would take longer than the scene."""
    top, left = (int(value) for value in generator.integers(0, 128, 2))
    window: npt.NDArray[Any] = _scaled_noise(strength)[top : top + _ROWS, left : left + WIDTH]
    return window
