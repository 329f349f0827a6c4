"""Our instance normalisation against torch's."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from pipeline_lib.networks.instance_norm import InstanceNorm


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("form", [torch.contiguous_format, torch.channels_last_3d])
def test_float32_sums_as_exactly_as_torchs(batch, form):
    torch.manual_seed(0)
    values = torch.randn(batch, 4, 48, 48, 48).add_(3).to(memory_format=form)
    exact = nn.InstanceNorm3d(4)(values.double())
    ours, torchs = (
        (layer(values).double() - exact).abs().max()
        for layer in (InstanceNorm(nn.InstanceNorm3d(4)), nn.InstanceNorm3d(4))
    )
    assert ours <= torchs


@pytest.mark.parametrize("affine", [False, True])
def test_it_computes_what_torchs_does(affine):
    torch.manual_seed(0)
    norm = nn.InstanceNorm3d(3, affine=affine).double()
    for parameter in norm.parameters():
        parameter.data.normal_()
    ours = InstanceNorm(norm)
    assert list(ours.state_dict()) == list(norm.state_dict())
    values = torch.randn(2, 3, 4, 5, 6, dtype=torch.float64, requires_grad=True)
    results = []
    for layer in (norm, ours):
        normed = layer(values)
        # As MONAI's blocks do: in place.
        normed += values
        found = F.leaky_relu(normed, 0.01, inplace=True)
        inputs = [values, *layer.parameters()]
        results.append([found, *torch.autograd.grad((found**2).sum(), inputs)])
    for expected, found in zip(*results, strict=True):
        torch.testing.assert_close(found, expected)


def test_what_is_done_to_it_in_place_copies_no_gradient():
    values = torch.randn(2, 3, 4, 5, 6, requires_grad=True)
    normed = InstanceNorm(nn.InstanceNorm3d(3))(values)
    assert not normed._is_view()
    found = F.leaky_relu(normed, 0.01, inplace=True)
    with torch.profiler.profile() as profile:
        found.sum().backward()
    assert "CopySlices" not in {event.key for event in profile.key_averages()}
