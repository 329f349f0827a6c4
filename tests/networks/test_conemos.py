"""CoNeMOS' network: which ROI is asked for modulates every layer."""

from __future__ import annotations

from itertools import product

import pytest
import torch

from pipeline_lib.networks.conemos.network import ConemosNetwork, Film
from pipeline_lib.networks.conemos.settings import ConemosUnet

ROIS = torch.zeros(3, 5)


def network(width=4) -> ConemosNetwork:
    """With modulations as a training makes them; at the start there are none."""
    torch.manual_seed(0)
    built = ConemosNetwork(ConemosUnet(kind="conemos", width=width), ROIS)
    for module in built.modules():
        if isinstance(module, Film):
            module.modulation.weight.data.normal_(std=0.1)
            module.modulation.bias.data.normal_(std=0.1)
    return built


def test_a_worked_modulation():
    """γ = (1, −1), β = (3, 0.5) whatever the condition: 2·x + 3 and 0.5."""
    film = Film(2)
    film.modulation.bias.data = torch.tensor([1.0, -1.0, 3.0, 0.5])
    values = torch.tensor([5.0, 7.0]).reshape(1, 2, 1, 1, 1)
    assert film(values, torch.randn(1, 64)).flatten().tolist() == [13.0, 0.5]


def test_all_rois_are_those_that_are_asked_for_one_by_one():
    image = torch.randn(2, 1, 16, 8, 24)
    built = network()
    with torch.no_grad():
        everything = built(image)
        assert everything.shape == (2, 3, 16, 8, 24)
        for first, second in product(range(3), repeat=2):
            asked = built(image, torch.tensor([first, second]))
            assert asked.shape == (2, 1, 16, 8, 24)
            torch.testing.assert_close(asked[:, 0], torch.stack([everything[0, first], everything[1, second]]))
    assert not torch.allclose(everything[:, 0], everything[:, 1], atol=1e-2)


def test_a_fresh_network_does_not_know_the_rois():
    torch.manual_seed(0)
    fresh = ConemosNetwork(ConemosUnet(kind="conemos", width=4), ROIS)
    everything = fresh(torch.randn(1, 1, 16, 8, 8))
    assert torch.equal(everything[:, 0], everything[:, 1])
    (everything * torch.tensor([1.0, -2.0, 3.0])[:, None, None, None]).square().sum().backward()
    modulations = [module.modulation for module in fresh.modules() if isinstance(module, Film)]
    # Two in each of seven blocks, and the output's; all of them can be learned.
    assert len(modulations) == 15
    assert all(layer.weight.grad.abs().sum() > 0 for layer in modulations)


@pytest.mark.parametrize(("width", "rois"), [(16, 11), (4, 3)])
def test_the_number_of_parameters(width, rois):
    """Convolutions 3×3×3 without bias, norms, FiLM 64 → 2C after each, the last 1×1×1, its FiLM, and the MLP."""
    w = width
    blocks = [(1, w), (w, 2 * w), (2 * w, 4 * w), (4 * w, 8 * w), (12 * w, 4 * w), (6 * w, 2 * w), (3 * w, w)]
    expected = sum(27 * (a * b + b * b) + 2 * (2 * b + 65 * 2 * b) for a, b in blocks)
    expected += w + 1 + 65 * 2 + (rois + 1) * 64 + 3 * 65 * 64
    built = ConemosNetwork(ConemosUnet(kind="conemos", width=width), torch.zeros(rois, 5))
    assert sum(parameter.numel() for parameter in built.parameters()) == expected
