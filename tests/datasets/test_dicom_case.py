"""A patient's folder of DICOM files, and the segments of a DICOM-SEG."""

import numpy as np
import pytest
import SimpleITK as sitk
from pydicom import dcmread

from pipeline_lib.datasets.dicom.case import read_dicom_case
from pipeline_lib.errors import UserError
from pipeline_lib.geometry import Geometry
from tests.datasets.test_dicom_contours import box
from tests.support.dicom_files import decimals, rtstruct, save, segmentation, write_series

# The pixels of a slice are not a multiple of eight, so that frames of bits begin within bytes.
GRID = Geometry(size=(21, 17, 7), spacing_mm=(0.9, 1.1, 2.5), origin_mm=(-31.5, 12.25, -100))


@pytest.fixture
def masks():
    generator = np.random.default_rng(4)
    first = generator.random(GRID.shape) < 0.3
    first[2] = False
    return {"Liver": first, "Kidney L": (generator.random(GRID.shape) < 0.2) & ~first}


@pytest.fixture
def series(tmp_path):
    return write_series(tmp_path / "ct", GRID, np.arange(GRID.size[0], dtype=np.int16) + np.zeros(GRID.shape, np.int16))


@pytest.mark.parametrize("kind", ["BINARY", "FRACTIONAL", "LABELMAP"])
@pytest.mark.parametrize("all_frames", [True, False])
def test_segments_are_read_in_place(tmp_path, series, masks, kind, all_frames):
    save(segmentation(series, masks, kind, all_frames), tmp_path / "seg.dcm")
    case = read_dicom_case(tmp_path)
    assert case.names == ("Liver", "Kidney L")
    for name, mask in masks.items():
        assert np.array_equal(case.mask(name), mask)


def test_segments_follow_a_series_in_every_axis_order_and_sense(tmp_path, direction, masks):
    grid = GRID.model_copy(update={"direction": direction})
    series = write_series(tmp_path / "ct", grid)
    save(segmentation(series, masks), tmp_path / "seg.dcm")
    case = read_dicom_case(tmp_path)
    there = case.mask("Liver")
    image = case.ct.image
    for z, y, x in np.ndindex(grid.shape):
        place = np.array(grid.origin_mm) + grid.axes @ (np.array([x, y, z]) * grid.spacing_mm)
        i, j, k = image.TransformPhysicalPointToIndex(place.tolist())
        assert there[k, j, i] == masks["Liver"][z, y, x]


def test_a_segment_without_a_voxel_is_named_and_empty(tmp_path, series, masks):
    save(segmentation(series, {**masks, "Spleen": np.zeros(GRID.shape, bool)}), tmp_path / "seg.dcm")
    case = read_dicom_case(tmp_path)
    assert "Spleen" in case.names
    assert not case.mask("Spleen").any()


def test_fractional_segments_count_from_one_half(tmp_path, series):
    shares = np.linspace(0, 1, np.prod(GRID.shape)).reshape(GRID.shape)
    save(segmentation(series, {"Liver": shares}, "FRACTIONAL"), tmp_path / "seg.dcm")
    assert np.array_equal(read_dicom_case(tmp_path).mask("Liver"), np.rint(shares * 200) >= 100)


def test_contours_and_segments_of_several_files_are_read_together(tmp_path, series, masks):
    save(segmentation(series, masks), tmp_path / "seg.dcm")
    save(rtstruct(series, {"Spleen": [box(GRID, 3, 5, 15)]}), tmp_path / "rs.dcm")
    case = read_dicom_case(tmp_path)
    assert set(case.names) == {"Liver", "Kidney L", "Spleen"}
    assert case.mask("Spleen")[3, 5:15, 5:15].all()
    assert case.mask("Spleen").sum() == 100
    assert case.notes == ()


def test_a_structure_in_two_files_is_refused_when_asked_for(tmp_path, series, masks):
    save(segmentation(series, masks), tmp_path / "seg.dcm")
    save(rtstruct(series, {"Liver": [box(GRID, 3, 5, 15)]}), tmp_path / "rs.dcm")
    case = read_dicom_case(tmp_path)
    assert case.mask("Kidney L").any()
    with pytest.raises(UserError, match=r"has 'Liver' in rs\.dcm and seg\.dcm"):
        case.mask("Liver")


def test_of_several_volumes_the_one_is_read_that_was_drawn_on(tmp_path, series):
    other = write_series(tmp_path / "other", GRID, np.full(GRID.shape, 7, np.int16))
    save(rtstruct(other, {"Spleen": [box(GRID, 3, 5, 15)]}), tmp_path / "rs.dcm")
    case = read_dicom_case(tmp_path)
    assert (sitk.GetArrayViewFromImage(case.ct.image) == 7 - 1024).all()
    save(rtstruct(series, {"Liver": [box(GRID, 3, 5, 15)]}), tmp_path / "rs2.dcm")
    with pytest.raises(UserError, match="holds 2 CT volumes"):
        read_dicom_case(tmp_path)


def test_what_was_drawn_on_other_images_does_not_count(tmp_path, series):
    save(rtstruct(series, {"Liver": [box(GRID, 3, 5, 15)]}), tmp_path / "rs.dcm")
    strange = rtstruct(series, {"Liver": [box(GRID, 3, 5, 15)]})
    strange.StructureSetROISequence[0].ReferencedFrameOfReferenceUID = "1.2.3"
    save(strange, tmp_path / "mr_rs.dcm")
    case = read_dicom_case(tmp_path)
    assert case.mask("Liver").any()
    assert case.notes == ("leaves out what was drawn on other images: mr_rs.dcm",)
    (tmp_path / "rs.dcm").unlink()
    with pytest.raises(UserError, match=r"has mr_rs\.dcm, drawn in another frame of reference than its CT"):
        read_dicom_case(tmp_path)


def test_a_folder_without_structures_is_refused(tmp_path, series):
    with pytest.raises(UserError, match="holds no RTSTRUCT or DICOM-SEG"):
        read_dicom_case(tmp_path)
    save(rtstruct(series, {"Liver": []}), tmp_path / "rs.dcm")
    with pytest.raises(UserError, match=r"rs\.dcm: draws no structure"):
        read_dicom_case(tmp_path)


def test_structures_of_another_patient_are_refused(tmp_path, series, masks):
    dicom = segmentation(series, masks)
    dicom.PatientID = "P2"
    save(dicom, tmp_path / "seg.dcm")
    with pytest.raises(UserError, match=r"holds files of 2 patients \(P1, P2\)"):
        read_dicom_case(tmp_path)


def _shifted(dicom):
    for item in dicom.PerFrameFunctionalGroupsSequence:
        x, y, z = item.PlanePositionSequence[0].ImagePositionPatient
        item.PlanePositionSequence[0].ImagePositionPatient = decimals([x + 0.5, y, z])


def _between(dicom):
    x, y, z = dicom.PerFrameFunctionalGroupsSequence[0].PlanePositionSequence[0].ImagePositionPatient
    position = decimals([x, y, z + 1.25])
    dicom.PerFrameFunctionalGroupsSequence[0].PlanePositionSequence[0].ImagePositionPatient = position


def _beyond(dicom):
    x, y, z = dicom.PerFrameFunctionalGroupsSequence[0].PlanePositionSequence[0].ImagePositionPatient
    position = decimals([x, y, z + 2.5])
    dicom.PerFrameFunctionalGroupsSequence[0].PlanePositionSequence[0].ImagePositionPatient = position


def _coarser(dicom):
    measures = dicom.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    measures.PixelSpacing = [2.2, 1.8]


def _smaller(dicom):
    dicom.Rows = 9


def _nowhere(dicom):
    del dicom.PerFrameFunctionalGroupsSequence[0].PlanePositionSequence


def _twice(dicom):
    dicom.SegmentSequence[1].SegmentLabel = "Liver"


def _other_kind(dicom):
    dicom.SegmentationType = "SURFACE"


def _unnumbered(dicom):
    del dicom.SegmentSequence[0].SegmentNumber


def _cut(dicom):
    dicom.PixelData = dicom.PixelData[:10]


REFUSED = {
    _shifted: "frames that are not on the grid of its CT",
    _between: "frames that are not on the grid of its CT",
    _beyond: "frames beyond the slices of its CT",
    _coarser: "frames that are not on the grid of its CT",
    _smaller: "frames of 21×9 pixels, unlike its CT",
    _nowhere: "does not say where its frames lie",
    _twice: "has 2 segments labelled 'Liver'",
    _other_kind: "a segmentation of the kind SURFACE",
    _unnumbered: "lacks SegmentNumber",
    _cut: "is cut off or damaged",
}


@pytest.mark.parametrize("change", REFUSED, ids=lambda change: change.__name__)
def test_a_faulty_segmentation_is_refused_in_one_line(tmp_path, series, masks, change):
    dicom = segmentation(series, masks, all_frames=True)
    change(dicom)
    save(dicom, tmp_path / "seg.dcm")
    with pytest.raises(UserError, match=REFUSED[change]) as caught:
        read_dicom_case(tmp_path).mask("Liver")
    assert "\n" not in str(caught.value)
    assert caught.value.where == str(tmp_path / "seg.dcm")


@pytest.mark.parametrize("highest", [None, 0])
def test_a_fractional_segmentation_says_what_the_whole_is(tmp_path, series, masks, highest):
    dicom = segmentation(series, masks, "FRACTIONAL")
    dicom.MaximumFractionalValue = highest
    if highest is None:
        del dicom.MaximumFractionalValue
    save(dicom, tmp_path / "seg.dcm")
    with pytest.raises(UserError, match="lacks MaximumFractionalValue") as caught:
        read_dicom_case(tmp_path).mask("Liver")
    assert caught.value.where == str(tmp_path / "seg.dcm")


def test_a_truncated_drawing_is_refused_wherever_it_ends(tmp_path, series):
    whole = save(rtstruct(series, {"Liver": [box(GRID, n, 5, 15) for n in range(4)]}), tmp_path / "rs.dcm").read_bytes()
    expected = read_dicom_case(tmp_path).mask("Liver")
    for share in np.linspace(0.1, 0.999, 25):
        (tmp_path / "rs.dcm").write_bytes(whole[: int(share * len(whole))])
        try:
            case = read_dicom_case(tmp_path)
        except UserError as error:
            assert "rs.dcm" in str(error)
        else:  # what is cut off says nothing of contours
            assert np.array_equal(case.mask("Liver"), expected)
    assert "RTROIObservationsSequence" in dcmread(save(rtstruct(series, {"A": []}), tmp_path / "x.dcm"))
