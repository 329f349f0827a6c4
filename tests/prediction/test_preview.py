"""The picture of a segmentation: which ROIs it names, and how it lays out a short and a long scan."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pipeline_lib.geometry import Geometry, to_canonical
from pipeline_lib.prediction.ct import ct_from_image
from pipeline_lib.prediction.label_map import LabelMap
from pipeline_lib.prediction.preview import preview
from pipeline_lib.prediction.statistics import measured
from tests.support.small_cts import hounsfield

ROIS = ("liver", "liver_tumor", "kidney_left", "spleen")
WHOLE = (slice(None),) * 3


def drawn(grid: Geometry, places: dict[str, tuple[slice, slice, slice]]):
    """The preview of a CT on `grid` in which boxes of its canonical array are ROIs."""
    ct = ct_from_image(grid.image(hounsfield(grid.shape)))
    hu = to_canonical(hounsfield(grid.shape), grid)
    labels, rows = LabelMap(grid, ROIS), []
    for roi in ROIS:
        probability = np.zeros(hu.shape, np.uint8)
        if roi in places:
            probability[places[roi]] = 255
        labels.add(roi, WHOLE, probability)
        rows.append(replace(measured(roi, WHOLE, probability > 127, hu, grid), look_at=roi == "liver"))
    return preview(ct, labels, rows, "made by a test.")


def texts(figure) -> list[str]:
    return [text.get_text() for axes in figure.axes for text in axes.texts]


def panels(figure) -> list:
    """Axes of the axial, coronal and sagittal slice."""
    return [
        next(axes for axes in figure.axes if name in (axes.get_title(), axes.get_title(loc="left")))
        for name in ("axial", "coronal", "sagittal")
    ]


def contours(axes) -> int:
    return sum(type(collection).__name__ == "QuadContourSet" for collection in axes.collections)


LONG = Geometry(size=(30, 26, 40), spacing_mm=(10, 10, 10), origin_mm=(0, 0, 0))
PLACES = {"liver": (slice(10, 20), slice(8, 18), slice(5, 12)), "spleen": (slice(35, 40), slice(8, 18), slice(18, 24))}


def test_the_legend_has_what_was_found_and_counts_the_rest():
    said = texts(drawn(LONG, PLACES))
    assert "liver" in said
    assert "700 ml" in said
    assert "liver tumor" not in said
    assert "2 more ROIs not found" in said
    # Only the spleen ends where the image does, and only the liver's mask is one to look at.
    assert said.count("*") == said.count("?") == 1
    assert "? less certain than most: look at it" in said
    assert "* ends at the image's border" in said


def test_slices_are_those_that_show_most():
    figure = drawn(LONG, PLACES)
    axial, coronal, sagittal = panels(figure)
    # No axial or sagittal slice holds both, every coronal one from 8 to 17 does. A ROI is a filling and a line.
    assert (contours(axial), contours(coronal), contours(sagittal)) == (2, 4, 2)


@pytest.mark.parametrize(("depth", "stacked"), [(5, True), (40, False)])
def test_a_short_scan_has_its_long_slices_above_each_other(depth, stacked):
    figure = drawn(LONG.model_copy(update={"size": (30, 26, depth)}), {"liver": PLACES["liver"]})
    figure.canvas.draw()
    _, coronal, sagittal = (axes.get_position() for axes in panels(figure))
    assert (coronal.y0 > sagittal.y1) == stacked
    assert (coronal.x1 < sagittal.x0) != stacked


def test_an_oblique_ct_and_one_without_any_roi_are_drawn_too(oblique):
    figure = drawn(oblique, {"liver": (slice(4, 12), slice(8, 20), slice(8, 20))})
    assert min(contours(axes) for axes in panels(figure)) == 2
    assert "4 more ROIs not found" in texts(drawn(oblique, {}))
