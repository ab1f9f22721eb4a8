"""The network that attacks are tried on, and the images that they start from."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from tests.lab.coloured_shapes import correctly_classified, trained


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Networks this small are slower on many threads, and much slower where the cores are busy."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def network(one_thread: None) -> nn.Sequential:
    return trained()


@pytest.fixture(scope="module")
def victims(one_thread: None) -> tuple[Tensor, Tensor]:
    return correctly_classified()
