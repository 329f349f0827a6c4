"""The parameters of a generated head: how many there are, and in which order a controller makes them."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

WIDTH = 8
"""Channels of both hidden layers (DoDNet and the Universal Model)."""


class HeadParameters(NamedTuple):
    """Weights (out in, flat) and biases of three layers, in the order of the vectors they are cut from."""

    first: Tensor
    first_bias: Tensor
    second: Tensor
    second_bias: Tensor
    last: Tensor
    last_bias: Tensor


def parameter_sizes(maps: int) -> tuple[int, ...]:
    """How many parameters of one 8-8-`maps` head go into each field of `HeadParameters`."""
    return (WIDTH * WIDTH, WIDTH, WIDTH * WIDTH, WIDTH, WIDTH * maps, maps)


def parameter_count(maps: int) -> int:
    """Parameters of one 8-8-`maps` head: 153 for one map, 162 for two."""
    return sum(parameter_sizes(maps))


def split_parameters(parameters: Tensor, maps: int) -> HeadParameters:
    """Cut the last axis of `parameters`, as long as `parameter_count(maps)`."""
    return HeadParameters(*parameters.split(parameter_sizes(maps), dim=-1))
