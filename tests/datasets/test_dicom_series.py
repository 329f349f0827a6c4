"""CT series read from DICOM files: order, place and HU of voxels, and every fault in one line."""

import numpy as np
import pytest
import SimpleITK as sitk
from pydicom import dcmread
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import RawDataElement
from pydicom.dataset import FileMetaDataset
from pydicom.tag import Tag
from pydicom.uid import (
    EnhancedCTImageStorage,
    JPEGLosslessSV1,
    MRImageStorage,
    RLELossless,
    SecondaryCaptureImageStorage,
    generate_uid,
)

from pipeline_lib.datasets.dicom.series import read_ct_series
from pipeline_lib.errors import UserError
from pipeline_lib.geometry import Geometry
from tests.support.dicom_files import decimals, new_file, save, write_series

GRID = Geometry(size=(5, 6, 7), spacing_mm=(0.9, 1.1, 2.5), origin_mm=(-31.5, 12.25, -100))


@pytest.fixture
def stored():
    return np.random.default_rng(3).integers(0, 3000, GRID.shape).astype(np.int16)


def hu(series):
    return sitk.GetArrayFromImage(series.image)


def places(grid):
    """D H W 3: where voxel centres lie, one voxel at a time."""
    found = np.empty((*grid.shape, 3))
    for z, y, x in np.ndindex(grid.shape):
        found[z, y, x] = np.array(grid.origin_mm) + grid.axes @ (np.array([x, y, z]) * grid.spacing_mm)
    return found


def at(image, where):
    """The image's values at positions, which must be those of voxels."""
    found = np.empty(where.shape[:-1], np.int64)
    for index in np.ndindex(found.shape):
        continuous = np.array(image.TransformPhysicalPointToContinuousIndex(where[index].tolist()))
        assert np.allclose(continuous, continuous.round(), atol=1e-4)
        found[index] = image[tuple(continuous.round().astype(int).tolist())]
    return found


def test_slices_are_ordered_by_position_whatever_their_names_and_numbers(tmp_path, stored):
    written = write_series(tmp_path, GRID, stored)
    series = read_ct_series(tmp_path)
    assert Geometry.from_image(series.image) == GRID
    assert np.array_equal(hu(series), stored - 1024)
    assert [item.text("SOPInstanceUID") for item in series.slices] == [slice_.SOPInstanceUID for slice_ in written]
    names = [item.path.name for item in series.slices]
    assert names != sorted(names)
    assert series.frame_of_reference_uid == written[0].FrameOfReferenceUID
    assert series.notes == ()


def test_voxels_lie_where_the_slices_say_in_every_axis_order_and_sense(tmp_path, stored, direction):
    grid = GRID.model_copy(update={"direction": direction})
    write_series(tmp_path, grid, stored)
    series = read_ct_series(tmp_path)
    assert np.linalg.det(Geometry.from_image(series.image).axes) == pytest.approx(1)
    assert np.array_equal(at(series.image, places(grid)), stored - 1024)


def test_an_oblique_series_keeps_its_own_grid(tmp_path, oblique):
    stored = np.random.default_rng(3).integers(0, 3000, oblique.shape).astype(np.int16)
    written = write_series(tmp_path, oblique, stored)
    series = read_ct_series(tmp_path)
    # The grid is left-handed, and slices are stacked along the normal of their rows and columns.
    assert np.array_equal(hu(series), (stored - 1024)[::-1])
    assert series.slices[0].text("SOPInstanceUID") == written[-1].SOPInstanceUID
    far = oblique.corners_mm()
    assert np.allclose(sorted(Geometry.from_image(series.image).corners_mm().tolist()), sorted(far.tolist()), atol=1e-6)


def test_each_slice_has_its_own_slope_and_intercept(tmp_path, stored):
    slopes, intercepts = [1, 2, 1, 1, 3, 1, 1], [-1024, 0, -1000, 5, -7, 0, -1024]
    write_series(tmp_path, GRID, stored, intercepts, slopes)
    expected = np.stack([plane * np.int32(a) + b for plane, a, b in zip(stored, slopes, intercepts, strict=True)])
    assert np.array_equal(hu(read_ct_series(tmp_path)), expected)


def test_slopes_with_fractions_give_hu_with_fractions(tmp_path, stored):
    write_series(tmp_path, GRID, stored, slopes=[0.5] * 7)
    image = hu(read_ct_series(tmp_path))
    assert image.dtype == np.float32
    assert np.array_equal(image, stored * 0.5 - 1024)


def test_hu_beyond_sixteen_bits_do_not_wrap(tmp_path):
    write_series(tmp_path, GRID, np.full(GRID.shape, 30000, np.int16), slopes=[2] * 7)
    assert (hu(read_ct_series(tmp_path)) == 60000 - 1024).all()


def test_compressed_slices_are_read_and_scaled_once(tmp_path, stored):
    write_series(tmp_path, GRID, stored, slopes=[2] * 7, change=lambda _, dicom: dicom.compress(RLELossless))
    assert np.array_equal(hu(read_ct_series(tmp_path)), 2 * stored.astype(int) - 1024)


def test_lossless_jpeg_is_read_and_scaled_once(tmp_path):
    """The commonest compression of archives; pydicom has no decoder of its own for it."""
    grid = GRID.model_copy(update={"size": (20, 24, 3)})
    stored = np.random.default_rng(5).integers(0, 3000, grid.shape).astype(np.int16)

    def compress(number, dicom):
        writer = sitk.ImageFileWriter()
        writer.SetFileName(str(tmp_path / "slice.dcm"))
        writer.UseCompressionOn()
        writer.SetCompressor("JPEG")
        writer.Execute(sitk.GetImageFromArray(stored[number : number + 1].astype(np.uint16)))
        packed = dcmread(tmp_path / "slice.dcm")
        assert packed.file_meta.TransferSyntaxUID == JPEGLosslessSV1
        dicom.file_meta.TransferSyntaxUID = JPEGLosslessSV1
        dicom.PixelData, dicom.PixelRepresentation = packed.PixelData, 0
        dicom["PixelData"].VR, dicom["PixelData"].is_undefined_length = "OB", True

    write_series(tmp_path / "ct", grid, stored, slopes=[2] * 3, change=compress)
    assert np.array_equal(hu(read_ct_series(tmp_path / "ct")), 2 * stored.astype(int) - 1024)


@pytest.mark.parametrize("implicit", [True, False])
def test_files_without_a_preamble_are_read(tmp_path, stored, implicit):
    for place, dicom in enumerate(write_series(tmp_path / "whole", GRID, stored)):
        dicom.preamble, dicom.file_meta = None, FileMetaDataset()
        bare = tmp_path / "bare" / str(place)
        bare.parent.mkdir(exist_ok=True)
        dicom.save_as(bare, implicit_vr=implicit, little_endian=True, enforce_file_format=False)
        assert bare.read_bytes()[:2] == b"\x08\0"
    assert np.array_equal(hu(read_ct_series(tmp_path / "bare")), stored - 1024)


def test_localisers_captures_other_modalities_and_other_files_do_not_count(tmp_path, stored):
    written = write_series(tmp_path / "ct", GRID, stored)

    def localiser(number, dicom):
        dicom.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
        dicom.SeriesInstanceUID = written[0].SeriesInstanceUID

    side = GRID.model_copy(update={"direction": (0, 0, 1, 1, 0, 0, 0, -1, 0)})
    write_series(tmp_path / "scout", side, change=localiser)
    write_series(tmp_path / "mr", GRID, change=lambda _, dicom: _retype(dicom, MRImageStorage, "MR"))
    capture = new_file(SecondaryCaptureImageStorage, "CT")
    capture.SeriesInstanceUID = written[0].SeriesInstanceUID
    save(capture, tmp_path / "dose.dcm")
    (tmp_path / "notes.txt").write_text("no DICOM")
    (tmp_path / ".hidden.dcm").write_bytes(b"")
    series = read_ct_series(tmp_path)
    assert np.array_equal(hu(series), stored - 1024)
    assert len(series.notes) == 1
    assert "leaves out 8 images that are not of its volume" in series.notes[0]


def _retype(dicom, sop_class, modality):
    dicom.SOPClassUID = dicom.file_meta.MediaStorageSOPClassUID = sop_class
    dicom.Modality = modality


def test_a_localiser_that_does_not_say_so_is_told_by_its_direction(tmp_path, stored):
    written = write_series(tmp_path / "ct", GRID, stored)
    side = GRID.model_copy(update={"size": (5, 6, 1), "direction": (0, 0, 1, 1, 0, 0, 0, -1, 0)})
    uid = written[0].SeriesInstanceUID
    write_series(tmp_path / "scout", side, change=lambda _, dicom: setattr(dicom, "SeriesInstanceUID", uid))
    series = read_ct_series(tmp_path)
    assert np.array_equal(hu(series), stored - 1024)
    assert "leaves out an image that is not of its volume" in series.notes[0]


def test_a_file_that_is_there_twice_counts_once(tmp_path, stored):
    write_series(tmp_path, GRID, stored)
    (tmp_path / "again.dcm").write_bytes((tmp_path / "0003.dcm").read_bytes())
    assert np.array_equal(hu(read_ct_series(tmp_path)), stored - 1024)


def test_one_of_several_series_is_read_by_name(tmp_path, stored):
    first = write_series(tmp_path / "a", GRID, stored)
    second = write_series(tmp_path / "b", GRID, stored + 1)
    with pytest.raises(UserError) as caught:
        read_ct_series(tmp_path)
    assert "holds 2 CT volumes" in str(caught.value)
    for slices in (first, second):
        assert f"{slices[0].SeriesInstanceUID} (7 slices of 5×6 'Test')" in str(caught.value)
    assert np.array_equal(hu(read_ct_series(tmp_path, second[0].SeriesInstanceUID)), stored - 1023)
    with pytest.raises(UserError, match=r"has no CT volume in series 1\.2\.3, but .*7 slices.*7 slices"):
        read_ct_series(tmp_path, "1.2.3")


def _move(slices, steps_mm):
    """A change that puts some slices elsewhere along z."""

    def change(number, dicom):
        if number in slices:
            x, y, z = dicom.ImagePositionPatient
            dicom.ImagePositionPatient = decimals([x, y, z + steps_mm])

    return change


def _tilt(number, dicom):
    x, y, z = dicom.ImagePositionPatient
    dicom.ImagePositionPatient = decimals([x, y + number * 2.5 * np.tan(np.deg2rad(12)), z])


def _wobble(number, dicom):
    x, y, z = dicom.ImagePositionPatient
    dicom.ImagePositionPatient = decimals([x + (0.5 if number == 3 else 0), y, z])


def _set(number_wanted, **elements):
    def change(number, dicom):
        for name, value in elements.items() if number in (number_wanted, -1) or number_wanted == -1 else ():
            setattr(dicom, name, value)

    return change


def _bare(number_wanted, name, values):
    """A change that writes values which pydicom would not take by itself."""

    def change(number, dicom):
        if number_wanted in (number, -1):
            text = "\\".join(values).encode()
            dicom[name] = RawDataElement(Tag(name), dictionary_VR(name), len(text), text, 0, False, True)

    return change


def _drop(name):
    def change(number, dicom):
        if number == 2:
            delattr(dicom, name)

    return change


FAULTS = {
    "a slice twice": (_move([3], -2.5), "has two slices at the same place .*1 such pairs"),
    "a gap": (_move([4, 5, 6], 5.0), "lacks 2 slices, of 2.5 mm each: see between"),
    "uneven steps": (_move([4, 5, 6], 1.2), "has unevenly spaced slices .2.5 to 3.7 mm"),
    "a tilted gantry": (_tilt, "sheared axes .* as with a tilted CT gantry"),
    "a slice aside": (_wobble, "slices up to .* mm off the straight line"),
    "another spacing": (_set(2, PixelSpacing=[1.0, 1.0]), "has another PixelSpacing than"),
    "another frame": (_set(2, FrameOfReferenceUID="1.2.3"), "has another FrameOfReferenceUID than"),
    "a turned slice": (_set(2, ImageOrientationPatient=[1, 0, 0, 0, 0.99998, 0.00632]), "another ImageOrientation"),
    "a bent orientation": (_set(-1, ImageOrientationPatient=[1, 0, 0, 0, 0.9, 0]), "not two unit vectors"),
    "no intercept": (_drop("RescaleIntercept"), "lacks RescaleIntercept"),
    "two positions": (_bare(2, "ImagePositionPatient", ["1", "2"]), "damaged ImagePositionPatient .3 numbers"),
    "five cosines": (_bare(2, "ImageOrientationPatient", ["1", "0", "0", "0", "1"]), "damaged ImageOrientationPat"),
    "one side": (_bare(-1, "PixelSpacing", ["1"]), "damaged PixelSpacing .2 numbers"),
    "words": (_bare(2, "RescaleIntercept", ["many"]), "damaged RescaleIntercept"),
    "two slopes": (_bare(2, "RescaleSlope", ["1", "2"]), "damaged RescaleSlope .1 number exp"),
    "a slope of zero": (_set(2, RescaleSlope=0), "has a RescaleSlope of 0"),
    "no position": (_drop("ImagePositionPatient"), "lacks ImagePositionPatient"),
    "another unit": (_set(-1, RescaleType="MGML"), "holds values in MGML instead of HU"),
    "colours": (_set(2, SamplesPerPixel=3), "holds colours"),
    "fewer pixels": (_set(2, PixelData=b"\0" * 10), "is cut off or damaged .*number of bytes"),
    "no pixels": (_drop("PixelData"), "is cut off or damaged"),
    "two patients": (_set(2, PatientID="P2"), r"holds files of 2 patients \(P1, P2\)"),
    "MR": (lambda _, dicom: _retype(dicom, MRImageStorage, "MR"), "holds no CT volume, only 7 MR"),
    "multi-frame": (lambda _, dicom: _retype(dicom, EnhancedCTImageStorage, "CT"), "multi-frame .enhanced. CT"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_one_line(tmp_path, fault):
    change, message = FAULTS[fault]
    write_series(tmp_path, GRID, change=change)
    with pytest.raises(UserError, match=message) as caught:
        _ = read_ct_series(tmp_path).image
    assert "\n" not in str(caught.value)
    assert str(tmp_path) in caught.value.where


@pytest.mark.parametrize("kept", [0, 100, 200, 700, 0.9])
def test_a_truncated_file_is_named(tmp_path, kept):
    written = write_series(tmp_path, GRID, change=lambda n, dicom: dicom.compress(RLELossless) if n % 2 else None)
    assert len(written) == 7
    for path in sorted(tmp_path.iterdir())[:2]:
        whole = path.read_bytes()
        path.write_bytes(whole[: int(len(whole) * kept) if kept < 1 else kept])
        with pytest.raises(UserError, match=r"is empty|is cut off|is not a DICOM file|lacks") as caught:
            _ = read_ct_series(tmp_path).image
        assert caught.value.where == str(path)
        path.write_bytes(whole)


def test_a_text_whose_type_is_damaged_is_named(tmp_path):
    write_series(tmp_path, GRID, change=_set(-1, FrameOfReferenceUID="1.2.3.4.56"))
    path = tmp_path / "0003.dcm"
    path.write_bytes(path.read_bytes().replace(b"\x20\0\x52\0UI", b"\x20\0\x52\0FD"))
    with pytest.raises(UserError, match=r"0003\.dcm: has a damaged FrameOfReferenceUID") as caught:
        read_ct_series(tmp_path)
    assert "\\n" not in str(caught.value)


def test_links_to_a_folder_above_are_followed_once(tmp_path, stored):
    write_series(tmp_path / "ct", GRID, stored)
    (tmp_path / "ct" / "all").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "again").symlink_to(tmp_path / "ct", target_is_directory=True)
    series = read_ct_series(tmp_path)
    assert np.array_equal(hu(series), stored - 1024)


@pytest.mark.parametrize("name", ["0009.dcm", "README"])
def test_a_file_that_cannot_be_opened_is_named(tmp_path, name):
    """A link that leads nowhere stands for it: permissions do not bind root."""
    write_series(tmp_path, GRID)
    (tmp_path / name).symlink_to(tmp_path / "nowhere")
    with pytest.raises(UserError, match="cannot be read") as caught:
        read_ct_series(tmp_path)
    assert caught.value.where == str(tmp_path / name)


def test_a_single_slice_is_not_a_volume(tmp_path):
    write_series(tmp_path, GRID.model_copy(update={"size": (5, 6, 1)}))
    with pytest.raises(UserError, match="holds no CT volume, only 1 CT"):
        read_ct_series(tmp_path)


def test_folders_without_dicom_files_are_named(tmp_path):
    with pytest.raises(UserError, match="holds no DICOM file"):
        read_ct_series(tmp_path)
    with pytest.raises(UserError, match="is missing"):
        read_ct_series(tmp_path / "nowhere")
    (tmp_path / "page.dcm").write_text("<html>")
    with pytest.raises(UserError, match=r"page\.dcm: is not a DICOM file"):
        read_ct_series(tmp_path)
    with pytest.raises(UserError, match="is not a folder"):
        read_ct_series(tmp_path / "page.dcm")


def test_a_phase_of_another_time_at_the_same_places_is_refused(tmp_path, stored):
    first = write_series(tmp_path / "a", GRID, stored)
    uid = first[0].SeriesInstanceUID

    def same_series(number, dicom):
        dicom.SeriesInstanceUID, dicom.FrameOfReferenceUID = uid, first[0].FrameOfReferenceUID
        dicom.SOPInstanceUID = dicom.file_meta.MediaStorageSOPInstanceUID = generate_uid()

    write_series(tmp_path / "b", GRID, stored, change=same_series)
    with pytest.raises(UserError, match=r"7 such pairs.*keep one acquisition, phase"):
        read_ct_series(tmp_path)
