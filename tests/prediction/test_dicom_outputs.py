"""DICOM-SEG and RTSTRUCT of known masks, read back by our readers and by tools that are not ours."""

from __future__ import annotations

import shutil
import subprocess
from importlib import util
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from matplotlib.path import Path as Polygon

from pipeline_lib.datasets.dicom.case import read_dicom_case
from pipeline_lib.datasets.dicom.series import CtSeries, read_ct_series
from pipeline_lib.errors import UserError
from pipeline_lib.geometry import Geometry
from pipeline_lib.prediction.dicom.objects import Maker, MaskObject
from pipeline_lib.prediction.dicom.segmentation_image import SegmentationImage
from pipeline_lib.prediction.dicom.structure_set import StructureSet
from tests.support.dicom_files import write_series

needs_highdicom = pytest.mark.skipif(util.find_spec("highdicom") is None, reason="highdicom is not installed")
# 23 × 17 pixels are not a whole number of bytes, so frames of single bits begin within bytes.
SIZE = (23, 17, 9)
ROIS = ("liver", "liver_tumor", "kidney_left", "flux_capacitor_of_the_left_side", "spleen")
"""Of these, the spleen is empty."""


def turned(size: tuple[int, int, int]) -> Geometry:
    """A grid at an angle to all three axes of the body."""
    axes, _ = np.linalg.qr(np.array([[0.9, -0.2, 0.1], [0.25, 0.95, -0.3], [0.05, 0.3, 0.9]]))
    axes *= [1, 1, np.sign(np.linalg.det(axes))]
    return Geometry(
        size=size,
        spacing_mm=(0.9, 1.3, 2.5),
        origin_mm=(-101.25, 33.5, 250.125),
        direction=tuple(map(float, axes.ravel())),
    )


GRIDS = {
    "upright": Geometry(size=SIZE, spacing_mm=(1.5, 1.5, 3.0), origin_mm=(-20.0, -14.0, 100.0)),
    "prone, oblong": Geometry(
        size=SIZE, spacing_mm=(0.9, 1.1, 2.5), origin_mm=(30.1, 40.2, -7.3), direction=(-1, 0, 0, 0, -1, 0, 0, 0, 1)
    ),
    "feet first": Geometry(
        size=SIZE, spacing_mm=(0.9, 0.9, 2.0), origin_mm=(30.1, -40.2, 7.3), direction=(-1, 0, 0, 0, 1, 0, 0, 0, -1)
    ),
    "coronal": Geometry(
        size=SIZE, spacing_mm=(0.7, 0.8, 4.0), origin_mm=(1.0, 2.0, 3.0), direction=(1, 0, 0, 0, 0, 1, 0, -1, 0)
    ),
    "oblique": turned(SIZE),
}


def masks() -> dict[str, np.ndarray]:
    """Masks (bool D H W) with holes, an island in a hole, lone and diagonal voxels, at all borders, overlapping."""
    shape = SIZE[::-1]
    z, y, x = np.indices(shape)
    radius = np.hypot(y - 8, x - 11) + abs(z - 4)
    liver = (radius < 8) & ~((radius > 2) & (radius < 5))
    tumour = np.zeros(shape, bool)
    tumour[2:6, 5, 6] = tumour[2:6, 6, 7] = tumour[2:6, 0, 0] = tumour[2:6, -1, -1] = True
    noise = np.random.default_rng(3).random(shape) < 0.6
    return dict(zip(ROIS, (liver, tumour, noise, np.ones(shape, bool), np.zeros(shape, bool)), strict=True))


def program(package: str, name: str) -> Path:
    """A program that a package brings; skips the test where neither is installed."""
    found = util.find_spec(package)
    path = Path(found.origin).parent / "bin" / name if found and found.origin else shutil.which(name)
    if path is None:
        pytest.skip(f"{name} is not installed (pip install {package})")
    return Path(path)


def write(kind: type[MaskObject], folder: Path, series: CtSeries, drawn: dict[str, np.ndarray]) -> Path:
    made = kind(series, tuple(drawn), Maker("1.2.3", ("0123456789abcdef",)))
    for roi, mask in drawn.items():
        made.add(roi, mask)
    path = folder / "drawn.dcm"
    made.dataset().save_as(path, enforce_file_format=True)
    return path


@pytest.fixture(params=GRIDS)
def series(request, tmp_path) -> CtSeries:
    """A CT whose files' names and numbers say nothing about the order of its slices."""
    write_series(tmp_path / "ct", GRIDS[request.param])
    return read_ct_series(tmp_path / "ct")


@pytest.mark.parametrize("kind", [pytest.param(SegmentationImage, marks=needs_highdicom), StructureSet])
def test_our_reader_gets_every_mask_back(kind, series, tmp_path):
    drawn = masks()
    write(kind, tmp_path / "ct", series, drawn)
    case = read_dicom_case(tmp_path / "ct")
    # A ROI without a contour would be unknown to a reader, a segment without a frame is known to be absent.
    assert case.names == (ROIS if kind is SegmentationImage else ROIS[:-1])
    for roi in case.names:
        assert np.array_equal(case.mask(roi), drawn[roi]), roi


def voxels_in(path: Path, grid: Geometry) -> dict[str, np.ndarray]:
    """The masks of an RTSTRUCT with one closed polygon per part: matplotlib fills it, ITK says where its points lie."""
    dicom, place = pydicom.dcmread(path), grid.image(np.zeros(grid.shape, np.uint8))
    rows, columns = np.indices(grid.shape[1:])
    centres = np.stack([columns.ravel(), rows.ravel()], axis=1)
    names = {roi.ROINumber: roi.ROIName for roi in dicom.StructureSetROISequence}
    found = {str(name): np.zeros(grid.shape, bool) for name in names.values()}
    for drawn in dicom.ROIContourSequence:
        for contour in drawn.get("ContourSequence", []):
            points = np.reshape(contour.ContourData, (-1, 3)).astype(float)
            assert contour.NumberOfContourPoints == len(points)
            index = np.array([place.TransformPhysicalPointToContinuousIndex(point) for point in points])
            number = round(index[:, 2].mean())
            assert np.abs(index[:, 2] - number).max() < 1e-3
            filled = Polygon(np.concatenate([index, index[:1]])[:, :2]).contains_points(centres)
            found[names[drawn.ReferencedROINumber]][number] |= filled.reshape(rows.shape)
    return found


def test_contours_are_filled_alike_by_another_library(series, tmp_path):
    found = voxels_in(write(StructureSet, tmp_path, series, masks()), series.grid)
    for roi, mask in masks().items():
        assert np.array_equal(found[roi], mask), roi


def test_contours_refer_to_their_slices_and_say_what_they_are(series, tmp_path):
    dicom = pydicom.dcmread(write(StructureSet, tmp_path, series, masks()))
    (frame,) = dicom.ReferencedFrameOfReferenceSequence
    images = frame.RTReferencedStudySequence[0].RTReferencedSeriesSequence[0].ContourImageSequence
    assert [image.ReferencedSOPInstanceUID for image in images] == [
        slice_.text("SOPInstanceUID") for slice_ in series.slices
    ]
    positions = {slice_.header.SOPInstanceUID: slice_.header for slice_ in series.slices}
    contour = dicom.ROIContourSequence[0].ContourSequence[0]
    slice_ = positions[contour.ContourImageSequence[0].ReferencedSOPInstanceUID]
    normal = np.cross(*np.reshape(slice_.ImageOrientationPatient, (2, 3)).astype(float))
    offsets = np.reshape(contour.ContourData, (-1, 3)).astype(float) - np.array(slice_.ImagePositionPatient, float)
    assert np.abs(offsets @ normal).max() < 1e-3
    kinds = [item.RTROIIdentificationCodeSequence[0] for item in dicom.RTROIObservationsSequence]
    assert [kind.get("CodeValue") for kind in kinds] == ["10200004", "108369006", "64033007", None, "78961009"]
    assert kinds[3].LongCodeValue == ROIS[3]
    assert {roi.ROIGenerationAlgorithm for roi in dicom.StructureSetROISequence} == {"AUTOMATIC"}
    assert dicom.PatientID == "P1"
    assert dicom.FrameOfReferenceUID == series.frame_of_reference_uid
    assert dicom.SeriesInstanceUID != series.slices[0].text("SeriesInstanceUID")


@needs_highdicom
def test_highdicom_finds_each_segment_in_its_place(series, tmp_path):
    import highdicom

    read = highdicom.seg.segread(write(SegmentationImage, tmp_path, series, masks()))
    assert list(read.segment_numbers) == [1, 2, 3, 4, 5]
    uids = [slice_.text("SOPInstanceUID") for slice_ in series.slices]
    pixels = read.get_pixels_by_source_instance(uids, assert_missing_frames_are_empty=True)
    for number, mask in enumerate(masks().values()):
        assert np.array_equal(pixels[..., number] == 1, mask)
    # And in space: its axes are slice, row, column, the slices from either end.
    volume = read.get_volume()
    grid = series.grid
    for index in np.argwhere(masks()["liver_tumor"]):
        place = np.array(grid.origin_mm) + grid.axes @ (index[::-1] * grid.spacing_mm)
        own = np.linalg.solve(volume.affine, [*place, 1])[:3]
        assert np.abs(own - own.round()).max() < 1e-3
        assert volume.array[(*own.round().astype(int), 1)] == 1
    assert volume.array[..., 1].sum() == masks()["liver_tumor"].sum()


@needs_highdicom
def test_segments_are_described(series, tmp_path):
    dicom = pydicom.dcmread(write(SegmentationImage, tmp_path, series, masks()))
    segments = dicom.SegmentSequence
    assert [segment.SegmentLabel for segment in segments] == list(ROIS)
    kinds = [segment.SegmentedPropertyTypeCodeSequence[0] for segment in segments]
    assert [(kind.CodingSchemeDesignator, kind.get("CodeValue")) for kind in kinds] == [
        ("SCT", "10200004"), ("SCT", "108369006"), ("SCT", "64033007"), ("99LACUNA", None), ("SCT", "78961009"),
    ]  # fmt: skip
    assert segments[1].AnatomicRegionSequence[0].CodeValue == "10200004"
    assert kinds[2].SegmentedPropertyTypeModifierCodeSequence[0].CodeMeaning == "Left"
    (algorithm,) = segments[0].SegmentationAlgorithmIdentificationSequence
    assert (algorithm.AlgorithmName, algorithm.AlgorithmVersion) == ("Lacuna", "1.2.3")
    assert "0123456789abcdef" in algorithm.AlgorithmParameters
    assert dicom.SegmentsOverlap == "YES"
    assert {frame.SegmentIdentificationSequence[0].ReferencedSegmentNumber
            for frame in dicom.PerFrameFunctionalGroupsSequence} == {1, 2, 3, 4}  # fmt: skip
    referred = dicom.ReferencedSeriesSequence[0]
    assert referred.SeriesInstanceUID == series.slices[0].text("SeriesInstanceUID")
    assert len(referred.ReferencedInstanceSequence) == SIZE[2]


@needs_highdicom
def test_dcmqi_makes_the_same_masks(series, tmp_path):
    path = write(SegmentationImage, tmp_path, series, masks())
    arguments = ["--inputDICOM", path, "--outputDirectory", tmp_path, "--prefix", "made", "--outputType", "nrrd"]
    subprocess.run([program("dcmqi", "segimage2itkimage"), *arguments], check=True, capture_output=True)
    for number, (roi, mask) in enumerate(masks().items(), start=1):
        there = series.grid.image(mask.astype(np.uint8))
        made = sitk.ReadImage(str(tmp_path / f"made-{number}.nrrd"))
        made = sitk.Resample(made, there, sitk.Transform(), sitk.sitkNearestNeighbor)
        assert np.array_equal(sitk.GetArrayFromImage(made) > 0, mask), roi


@pytest.mark.parametrize("kind", [pytest.param(SegmentationImage, marks=needs_highdicom), StructureSet])
@pytest.mark.parametrize("drawn", ["all", "nothing"])
def test_a_validator_finds_no_error(kind, drawn, series, tmp_path):
    wanted = {roi: mask if drawn == "all" else mask & False for roi, mask in masks().items()}
    path = write(kind, tmp_path, series, wanted)
    said = subprocess.run([program("dicom3tools", "dciodvfy"), path], capture_output=True, text=True, check=False)
    assert [line for line in (said.stderr + said.stdout).splitlines() if "Error" in line] == []


@needs_highdicom
def test_a_segmentation_of_nothing_is_read_as_nothing(series, tmp_path):
    empty = {roi: mask & False for roi, mask in masks().items()}
    write(SegmentationImage, tmp_path / "ct", series, empty)
    case = read_dicom_case(tmp_path / "ct")
    assert case.names == ROIS
    assert not any(case.mask(roi).any() for roi in ROIS)


@pytest.mark.parametrize("kind", [pytest.param(SegmentationImage, marks=needs_highdicom), StructureSet])
def test_what_anonymised_series_lack_is_left_empty_and_what_is_needed_is_one_line(kind, tmp_path):
    def anonymous(number, dicom):
        del dicom.PatientName, dicom.PatientID, dicom.StudyDate, dicom.AccessionNumber, dicom.SliceThickness
        dicom.SpecificCharacterSet = "ISO_IR 100"
        dicom.StudyDescription = "Schädel"

    write_series(tmp_path / "ct", GRIDS["upright"], change=anonymous)
    read = pydicom.dcmread(write(kind, tmp_path, read_ct_series(tmp_path / "ct"), masks()))
    assert read.PatientID == ""
    assert read.StudyDescription == "Schädel"

    def placeless(number, dicom):
        del dicom.FrameOfReferenceUID

    write_series(tmp_path / "placeless", GRIDS["upright"], change=placeless)
    with pytest.raises(UserError, match="lacks FrameOfReferenceUID"):
        kind(read_ct_series(tmp_path / "placeless"), ROIS, Maker("1", ()))
