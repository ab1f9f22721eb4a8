"""Channels: what they do to pixels, how gradients get through, their names, and a codec that isn't there."""

from __future__ import annotations

import io
import sys
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image, ImageFilter

from firewall.errors import FirewallError, MissingExtraError, UsageError
from firewall.lab.attacks import by_name, quantise
from firewall.lab.attacks.channels import CHANNELS, parse_channel, sent, stand_in
from firewall.lab.attacks.channels.h264 import H264
from firewall.lab.attacks.channels.jpeg import Jpeg
from firewall.lab.attacks.rounding import to_input
from firewall.transforms import resize

Pixels = npt.NDArray[np.uint8]

EVERY = (*CHANNELS, "contrast-15", "blur-0.7+h264-30", "resize-75@jpeg-60@noise-2.5")


def pictures(height: int, width: int, count: int = 1, channels: int = 3) -> Pixels:
    """Smooth colours with an edge and some grain, as a photograph has them."""
    generator = np.random.default_rng([height, width])
    rows, columns = np.mgrid[:height, :width]
    waves = [np.sin(rows / (3 + k)) + np.cos(columns / (4 + k)) + (rows > columns) for k in range(channels)]
    values = 110 + 35 * np.stack(waves, axis=2) + generator.normal(0, 3, (count, height, width, channels))
    return values.clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("size", [(1, 1), (1, 9), (16, 16), (33, 47), (90, 51)])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_channel_keeps_size_and_repeats_by_its_seed(name: str, size: tuple[int, int], channels: int) -> None:
    """Odd and tiny sizes, grey or colour: the same shape and type; the same seed gives the same bytes."""
    pixels, channel = pictures(*size, count=2, channels=channels), parse_channel(name)
    received = sent(channel, pixels, seed=5)
    assert received.shape == pixels.shape and received.dtype == np.uint8
    assert np.array_equal(received, sent(channel, pixels.copy(), seed=5))


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("channels", [1, 3])
def test_the_stand_in_is_the_channel_with_a_gradient(name: str, channels: int) -> None:
    """Forward byte for byte what the channel gives; backward a gradient that is finite and not zero."""
    pixels, channel = pictures(37, 42, count=2, channels=channels), parse_channel(name)
    images = to_input(pixels).requires_grad_()
    seen = stand_in(channel, images, seed=3)
    assert np.array_equal(quantise(seen), sent(channel, pixels, seed=3))
    (gradient,) = torch.autograd.grad((seen * torch.rand(seen.shape)).sum(), images)
    assert torch.isfinite(gradient).all() and gradient.abs().max() > 0


@pytest.mark.parametrize("name", ["jpeg-90", "jpeg-75", "jpeg-50", "resize", "blur", "contrast"])
def test_what_gradients_see_is_near_the_channel(name: str) -> None:
    """The smooth form loses about what the channel loses, and not something else."""
    pixels, channel = pictures(48, 64), parse_channel(name)
    received = sent(channel, pixels, seed=0).astype(float)
    smooth = quantise(channel.smooth(to_input(pixels)).clamp(0, 1)).astype(float)
    assert np.abs(received - smooth).mean() < 0.85 * np.abs(received - pixels).mean()


def test_channels_are_what_their_names_say() -> None:
    """JPEG is Pillow's file read again, resize the edge's resize there and back, blur Pillow's, noise as loud as asked,
    contrast as low as asked; a chain is the one after the other."""
    pixels = pictures(45, 70)
    image = Image.fromarray(pixels[0])
    for quality in (90, 75, 50):
        file = io.BytesIO()
        image.save(file, "JPEG", quality=quality, subsampling=2)
        assert np.array_equal(sent(parse_channel(f"jpeg-{quality}"), pixels, 0)[0], np.asarray(Image.open(file)))
    half = resize(pixels[0], 35, 22)
    assert np.array_equal(sent(parse_channel("resize"), pixels, 0)[0], resize(half, 70, 45))
    blur = np.asarray(image.filter(ImageFilter.GaussianBlur(1)))
    assert np.array_equal(sent(parse_channel("blur"), pixels, 0)[0], blur)
    grey = np.full((1, 80, 80, 3), 128, np.uint8)
    noisy = sent(parse_channel("noise-9"), grey, 0).astype(float)
    assert 8.5 < (noisy - 128).std() < 9.5 and abs(noisy.mean() - 128) < 0.5
    assert not np.array_equal(noisy, sent(parse_channel("noise-9"), grey, 1))
    pale = sent(parse_channel("contrast-30"), pixels, 0)[0].astype(float)
    assert np.allclose(pale.std((0, 1)), 0.3 * pixels[0].std((0, 1)), rtol=0.02)
    assert np.allclose(pale.mean((0, 1)), pixels[0].mean((0, 1)), atol=0.5)
    both = sent(parse_channel("blur+jpeg-75"), pixels, 0)
    assert np.array_equal(both, sent(parse_channel("jpeg-75"), blur[None], 0))
    assert not np.array_equal(both, sent(parse_channel("jpeg-75+blur"), pixels, 0))
    assert parse_channel("blur@jpeg-75") == parse_channel("blur+jpeg-75")


@pytest.mark.parametrize("kind", ["jpeg-{}", "h264-{}"])
def test_a_worse_code_loses_more(kind: str) -> None:
    """Quality and rate factor do what they say, from hardly any loss to a lot."""
    pixels = pictures(50, 60)
    steps = (98, 80, 50, 10) if kind.startswith("jpeg") else (1, 18, 30, 45)
    losses = [np.abs(sent(parse_channel(kind.format(step)), pixels, 0) - pixels.astype(float)).mean() for step in steps]
    assert all(before < after for before, after in pairwise(losses))
    assert losses[0] < 4, "hardly more than half the resolution of colours costs"


def test_h264_brings_colours_and_places_back() -> None:
    """A real video: colours come back within a few levels, nothing is moved, and what is lost depends on where the crop
    lies on the grid of blocks, which the seed draws."""
    flat = np.zeros((1, 40, 52, 3), np.uint8)
    flat[:] = (200, 40, 90)
    assert np.abs(sent(parse_channel("h264-23"), flat, 0).astype(int) - flat).max() <= 4
    pixels = pictures(41, 53)
    received = sent(parse_channel("h264-12"), pixels, 0)[0].astype(float)
    for down, right in ((1, 0), (0, 1), (-1, 0), (0, -1)):
        moved = np.roll(received, (down, right), axis=(0, 1))
        inner = (slice(3, -3), slice(3, -3))
        assert np.abs(received - pixels[0])[inner].mean() < np.abs(moved - pixels[0])[inner].mean()
    assert any(
        not np.array_equal(sent(parse_channel("h264-30"), pixels, seed), sent(parse_channel("h264-30"), pixels, 0))
        for seed in range(1, 4)
    )


@pytest.mark.parametrize(
    "name",
    [
        *("", "jpeg", "jpeg-0", "jpeg-101", "jpeg-7.5", "jpeg--5", "h264", "h264-52", "webp-90", "blur+", "+blur"),
        *("noise-0", "noise-101", "resize-4", "resize-401", "blur-0", "blur-21", "blur-nan", "blur jpeg-75", "Blur"),
        *("jpeg-٩٠", "noise-1e2", "blur-1\n", "contrast-0", "contrast-0.5", "contrast-101"),
    ],
)
def test_names_of_no_channel(name: str) -> None:
    """Unknown kinds and parameters out of range are refused in one line that says what is allowed."""
    with pytest.raises(UsageError, match=r"there are jpeg-QUALITY|must (lie|be)") as caught:
        parse_channel(name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("made", [lambda: Jpeg(75.0), lambda: Jpeg(True), lambda: H264(23.5)])  # type: ignore[arg-type]
def test_codecs_take_whole_numbers(made: object) -> None:
    """From Python too."""
    with pytest.raises(UsageError, match="whole number"):
        made()  # type: ignore[operator]


def test_a_codec_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """One line that names the package, before anything is attacked; in a chain and in an expectation too."""
    import av

    def without(name: str, mode: str = "r") -> object:
        raise ValueError(f"no codec {name} {mode}")

    names = ("linf-8@h264-23", "linf-8@blur+h264-30", "linf-8@eot", "fgsm@jpeg-90@eot")
    with monkeypatch.context() as patch:
        patch.setattr(av, "Codec", without)
        for name in names:
            with pytest.raises(MissingExtraError, match=r"libx264 and h264.*package av") as caught:
                by_name(name)
            assert "\n" not in str(caught.value)
    monkeypatch.setitem(sys.modules, "av", None)
    for name in names:
        with pytest.raises(FirewallError, match="needs the package av") as caught_import:
            by_name(name)
        assert "\n" not in str(caught_import.value)
    assert by_name("linf-8@jpeg-90") == by_name("linf-8@jpeg-90"), "what needs no codec goes on"
