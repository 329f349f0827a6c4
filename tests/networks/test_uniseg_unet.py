"""UniSeg's network: a U-Net whose decoder is told the data set by a learned prompt."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from pipeline_lib.networks.probabilities import probabilities
from pipeline_lib.networks.uniseg_unet.network import UnisegNetwork
from pipeline_lib.networks.uniseg_unet.settings import UnisegUnet
from pipeline_lib.networks.universal_prompt import UniversalPrompt, prompted

ROIS_OF_DATA_SETS = [[0, 2], [1]]
PATCH = (16, 64, 64)


def drawn(module: nn.Module) -> nn.Module:
    """With norms and biases that differ from each other, as a training makes them; float64."""
    torch.manual_seed(1)
    for parameter in module.parameters():
        if parameter.ndim == 1:
            nn.init.normal_(parameter, 0.5)
    return module.double()


def network(width=1) -> UnisegNetwork:
    torch.manual_seed(0)
    settings = UnisegUnet(kind="uniseg_unet", width=width)
    return UnisegNetwork(settings, torch.zeros(3, 5), "none", ROIS_OF_DATA_SETS, PATCH)


def test_a_worked_example():
    """A decoder of two maps, once and ten times the prompt. Data set 0 labels ROIs 2 and 0, data set 1 ROI 1."""
    prompts = torch.tensor([[1.0, 2.0], [3.0, 4.0]])[:, :, None, None, None]

    def asked(datasets):
        return prompted(lambda prompt: torch.cat([prompt, 10 * prompt], 1), prompts, [[2, 0], [1]], 4, datasets)

    assert asked(torch.tensor([0, 1])).flatten(1).tolist() == [[10, 0, 1, 0], [0, 4, 0, 0]]
    assert asked(torch.tensor([1, 0])).flatten(1).tolist() == [[0, 2, 0, 0], [30, 0, 3, 0]]
    everything = asked(None).flatten(1)
    assert everything[:, :3].tolist() == [[10, 2, 1], [30, 4, 3]]
    assert (probabilities(everything[:, 3]) < 1e-9).all(), "no data set labels it"


def naive_block(maps: np.ndarray, block: nn.Module) -> np.ndarray:
    """Convolution 3×3×3, InstanceNorm, LeakyReLU of C D H W, a voxel at a time."""
    weight, bias, scale, shift = (parameter.detach().numpy() for parameter in block.parameters())
    padded = np.pad(maps, ((0, 0), (1, 1), (1, 1), (1, 1)))
    found = np.empty((len(weight), *maps.shape[1:]))
    for o, d, h, w in np.ndindex(*found.shape):
        found[o, d, h, w] = (weight[o] * padded[:, d : d + 3, h : h + 3, w : w + 3]).sum() + bias[o]
    for o, own in enumerate(found):
        normed = (own - own.mean()) / np.sqrt(((own - own.mean()) ** 2).mean() + 1e-5) * scale[o] + shift[o]
        found[o] = np.where(normed > 0, normed, 0.01 * normed)
    return found


def test_the_prompt_is_what_a_naive_loop_makes_of_bottleneck_and_prompt():
    prompt = drawn(UniversalPrompt(6, 3, (2, 1, 3)))
    bottleneck = torch.randn(2, 6, 2, 1, 3, dtype=torch.float64)
    widths = [(block[0].in_channels, block[0].out_channels) for block in prompt.fusion]
    assert widths == [(9, 2), (2, 2), (2, 3)]
    for features, found in zip(bottleneck.numpy(), prompt(bottleneck).detach().numpy(), strict=True):
        maps = np.concatenate([features, prompt.universal[0].detach().numpy()])
        for block in prompt.fusion:
            maps = naive_block(maps, block)
        np.testing.assert_allclose(found, maps, atol=1e-9)


def level(values, blocks, kernel, stride):
    for block, own_stride in zip(blocks, (stride, 1), strict=True):
        weight, bias, scale, shift = block.parameters()
        assert tuple(weight.shape[2:]) == kernel
        values = F.conv3d(values, weight, bias, own_stride, [side // 2 for side in kernel])
        values = F.leaky_relu(F.instance_norm(values, weight=scale, bias=shift), 0.01)
    return values


def naive(network, image, place):
    """Maps of the data set at `place` by the published list of layers; depth is halved from the second step on."""
    steps = [(1, 2, 2), (2, 2, 2), (2, 2, 2), (2, 2, 2), (2, 2, 2)]
    skips = [level(image, network.encoders[0], (1, 3, 3), 1)]
    for encoder, step in zip(network.encoders[1:], steps, strict=True):
        skips.append(level(skips[-1], encoder, (3, 3, 3), step))
    bottleneck = skips.pop()
    values = torch.cat([bottleneck, network.prompt(bottleneck)[:, place : place + 1]], 1)
    for decoder, step in zip(network.decoders, reversed(steps), strict=True):
        upsampled = F.conv_transpose3d(values, decoder.upsampling.weight, stride=step)
        values = level(torch.cat([upsampled, skips.pop()], 1), decoder.blocks, (3, 3, 3), 1)
    return F.conv3d(values, network.head.weight)


def test_a_roi_is_asked_with_the_prompt_of_its_data_set_in_the_published_layers():
    built, both = drawn(network()), torch.tensor([1, 0])
    image = torch.rand(1, 1, *PATCH, generator=torch.Generator().manual_seed(2), dtype=torch.float64) * 2 - 1
    twice = image.expand(2, -1, -1, -1, -1)
    with torch.no_grad():
        first, second = (naive(built, image, place)[0] for place in (0, 1))
        everything, own = built(image), built(twice, both)
        torch.testing.assert_close(everything[0], torch.stack([first[0], second[0], first[1]]))
        torch.testing.assert_close(own[0], torch.stack([second[0] * 0, second[0], second[0] * 0]))
        torch.testing.assert_close(own[1], torch.stack([first[0], first[0] * 0, first[1]]))
        # The last norm of the fusion shifts the prompt of one data set alone.
        built.prompt.fusion[-1][1].bias[1] += 1
        other = built(twice, both)
    assert torch.equal(other[1], own[1])
    assert (other[0, 1] - own[0, 1]).abs().max() > 1e-3


def test_it_starts_as_published():
    """He's standard deviation for slope 0.01, from 27 × 40 inputs of a kernel; no bias, and norms that do nothing."""
    built = network(width=4)
    weight = built.encoders[5][1][0].weight
    assert weight.std().item() == pytest.approx((2 / (1 + 0.01**2) / (27 * 40)) ** 0.5, rel=0.03)
    assert abs(weight).max() > 3 * weight.std(), "it is normal"
    flat = {name: parameter for name, parameter in built.named_parameters() if parameter.ndim == 1}
    assert all(torch.equal(each, torch.full_like(each, name.endswith("1.weight"))) for name, each in flat.items())


def test_the_published_number_of_parameters():
    """Widths 32, 64, 128, 256, 320, 320 for MOTS' seven data sets with two ROIs at the most.

    A block a → b with a kernel of k voxels has a·b·k + b, and 2·b of its norm:

    - encoder: 9,696 (kernels of 9) + 166,272 + 664,320 + 2,655,744 + 4,978,560 + 5,531,520 = 14,006,112
    - decoder, with transposed convolutions of 8, at last of 4 voxels, and one channel more in the bottleneck:
      9,118,080 + 5,965,312 + 1,590,016 + 397,696 + 91,328 = 17,162,432
    - prompt 7×4×6×6, fusion 327 → 81 → 81 → 7: 1,008 + 715,392 + 177,390 + 15,330 = 909,120
    - head: 32 × 2 = 64
    """
    rois = [[0, 1], [2, 3], [4, 5], [6, 7], [8], [9], [10]]
    with torch.device("meta"):
        built = UnisegNetwork(UnisegUnet(kind="uniseg_unet"), torch.zeros(11, 5), "none", rois, (64, 192, 192))
    parts = (built.encoders, built.decoders, built.prompt, built.head)
    numbers = [sum(parameter.numel() for parameter in part.parameters()) for part in parts]
    assert numbers == [14_006_112, 17_162_432, 909_120, 64]
    assert built.prompt.universal.shape == (1, 7, 4, 6, 6)
    assert sum(parameter.numel() for parameter in built.parameters()) == 32_077_728
