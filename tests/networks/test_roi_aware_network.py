"""The ROI-aware network is a 3D ResNet-18 of the configured width and first stride."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from pipeline_lib.config.roi_aware import RoiAware
from pipeline_lib.networks.build import build_roi_aware_network


def test_one_logit_per_structure(patch):
    network = build_roi_aware_network(RoiAware(width=4), 7)
    assert network(patch).shape == (2, 7)


def test_published_size():
    network = build_roi_aware_network(RoiAware(), 104)
    assert sum(parameter.numel() for parameter in network.parameters()) / 1e6 == pytest.approx(33.2, rel=0.01)


@pytest.mark.parametrize("stride", [1, 2])
def test_the_first_stride_is_the_configs(stride, patch):
    network = build_roi_aware_network(RoiAware(width=4, first_stride=stride), 2)
    assert network.conv1(patch).shape[2:] == tuple(side // stride for side in patch.shape[2:])


def test_frozen_in_eval_mode_its_batchnorm_stands_still(patch):
    network = build_roi_aware_network(RoiAware(width=4), 2).eval()
    assert any(isinstance(module, nn.BatchNorm3d) for module in network.modules())
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with torch.no_grad():
        assert torch.allclose(network(patch)[:1], network(patch[:1]), atol=1e-5)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
