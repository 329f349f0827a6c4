"""How much of organs, tumours and vessels survives the way to the volume's grid and back, for each way of going there.

    python benchmarks/label_round_trip.py [--seeds 3]

Shapes are known exactly (a wavy organ, balls, branching tubes of 3 mm radius and less), so that two things are measured
on grids from 0.6 to 5 mm, off-centre to the volume's grid of 0.8×0.8×1.5 mm:

- truth: Dice of the label in the volume with the shape itself drawn on the volume's grid
- back: Dice of the label brought back (linear, one half) with the label as it was

The ways: nearest voxel (what most libraries do); linear and cubic interpolation of the mask, thresholded at one half;
the same with the anti-aliasing that images get; linear with the threshold that keeps each mask's volume.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import numpy as np

from pipeline_lib.geometry import Geometry
from pipeline_lib.volumes.interpolation import Kernel, cubic, interpolated, interpolation_matrices, linear

Shape = Callable[[np.ndarray], np.ndarray]
"""Positions (D H W 3, mm) → inside or not (bool D H W)."""

SIDE_MM = 120
SPACINGS = ((0.7, 0.7, 5.0), (0.8, 0.8, 2.5), (0.9, 0.9, 3.0), (0.6, 0.6, 1.0), (0.75, 0.75, 0.8), (1.5, 1.5, 1.5))
VOLUME_SPACING = (0.8, 0.8, 1.5)


def shapes(seed: int) -> dict[str, Shape]:
    generator = np.random.default_rng(seed)
    waves, phases = generator.normal(0, 0.05, (6, 3)), generator.uniform(0, 2 * np.pi, 6)

    def organ(place: np.ndarray) -> np.ndarray:
        radius = np.sqrt((((place - 60) / (42, 34, 38)) ** 2).sum(axis=-1))
        return radius + 0.05 * np.sin(place @ waves.T + phases).sum(axis=-1) <= 1

    def balls(count: int, low_mm: float, high_mm: float) -> Shape:
        centres, radii = generator.uniform(35, 85, (count, 3)), generator.uniform(low_mm, high_mm, count)
        return lambda place: np.any(
            [np.linalg.norm(place - centre, axis=-1) <= radius for centre, radius in zip(centres, radii, strict=True)],
            axis=0,
        )

    branches: list[tuple[np.ndarray, np.ndarray, float]] = []

    def grow(start: np.ndarray, direction: np.ndarray, radius: float, depth: int) -> None:
        end = start + direction * generator.uniform(12, 22)
        branches.append((start, end, radius))
        for _ in range(2 if depth else 0):
            turned = direction + generator.normal(0, 0.6, 3)
            grow(end, turned / np.linalg.norm(turned), radius * 0.75, depth - 1)

    grow(np.array([60.0, 60.0, 25.0]), np.array([0.2, 0.1, 0.97]), 3.0, 4)

    def vessels(place: np.ndarray) -> np.ndarray:
        inside = np.zeros(place.shape[:-1], bool)
        for start, end, radius in branches:
            along = end - start
            share = np.clip((place - start) @ along / (along @ along), 0, 1)
            inside |= np.linalg.norm(place - start - share[..., None] * along, axis=-1) <= radius
        return inside

    return {"organ": organ, "large tumours": balls(2, 8, 15), "small tumours": balls(6, 2.5, 5), "vessels": vessels}


def nearest(mask: np.ndarray, source: Geometry, target: Geometry) -> np.ndarray:
    for axis, matrix in enumerate(interpolation_matrices(source, target, linear, antialias=False)):
        mask = mask.take(matrix.argmax(axis=1), axis=axis)
    return mask


def at_one_half(kernel: Kernel, antialias: bool) -> Callable[..., np.ndarray]:
    def resampled(mask: np.ndarray, source: Geometry, target: Geometry) -> np.ndarray:
        matrices = interpolation_matrices(source, target, kernel, antialias)
        return interpolated(mask, matrices, bool, lambda block: block >= 0.4999)

    return resampled


def keeping_the_volume(mask: np.ndarray, source: Geometry, target: Geometry) -> np.ndarray:
    values = interpolated(mask, interpolation_matrices(source, target, linear, False), np.float32, lambda block: block)
    wanted = round(mask.sum() * np.prod(source.spacing_mm) / np.prod(target.spacing_mm))
    return values >= np.partition(values.ravel(), values.size - wanted)[values.size - wanted]


WAYS: dict[str, Callable[..., np.ndarray]] = {
    "nearest": nearest,
    "linear": at_one_half(linear, antialias=False),
    "linear, anti-aliased": at_one_half(linear, antialias=True),
    "linear, volume kept": keeping_the_volume,
    "cubic (chosen)": at_one_half(cubic, antialias=False),
    "cubic, anti-aliased": at_one_half(cubic, antialias=True),
}


def dice(one: np.ndarray, other: np.ndarray) -> float:
    return 2 * (one & other).sum() / (one.sum() + other.sum())


def positions(grid: Geometry) -> np.ndarray:
    z, y, x = np.indices(grid.shape)
    return np.stack([x, y, z], axis=-1) * np.array(grid.spacing_mm) + np.array(grid.origin_mm)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    way_back = at_one_half(linear, antialias=False)
    found: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for spacing in SPACINGS:
        size = tuple(int(SIDE_MM / side) for side in spacing)
        source = Geometry(size=size, spacing_mm=spacing, origin_mm=(0.3, 0.1, 0.2))
        target = source.at_spacing(VOLUME_SPACING).model_copy(update={"origin_mm": (0.5, 0.3, 0.6)})
        here, there = positions(source), positions(target)
        for seed in range(options.seeds):
            for name, shape in shapes(seed).items():
                mask, truth = shape(here), shape(there)
                for way, go in WAYS.items():
                    label = go(mask, source, target)
                    back = way_back(label, target, source)
                    found.setdefault((name, way), []).append((dice(label, truth), dice(back, mask)))
    names = list(shapes(0))
    print("| way | " + " | ".join(f"{name}: truth | back" for name in names) + " |")
    print("|---|" + "---|---|" * len(names))
    for way in WAYS:
        cells = [f"{value:.4f}" for name in names for value in np.mean(found[name, way], axis=0)]
        print(f"| {way} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
