"""The labels of one case: which targets it labels, where each of them is, and where nothing is known of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Protocol

import numpy as np
import SimpleITK as sitk

from ..config.labelling import Values
from ..errors import UserError
from ..geometry import Geometry
from .images import read_image
from .label_values import mask_voxels, voxels_with

GridCheck = Callable[[Path, Geometry], None]
"""Raises UserError if a label file lies on a grid that it must not lie on."""


class CaseLabels(Protocol):
    """What every layout says of a case's labels. Masks are bool D H W on the image's grid, read when asked for."""

    @property
    def labelled(self) -> tuple[str, ...]:
        """The targets that the case labels, in the order of the targets; all others are unknown in it."""

    def mask(self, target: str) -> np.ndarray:
        """Where a labelled target is; raises UserError if its file is faulty or on another grid."""

    def unknown(self, target: str) -> np.ndarray | None:
        """Where a labelled target is unknown; None if that is nowhere."""

    def parts(self, target: str) -> tuple[str, ...]:
        """The labelled targets that lie within `target` by definition: a tumour in its organ."""


@dataclass(frozen=True)
class MaskLabels:
    """One mask file for each part of each labelled target."""

    files: Mapping[str, tuple[Path, ...]]
    check_grid: GridCheck

    @property
    def labelled(self) -> tuple[str, ...]:
        return tuple(self.files)

    def mask(self, target: str) -> np.ndarray:
        return reduce(np.logical_or, (self._read(path, target) for path in self.files[target]))

    def unknown(self, target: str) -> None:
        return None

    def parts(self, target: str) -> tuple[str, ...]:
        return ()

    def _read(self, path: Path, target: str) -> np.ndarray:
        if not path.is_file():
            remedy = f"restore it, correct `labels`, or write `labelled: present` if {target} is unknown without a mask"
            raise UserError(str(path), "is missing", remedy)
        return mask_voxels(path, voxels_of(path, self.check_grid))


@dataclass(frozen=True)
class LabelMapLabels:
    """A label map of integers (D H W), the values of each labelled target, and those that leave it open."""

    label_map: np.ndarray
    values: Mapping[str, Values]
    open_values: Mapping[str, Values]

    @property
    def labelled(self) -> tuple[str, ...]:
        return tuple(self.values)

    def mask(self, target: str) -> np.ndarray:
        return voxels_with(self.label_map, self.values[target])

    def unknown(self, target: str) -> np.ndarray | None:
        if not self.open_values.get(target):
            return None
        mask = voxels_with(self.label_map, self.open_values[target])
        return mask if mask.any() else None

    def parts(self, target: str) -> tuple[str, ...]:
        mine = set(self.values[target])
        return tuple(other for other, values in self.values.items() if set(values) < mine)


def voxels_of(path: Path, check_grid: GridCheck) -> np.ndarray:
    """The voxels (D H W) of a label file whose grid passes the check."""
    label = read_image(path)
    check_grid(path, Geometry.from_image(label))
    return sitk.GetArrayFromImage(label)
