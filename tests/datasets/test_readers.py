"""Published layouts and faulty files, written here by hand."""

import gzip
import json

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk

from pipeline_lib.config.labelling import Labelling
from pipeline_lib.datasets.readers import case_files, read_case
from pipeline_lib.errors import UserError

SHAPE = (6, 7, 8)
LIVER = {"liver": (1, 2), "liver_tumor": (2,)}
TARGETS = ("kidney", "liver", "liver_tumor")

FILES = {
    "msd": ("imagesTr/c.nii.gz", "labelsTr/c.nii.gz"),
    "nnunet": ("imagesTr/c_0000.nii.gz", "labelsTr/c.nii.gz"),
    "kits19": ("data/c/imaging.nii.gz", "data/c/segmentation.nii.gz"),
}


def write(path, array, spacing=(1.0, 1.0, 3.0), origin=(0.0, 0.0, 0.0)):
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(spacing)
    image.SetOrigin(origin)
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(image, str(path))
    return path


@pytest.fixture
def hu():
    return np.random.default_rng(0).integers(-1000, 1000, SHAPE).astype(np.int16)


@pytest.fixture
def label_map():
    return np.random.default_rng(1).integers(0, 3, SHAPE).astype(np.uint8)


@pytest.fixture
def msd(tmp_path, hu, label_map):
    """An MSD data set of one good case c."""
    write(tmp_path / "imagesTr/c.nii.gz", hu)
    write(tmp_path / "labelsTr/c.nii.gz", label_map)
    return tmp_path


@pytest.mark.parametrize("layout", FILES)
def test_label_map_layouts(tmp_path, hu, label_map, layout):
    for name, array in zip(FILES[layout], (hu, label_map), strict=True):
        write(tmp_path / name, array)
    raw = read_case(layout, tmp_path, "c", TARGETS, Labelling(labels=LIVER))
    assert np.array_equal(sitk.GetArrayViewFromImage(raw.image), hu)
    assert raw.labelled == ("liver", "liver_tumor")
    masks = {target: raw.labels.mask(target) for target in raw.labelled}
    assert np.array_equal(masks["liver"], label_map >= 1)
    assert np.array_equal(masks["liver_tumor"], label_map == 2)
    assert raw.labels.parts("liver") == ("liver_tumor",)
    assert raw.labels.parts("liver_tumor") == ()


def test_nnunet_data_sets_choose_their_file_ending(tmp_path, hu, label_map):
    (tmp_path / "dataset.json").write_text(json.dumps({"file_ending": ".nrrd"}))
    write(tmp_path / "imagesTr/c_0000.nrrd", hu)
    write(tmp_path / "labelsTr/c.nrrd", label_map)
    raw = read_case("nnunet", tmp_path, "c", TARGETS, Labelling(labels=LIVER))
    assert np.array_equal(raw.labels.mask("liver"), label_map > 0)
    write(tmp_path / "imagesTr/c_0000.nrrd", np.full(SHAPE, np.nan, np.float32))
    with pytest.raises(UserError, match="holds NaN"):
        read_case("nnunet", tmp_path, "c", TARGETS, Labelling(labels=LIVER))


@pytest.mark.parametrize("layout", ["totalsegmentator_v1", "totalsegmentator_v2"])
def test_one_mask_per_structure(tmp_path, hu, label_map, layout):
    write(tmp_path / "c/ct.nii.gz", hu)
    write(tmp_path / "c/segmentations/spleen.nii.gz", (label_map == 1).astype(np.float64))
    write(tmp_path / "c/segmentations/liver.nii.gz", (label_map == 2).astype(np.uint8))
    raw = read_case(layout, tmp_path, "c", ("liver", "spleen"))
    assert raw.labelled == ("liver", "spleen")
    assert np.array_equal(raw.labels.mask("liver"), label_map == 2)
    assert np.array_equal(raw.labels.mask("spleen"), label_map == 1)
    with pytest.raises(UserError, match=r"pancreas\.nii\.gz: is missing"):
        read_case(layout, tmp_path, "c", ("pancreas",)).labels.mask("pancreas")


def test_labels_stored_as_floating_point_are_read_by_value(msd, label_map):
    write(msd / "labelsTr/c.nii.gz", label_map.astype(np.float32))
    assert np.array_equal(
        read_case("msd", msd, "c", TARGETS, Labelling(labels=LIVER)).labels.mask("liver_tumor"), label_map == 2
    )


def test_ignored_label_values_belong_to_no_roi(msd, label_map):
    write(msd / "labelsTr/c.nii.gz", label_map * 3)
    raw = read_case("msd", msd, "c", TARGETS, Labelling(labels={"liver": (3,)}, ignored_labels=(6,)))
    assert np.array_equal(raw.labels.mask("liver"), label_map == 1)


def cut(path, keep):
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep)])


def flip_a_byte(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x55
    path.write_bytes(content)


def unpacked_too_short(path):
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes())[:-50]))


def zero_spacing(path):
    content = bytearray(gzip.decompress(path.read_bytes()))
    content[88:92] = np.float32(0).tobytes()
    path.write_bytes(gzip.compress(content))


def four_dimensions(path):
    nibabel.save(nibabel.Nifti1Image(np.zeros((4, 4, 4, 2), np.int16), np.eye(4)), path)


def not_a_number(path):
    voxels = np.zeros(SHAPE)
    voxels[-1, -1, -1] = np.inf
    write(path, voxels)


def sheared(path):
    affine = np.eye(4)
    affine[0, 1] = 0.2
    nibabel.save(nibabel.Nifti1Image(np.zeros((4, 4, 4), np.int16), affine), path)


FAULTS = {
    "missing": (lambda path: path.unlink(), "is missing"),
    "empty": (lambda path: path.write_bytes(b""), "is empty (0 bytes)"),
    "truncated": (lambda path: cut(path, 0.6), "cut off"),
    "truncated by a byte": (lambda path: path.write_bytes(path.read_bytes()[:-1]), "cut off"),
    "damaged": (flip_a_byte, "is damaged"),
    "no gzip": (lambda path: path.write_bytes(b"<html>404</html>" * 100), "is an HTML page"),
    "no NIfTI": (lambda path: path.write_bytes(gzip.compress(b"<html>404</html>" * 100)), "is not a NIfTI-1 file"),
    "NaN": (not_a_number, "holds NaN"),
    "short inside": (unpacked_too_short, "is cut off"),
    "zero spacing": (zero_spacing, "spacing of 1×1×0 mm"),
    "4-D": (four_dimensions, "is not one 3-D image"),
    "sheared": (sheared, "sheared"),
}


@pytest.mark.parametrize("file", ["imagesTr/c.nii.gz", "labelsTr/c.nii.gz"])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_faulty_file_ends_in_one_line_that_names_it(msd, file, fault):
    break_it, message = FAULTS[fault]
    break_it(msd / file)
    with pytest.raises(UserError) as caught:
        read_case("msd", msd, "c", TARGETS, Labelling(labels=LIVER))
    assert str(msd / file) in str(caught.value)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_files_that_only_look_odd_are_read(msd, hu, label_map):
    image = msd / "imagesTr/c.nii.gz"
    content = gzip.decompress(image.read_bytes())
    (msd / "imagesTr/c.nii.gz").write_bytes(gzip.compress(content[:1000]) + gzip.compress(content[1000:]) + bytes(20))
    write(msd / "labelsTr/c.nii.gz", label_map.astype(">f4").astype(np.float32))
    raw = read_case("msd", msd, "c", TARGETS, Labelling(labels=LIVER))
    assert np.array_equal(sitk.GetArrayViewFromImage(raw.image), hu)
    swapped = nibabel.Nifti1Image(hu.T.astype(">i2"), np.diag([-1, -1, 3, 1]), nibabel.Nifti1Header(endianness=">"))
    nibabel.save(swapped, image)
    assert np.array_equal(
        sitk.GetArrayViewFromImage(read_case("msd", msd, "c", TARGETS, Labelling(labels=LIVER)).image), hu
    )


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        ({"spacing": (1.0, 1.0, 2.5)}, "corners lie up to 2.5 mm apart"),
        ({"origin": (0.0, 4.0, 0.0)}, "corners lie up to 4 mm apart"),
    ],
)
def test_a_label_on_another_grid_is_refused(msd, label_map, grid, message):
    write(msd / "labelsTr/c.nii.gz", label_map, **grid)
    with pytest.raises(UserError, match=message):
        read_case("msd", msd, "c", TARGETS, Labelling(labels=LIVER))


def test_a_label_of_another_size_is_refused_and_rounding_is_not(msd, label_map):
    write(msd / "labelsTr/c.nii.gz", label_map, origin=(0.01, 0.0, -0.01))
    assert read_case("msd", msd, "c", TARGETS, Labelling(labels=LIVER)).labelled
    write(msd / "labelsTr/c.nii.gz", label_map[:-1])
    with pytest.raises(UserError, match="8×7×5 voxels against 8×7×6"):
        read_case("msd", msd, "c", TARGETS, Labelling(labels=LIVER))


def test_label_values_of_no_roi_are_refused(msd, label_map):
    label_map[0, 0, :2] = 7, 9
    write(msd / "labelsTr/c.nii.gz", label_map)
    with pytest.raises(UserError, match="no ROI claims: 7, 9"):
        read_case("msd", msd, "c", TARGETS, Labelling(labels=LIVER))


def test_where_files_should_be_is_known_without_reading_them(tmp_path):
    files = case_files("totalsegmentator_v2", tmp_path, "s0001", ("liver",))
    assert files.image == tmp_path / "s0001/ct.nii.gz"
    assert files.masks == {"liver": (tmp_path / "s0001/segmentations/liver.nii.gz",)}
    assert files.label_map is None
