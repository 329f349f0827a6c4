"""Norms under autocast: the input's type, and torch's values."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from pipeline_lib.measurement.estimate import _in_float32
from pipeline_lib.measurement.sizes import SMALL
from pipeline_lib.networks.autocast_norms import GroupNorm, LayerNorm, normed_channels
from pipeline_lib.networks.swin_unetr.network import TextConditionedSwinUnetr

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
ROUNDING = {torch.bfloat16: 2**-8, torch.float16: 2**-11}
SHAPES = {"group": (2, 12, 4, 6, 5), "layer": (2, 4, 6, 5, 12)}


def made(kind: str) -> tuple[nn.Module, nn.Module]:
    """Ours, and torch's with the same parameters, which are not those of the start."""
    torch.manual_seed(0)
    norm = nn.GroupNorm(4, 12) if kind == "group" else nn.LayerNorm(12)
    for parameter in norm.parameters():
        parameter.data.normal_()
    if kind == "layer":
        return LayerNorm(norm).to(DEVICE), norm.to(DEVICE)
    ours = GroupNorm(4, 12)
    ours.load_state_dict(norm.state_dict())
    return ours.to(DEVICE), norm.to(DEVICE)


@pytest.mark.parametrize("precision", ROUNDING)
@pytest.mark.parametrize("kind", SHAPES)
def test_autocast_changes_neither_the_type_nor_what_is_summed(kind, precision):
    """As if in float64, but that input, parameters and output are rounded: sums in half precision would be far off."""
    ours, norm = made(kind)
    values = (3 + torch.randn(SHAPES[kind])).to(DEVICE, precision).requires_grad_()
    with torch.autocast(DEVICE.type, precision):
        found = ours(values)
    assert found.dtype == precision
    (gradient,) = torch.autograd.grad(found.float().square().sum(), values)
    assert gradient.dtype == precision
    exact = values.detach().double().requires_grad_()
    expected = norm.double()(exact)
    (of_exact,) = torch.autograd.grad(expected.square().sum(), exact)
    for mine, true in ((found, expected), (gradient, of_exact)):
        assert (mine - true).abs().max() <= 4 * ROUNDING[precision] * true.abs().max()


@pytest.mark.parametrize("kind", SHAPES)
def test_a_gpus_autocast_makes_no_copy_in_float32(monkeypatch, kind):
    """On a CPU autocast leaves torch's own norms alone, so a GPU's is put in its place."""
    for name in ("group_norm", "layer_norm"):
        monkeypatch.setattr(F, name, _in_float32(getattr(F, name)))
    ours, norm = (each.cpu() for each in made(kind))
    values = torch.randn(SHAPES[kind], dtype=torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        assert norm(values).dtype == torch.float32
        assert ours(values).dtype == torch.bfloat16


@pytest.mark.parametrize("kind", SHAPES)
def test_without_autocast_the_bits_are_torchs(kind):
    ours, norm = made(kind)
    assert list(ours.state_dict()) == list(norm.state_dict())
    values = torch.randn(SHAPES[kind], device=DEVICE)
    assert torch.equal(ours(values), norm(values))


def test_the_channels_of_a_voxel_are_normed_in_their_own_type():
    values = (3 + torch.randn(SHAPES["group"])).to(DEVICE, torch.bfloat16)
    with torch.autocast(DEVICE.type, torch.bfloat16):
        found = normed_channels(values)
    assert found.dtype == torch.bfloat16
    exact = values.double()
    expected = (exact - exact.mean(1, keepdim=True)) / (exact.var(1, correction=0, keepdim=True) + 1e-5).sqrt()
    assert (found - expected).abs().max() <= 2 * ROUNDING[torch.bfloat16] * expected.abs().max()


def test_the_network_has_no_other_norms_of_these_kinds():
    network = TextConditionedSwinUnetr(SMALL.network, torch.zeros(3, 8))
    norms = [layer for layer in network.modules() if isinstance(layer, nn.GroupNorm | nn.LayerNorm)]
    assert len(norms) > 10
    assert all(isinstance(layer, GroupNorm | LayerNorm) for layer in norms)
