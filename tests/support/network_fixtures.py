"""Tiny networks that several tests build."""

from __future__ import annotations

import pytest
import torch

from pipeline_lib.methods.labels_alone.settings import LabelsAlone
from pipeline_lib.networks.build import build_segmentation_network
from pipeline_lib.networks.conemos.settings import ConemosUnet
from pipeline_lib.networks.dodnet.settings import DodNet
from pipeline_lib.networks.hermes.settings import HermesUnet
from pipeline_lib.networks.swin_unetr.settings import SwinUnetr
from pipeline_lib.networks.uniseg_unet.settings import UnisegUnet

NETWORKS = {
    "swin_unetr": SwinUnetr(
        kind="swin_unetr", feature_size=12, depths=(1, 1, 1, 1), num_heads=(1, 1, 2, 2), window_size=2
    ),
    "dodnet": DodNet(kind="dodnet", width=8),
    "conemos": ConemosUnet(kind="conemos", width=4),
    "hermes": HermesUnet(kind="hermes", width=8),
    "uniseg_unet": UnisegUnet(kind="uniseg_unet", width=1),
}
ROIS = ("liver", "liver_tumor", "spleen")
LABELLED = {"livers": ROIS[:2], "spleens": ROIS[2:]}


@pytest.fixture(params=["swin_unetr", "dodnet", "conemos", "hermes", "uniseg_unet"])
def network_name(request):
    return request.param


@pytest.fixture
def build():
    """Build a tiny network by name; equal calls give equal parameters."""

    def built(name, embeddings=None, rois=ROIS, **options):
        torch.manual_seed(0)
        if embeddings is None:
            embeddings = torch.eye(2)[[0, 0, 1]] if name == "dodnet" else torch.randn(3, 5)
        torch.manual_seed(1)
        of_data_sets = {"labelled": [rois[:2], rois[2:]], "patch": (32, 64, 32)}
        return build_segmentation_network(NETWORKS[name], embeddings, rois, **of_data_sets, **options)

    return built


@pytest.fixture
def patch():
    """Two image patches, 2 1 32 64 32, in −1…1."""
    return torch.rand(2, 1, 32, 64, 32, generator=torch.Generator().manual_seed(2)) * 2 - 1


def described(name):
    """What a segmentation model file says of itself."""
    labelled = LABELLED if NETWORKS[name].per_data_set else {}
    return {
        "method": LabelsAlone(kind="labels_alone", network=name, encoder="any").model_dump(mode="json"),
        "network": NETWORKS[name].model_dump(mode="json"),
        "rois": list(ROIS),
        "labelled": {dataset: list(rois) for dataset, rois in labelled.items()},
        "patches": {"size_voxels": [32, 64, 32]},
        "spacing_mm": [0.8, 0.8, 1.5],
        "window_hu": [-325.0, 325.0],
    }


@pytest.fixture
def description(network_name):
    return described(network_name)
