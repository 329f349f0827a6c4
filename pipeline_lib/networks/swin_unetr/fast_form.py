"""SwinUNETR in the form in which it predicts fastest: the same parameters, the same results up to rounding.

docs/performance.md says what each step gains. Nothing here is used in training.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..instance_norm import InstanceNorm
from ..replacing import replace


def fast_form(network: nn.Module, device: torch.device, precision: torch.dtype) -> nn.Module:
    """`network` (B 1 D H W → B K D H W, in eval mode), changed in place, in its fastest form.

    On a CPU in bfloat16, the layers see one sample at a time with channels last, the order in which convolutions
    compute. In float32 this gains little, and torch's norms sum such a sample so inexactly that they are off by up to
    0.005 standard deviations: less than the rounding of bfloat16, but more than float32 should show.
    """
    if device.type != "cpu" or precision != torch.bfloat16:
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
