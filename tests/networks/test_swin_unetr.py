"""The trunk is MONAI's SwinUNETR without its own last layer."""

from __future__ import annotations

import torch
from monai.networks.nets import SwinUNETR
from torch import nn


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
