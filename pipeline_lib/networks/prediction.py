"""Networks in the form in which they predict fastest: the same parameters, the same results up to rounding.

What is gained by each step is in docs/performance.md. Nothing here is used in training.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from monai.networks.nets.swin_unetr import BasicLayer, WindowAttention, compute_mask, get_window_size
from torch import Tensor, nn

Sides = tuple[int, int, int]


def for_prediction(network: nn.Module, device: torch.device, precision: torch.dtype) -> nn.Module:
    """`network` (B 1 D H W → B K D H W, in eval mode), changed in place, in its fastest form.

    - Shifted attention windows share their masks instead of holding one each, on every device.
    - On a CPU in bfloat16, SwinUNETR's layers see one sample at a time with channels last, the order in which
      convolutions compute. In float32 it gains little, and torch's norms add up such a sample so plainly that they are
      off by up to 0.005 standard deviations, which is less than what bfloat16 rounds away and more than float32 should.
    """
    _replace(network, BasicLayer, _Layer)
    swin_unetr = any(isinstance(module, _Layer) for module in network.modules())
    if device.type != "cpu" or precision != torch.bfloat16 or not swin_unetr:
        return network
    _replace(network, nn.InstanceNorm3d, _InstanceNormOfOneSample)
    return _OneByOneChannelsLast(network.to(memory_format=torch.channels_last_3d))


class _OneByOneChannelsLast(nn.Module):
    """On a CPU a batch is no faster than its samples one by one, and needs more memory."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        samples = images.contiguous(memory_format=torch.channels_last_3d).split(1)
        return torch.cat([self.network(sample) for sample in samples])


class _InstanceNormOfOneSample(nn.Module):
    """InstanceNorm of B = 1. torch's own copies a tensor whose channels lie last to the plain order and back."""

    def __init__(self, norm: nn.InstanceNorm3d) -> None:
        super().__init__()
        self.weight, self.bias, self.eps = norm.weight, norm.bias, norm.eps

    def forward(self, values: Tensor) -> Tensor:
        # Of one sample, the statistics of a batch are those of the instance.
        return F.batch_norm(values, None, None, self.weight, self.bias, training=True, eps=self.eps)


@dataclass(frozen=True)
class _ShiftMasks:
    """Masks of shifted attention windows.

    Only the last window along an axis holds tokens that the shift brought together from both ends, so the windows of
    a whole grid have eight masks at most: `masks` is 2 2 2 N N (1 in place of 2 along an axis with one window), its
    first three indices saying whether a window is the last along that axis. `counts` are the windows along each axis.
    """

    counts: Sides
    masks: Tensor

    def groups(self) -> Iterator[tuple[tuple[slice, ...], Tensor]]:
        """Boxes of windows that share a mask, and the mask, N×N."""
        choices = [
            [(slice(0, count - 1), 0), (slice(count - 1, count), 1)] if count > 1 else [(slice(0, 1), 0)]
            for count in self.counts
        ]
        for (z, last_z), (y, last_y), (x, last_x) in itertools.product(*choices):
            yield (z, y, x), self.masks[last_z, last_y, last_x]


class _Layer(nn.Module):
    """MONAI's `BasicLayer`, which makes a mask of N×N for every window of the grid anew in each pass."""

    def __init__(self, layer: BasicLayer) -> None:
        super().__init__()
        self.window, self.shift = layer.window_size, layer.shift_size
        self.blocks, self.downsample = layer.blocks, layer.downsample
        for block in self.blocks:
            block.attn = _Attention(block.attn)
        self._masks: dict[tuple[Sides, torch.device], _ShiftMasks] = {}

    def forward(self, values: Tensor) -> Tensor:
        """B C D H W → B 2C D/2 H/2 W/2."""
        values = values.permute(0, 2, 3, 4, 1)
        masks = self._masks_for(tuple(values.shape[1:4]), values.device)
        for block in self.blocks:
            values = block(values, masks)
        if self.downsample is not None:
            values = self.downsample(values)
        return values.permute(0, 4, 1, 2, 3)

    def _masks_for(self, sides: Sides, device: torch.device) -> _ShiftMasks:
        if (sides, device) not in self._masks:
            window, shift = get_window_size(sides, self.window, self.shift)
            counts = tuple(math.ceil(side / length) for side, length in zip(sides, window, strict=True))
            kinds = [min(count, 2) for count in counts]
            masks = compute_mask(
                [length * kind for length, kind in zip(window, kinds, strict=True)], window, shift, device
            )
            self._masks[sides, device] = _ShiftMasks(counts, masks.unflatten(0, kinds))
        return self._masks[sides, device]


class _Attention(nn.Module):
    """MONAI's `WindowAttention`, with a bias for each group of windows instead of one for each window."""

    def __init__(self, attention: WindowAttention) -> None:
        super().__init__()
        self.qkv, self.proj = attention.qkv, attention.proj
        self.heads, self.scale = attention.num_heads, attention.scale
        self.table, self.index = attention.relative_position_bias_table, attention.relative_position_index

    def forward(self, tokens: Tensor, mask: _ShiftMasks | None) -> Tensor:
        """Tokens of all windows, one sample after the other: (B·windows) N C → the same."""
        windows, N, C = tokens.shape
        query, key, value = self.qkv(tokens).reshape(windows, N, 3, self.heads, C // self.heads).permute(2, 0, 3, 1, 4)
        bias = self.table[self.index[:N, :N].flatten()].unflatten(0, (N, N)).permute(2, 0, 1)
        if mask is None:
            mixed = self._mixed(query, key, value, bias)
        else:
            mixed = torch.empty_like(query)
            grid = (-1, *mask.counts)
            whole = [each.unflatten(0, grid) for each in (query, key, value)]
            for box, shared in mask.groups():
                part = (slice(None), *box)
                chosen = [each[part] for each in whole]
                found = self._mixed(*(each.flatten(0, 3) for each in chosen), bias + shared)
                mixed.unflatten(0, grid)[part] = found.unflatten(0, chosen[0].shape[:4])
        return self.proj(mixed.transpose(1, 2).reshape(windows, N, C))

    def _mixed(self, query: Tensor, key: Tensor, value: Tensor, bias: Tensor) -> Tensor:
        bias = bias[None].to(query.dtype)
        return F.scaled_dot_product_attention(query, key, value, attn_mask=bias, scale=self.scale)


def _replace(module: nn.Module, old: type[nn.Module], new: type[nn.Module]) -> None:
    for name, child in module.named_children():
        if isinstance(child, old):
            setattr(module, name, new(child))
        else:
            _replace(child, old, new)
