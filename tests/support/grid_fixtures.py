"""Grids in every axis order and sense, and one that is oblique."""

from __future__ import annotations

from itertools import permutations, product

import numpy as np
import pytest

from pipeline_lib.geometry import Geometry


def _signed_permutation(order, signs) -> tuple[float, ...]:
    matrix = np.zeros((3, 3))
    matrix[range(3), order] = signs
    return tuple(matrix.ravel())


ORIENTATIONS = [
    _signed_permutation(order, signs) for order in permutations(range(3)) for signs in product((1, -1), repeat=3)
]


@pytest.fixture(params=ORIENTATIONS, ids=lambda direction: " ".join(f"{value:.0f}" for value in direction))
def direction(request) -> tuple[float, ...]:
    """Each of the 48 axis orders and senses, as a direction matrix."""
    return request.param


@pytest.fixture
def oblique() -> Geometry:
    """A left-handed grid turned by 20° about one axis and 10° about another."""
    a, b = np.deg2rad(20), np.deg2rad(10)
    about_z = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    about_x = np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    axes = about_z @ about_x @ np.diag([1, -1, 1])
    return Geometry(
        size=(30, 28, 18), spacing_mm=(1.5, 1.6, 2.5), origin_mm=(-20, 60, -30), direction=tuple(axes.ravel())
    )
