"""The generated layers of the dynamic head as Triton kernels: on a GPU no hidden layer goes through memory.

A voxel's 8 features become `maps` logits of each of N heads by 128 products a head and 8 a map. As batched matrix
products each layer writes N·8 values a voxel and reads them again, and memory, not arithmetic, sets the time. Here a
program takes some voxels and keeps both hidden layers in registers; backward recomputes them.

Tensor cores multiply tiles of 16, so two heads make a group: their second layers are the two blocks of one 16×16
matrix.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

from .head_parameters import WIDTH, split_parameters
from .precision import precision_of_products

_TILE = 16
_HEADS = _TILE // WIDTH  # in a group
_VOXELS = 128  # of a tile
# A program that sums the parameters' gradients holds six sums in registers besides: with more voxels they spill
# (benchmarks/fused_layers.py).
_VOXELS_OF_SUMS = {torch.float32: 32, torch.bfloat16: 64, torch.float16: 64}
_SUMS = 2048  # programs that do so, over all samples and groups, unless there are fewer tiles


def fused_layers(features: Tensor, parameters: Tensor, maps: int, most_sums: int = _SUMS) -> Tensor:
    """What `generated_layers` computes: features B 8 V, parameters B N P → B N `maps` V, `maps` at most 8.

    Products are made in the features' precision (float32, bfloat16, float16; autocast's where it is on) and summed in
    float32; in backward by `most_sums` programs, give or take. All tensors are on one GPU.
    """
    B, N, _ = parameters.shape
    dtype = precision_of_products(features)
    with torch.autocast(features.device.type, enabled=False), torch.cuda.device_of(features):
        weights, biases = _grouped(parameters.float(), maps)
        logits = _FusedLayers.apply(features.to(dtype).contiguous(), weights.to(dtype), biases, N, maps, most_sums)
    return logits.reshape(B, N, maps, -1)


def _grouped(parameters: Tensor, maps: int) -> tuple[Tensor, Tensor]:
    """The layers of each two heads side by side: parameters B N P → weights B G 3 16 16 (in, out), biases B G 3 16.

    A last head without a neighbour gets one of zeros.
    """
    B, N, _ = parameters.shape
    pairs = F.pad(parameters, (0, 0, 0, N % _HEADS)).unflatten(1, (-1, _HEADS))
    G = pairs.shape[1]
    first, first_bias, second, second_bias, last, last_bias = split_parameters(pairs, maps)
    apart = torch.eye(_HEADS, device=parameters.device)[:, None, :, None]

    def tile(matrix: Tensor) -> Tensor:
        return F.pad(matrix, (0, _TILE - matrix.shape[3], 0, _TILE - matrix.shape[2]))

    def blocks(matrices: Tensor, outputs: int) -> Tensor:
        transposed = matrices.unflatten(3, (outputs, WIDTH)).transpose(3, 4)
        return tile((transposed[:, :, :, :, None] * apart).reshape(B, G, _TILE, _HEADS * outputs))

    side_by_side = first.unflatten(3, (WIDTH, WIDTH)).permute(0, 1, 4, 2, 3).reshape(B, G, WIDTH, _TILE)
    weights = torch.stack([tile(side_by_side), blocks(second, WIDTH), blocks(last, maps)], dim=2)
    biases = [
        F.pad(bias.flatten(2), (0, _TILE - _HEADS * bias.shape[3])) for bias in (first_bias, second_bias, last_bias)
    ]
    return weights, torch.stack(biases, dim=2)


class _FusedLayers(torch.autograd.Function):
    """features B 8 V, weights B G 3 16 16, biases B G 3 16 → B N·`maps` V."""

    @staticmethod
    def forward(
        context: Any, features: Tensor, weights: Tensor, biases: Tensor, N: int, maps: int, most_sums: int
    ) -> Tensor:
        B, _, V = features.shape
        G, channels = weights.shape[1], N * maps
        logits = features.new_empty(B, channels, V)
        _logits_kernel[(triton.cdiv(V, _VOXELS), B)](
            features, weights, biases, logits, V, channels, G, _HEADS * maps, _VOXELS
        )
        context.save_for_backward(features, weights, biases)
        context.maps, context.most_sums = maps, most_sums
        return logits

    @staticmethod
    @once_differentiable
    def backward(context: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        features, weights, biases = context.saved_tensors
        grad_output = grad_output.contiguous()
        B, _, V = features.shape
        G, channels, columns = weights.shape[1], grad_output.shape[1], _HEADS * context.maps
        grad_features = torch.empty_like(features)
        _features_gradient_kernel[(triton.cdiv(V, _VOXELS), B)](
            features, weights, biases, grad_output, grad_features, V, channels, G, columns, _VOXELS
        )
        # Every program sums the tiles of its own span, and the spans are added in order, so that the same step always
        # gives the same bits.
        voxels = _VOXELS_OF_SUMS[features.dtype]
        tiles = triton.cdiv(V, voxels)
        span = min(tiles, triton.cdiv(tiles * B * G, context.most_sums))
        spans = triton.cdiv(tiles, span)
        grad_weights = biases.new_empty(spans, *weights.shape)
        grad_biases = biases.new_empty(spans, *biases.shape)
        _parameters_gradient_kernel[(spans, G, B)](
            features, weights, biases, grad_output, grad_weights, grad_biases, V, channels, span, columns, voxels
        )
        return grad_features, grad_weights.sum(0).to(weights.dtype), grad_biases.sum(0), None, None, None


@triton.jit
def _tile(sample, channels, first, columns, voxels, voxel):
    """Offsets of a tile V×16 in a map B `channels` `voxels`, and its mask: `columns` maps from `first` exist."""
    column = tl.arange(0, 16)
    offsets = (sample.to(tl.int64) * channels + first + column)[None, :] * voxels + voxel[:, None]
    return offsets, (voxel < voxels)[:, None] & ((column < columns) & (first + column < channels))[None, :]


@triton.jit
def _layer(weights, biases, group, layer: tl.constexpr):
    """Matrix 16×16 and bias 16 of a layer of a group, counted over all samples."""
    side = tl.arange(0, 16)
    matrix = tl.load(weights + (group * 3 + layer) * 256 + side[:, None] * 16 + side[None, :])
    return matrix, tl.load(biases + (group * 3 + layer) * 16 + side)


@triton.jit
def _activated(values, matrix, bias):
    """A hidden layer V×16, rounded to the features' precision."""
    sums = tl.dot(values, matrix, input_precision="ieee") + bias[None, :]
    # What is not a number stays so, for the training to see it.
    return tl.maximum(sums, 0.0, propagate_nan=tl.PropagateNan.ALL).to(values.dtype)


@triton.jit
def _gradient_before(gradient, matrix, hidden):
    """From the gradient V×16 of a layer's outputs to that of the sums below the activation `hidden` that it read."""
    below = tl.dot(gradient, tl.trans(matrix), input_precision="ieee")
    return tl.where(hidden <= 0, 0.0, below).to(hidden.dtype)


@triton.jit
def _logits_kernel(
    features,
    weights,
    biases,
    logits,
    voxels,
    channels,
    groups: tl.constexpr,
    columns: tl.constexpr,
    VOXELS: tl.constexpr,
):
    sample = tl.program_id(1)
    voxel = tl.program_id(0) * VOXELS + tl.arange(0, VOXELS)
    offsets, mask = _tile(sample, 8, 0, 8, voxels, voxel)
    values = tl.load(features + offsets, mask=mask, other=0.0)
    for group in range(groups):
        matrix, bias = _layer(weights, biases, sample * groups + group, 0)
        hidden = _activated(values, matrix, bias)
        matrix, bias = _layer(weights, biases, sample * groups + group, 1)
        hidden = _activated(hidden, matrix, bias)
        matrix, bias = _layer(weights, biases, sample * groups + group, 2)
        made = tl.dot(hidden, matrix, input_precision="ieee") + bias[None, :]
        offsets, mask = _tile(sample, channels, group * columns, columns, voxels, voxel)
        tl.store(logits + offsets, made.to(logits.dtype.element_ty), mask=mask)


@triton.jit
def _features_gradient_kernel(
    features,
    weights,
    biases,
    grad_output,
    grad_features,
    voxels,
    channels,
    groups: tl.constexpr,
    columns: tl.constexpr,
    VOXELS: tl.constexpr,
):
    sample = tl.program_id(1)
    voxel = tl.program_id(0) * VOXELS + tl.arange(0, VOXELS)
    of_sample, kept = _tile(sample, 8, 0, 8, voxels, voxel)
    values = tl.load(features + of_sample, mask=kept, other=0.0)
    total = tl.zeros((VOXELS, 16), tl.float32)
    for group in range(groups):
        first, first_bias = _layer(weights, biases, sample * groups + group, 0)
        second, second_bias = _layer(weights, biases, sample * groups + group, 1)
        last, _ = _layer(weights, biases, sample * groups + group, 2)
        low = _activated(values, first, first_bias)
        high = _activated(low, second, second_bias)
        offsets, mask = _tile(sample, channels, group * columns, columns, voxels, voxel)
        gradient = tl.load(grad_output + offsets, mask=mask, other=0.0)
        gradient = _gradient_before(gradient, last, high)
        gradient = _gradient_before(gradient, second, low)
        total += tl.dot(gradient, tl.trans(first), input_precision="ieee")
    tl.store(grad_features + of_sample, total.to(grad_features.dtype.element_ty), mask=kept)


@triton.jit
def _parameters_gradient_kernel(
    features,
    weights,
    biases,
    grad_output,
    grad_weights,
    grad_biases,
    voxels,
    channels,
    span: tl.constexpr,
    columns: tl.constexpr,
    VOXELS: tl.constexpr,
):
    group, groups, sample = tl.program_id(1), tl.num_programs(1), tl.program_id(2)
    first, first_bias = _layer(weights, biases, sample * groups + group, 0)
    second, second_bias = _layer(weights, biases, sample * groups + group, 1)
    last, _ = _layer(weights, biases, sample * groups + group, 2)
    grad_first = tl.zeros((16, 16), tl.float32)
    grad_second = tl.zeros((16, 16), tl.float32)
    grad_last = tl.zeros((16, 16), tl.float32)
    # Sums over voxels are made once, at the end: until then each place of the tile has its own.
    grad_first_bias = tl.zeros((VOXELS, 16), tl.float32)
    grad_second_bias = tl.zeros((VOXELS, 16), tl.float32)
    grad_last_bias = tl.zeros((VOXELS, 16), tl.float32)
    for tile in range(span):
        voxel = (tl.program_id(0) * span + tile) * VOXELS + tl.arange(0, VOXELS)
        offsets, mask = _tile(sample, 8, 0, 8, voxels, voxel)
        values = tl.load(features + offsets, mask=mask, other=0.0)
        low = _activated(values, first, first_bias)
        high = _activated(low, second, second_bias)
        offsets, mask = _tile(sample, channels, group * columns, columns, voxels, voxel)
        gradient = tl.load(grad_output + offsets, mask=mask, other=0.0)
        grad_last += tl.dot(tl.trans(high), gradient, input_precision="ieee")
        grad_last_bias += gradient.to(tl.float32)
        gradient = _gradient_before(gradient, last, high)
        grad_second += tl.dot(tl.trans(low), gradient, input_precision="ieee")
        grad_second_bias += gradient.to(tl.float32)
        gradient = _gradient_before(gradient, second, low)
        grad_first += tl.dot(tl.trans(values), gradient, input_precision="ieee")
        grad_first_bias += gradient.to(tl.float32)
    place = ((tl.program_id(0) * tl.num_programs(2) + sample) * groups + group) * 3
    column = tl.arange(0, 16)
    within = column[:, None] * 16 + column[None, :]
    tl.store(grad_weights + place * 256 + within, grad_first)
    tl.store(grad_weights + (place + 1) * 256 + within, grad_second)
    tl.store(grad_weights + (place + 2) * 256 + within, grad_last)
    tl.store(grad_biases + place * 16 + column, tl.sum(grad_first_bias, 0))
    tl.store(grad_biases + (place + 1) * 16 + column, tl.sum(grad_second_bias, 0))
    tl.store(grad_biases + (place + 2) * 16 + column, tl.sum(grad_last_bias, 0))
