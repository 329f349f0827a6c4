"""What a model says about one CT: a mask for each ROI on the CT's own grid, made when it is asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import blosc2
import numpy as np
import SimpleITK as sitk

from ..config.confidence import Calibration
from ..geometry import Geometry, to_canonical
from ..inference.certainty import certainty
from ..volumes.resampling import FOREGROUND, Box, probability_on_original_grid
from .confidence import Confidence, confidence
from .ct import Ct
from .label_map import LabelMap
from .statistics import RoiStatistics, measured
from .windows import post_processed


@dataclass(frozen=True)
class Part:
    """One ROI: its name, and its probability (uint8, 0 … 255) in a box of the CT's array, seen by `to_canonical`.

    `confidence` says how far to trust its mask.
    """

    roi: str
    box: Box
    probability: np.ndarray
    confidence: Confidence

    @property
    def mask(self) -> np.ndarray:
        """bool, in the box."""
        return self.probability >= FOREGROUND


@dataclass(frozen=True, eq=False)
class Segmentation(Mapping[str, np.ndarray]):
    """ROI → its mask, bool D H W on the grid of `ct` (numpy's order of axes: z, y, x).

    The probabilities wait as compressed bytes on the model's grid, `volume_grid`; a mask is made whenever it is asked
    for, so that any number of ROIs needs the memory of one. `made_by` says how they came about. `calibration` makes an
    expected Dice of the certainty, which is that of the probabilities on the model's grid. `agreement` has each ROI's
    agreement of several models; it is empty for a single one.
    """

    ct: Ct
    rois: tuple[str, ...]
    volume_grid: Geometry
    post_processing: Mapping[str, str]
    made_by: Mapping[str, Any]
    _probabilities: blosc2.NDArray
    calibration: Calibration | None = None
    agreement: Mapping[str, float | None] = field(default_factory=dict)

    def __getitem__(self, roi: str) -> np.ndarray:
        part = self.part(roi)
        return self.whole(part.box, part.mask)

    def __iter__(self) -> Iterator[str]:
        return iter(self.rois)

    def __len__(self) -> int:
        return len(self.rois)

    def __repr__(self) -> str:
        return f"Segmentation of {self.ct.source}: {', '.join(self.rois)}"

    def image(self, roi: str) -> sitk.Image:
        """The mask as a SimpleITK image of 0 and 1, in the CT's place."""
        return self.ct.grid.image(self[roi].astype(np.uint8))

    def probability(self, roi: str) -> np.ndarray:
        """float32 D H W on the CT's grid, in steps of 1/255; at least 128/255 exactly where the mask is."""
        part = self.part(roi)
        return self.whole(part.box, part.probability).astype(np.float32) / np.float32(255)

    def confidence(self, roi: str) -> Confidence:
        """How far to trust the mask of a ROI; raises KeyError if the model does not know it."""
        return self._confidence(roi, self._post_processed(roi))

    def label_map(self) -> LabelMap:
        """One value per voxel, which the module label_map explains."""
        found = LabelMap(self.ct.grid, self.rois)
        for part in self.parts():
            found.add(part.roi, part.box, part.probability)
        return found

    def statistics(self) -> list[RoiStatistics]:
        """Volume, HU, extent and more of every ROI."""
        return [self.measured(part) for part in self.parts()]

    def measured(self, part: Part) -> RoiStatistics:
        """The statistics of one ROI."""
        grid = self.ct.grid
        hu = to_canonical(sitk.GetArrayViewFromImage(self.ct.image), grid)
        return replace(measured(part.roi, part.box, part.mask, hu, grid), **asdict(part.confidence))

    def parts(self) -> Iterator[Part]:
        """All ROIs, one after the other."""
        return map(self.part, self.rois)

    def part(self, roi: str) -> Part:
        """One ROI; raises KeyError if the model does not know it."""
        probability = self._post_processed(roi)
        box, on_original = probability_on_original_grid(probability, self.volume_grid, self.ct.grid)
        return Part(roi, box, on_original, self._confidence(roi, probability))

    def whole(self, box: Box, values: np.ndarray) -> np.ndarray:
        """An array D H W on the CT's grid that has `values` in the box of its view `to_canonical`, and 0 elsewhere."""
        array = np.zeros(self.ct.grid.shape, values.dtype)
        to_canonical(array, self.ct.grid)[box] = values
        return array

    def _confidence(self, roi: str, probability: np.ndarray) -> Confidence:
        return confidence(roi, certainty(probability), self.calibration, self.agreement.get(roi))

    def _post_processed(self, roi: str) -> np.ndarray:
        """The probability (uint8 D H W) of a ROI on the model's grid."""
        if roi not in self.rois:
            raise KeyError(f"{roi!r} is not one of the model's ROIs: {', '.join(self.rois)}")
        index = self.rois.index(roi)
        (probability,) = post_processed(self._probabilities[index : index + 1], (roi,), self.post_processing)
        return probability
