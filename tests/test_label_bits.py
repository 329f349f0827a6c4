import json

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pipeline_lib.errors import UserError
from pipeline_lib.geometry import Geometry
from pipeline_lib.label_bits import (
    add_mask,
    bits_dtype,
    bits_from_planes,
    pack,
    plane_and_bit,
    plane_count,
    plane_mask,
    read_roi_bits,
    roi_mask,
    roi_names,
    rois_of_planes,
    unpack,
    write_roi_bits,
)


@given(st.integers(1, 30).flatmap(lambda rois: arrays(bool, (rois, 2, 3, 2))))
def test_bit_k_is_bit_k_mod_8_of_plane_k_div_8(masks):
    planes = pack(masks)
    assert planes.dtype == np.uint8
    assert planes.shape == (plane_count(len(masks)), 2, 3, 2)
    for k, mask in enumerate(masks):
        assert np.array_equal((planes[k // 8].astype(int) // 2 ** (k % 8)) % 2 == 1, mask)
        assert np.array_equal(plane_mask(planes, k), mask)


@given(st.integers(1, 30).flatmap(lambda rois: arrays(bool, (rois, 2, 3, 2))))
def test_planes_drawn_mask_by_mask_or_unpacked_are_the_packed_ones(masks):
    drawn = np.zeros((plane_count(len(masks)), *masks.shape[1:]), np.uint8)
    box = (slice(0, 2), slice(1, 3), slice(0, 1))
    for plane, rois in zip(drawn, rois_of_planes(len(masks)), strict=True):
        for roi in rois:
            inside = np.zeros(masks.shape[1:], bool)
            inside[box] = True
            add_mask(plane, plane_and_bit(roi)[1], masks[roi] & ~inside)
            add_mask(plane, plane_and_bit(roi)[1], masks[roi][box], box)
    assert np.array_equal(drawn, pack(masks))
    assert np.array_equal(unpack(drawn, len(masks), axis=0), masks)
    bits = bits_from_planes(np.moveaxis(drawn, 0, -1), len(masks))
    assert np.array_equal(bits, sum(mask.astype(np.uint64) * 2**k for k, mask in enumerate(masks)))


@pytest.mark.parametrize(("rois", "name"), [(1, "uint8"), (8, "uint8"), (11, "uint16"), (17, "uint32"), (64, "uint64")])
def test_a_file_of_roi_bits_keeps_bits_names_and_grid(tmp_path, rois, name):
    grid = Geometry(
        size=(5, 4, 3), spacing_mm=(0.75, 1.5, 5), origin_mm=(-4, 5, 6), direction=(0, 0, 1, 0, -1, 0, -1, 0, 0)
    )
    masks = np.random.default_rng(rois).random((rois, *grid.shape)) < 0.5
    bits = sum(mask.astype(np.uint64) << np.uint64(k) for k, mask in enumerate(masks))
    names = tuple(f"roi_{k}" for k in range(rois))
    path = tmp_path / "case.nii.gz"
    write_roi_bits(path, bits, grid, names)
    read, read_grid = read_roi_bits(path)
    assert read.dtype == bits_dtype(rois) == np.dtype(name)
    assert read_grid == grid
    assert roi_names(path) == names
    for k, mask in enumerate(masks):
        assert np.array_equal(roi_mask(read, k), mask)


def test_more_rois_than_bits_are_refused():
    with pytest.raises(ValueError, match="65"):
        bits_dtype(65)


def test_what_is_no_file_of_roi_bits_is_refused_in_one_line(tmp_path):
    damaged, image = tmp_path / "damaged.nii.gz", tmp_path / "ct.nii.gz"
    damaged.write_bytes(b"not an image")
    sitk.WriteImage(sitk.Image(3, 3, 3, sitk.sitkInt16), str(image))
    for path in (damaged, image):
        with pytest.raises(UserError, match=path.name):
            read_roi_bits(path)
    with pytest.raises(UserError, match="names of the ROI bits"):
        roi_names(image)
    (tmp_path / "rois.json").write_text(json.dumps(["liver"]))
    assert roi_names(image) == ("liver",)
