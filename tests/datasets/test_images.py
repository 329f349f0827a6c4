"""Image files of every accepted format: damage, disguises, and grids that are not quite right-angled."""

import gzip
import os
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from pipeline_lib.datasets.images import read_image, read_image_with_notes
from pipeline_lib.errors import UserError

SHAPE = (24, 20, 16)
FORMATS = {
    "nii": ("a.nii", False),
    "nii.gz": ("a.nii.gz", True),
    "upper case": ("A.NII.GZ", True),
    "mha": ("a.mha", False),
    "packed mha": ("a.mha", True),
    "nrrd": ("a.nrrd", False),
    "packed nrrd": ("a.nrrd", True),
    "upper case nrrd": ("A.NRRD", True),
}


def voxels(dtype=np.int16):
    return np.random.default_rng(0).integers(0, 200, SHAPE).astype(dtype)


def written(folder, form, array=None) -> Path:
    name, packed = FORMATS[form]
    lower = folder / name.lower()
    image = sitk.GetImageFromArray(voxels() if array is None else array)
    image.SetSpacing((0.7, 0.8, 2.5))
    image.SetOrigin((-5, 6, 7))
    sitk.WriteImage(image, str(lower), useCompression=packed)
    path = folder / name
    lower.rename(path)
    return path


def refusal(path) -> str:
    with pytest.raises(UserError) as error:
        read_image(path)
    assert error.value.where == str(path)
    assert "\n" not in str(error.value)
    return error.value.wrong


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32, np.float64, np.int64])
@pytest.mark.parametrize("form", FORMATS)
def test_a_whole_file_is_read(tmp_path, form, dtype):
    read = read_image_with_notes(written(tmp_path, form, voxels(dtype)))
    assert np.array_equal(sitk.GetArrayViewFromImage(read.image), voxels(dtype))
    assert np.allclose(read.image.GetSpacing(), (0.7, 0.8, 2.5))
    assert np.allclose(read.image.GetOrigin(), (-5, 6, 7))
    assert read.notes == ()


def cut(content: bytes, share: float) -> bytes:
    return content[: int(len(content) * share)]


def flipped(content: bytes, place: int) -> bytes:
    return content[:place] + bytes([content[place] ^ 0x55]) + content[place + 1 :]


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("kept", [0.02, 0.4, 0.9, -1, -7])
def test_a_file_that_was_cut_off_is_found_in_every_format(tmp_path, form, kept):
    path = written(tmp_path, form)
    content = path.read_bytes()
    path.write_bytes(cut(content, kept) if kept > 0 else content[:kept])
    assert "cut off" in refusal(path)


@pytest.mark.parametrize("form", [form for form, (_, packed) in FORMATS.items() if packed])
@pytest.mark.parametrize("share", [0.5, 0.8, 0.999])
def test_a_changed_byte_is_found_wherever_there_is_a_checksum(tmp_path, form, share):
    path = written(tmp_path, form)
    content = path.read_bytes()
    path.write_bytes(flipped(content, int(len(content) * share)))
    assert any(word in refusal(path) for word in ("damaged", "cut off", "continues"))


@pytest.mark.parametrize("form", FORMATS)
def test_more_bytes_than_voxels_are_found_but_padding_with_zeros_is_not_a_fault(tmp_path, form):
    path = written(tmp_path, form)
    content = path.read_bytes()
    path.write_bytes(content + bytes(100))
    assert np.array_equal(sitk.GetArrayViewFromImage(read_image(path)), voxels())
    path.write_bytes(content + b"garbage at the end")
    assert any(word in refusal(path) for word in ("continues", "after the end"))


def test_voxels_that_go_on_inside_the_gzip_stream_are_found(tmp_path):
    path = written(tmp_path, "nii.gz")
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes()) + b"more"))
    assert "continues after its voxels" in refusal(path)


NIFTI_2 = (540).to_bytes(4, "little") + b"n+2\0" + bytes(600)
DICOM = bytes(128) + b"DICM" + bytes(400)
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 12345\n"
DISGUISES = {
    "nothing": (b"", "is empty (0 bytes)"),
    "pointer": (LFS, "is a Git LFS pointer"),
    "page": (b"<!DOCTYPE html><html>" + bytes(400), "is an HTML page"),
    "DICOM": (DICOM, "is a DICOM file"),
}


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.mha", "a.nrrd"])
@pytest.mark.parametrize("disguise", DISGUISES)
def test_a_file_says_what_it_is_instead_of_an_image(tmp_path, name, disguise):
    content, expected = DISGUISES[disguise]
    (tmp_path / name).write_bytes(content)
    assert refusal(tmp_path / name).startswith(expected)


def test_wrong_names_and_contents_are_told_from_damage(tmp_path):
    plain, packed = written(tmp_path, "nii"), written(tmp_path, "nii.gz")
    named_packed, named_plain = tmp_path / "b.nii.gz", tmp_path / "b.nii"
    named_packed.write_bytes(plain.read_bytes())
    named_plain.write_bytes(packed.read_bytes())
    assert "is a plain NIfTI file that is named .gz" in refusal(named_packed)
    assert "is compressed by gzip, which its name does not say" in refusal(named_plain)
    (tmp_path / "two.nii").write_bytes(NIFTI_2)
    assert "is a NIfTI-2 file" in refusal(tmp_path / "two.nii")
    for name in ("a.mha", "a.nrrd"):
        (tmp_path / name).write_bytes(b"Hello\n" * 100)
        assert "is not a" in refusal(tmp_path / name)
    folder = tmp_path / "c.nii.gz"
    folder.mkdir()
    assert "is a folder" in refusal(folder)


KINDS = {
    "RGB": (sitk.sitkVectorUInt8, 3),
    "two channels": (sitk.sitkVectorInt16, 2),
    "complex": (sitk.sitkComplexFloat32, 1),
}


@pytest.mark.parametrize("ending", [".nii.gz", ".mha", ".nrrd"])
@pytest.mark.parametrize("kind", KINDS)
def test_images_of_more_than_one_number_per_voxel_are_refused(tmp_path, ending, kind):
    if kind == "complex" and ending == ".mha":
        pytest.skip("ITK does not write it")
    pixel, components = KINDS[kind]
    image = sitk.Image([4, 5, 6], pixel, components) if components > 1 else sitk.Image([4, 5, 6], pixel)
    path = tmp_path / f"a{ending}"
    sitk.WriteImage(image, str(path))
    assert any(word in refusal(path) for word in ("RGB", "complex", "not one 3-D image", "numbers per voxel"))


@pytest.mark.parametrize("ending", [".mha", ".nrrd"])
@pytest.mark.parametrize(("shear", "taken"), [(0.004, True), (0.27, False)])
def test_shear_is_treated_alike_in_every_format(tmp_path, ending, shear, taken):
    image = sitk.GetImageFromArray(voxels())
    image.SetDirection((1, 0, 0, 0, 1, shear, 0, 0, 1))
    path = tmp_path / f"a{ending}"
    sitk.WriteImage(image, str(path))
    if not taken:
        assert "sheared axes" in refusal(path)
        return
    read = read_image_with_notes(path)
    axes = np.reshape(read.image.GetDirection(), (3, 3))
    assert np.allclose(axes.T @ axes, np.eye(3), atol=1e-12)
    assert "not quite at right angles" in read.notes[0]
    for corner in np.ndindex(2, 2, 2):
        index = [int(end * (side - 1)) for end, side in zip(corner, SHAPE[::-1], strict=True)]
        given = image.TransformIndexToPhysicalPoint(index)
        assert np.linalg.norm(np.subtract(given, read.image.TransformIndexToPhysicalPoint(index))) < 0.1


def test_a_missing_file_is_fetched_again_only_where_the_pipeline_deleted_it(tmp_path):
    path = tmp_path / "raw" / "labelsTr" / "a.nii.gz"
    path.parent.mkdir(parents=True)
    with pytest.raises(UserError) as error:
        read_image(path)
    assert error.value.wrong == "is missing"
    assert "--forcerun" not in error.value.remedy
    (tmp_path / "raw" / "deleted.json").write_text('{"linked": false}')
    with pytest.raises(UserError, match="--forcerun resources/raw/DATASET/manifest"):
        read_image(path)


def test_what_stands_where_a_file_should_be_is_named(tmp_path):
    loop, broken, pipe = (tmp_path / f"{name}.nii.gz" for name in ("loop", "broken", "pipe"))
    loop.symlink_to(loop.name)
    broken.symlink_to("elsewhere.nii.gz")
    os.mkfifo(pipe)
    assert refusal(loop) == "is a link to loop.nii.gz, where no file is"
    assert refusal(broken) == "is a link to elsewhere.nii.gz, where no file is"
    assert refusal(pipe) == "is not a regular file"


def test_a_file_whose_name_differs_in_upper_and_lower_case_is_pointed_to(tmp_path):
    written(tmp_path, "upper case")
    with pytest.raises(UserError, match=r"a\.nii\.gz: is missing; rename A\.NII\.GZ") as error:
        read_image(tmp_path / "a.nii.gz")
    assert error.value.wrong == "is missing"


@pytest.mark.parametrize("locked", ["file", "folder"])
@pytest.mark.parametrize("form", ["nii.gz", "mha"])
def test_a_file_that_may_not_be_read_is_one_line(tmp_path, form, locked):
    (tmp_path / "locked").mkdir()
    path = written(tmp_path / "locked", form)
    (path if locked == "file" else path.parent).chmod(0)
    user = os.geteuid()
    if user == 0:
        # root may read everything.
        for folder in (tmp_path, *tmp_path.parents[:2]):
            folder.chmod(0o755)
        os.seteuid(65534)
    try:
        assert refusal(path) == "cannot be read (Permission denied)"
    finally:
        os.seteuid(user)
        path.parent.chmod(0o755)


HEADERS = {
    "a side that is no number": ("a.mha", b"DimSize = 16 20 24", b"DimSize = 16 x 24", "has a damaged header"),
    "no number in nrrd": ("a.nrrd", b"sizes: 16 20 24", b"sizes: 16 x 24", "has a damaged header"),
    "many voxels": ("a.mha", b"DimSize = 16 20 24", b"DimSize = 16 20 90000000", "is cut off"),
    "many in nrrd": ("a.nrrd", b"sizes: 16 20 24", b"sizes: 16 20 90000000", "is cut off"),
    "no place": ("a.mha", b"Offset = -5 6 7", b"Offset = nan 6 7", "has a damaged header (Offset = nan 6 7)"),
    "no place in nrrd": ("a.nrrd", b"space origin: (-5,6,7)", b"space origin: (nan,6,7)", "cannot be read"),
    "far away": ("a.mha", b"Offset = -5 6 7", b"Offset = 1e30 6 7", "puts voxels 1e+30 mm"),
    "mirrored by a sign": ("a.mha", b"ElementSpacing = ", b"ElementSpacing = -", "has a damaged header (Elem"),
    "no axis in nrrd": (
        "a.nrrd",
        b"(0.69999999999999996,0,0)",
        b"none",
        "has a damaged header (space directions: none",
    ),
    "no matrix": ("a.mha", b"TransformMatrix = 1 0 0 0 1 0 0 0 1", b"TransformMatrix = 0 0 0 0 0 0 0 0 0", "direction"),
    "no direction": ("a.mha", b"TransformMatrix = 1 0 0", b"TransformMatrix = nan 0 0", "has a damaged header (Tr"),
}


@pytest.mark.parametrize("kind", HEADERS)
def test_a_damaged_header_of_other_formats_is_one_line(tmp_path, kind):
    name, right, wrong, said = HEADERS[kind]
    path = written(tmp_path, name.removeprefix("a."))
    content = path.read_bytes()
    assert content.count(right) == 1, content[:600]
    path.write_bytes(content.replace(right, wrong))
    assert said in refusal(path)
