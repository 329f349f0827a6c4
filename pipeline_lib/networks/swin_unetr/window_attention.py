"""SwinUNETR's attention without its matrices: MONAI's layers, computed with shared masks and fused attention.

A patch of 160×160×96 voxels has a thousand windows of 343 tokens in the first stage alone. MONAI's layers hold a mask
of 343×343 for each of them and, in training, weights of 343×343 for each window and head, several times over: on a GPU
half of a step's memory traffic (docs/performance.md). `scaled_dot_product_attention` keeps none of them there.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...monai_parts import BasicLayer, WindowAttention, compute_mask, get_window_size
from ..replacing import replace

Sides = tuple[int, int, int]


def fuse_attention(trunk: nn.Module) -> None:
    """Replace MONAI's transformer layers in `trunk`: the same parameters, names and results up to rounding.

    Raises ValueError if they have dropout.
    """
    replace(trunk, BasicLayer, SwinLayer)


@dataclass(frozen=True)
class ShiftMasks:
    """Masks of shifted attention windows.

    Only the last window along an axis holds tokens that the shift brought together from both ends, so the windows of
    a whole grid have eight masks at most: `masks` is 2 2 2 N N (1 in place of 2 along an axis with one window), its
    first three indices saying whether a window is the last along that axis. `counts` are the windows along each axis.
    """

    counts: Sides
    masks: Tensor


class SwinLayer(nn.Module):
    """MONAI's `BasicLayer`, which makes an N×N mask for every window of the grid in each pass; this one keeps eight."""

    def __init__(self, layer: BasicLayer) -> None:
        super().__init__()
        self.window, self.shift = layer.window_size, layer.shift_size
        self.blocks, self.downsample = layer.blocks, layer.downsample
        for block in self.blocks:
            block.attn = _Attention(block.attn)
        self._masks: dict[tuple[Sides, torch.device], ShiftMasks] = {}

    def forward(self, values: Tensor) -> Tensor:
        """B C D H W → B 2C D/2 H/2 W/2."""
        values = values.permute(0, 2, 3, 4, 1)
        masks = self._masks_for(tuple(values.shape[1:4]), values.device)
        for block in self.blocks:
            values = block(values, masks)
        if self.downsample is not None:
            values = self.downsample(values)
        return values.permute(0, 4, 1, 2, 3)

    def _masks_for(self, sides: Sides, device: torch.device) -> ShiftMasks:
        if (sides, device) not in self._masks:
            window, shift = get_window_size(sides, self.window, self.shift)
            counts = tuple(math.ceil(side / length) for side, length in zip(sides, window, strict=True))
            kinds = [min(count, 2) for count in counts]
            masks = compute_mask(
                [length * kind for length, kind in zip(window, kinds, strict=True)], window, shift, device
            )
            self._masks[sides, device] = ShiftMasks(counts, masks.unflatten(0, kinds))
        return self._masks[sides, device]


class _Attention(nn.Module):
    """MONAI's `WindowAttention`, which has fused attention in inference only, and there a bias for each window."""

    def __init__(self, attention: WindowAttention) -> None:
        super().__init__()
        self.relative_position_bias_table = attention.relative_position_bias_table
        self.register_buffer("relative_position_index", attention.relative_position_index)
        self.qkv, self.proj = attention.qkv, attention.proj
        self.heads, self.scale = attention.num_heads, attention.scale
        if attention.attn_drop.p or attention.proj_drop.p:
            raise ValueError("attention with dropout is not fused")

    def forward(self, tokens: Tensor, mask: ShiftMasks | None) -> Tensor:
        """Tokens of all windows, one sample after the other: (B·windows) N C → the same."""
        N = tokens.shape[1]
        index = self.relative_position_index[:N, :N].flatten()
        bias = self.relative_position_bias_table[index].unflatten(0, (N, N)).permute(2, 0, 1)
        projected = self.qkv(tokens)
        if mask is None:
            mixed = self._mixed(projected, bias)
        else:
            mixed = self._mixed_shifted(projected.unflatten(0, (-1, *mask.counts)), mask.masks, bias).flatten(0, 3)
        return self.proj(mixed)

    def _mixed_shifted(self, projected: Tensor, masks: Tensor, bias: Tensor, axis: int = 1) -> Tensor:
        """The windows of a grid, B z y x N 3C → B z y x N C, cut axis by axis into boxes that share a mask.

        `axis` and those after it are still to be cut; `masks` has the two kinds of windows along each of them.
        """
        if axis == 4:
            return self._mixed(projected.flatten(0, 3), bias + masks).unflatten(0, projected.shape[:4])
        # The last window apart, unless it is the only one.
        boxes = projected.split(max(1, projected.shape[axis] - 1), dim=axis)
        mixed = [self._mixed_shifted(box, of_kind, bias, axis + 1) for box, of_kind in zip(boxes, masks, strict=True)]
        return torch.cat(mixed, dim=axis)

    def _mixed(self, projected: Tensor, bias: Tensor) -> Tensor:
        """W N 3C and a bias that all windows share, H N N → W N C."""
        query, key, value = projected.unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return attention(query, key, value, bias, self.scale).transpose(1, 2).flatten(2)


def attention(query: Tensor, key: Tensor, value: Tensor, bias: Tensor, scale: float) -> Tensor:
    """Softmax(`scale` q kᵀ + `bias`) v for q, k and v W H N C and `bias` H N N."""
    if query.device.type == "cpu" and torch.is_grad_enabled():
        # torch fuses no attention whose bias learns on a CPU, and what it does instead takes 1.1 times as long as this.
        weights = ((scale * query) @ key.transpose(2, 3) + bias).softmax(3)
        return weights.to(value.dtype) @ value
    return fused_attention(query, key, value, bias, scale)


def fused_attention(query: Tensor, key: Tensor, value: Tensor, bias: Tensor, scale: float) -> Tensor:
    """The same by torch's own kernels. Those of a GPU want a bias that lies in memory row by row."""
    bias = bias[None].to(query.dtype).contiguous()
    return F.scaled_dot_product_attention(query, key, value, attn_mask=bias, scale=scale)
