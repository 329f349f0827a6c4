"""NIfTI files: where their voxels lie, compared with the affine that was meant, with nibabel and with ITK."""

import gzip
import struct
import tracemalloc
import warnings

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk

from pipeline_lib.errors import UserError
from pipeline_lib.geometry import Geometry
from pipeline_lib.label_bits import read_roi_bits, write_roi_bits
from pipeline_lib.nifti import read_nifti
from tests.support.grid_fixtures import ORIENTATIONS

SIDES = (9, 7, 5)  # x, y, z
TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def save(path, affine, array=None, qform=1, sform=1, qform_affine=None):
    """Write a NIfTI file with a qform and an sform of these codes."""
    array = np.arange(np.prod(SIDES), dtype=np.int16).reshape(SIDES) if array is None else array
    image = nibabel.Nifti1Image(array, affine)
    image.set_sform(affine if sform else None, sform)
    image.set_qform(affine if qform_affine is None else qform_affine, qform)
    image.header["qform_code"] = qform
    image.header.set_xyzt_units("mm")
    nibabel.save(image, path)
    return path


def edit(path, offset, layout, *values):
    """Change bytes of the unpacked file."""
    content = bytearray(gzip.decompress(path.read_bytes()))
    struct.pack_into(layout, content, offset, *values)
    path.write_bytes(gzip.compress(bytes(content)))


def affine_of(rotation, spacing=(0.7, 0.8, 2.5), origin=(-30.0, 21.5, 7.25)):
    affine = np.eye(4)
    affine[:3, :3] = rotation @ np.diag(spacing)
    affine[:3, 3] = origin
    return affine


def turned(degrees_x, degrees_z):
    a, b = np.deg2rad([degrees_x, degrees_z])
    about_x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    about_z = np.array([[np.cos(b), -np.sin(b), 0], [np.sin(b), np.cos(b), 0], [0, 0, 1]])
    return about_x @ about_z


STRAIGHT = np.eye(3)


def sheared(millimetres_per_slice, rotation=STRAIGHT):
    affine = affine_of(rotation)
    affine[1, 2] += millimetres_per_slice
    return affine


def corners_ras(affine):
    """Corner positions (8×3, mm, RAS) of the grid of an affine."""
    index = np.array([(i, j, k) for i in (0, 8) for j in (0, 6) for k in (0, 4)])
    return index @ affine[:3, :3].T + affine[:3, 3]


def corners_of(grid):
    """The same of a Geometry, from its definition."""
    index = np.array([(i, j, k) for i in (0, 8) for j in (0, 6) for k in (0, 4)]) * grid.spacing_mm
    return (index @ np.reshape(grid.direction, (3, 3)).T + grid.origin_mm) @ TO_RAS[:3, :3]


def header_of(path):
    """(qform, its code, sform, its code) as nibabel reads them."""
    header = nibabel.load(path).header
    return (*header.get_qform(coded=True), *header.get_sform(coded=True))


ROTATIONS = [*(np.reshape(direction, (3, 3)) for direction in ORIENTATIONS[::5]), turned(20, 11), turned(-3, 170)]


@pytest.mark.parametrize("rotation", ROTATIONS)
@pytest.mark.parametrize(("qform", "sform"), [(1, 1), (0, 1), (1, 0), (2, 0)])
def test_voxels_and_grid_are_those_of_itk_to_the_last_digit(tmp_path, rotation, qform, sform):
    path = save(tmp_path / "a.nii.gz", affine_of(rotation), qform=qform, sform=sform)
    image, read = sitk.ReadImage(str(path)), read_nifti(path)
    assert np.array_equal(read.voxels, sitk.GetArrayFromImage(image))
    grid = Geometry.from_image(image)
    if sform:
        assert read.grid == grid
    assert read.grid.model_copy(update={"direction": grid.direction}) == grid
    # ITK rounds a qform's matrix to single precision on the way.
    assert np.allclose(read.grid.direction, grid.direction, atol=2e-7)
    assert read.notes == ()
    assert (read.placement is None) == ((qform, sform) == (1, 1))


STORED = {
    "int8": np.int8, "uint8": np.uint8, "int16": np.int16, "uint16": np.uint16, "int32": np.int32, "uint32": np.uint32,
    "int64": np.int64, "uint64": np.uint64, "float32": np.float32, "float64": np.float64,
}  # fmt: skip


@pytest.mark.parametrize("endian", ["<", ">"])
@pytest.mark.parametrize("name", STORED)
@pytest.mark.parametrize(("slope", "intercept"), [(1, 0), (0, 5), (0.5, -100), (float("nan"), float("nan"))])
def test_every_type_and_scaling_is_read_as_it_is_meant(tmp_path, endian, name, slope, intercept):
    values = np.random.default_rng(0).integers(0, 100, SIDES).astype(np.dtype(STORED[name]).newbyteorder(endian))
    header = nibabel.Nifti1Header(endianness=endian)
    header.set_data_dtype(values.dtype)
    image = nibabel.Nifti1Image(values, np.eye(4), header)
    path = tmp_path / "a.nii.gz"
    nibabel.save(image, path)
    edit(path, 112, f"{endian}2f", slope, intercept)
    meant = values.astype(np.float64).T
    if slope == 0.5:
        meant = meant * slope + intercept
    read = read_nifti(path)
    assert read.voxels.dtype.isnative
    assert np.array_equal(read.voxels, meant)


@pytest.mark.parametrize(("unit", "millimetres"), [(1, 1000.0), (2, 1.0), (3, 0.001), (0, 1.0)])
def test_units_of_length_are_heeded(tmp_path, unit, millimetres):
    meant = affine_of(turned(20, 11))
    stored = meant.copy()
    stored[:3] /= millimetres
    path = save(tmp_path / "a.nii.gz", stored)
    edit(path, 123, "<B", unit)
    read = read_nifti(path)
    assert np.allclose(corners_of(read.grid), corners_ras(meant), atol=1e-3)
    out = tmp_path / "out" / "a.nii.gz"
    write_roi_bits(out, np.zeros(SIDES[::-1], np.uint8), read.grid, ("liver",), read.placement)
    assert read_roi_bits(out)[1].difference(read.grid) == ""


class TestTwoPlacements:
    @pytest.mark.parametrize(("qform", "sform"), [(1, 1), (1, 2), (2, 1), (1, 4), (0, 2), (3, 0), (0, 0), (4, 4)])
    def test_the_sform_comes_first_then_the_qform_as_in_nibabel(self, tmp_path, qform, sform):
        moved = affine_of(turned(0, 5), origin=(69.0, 21.5, 7.25))
        path = save(tmp_path / "a.nii.gz", affine_of(np.eye(3)), qform=qform, sform=sform, qform_affine=moved)
        read = read_nifti(path)
        if qform or sform:
            assert np.allclose(corners_of(read.grid), corners_ras(nibabel.load(path).affine), atol=1e-3)
        disagree = [note for note in read.notes if "sform and qform lie up to 99" in note]
        assert bool(disagree) == (qform > 0 and sform > 0)

    def test_a_file_that_does_not_say_where_it_lies_is_noted(self, tmp_path):
        read = read_nifti(save(tmp_path / "a.nii.gz", affine_of(np.eye(3)), qform=0, sform=0))
        assert read.grid == Geometry(size=SIDES, spacing_mm=tuple(np.float32((0.7, 0.8, 2.5))), origin_mm=(0, 0, 0))
        assert "does not say where it lies" in read.notes[0]

    @pytest.mark.parametrize(
        ("qform", "sform", "shear"), [(1, 2, 0), (2, 1, 0), (0, 1, 0), (3, 0, 0), (0, 0, 0), (1, 1, 0.02), (0, 2, 0.02)]
    )
    def test_a_prediction_says_what_the_input_says_in_both_placements(self, tmp_path, qform, sform, shear):
        moved = affine_of(turned(0, 5), origin=(69.0, 21.5, 7.25))
        path = save(tmp_path / "a.nii.gz", sheared(shear), qform=qform, sform=sform, qform_affine=moved)
        read = read_nifti(path)
        out = tmp_path / "out" / "a.nii.gz"
        bits = (np.arange(np.prod(SIDES)) % 7).astype(np.uint8).reshape(SIDES[::-1])
        write_roi_bits(out, bits, read.grid, ("a", "b", "c"), read.placement)
        for given, written in zip(header_of(path), header_of(out), strict=True):
            assert np.array_equal(given, written) if isinstance(given, np.ndarray) else given == written
        assert np.array_equal(nibabel.load(path).affine, nibabel.load(out).affine)
        again, grid = read_roi_bits(out)
        assert np.array_equal(again, bits)
        assert grid == read.grid

    def test_two_voxel_sizes_in_one_header_are_refused(self, tmp_path):
        path = save(tmp_path / "a.nii.gz", affine_of(np.eye(3)), qform=0)
        edit(path, 280, "<3f", 1.4, 0, 0)
        with pytest.raises(UserError, match=r"1\.4×0\.8×2\.5 mm by its sform and 0\.7×0\.8×2\.5 mm by pixdim"):
            read_nifti(path)


class TestShear:
    @pytest.mark.parametrize(("qform", "sform"), [(0, 1), (1, 1), (0, 2)])
    @pytest.mark.parametrize("rotation", [np.eye(3), turned(12, -40)])
    def test_a_small_one_is_read_on_a_right_angled_grid_within_a_tenth_of_a_voxel(
        self, tmp_path, qform, sform, rotation
    ):
        affine = sheared(0.05, rotation)
        read = read_nifti(save(tmp_path / "a.nii.gz", affine, qform=qform, sform=sform))
        axes = np.reshape(read.grid.direction, (3, 3))
        assert np.allclose(axes.T @ axes, np.eye(3), atol=1e-12)
        shift = np.linalg.norm(corners_of(read.grid) - corners_ras(affine), axis=1)
        assert 0.01 < shift.max() < 0.1 * 0.7
        assert np.allclose(corners_of(read.grid).mean(axis=0), corners_ras(affine).mean(axis=0), atol=1e-4)
        assert any("not quite at right angles" in note for note in read.notes)
        assert read.placement is not None

    def test_no_right_angled_grid_about_the_middle_moves_the_corners_less(self, tmp_path):
        affine = sheared(0.05)
        grid = read_nifti(save(tmp_path / "a.nii.gz", affine, qform=0)).grid

        def moved(axes):
            half = np.array([(i, j, k) for i in (-4, 4) for j in (-3, 3) for k in (-2, 2)]) * grid.spacing_mm
            given = TO_RAS[:3, :3] @ affine[:3, :3] / grid.spacing_mm
            return (np.linalg.norm(half @ (axes - given).T, axis=1) ** 2).sum()

        axes = np.reshape(grid.direction, (3, 3))
        extent = np.linalg.norm(np.array(SIDES) * grid.spacing_mm)
        for turn in (turned(a, b) for a in (-0.3, 0, 0.3) for b in (-0.3, 0, 0.3) if a or b):
            assert moved(axes) < moved(turn @ axes) + 1e-6 * extent

    @pytest.mark.parametrize("slope", [0.4, 2.5 * np.tan(np.deg2rad(15))])
    def test_a_larger_one_is_refused_in_one_line_that_names_gantry_tilt(self, tmp_path, slope):
        path = save(tmp_path / "a.nii.gz", sheared(slope), qform=0)
        with pytest.raises(UserError, match=r"sheared axes .*gantry") as error:
            read_nifti(path)
        assert "\n" not in str(error.value)


NAN, INF = float("nan"), float("inf")


class TestDamagedHeaders:
    """Fields that no writer fills in like this: one line each, and never more memory than the file has bytes."""

    @pytest.mark.parametrize(
        ("offset", "layout", "values", "said"),
        [
            (42, "<3h", (30000, 30000, 30000), "is cut off"),
            (42, "<3h", (2000, 2000, 2000), "is cut off"),
            (46, "<h", (0,), "has 9×7×0 voxels"),
            (44, "<h", (-5,), "has 9×-5×5 voxels"),
            (76, "<4f", (1, 1e-4, 1e-4, 1e-4), "has a spacing of 0.0001×0.0001×0.0001 mm"),
            (344, "<4s", (b"\0\0\0\0",), "is not a NIfTI-1 file of header and voxels in one"),
            (108, "<f", (NAN,), "voxels from byte nan"),
            (108, "<f", (INF,), "voxels from byte inf"),
            (108, "<f", (1e12,), "is cut off"),
            (112, "<2f", (2.0, NAN), "scl_slope 2 and scl_inter nan"),
            (112, "<2f", (1.0, INF), "scl_slope 1 and scl_inter inf"),
        ],
    )
    def test_end_in_one_line(self, tmp_path, offset, layout, values, said):
        path = save(tmp_path / "a.nii.gz", affine_of(np.eye(3)), sform=0)
        edit(path, offset, layout, *values)
        tracemalloc.start()
        with pytest.raises(UserError) as error:
            read_nifti(path)
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert said in error.value.wrong
        assert "\n" not in str(error.value)
        assert most < 10_000_000

    @pytest.mark.parametrize(
        ("codes", "changes", "said"),
        [
            ((1, 0), [(256, (NAN,))], "qform that is not a rotation or not finite, and no sform"),
            ((1, 0), [(256, (5.0, 5.0, 5.0))], "qform that is not a rotation or not finite, and no sform"),
            ((1, 0), [(268, (INF,))], "qform that is not a rotation or not finite, and no sform"),
            ((0, 1), [(292, (NAN,))], "sform that is singular or not finite, and no qform"),
            ((1, 1), [(292, (NAN,)), (268, (NAN,))], "sform that is singular or not finite, and no qform"),
            ((1, 1), [(292, (1e30,)), (268, (1e30,))], "puts voxels 1e+30 mm from the scanner's centre"),
        ],
    )
    def test_that_place_voxels_nowhere_are_refused(self, tmp_path, codes, changes, said):
        path = save(tmp_path / "a.nii.gz", affine_of(np.eye(3)), qform=codes[0], sform=codes[1])
        for offset, values in changes:
            edit(path, offset, f"<{len(values)}f", *values)
        with warnings.catch_warnings(), pytest.raises(UserError) as error:
            warnings.simplefilter("error")
            read_nifti(path)
        assert said in error.value.wrong

    @pytest.mark.parametrize("long", [1 + 1e-8, 1 + 3e-4])
    def test_a_half_turn_that_rounding_made_too_long_is_read(self, tmp_path, long):
        turned_about_z = np.diag([-1.0, -1.0, 1.0])
        path = save(tmp_path / "a.nii.gz", affine_of(turned_about_z), qform=1, sform=0)
        edit(path, 256, "<3f", 0, 0, long)
        assert np.allclose(corners_of(read_nifti(path).grid), corners_ras(affine_of(turned_about_z)), atol=1e-3)
