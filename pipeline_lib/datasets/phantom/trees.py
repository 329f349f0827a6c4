"""Branching vessels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .shapes import Branch, curve


def grow_tree(
    generator: np.random.Generator,
    start: NDArray[np.float64],
    end: NDArray[np.float64],
    radius: float,
    generations: int,
    children: int,
    length: float,
    step: float,
) -> list[Branch]:
    """A vessel from `start` to `end` and what branches off it, `generations` deep.

    Parameters
    ----------
    radius: of the first vessel at its start, mm; a branch has about 0.7 of its parent's.
    children: branches of each vessel.
    length: of a branch of the first vessel, mm; deeper ones are shorter.
    step: length of the straight pieces that the vessels are made of, mm.
    """
    along = end - start
    reach = float(np.linalg.norm(along))
    bend = _across(generator, along) * 0.14 * reach
    points, radii = curve(
        [start, start + along / 3 + bend, start + along * 2 / 3 + bend * 0.5, end],
        radius * np.array([1, 0.88, 0.76, 0.62]),
        step,
    )
    branches = [(points, radii)]
    if generations == 0:
        return branches
    for child in range(children):
        place = 0.3 + 0.65 * (child + generator.uniform(0.2, 0.8)) / children
        knot = min(int(place * len(points)), len(points) - 1)
        heading = along / max(reach, 1e-6) * generator.uniform(0.5, 1.0) + 0.95 * _across(generator, along)
        heading /= np.linalg.norm(heading)
        branches += grow_tree(
            generator,
            points[knot],
            points[knot] + heading * length * generator.uniform(0.75, 1.2),
            radii[knot] * generator.uniform(0.66, 0.8),
            generations - 1,
            max(children - 1, 1),
            length * 0.65,
            step,
        )
    return branches


def _across(generator: np.random.Generator, along: NDArray[np.float64]) -> NDArray[np.float64]:
    """A random unit vector at right angles to `along`."""
    vector = np.cross(along, generator.normal(size=3))
    return vector / max(float(np.linalg.norm(vector)), 1e-6)
