"""One patient of OpenKBP, from its published csv files to an image in HU and a mask for each organ.

A csv file lists voxels of a grid of 128³ by their flat index, in the order of C: the CT's with their values, a mask's
alone. Axis 0 grows to posterior, axis 1 to the patient's left and axis 2 to inferior. Values are HU + 1000, as stored
in 12 bits; voxels that are not listed are air, or lie outside of the body and of every structure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO

import numpy as np
import pandas as pd

from ..config.openkbp import CT, VOXEL_SIDES, Patient
from ..geometry import Geometry

SIDE = 128
_HU_OF_ZERO = -1000
_HIGHEST = 4095
"""Of 12 bits; the 16-bit values of metal in a few patients are cut to it."""


@dataclass(frozen=True)
class ReadPatient:
    """HU (int16 D H W) of the kept part, a mask (bool D H W) for each organ that is labelled there, and their grid."""

    hu: np.ndarray
    masks: Mapping[str, np.ndarray]
    grid: Geometry


def read_patient(patient: Patient, files: Mapping[str, bytes]) -> ReadPatient:
    """Read the part of a patient that is used.

    Parameters
    ----------
    files: content of each of `patient.blobs`, by its name.

    The first voxel of the published grid lies at zero, so that the origin tells which part is kept.
    """
    z, y, x = (slice(*side) for side in patient.kept)
    listed = _listed(files[CT])
    stored = np.zeros(SIDE**3, np.int64)
    stored[listed.index] = listed.iloc[:, 0]
    hu = (np.minimum(stored, _HIGHEST) + _HU_OF_ZERO).astype(np.int16)
    masks = {}
    for organ in patient.labelled:
        mask = np.zeros(SIDE**3, bool)
        mask[_listed(files[f"{organ}.csv"]).index] = True
        masks[organ] = _lps(mask)[z, y, x]
    posterior, left, inferior = (float(side) for side in files[VOXEL_SIDES].split())
    spacing = (left, posterior, inferior)
    kept = _lps(hu)[z, y, x]
    grid = Geometry(
        size=(kept.shape[2], kept.shape[1], kept.shape[0]),
        spacing_mm=spacing,
        origin_mm=(x.start * spacing[0], y.start * spacing[1], z.start * spacing[2]),
    )
    return ReadPatient(kept, masks, grid)


def _listed(content: bytes) -> pd.DataFrame:
    """The values that a csv file lists, by the flat index of their voxel."""
    return pd.read_csv(BytesIO(content), index_col=0)


def _lps(flat: np.ndarray) -> np.ndarray:
    """View of a flat array in the canonical order (z to superior, y to posterior, x to the left)."""
    return flat.reshape(SIDE, SIDE, SIDE).transpose(2, 0, 1)[::-1]
