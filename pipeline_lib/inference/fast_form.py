"""Networks in the form in which they predict fastest: the same parameters, the same results up to rounding.

What is gained by each step is in docs/performance.md. Nothing here is used in training.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..networks.instance_norm import InstanceNorm
from ..networks.replacing import replace
from ..networks.window_attention import SwinLayer


def for_prediction(network: nn.Module, device: torch.device, precision: torch.dtype) -> nn.Module:
    """`network` (B 1 D H W → B K D H W, in eval mode), changed in place, in its fastest form.

    On a CPU in bfloat16, SwinUNETR's layers see one sample at a time with channels last, the order in which
    convolutions compute. In float32 it gains little, and torch's norms add up such a sample so plainly that they are
    off by up to 0.005 standard deviations, which is less than what bfloat16 rounds away and more than float32 should.
    """
    swin_unetr = any(isinstance(module, SwinLayer) for module in network.modules())
    if device.type != "cpu" or precision != torch.bfloat16 or not swin_unetr:
        return network
    replace(network, InstanceNorm, _InstanceNormOfOneSample)
    return _OneByOneChannelsLast(network.to(memory_format=torch.channels_last_3d))


class _OneByOneChannelsLast(nn.Module):
    """On a CPU a batch is no faster than its samples one by one, and needs more memory."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        samples = images.contiguous(memory_format=torch.channels_last_3d).split(1)
        return torch.cat([self.network(sample) for sample in samples])


class _InstanceNormOfOneSample(InstanceNorm):
    """InstanceNorm of B = 1, without a copy of channels that lie last to the plain order."""

    def forward(self, values: Tensor) -> Tensor:
        # Of one sample, the statistics of a batch are those of the instance.
        return F.batch_norm(values, None, None, self.weight, self.bias, training=True, eps=self.eps)
