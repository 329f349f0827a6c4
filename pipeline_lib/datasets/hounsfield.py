"""Are an image's values Hounsfield units? Air is near −1000, water is 0, and soft tissue within 100 of it."""

from __future__ import annotations

import numpy as np

_OFFSET = "subtract 1024 from it (its DICOM rescale intercept was lost)"
_DOUBLE = "was the intercept of −1024 subtracted twice? Add 1024, or give the CT again"
_RAW = "give the CT in Hounsfield units, before any normalisation"

_LEAST_RANGE_HU = 100
_AIR_BELOW_HU = -500
_FAT_AND_LUNG_HU = (-900, -50)
_TISSUE_HU = (-200, 200)


def unit_fault(voxels: np.ndarray) -> tuple[str, str] | None:
    """(what is wrong, remedy) for an image (D H W) that is hardly in HU; None if nothing shows."""
    low, high = float(voxels.min()), float(voxels.max())
    shown = f"{low:g} … {high:g}"
    if low == high:
        return f"is constant ({low:g} everywhere)", "give a CT"
    if high - low < _LEAST_RANGE_HU:
        return f"is hardly in HU: its values span only {shown}, as if it were normalised", _RAW
    if low >= 0 and high <= 255:
        return f"is hardly in HU: its values are {shown}, as in an 8-bit picture", _RAW
    if _looks_shifted(voxels):
        return f"is hardly in HU: its tissue lies near 1024 and its air near 0 ({shown})", _OFFSET
    if _looks_lowered(voxels):
        return f"is hardly in HU: its tissue lies near -1024 and its air near -2048 ({shown})", _DOUBLE
    if _share(voxels, *_TISSUE_HU) < 0.001:
        return f"is hardly in HU: nothing of it is near water, 0 HU ({shown})", _RAW
    if low > _FAT_AND_LUNG_HU[1]:
        return f"is hardly in HU: it has no air and no fat, its values are {shown}", _RAW
    return None


def unit_note(voxels: np.ndarray) -> str:
    """What is odd about the values of an image that may well be in HU; empty if nothing is."""
    low = float(voxels.min())
    return f"has no air: its lowest value is {low:g} HU; was it cropped or windowed?" if low > _AIR_BELOW_HU else ""


def _looks_shifted(voxels: np.ndarray) -> bool:
    """Whether much lies where tissue would with an offset of 1024, and nearly nothing where fat and lung belong."""
    shifted = _share(voxels, *(value + 1024 for value in _TISSUE_HU))
    return shifted > 0.02 and _share(voxels, *_FAT_AND_LUNG_HU) < 0.001


def _looks_lowered(voxels: np.ndarray) -> bool:
    """Whether values lie where a CT has nothing, between padding and air, and few near water."""
    if _share(voxels, -2000, -1300) < 0.001:
        return False
    return _share(voxels, *_TISSUE_HU) < 0.2 * _share(voxels, *(value - 1024 for value in _TISSUE_HU))


def _share(voxels: np.ndarray, low: float, high: float) -> float:
    return sum(int(np.count_nonzero((plane >= low) & (plane <= high))) for plane in voxels) / voxels.size
