"""Tiny networks that several tests build."""

from __future__ import annotations

import pytest
import torch

from pipeline_lib.config.methods import DodNet, Method, Networks, SwinUnetr
from pipeline_lib.networks.build import build_segmentation_network

NETWORKS = Networks(
    swin_unetr=SwinUnetr(feature_size=12, depths=(1, 1, 1, 1), heads=(1, 1, 2, 2), window=2), dodnet=DodNet(width=8)
)
METHODS = {"swin_unetr": Method(encoder="words"), "dodnet": Method(network="dodnet", encoder="tasks")}


@pytest.fixture(params=["swin_unetr", "dodnet"])
def network_name(request):
    return request.param


@pytest.fixture
def build():
    """Build a tiny network by name; equal calls give equal parameters."""

    def built(name, embeddings=None, **options):
        torch.manual_seed(0)
        if embeddings is None:
            embeddings = torch.eye(2)[[0, 0, 1]] if name == "dodnet" else torch.randn(3, 5)
        torch.manual_seed(1)
        return build_segmentation_network(METHODS[name], NETWORKS, embeddings, **options)

    return built


@pytest.fixture
def patch():
    """Two image patches, 2 1 32 64 32, in −1…1."""
    return torch.rand(2, 1, 32, 64, 32, generator=torch.Generator().manual_seed(2)) * 2 - 1


def _description(name):
    """What a segmentation model file says of itself."""
    return {
        "method": METHODS[name].model_dump(mode="json"),
        "networks": NETWORKS.model_dump(mode="json"),
        "rois": ["liver", "liver_tumor", "spleen"],
        "patches": {"size_voxels": [32, 64, 32]},
        "spacing_mm": [0.8, 0.8, 1.5],
        "window_hu": [-325.0, 325.0],
    }


@pytest.fixture
def description(network_name):
    return _description(network_name)
