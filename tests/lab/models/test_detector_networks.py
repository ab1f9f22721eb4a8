"""The networks that detectors are trained as."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from benchmarks.papers.resnet50 import ResNet50
from benchmarks.papers.xception import Xception
from firewall.errors import UsageError
from firewall.lab.models.detector_network import NETWORKS, by_name
from firewall.lab.models.high_pass_network import HighPassNetwork
from firewall.lab.models.normalisation import normalisation, recalibrate


def weights(network: nn.Module) -> int:
    return sum(weight.numel() for weight in network.parameters())


def test_the_large_networks_are_those_of_the_papers() -> None:
    """With 1000 classes they have the published numbers of weights, by batch and by group alike."""
    for normalise in ("batch", "group"):
        assert weights(ResNet50(1000, normalise=normalise)) == 25_557_032
        assert weights(Xception(1000, normalise=normalise)) == 22_855_952


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_takes_signs_and_larger_images(name: str) -> None:
    """Two finite outputs for 48x48 and for 64x64; three and six channels."""
    network = by_name(name).eval()
    with torch.no_grad():
        for size in (48, 64):
            outputs = network(torch.rand(1, 3, size, size))
            assert outputs.shape == (1, 2) and bool(outputs.isfinite().all())
        assert by_name(name, 6).eval()(torch.rand(2, 6, 48, 48)).shape == (2, 2)


def test_high_pass_filters_do_not_see_light() -> None:
    """A brighter image, away from the border, gives what the darker one gave, whatever the weights were trained to."""
    network = HighPassNetwork()
    nn.init.normal_(network.filters)
    taken: list[torch.Tensor] = []
    network.layers.register_forward_pre_hook(lambda _, inputs: taken.append(inputs[0]))
    image = torch.rand(1, 3, 24, 24) * 0.5
    network.eval()(image)
    network(image + 0.25)
    inside = [found[:, :, 2:-2, 2:-2] for found in taken]
    assert bool((inside[0] != 0).any()) and torch.allclose(inside[0], inside[1], atol=1e-4)


def test_recalibration_makes_statistics_those_of_the_batches() -> None:
    """Afterwards a layer normalises what it was shown to mean 0 and deviation 1, and nothing is in training mode."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 8, 3), normalisation("batch", 8))
    inputs = torch.rand(64, 3, 16, 16) * 3 + 1
    recalibrate(network, inputs.split(32))
    outputs = network(inputs)
    assert not any(module.training for module in network.modules())
    assert outputs.mean(dim=(0, 2, 3)).abs().max() < 0.01 and (outputs.std(dim=(0, 2, 3)) - 1).abs().max() < 0.01


def test_unknown_names_are_named() -> None:
    """Networks and normalisations."""
    with pytest.raises(UsageError, match=r"no detector network is named 'vgg'; there are small, noise, high-pass"):
        by_name("vgg")
    with pytest.raises(UsageError, match="known: batch, group"):
        normalisation("layer", 8)
