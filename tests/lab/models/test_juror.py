"""Jurors' networks: what goes in and out, what they see, and that the lab can attack the exported file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from firewall.engines import OnnxRuntimeNetwork
from firewall.errors import UsageError
from firewall.export.onnx import export_classifier
from firewall.lab.models import load_network
from firewall.lab.models.juror import CLEAR, KINDS, Juror, Kind, LocalNormalisation, juror_kind, kind_for


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", ["robust", "edges"])  # coarse is robust at another size
def test_an_exported_juror_answers_as_in_torch_and_has_gradients(name: str, tmp_path: Path) -> None:
    """The edge's ONNX Runtime and the lab's reader give the network's own logits, at a small size as at the signs';
    and the reader's gradient is torch's, so that attacks on the whole firewall reach the juror."""
    torch.manual_seed(0)
    kind = kind_for(name, 32)
    network = Juror(kind, 5).eval()
    export_classifier(network, tmp_path / "juror.onnx", size=kind.size, labels=tuple("abcde"))
    content = (tmp_path / "juror.onnx").read_bytes()
    images = torch.rand(3, 3, kind.size, kind.size)
    expected = network(images).detach().numpy()
    np.testing.assert_allclose(OnnxRuntimeNetwork(content, name, threads=1)(images.numpy()), expected, atol=1e-4)
    read = load_network(content)
    gradients = []
    for module in (network, read):
        pixels = images.clone().requires_grad_()
        gradients.append(torch.autograd.grad(module(pixels)[:, 2].sum(), pixels)[0].numpy())
    np.testing.assert_allclose(gradients[1], gradients[0], atol=1e-4)


def test_edges_cancel_light_that_changes_slowly() -> None:
    """A factor and an offset over the whole image change what `edges` sees by little; flat grey stays flat."""
    seen = LocalNormalisation(11)
    image = 0.2 + 0.6 * torch.rand(1, 3, 48, 48)
    plain = seen(image)
    torch.testing.assert_close(seen(image * 0.7 + 0.1), plain, atol=0.25, rtol=0)
    assert float((seen(image * 0.7 + 0.1) - plain).abs().mean()) < 0.03 < float(plain.abs().mean())
    assert float(seen(torch.full((1, 3, 48, 48), 0.4)).abs().max()) < 1e-4


def test_kinds_grow_with_the_classifier() -> None:
    """The signs' own sizes at 48 pixels; smaller and larger ones in steps; always a multiple of 8, and the window of
    local normalisation in proportion and odd."""
    opinions = [name for name in KINDS if name != CLEAR]
    sizes = {side: [kind_for(name, side).size for name in opinions] for side in (16, 32, 48, 64, 128, 224, 1024)}
    assert sizes[32] == [32, 24, 32] and sizes[48] == sizes[64] == [48, 32, 48]
    assert sizes[128] == [72, 48, 72] and sizes[224] == sizes[1024] == [96, 64, 96]
    assert [kind_for("edges", side).window for side in (32, 48, 128, 224)] == [7, 11, 17, 21]
    assert KINDS["edges"].window == 11
    with pytest.raises(UsageError, match="'clear' gives no second opinion"):
        kind_for(CLEAR, 48)
    for side in (8, 28, 41, 96, 299):
        for name in opinions:
            kind = kind_for(name, side)
            assert kind.size % 8 == 0 and kind.window % 2 == 1
            assert Juror(kind, 3)(torch.rand(2, 3, kind.size, kind.size)).shape == (2, 3)


@pytest.mark.parametrize("size", [0, 8, 20, 47])
def test_a_size_that_the_layers_can_not_halve_is_refused(size: int) -> None:
    """Else the last layer would fail with a message about shapes."""
    with pytest.raises(UsageError, match=f"multiple of 8 .* got {size}"):
        Kind(size, (8, 8, 8))


def test_an_unknown_kind_is_named_with_the_known_ones() -> None:
    """One line for the user."""
    for ask in (juror_kind, lambda name: kind_for(name, 48)):
        with pytest.raises(UsageError, match="'blurry'; known: robust, coarse, edges"):
            ask("blurry")
