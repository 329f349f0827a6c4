"""One patient: what varies from case to case, each part from random numbers of its own."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ...randomness import random_generator
from .frame import Array, Grid, Local, Pose, smooth_field
from .shapes import rotation_matrix


@dataclass(frozen=True)
class Variation:
    """How one organ of one patient differs from the typical one; all of it scales with `strength`."""

    generator: np.random.Generator
    strength: float

    def points(self, typical: ArrayLike, deviation: float) -> NDArray[np.float64]:
        """Control points (N 3, mm), moved together and each by itself."""
        typical = np.asarray(typical, np.float64)
        together, each = self.generator.normal(size=3), self.generator.normal(size=typical.shape)
        return typical + self.strength * deviation * np.clip(0.8 * together + 0.6 * each, -2, 2)

    def sizes(self, typical: ArrayLike, deviation: float) -> NDArray[np.float64]:
        """Radii (mm), scaled together and each by itself; `deviation` is a fraction."""
        typical = np.asarray(typical, np.float64)
        together, each = self.generator.normal(), self.generator.normal(size=typical.shape)
        return typical * np.exp(self.strength * deviation * np.clip(0.8 * together + 0.5 * each, -2, 2))

    def tilt(self, typical: ArrayLike, deviation: float = 7.0) -> NDArray[np.float64]:
        """Rotation by the typical degrees about x, y, z and a random part."""
        return rotation_matrix(np.asarray(typical) + self.strength * deviation * self.generator.normal(size=3))

    def uniform(self, low: float, high: float) -> float:
        """A number between the two, drawn towards their middle where the strength is below 1."""
        middle, half = (low + high) / 2, (high - low) / 2
        return middle + min(self.strength, 1.0) * half * self.generator.uniform(-1, 1)


class Patient:
    """Random choices of one case, keyed by (seed, data set, case, organ): no choice moves another.

    Parameters
    ----------
    key: seed, data set and case.
    deformation: strength of all variation of shape and pose (1: realistic, 0: every patient the same).
    """

    def __init__(self, key: tuple[str | int, ...], deformation: float) -> None:
        self.key, self.deformation = key, deformation

    def generator(self, purpose: str) -> np.random.Generator:
        return random_generator("phantom", purpose, *self.key)

    def variation(self, organ: str) -> Variation:
        return Variation(self.generator(organ), self.deformation)

    def build(self, body_scale: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Scale (x, y, z) of the torso and rotation (3×3) on the table."""
        vary = self.variation("build")
        girth = vary.sizes(np.ones(2), 0.07)
        height = vary.sizes(np.ones(1), 0.05)
        return body_scale * np.concatenate([girth, height]), vary.tilt((0, 0, 0), 3.5)

    def displacement(self, grid: Grid, pose: Pose) -> Array:
        """Smooth deformation of the torso, 3 D H W in torso mm: long waves bend it, shorter ones shape it."""
        generator = self.generator("deformation")
        size = float(np.mean(pose.scale))
        field = np.empty((3, *grid.shape), np.float32)
        for axis in range(3):
            # Their gradients together stay well below 1, so that the deformation never folds.
            field[axis] = 6.0 * smooth_field(generator, grid, (160 * size, 320 * size), 16)
            field[axis] += 1.8 * smooth_field(generator, grid, (70 * size, 130 * size), 32)
        return np.float32(self.deformation) * field


class Roughness:
    """Uneven organ surfaces: a few smooth fields that every organ mixes in its own way."""

    def __init__(self, patient: Patient, grid: Grid, scale: float) -> None:
        generator = patient.generator("roughness")
        self._fields = [smooth_field(generator, grid, (28 * scale, 75 * scale)) for _ in range(3)]
        self._patient = patient

    def __call__(self, local: Local, organ: str, amplitude: float) -> Array:
        """Values to add to an organ's distance over the box: mm, of the given standard deviation."""
        mix = self._patient.generator(f"roughness of {organ}").normal(size=len(self._fields))
        mix *= amplitude * self._patient.deformation / np.linalg.norm(mix)
        return sum(np.float32(part) * field[local.slices] for part, field in zip(mix, self._fields, strict=True))
