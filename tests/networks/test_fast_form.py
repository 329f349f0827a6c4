"""Networks in the form in which they predict fastest compute what they did before."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from pipeline_lib.networks.build import build_segmentation_network
from pipeline_lib.networks.dodnet.settings import DodNet
from pipeline_lib.networks.swin_unetr.settings import SwinUnetr

CPU = torch.device("cpu")
ROIS = ("liver", "liver_tumor", "spleen")


def swin_unetr(window: int, use_v2: bool = False) -> nn.Module:
    torch.manual_seed(0)
    # Two blocks, so that windows are shifted in the second.
    sizes = SwinUnetr(kind="swin_unetr", feature_size=12, depths=(2, 2, 2, 1), window_size=window, use_v2=use_v2)
    network = build_segmentation_network(sizes, torch.randn(3, 5), ROIS)
    for name, parameter in network.named_parameters():
        if name.endswith("relative_position_bias_table"):
            # As large as a training makes it: at the start it is next to nothing.
            parameter.data.normal_()
    return network.eval()


def dodnet() -> nn.Module:
    torch.manual_seed(0)
    return build_segmentation_network(DodNet(kind="dodnet", width=8), torch.eye(2)[[0, 0, 1]], ROIS).eval()


@pytest.mark.parametrize(
    ("network", "shape"),
    [
        pytest.param(swin_unetr(4), (64, 32, 96), id="windows that fit"),
        pytest.param(swin_unetr(7), (32, 64, 64), id="windows that need padding, one along an axis"),
        pytest.param(swin_unetr(4, use_v2=True), (32, 32, 96), id="version 2"),
    ],
)
def test_the_fastest_form_computes_the_same(network, shape):
    images = torch.randn(2, 1, *shape)
    # The form for bfloat16 has every change; computed in float32 here, so that it can be compared with the network.
    fastest = copy.deepcopy(network).for_prediction(CPU, torch.bfloat16)
    with torch.inference_mode():
        expected = network(images)
        assert torch.allclose(fastest(images), expected, atol=2e-3 * float(expected.std()), rtol=0)
        # Once more, with the masks that are kept, and of another size.
        assert torch.allclose(fastest(images[:1]), expected[:1], atol=2e-3 * float(expected.std()), rtol=0)
        smaller = images[..., :-32]
        assert torch.allclose(fastest(smaller), network(smaller), atol=2e-3 * float(expected.std()), rtol=0)


def test_in_float32_norms_stay_exact():
    """Torch's norms of a sample with channels last are not."""
    network = swin_unetr(4)
    before = [type(layer) for layer in network.modules()]
    assert network.for_prediction(CPU, torch.float32) is network
    assert [type(layer) for layer in network.modules()] == before


def test_dodnet_stays_as_it_is():
    network = dodnet()
    assert network.for_prediction(CPU, torch.bfloat16) is network
