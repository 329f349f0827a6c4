"""The trunk is MONAI's SwinUNETR without its own last layer."""

from __future__ import annotations

import copy

import pytest
import torch
from monai.networks.nets import SwinUNETR
from monai.networks.nets.swin_unetr import BasicLayer, PatchMerging
from torch import nn

from pipeline_lib.networks.swin_unetr.window_attention import attention, fuse_attention, fused_attention


@pytest.mark.parametrize(
    ("window", "sides"),
    [
        pytest.param(4, (8, 4, 12), id="windows that fit, one along an axis"),
        pytest.param(5, (9, 6, 11), id="windows that need padding"),
        pytest.param(7, (3, 8, 5), id="windows that shrink"),
    ],
)
def test_shared_masks_change_neither_maps_nor_gradients(window, sides):
    torch.manual_seed(0)
    # In the second block windows are shifted.
    layer = BasicLayer(12, 2, 3, (window,) * 3, drop_path=[0.0, 0.0], qkv_bias=True, downsample=PatchMerging)
    for name, parameter in layer.named_parameters():
        if name.endswith("relative_position_bias_table"):
            # As large as a training makes it: at the start it is next to nothing.
            parameter.data.normal_()
    monais = nn.ModuleList([layer.double()])
    ours = copy.deepcopy(monais)
    fuse_attention(ours)
    assert list(ours.state_dict()) == list(monais.state_dict())
    tokens = torch.randn(2, 12, *sides, dtype=torch.float64)
    results = []
    for (transformer,) in (monais, ours):
        merged = transformer(tokens)
        gradients = torch.autograd.grad((merged**2).sum(), list(transformer.parameters()))
        with torch.no_grad():
            # Once more, with the masks that are kept, and of another size.
            results.append([merged, *gradients, transformer(tokens), transformer(tokens[:1, ..., :-1])])
    for expected, found in zip(*results, strict=True):
        torch.testing.assert_close(found, expected)


def test_fused_attention_equals_products():
    """A GPU takes the one, a CPU with gradients the other."""
    torch.manual_seed(0)
    inputs = [torch.randn(5, 2, 9, 4, dtype=torch.float64, requires_grad=True) for _ in range(3)]
    inputs.append(torch.randn(9, 9, 2, dtype=torch.float64, requires_grad=True))
    results = []
    for compute in (attention, fused_attention):
        mixed = compute(*inputs[:3], inputs[3].permute(2, 0, 1), 0.3)
        results.append([mixed, *torch.autograd.grad((mixed**2).sum(), inputs)])
    for expected, found in zip(*results, strict=True):
        torch.testing.assert_close(found, expected)


def test_a_gpu_could_fuse_all_attention(monkeypatch):
    """Its kernels refuse a bias whose rows do not lie in memory one after the other."""
    strides = []
    fused = torch.nn.functional.scaled_dot_product_attention

    def noted(*arguments, attn_mask, **options):
        strides.append(attn_mask.stride(-1))
        return fused(*arguments, attn_mask=attn_mask, **options)

    monkeypatch.setattr("torch.nn.functional.scaled_dot_product_attention", noted)
    torch.manual_seed(0)
    layer = nn.ModuleList([BasicLayer(12, 2, 3, (4, 4, 4), drop_path=[0.0, 0.0])])
    fuse_attention(layer)
    with torch.no_grad():
        layer[0](torch.randn(1, 12, 8, 4, 12))
    # One call for the block whose windows are not shifted, one for each kind of shifted windows.
    assert strides == [1] * (1 + 4)


def test_dropout_is_not_ignored():
    layer = BasicLayer(12, 1, 3, (4, 4, 4), drop_path=[0.0], attn_drop=0.1)
    with pytest.raises(ValueError, match="dropout"):
        fuse_attention(nn.ModuleList([layer]))


def test_the_trunk_computes_what_monais_network_does(build, patch):
    """Our walk through the trunk's blocks gives the features that MONAI's own forward gives its last layer."""
    network = build("swin_unetr").eval()
    whole = SwinUNETR(
        1, 1, feature_size=12, depths=(1, 1, 1, 1), num_heads=(1, 1, 2, 2), window_size=2, use_flash_attention=True
    ).eval()
    whole.out = nn.Identity()
    whole.load_state_dict(network.trunk.state_dict())
    seen = {}
    network.head.features.register_forward_pre_hook(lambda _, arguments: seen.update(decoded=arguments[0].clone()))
    with torch.no_grad():
        network(patch)
        expected = whole(patch)
    torch.testing.assert_close(seen["decoded"], expected)


def test_the_trunks_own_last_layer_is_gone(build):
    assert not [name for name, _ in build("swin_unetr").named_parameters() if name.startswith("trunk.out")]


def test_the_order_of_the_rois_does_not_matter(build, patch):
    embeddings = torch.randn(4, 6, generator=torch.Generator().manual_seed(3))
    order = [3, 1, 0, 2]
    with torch.no_grad():
        logits = build("swin_unetr", embeddings)(patch[:1])
        permuted = build("swin_unetr", embeddings[order])(patch[:1])
    torch.testing.assert_close(permuted, logits[:, order], rtol=1e-4, atol=1e-5)


def test_any_encoders_scale_and_offset_will_do(build, patch):
    """What all ROIs' vectors share, and their unit, tell nothing about the ROIs."""
    embeddings = torch.randn(4, 6, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        logits = build("swin_unetr", embeddings)(patch[:1])
        shifted = build("swin_unetr", 0.02 * (embeddings + 5))(patch[:1])
    torch.testing.assert_close(shifted, logits, rtol=1e-3, atol=1e-4)


def test_a_single_roi_is_no_division_by_zero(build, patch):
    with torch.no_grad():
        assert build("swin_unetr", torch.randn(1, 6))(patch[:1]).isfinite().all()
