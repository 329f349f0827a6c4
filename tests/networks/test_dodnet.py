"""DoDNet's own parts: weight standardisation, task codes and their maps."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import correlate

from pipeline_lib.networks.dodnet.network import DodNetwork, StandardisedConv3d, task_and_map
from pipeline_lib.networks.dodnet.settings import DodNet

MOTS = torch.eye(7)[[0, 0, 1, 1, 2, 2, 3, 3, 4, 5, 6]]
ROIS = (
    *("liver", "liver_tumor", "kidney", "kidney_tumor", "hepatic_vessel", "hepatic_vessel_tumor"),
    *("pancreas", "pancreas_tumor", "colon_cancer", "lung_tumor", "spleen"),
)


def test_kernels_are_standardised_per_output_channel():
    torch.manual_seed(0)
    layer = StandardisedConv3d(2, 3, 3, padding=1, bias=False).double()
    values = torch.randn(1, 2, 4, 5, 3, dtype=torch.float64)
    kernels = layer.weight.detach().numpy()
    expected = np.zeros((3, 4, 5, 3))
    for out in range(3):
        kernel = (kernels[out] - kernels[out].mean()) / np.sqrt(kernels[out].var(ddof=1) + 1e-12)
        for channel in range(2):
            expected[out] += correlate(values[0, channel].numpy(), kernel[channel], mode="constant")
    np.testing.assert_allclose(layer(values)[0].detach(), expected, rtol=1e-6, atol=1e-9)


def test_a_kernels_scale_and_offset_do_not_matter():
    torch.manual_seed(0)
    layer = StandardisedConv3d(4, 3, 3, bias=False).double()
    values = torch.randn(1, 4, 4, 4, 4, dtype=torch.float64)
    before = layer(values)
    with torch.no_grad():
        layer.weight.mul_(3).add_(0.5)
    torch.testing.assert_close(layer(values), before, rtol=1e-3, atol=1e-3)


def test_organs_have_map_0_and_tumours_map_1_as_in_dodnet():
    """Also colon cancer and the lung's tumour, whose tasks have no organ."""
    tasks, maps = task_and_map(MOTS, ROIS)
    assert tasks.tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 5, 6]
    assert dict(zip(ROIS, maps.tolist(), strict=True)) == {roi: int(roi.endswith(("tumor", "cancer"))) for roi in ROIS}


def test_no_two_rois_of_a_task_share_a_map():
    rois = ("liver", "lung_tumor", "kidney", "spleen", "liver_tumor", "liver_lesion")
    tasks, maps = task_and_map(torch.eye(3)[[0, 1, 0, 2, 0, 0]], rois)
    assert tasks.tolist() == [0, 1, 0, 2, 0, 0]
    assert maps.tolist() == [0, 2, 1, 0, 2, 3]


def test_the_published_setting_generates_162_parameters():
    assert DodNetwork(DodNet(kind="dodnet", width=8), MOTS, ROIS).controller.out_features == 162


def test_maps_follow_their_rois(build, patch):
    """Interleaving the tasks' ROIs permutes the logits and nothing else."""
    codes, order = torch.eye(2)[[0, 0, 1]], [0, 2, 1]
    with torch.no_grad():
        logits = build("dodnet", codes)(patch[:1])
        permuted = build("dodnet", codes[order], rois=("liver", "spleen", "liver_tumor"))(patch[:1])
    torch.testing.assert_close(permuted, logits[:, order])
    assert not torch.allclose(logits[:, 0], logits[:, 1])


@pytest.mark.parametrize("rows", [[[0.5, 0.5]], [[1.0, 1.0]], [[0.0, 0.0]], [[2.0, -1.0]]])
def test_text_vectors_are_refused(rows):
    with pytest.raises(ValueError, match="one_hot"):
        DodNetwork(DodNet(kind="dodnet", width=8), torch.tensor(rows), ROIS[:1])
