"""The layout dicom: ROIs by the names of contours and segments, through the reader, validation and acquisition."""

import numpy as np
import pytest
import SimpleITK as sitk

from pipeline_lib.config.datasets import Dataset
from pipeline_lib.config.labelling import Labelling
from pipeline_lib.datasets.readers import case_files, read_case, read_case_image, read_labels
from pipeline_lib.datasets.validation import check_case
from pipeline_lib.errors import UserError
from pipeline_lib.geometry import Geometry
from tests.datasets.test_dicom_contours import box
from tests.support.dicom_files import rtstruct, save, segmentation, write_series

GRID = Geometry(size=(20, 18, 7), spacing_mm=(0.9, 1.1, 2.5), origin_mm=(-31.5, 12.25, -100))
LABELS = {
    "parotid_left": ("Parotid_L", "Lt Parotid"),
    "lungs": (("Lung L",), ("Lung R",)),
    "spleen": (),
    "liver": ("Leber",),
}
TARGETS = ("lungs", "parotid_left", "liver", "spleen")
HU = np.random.default_rng(0).integers(-1000, 1000, GRID.shape)


def square(low, high):
    return [box(GRID, number, low, high) for number in (2, 3)]


@pytest.fixture
def root(tmp_path):
    """Two cases: RTSTRUCT contours, and segments of which one is empty."""
    first = write_series(tmp_path / "a" / "CT", GRID, (HU + 1024).astype(np.int16))
    drawn = {"PAROTID-L": square(3, 6), "lung_l": square(7, 9), "Lung R": square(10, 12), "PTV": square(2, 15)}
    save(rtstruct(first, {**drawn, "Leber": []}), tmp_path / "a" / "rs.dcm")
    second = write_series(tmp_path / "b", GRID, (HU + 1025).astype(np.int16))
    mask = np.zeros(GRID.shape, bool)
    mask[4, 3:8, 3:8] = True
    save(segmentation(second, {"Spleen": mask, "leber": mask & False, "Lung L": mask}), tmp_path / "b" / "seg.dcm")
    return tmp_path


def dataset(root, **changes):
    content = {
        "name": "clinic",
        "layout": "dicom",
        "source": {"kind": "local", "path": str(root)},
        "labels": LABELS,
        "labelled": "present",
        "cases": ("a", "b"),
        "licence": "internal",
    }
    return Dataset.model_validate(content | changes)


def expected(low, high):
    mask = np.zeros(GRID.shape, bool)
    mask[2:4, low:high, low:high] = True
    return mask


def test_contours_and_segments_become_rois_by_name(root):
    case = read_case("dicom", root, "a", TARGETS, Labelling(labels=LABELS, labelled="present"))
    assert np.array_equal(sitk.GetArrayViewFromImage(case.image), HU)
    assert case.labelled == ("lungs", "parotid_left")
    masks = {target: case.labels.mask(target) for target in case.labelled}
    assert np.array_equal(masks["parotid_left"], expected(3, 6))
    assert np.array_equal(masks["lungs"], expected(7, 9) | expected(10, 12))
    assert case.labels.names.unmatched == ("PTV",)


def test_an_empty_segment_is_labelled_and_absent_and_half_a_roi_is_unknown(root):
    case = read_case("dicom", root, "b", TARGETS, Labelling(labels=LABELS, labelled="present"))
    assert case.labelled == ("liver", "spleen")
    masks = {target: case.labels.mask(target) for target in case.labelled}
    assert not masks["liver"].any()
    assert masks["spleen"].sum() == 25
    assert case.labels.names.incomplete == {"lungs": ("Lung L",)}


def test_without_synonyms_rois_go_by_their_own_names(root):
    case = read_case("dicom", root, "a", ("PTV", "parotid_l"), Labelling(labelled="present"))
    assert case.labelled == ("PTV", "parotid_l")
    assert np.array_equal(case.labels.mask("parotid_l"), expected(3, 6))


def test_a_contour_that_every_case_must_have_is_missed_by_name(root):
    case = read_case("dicom", root, "a", TARGETS, Labelling(labels=LABELS))
    assert case.labelled == TARGETS
    with pytest.raises(UserError, match=r"draws no spleen \(it draws PAROTID-L, lung_l, Lung R, PTV\)"):
        case.labels.mask("spleen")
    table = read_case("dicom", root, "a", TARGETS, Labelling(labels=LABELS, labelled=("parotid_left",)))
    assert table.labelled == ("parotid_left",)


def test_a_ct_without_any_drawing_is_read_where_the_data_set_has_no_labels(root):
    write_series(root / "c", GRID, (HU + 1024).astype(np.int16))
    with pytest.raises(UserError, match="holds no RTSTRUCT or DICOM-SEG"):
        read_case("dicom", root, "c", TARGETS, Labelling(labels=LABELS))
    plain = dataset(root, labels={}, labelled="all", cases=("a", "c"), split="all_training").without_labels()
    for case in ("a", "c"):
        read = read_case("dicom", root, case, TARGETS, plain.labelling(case))
        assert np.array_equal(sitk.GetArrayViewFromImage(read.image), HU)
        assert read.labelled == ()
        checked = check_case(plain, root, case, TARGETS)
        assert (checked.findings, checked.labelled, checked.present) == ((), (), ())


def test_two_names_of_one_roi_in_a_case_are_refused(root):
    series = write_series(root / "c", GRID)
    save(rtstruct(series, {"Parotid_L": square(3, 6), "lt parotid": square(3, 7)}), root / "c" / "rs.dcm")
    with pytest.raises(UserError, match="has both 'Parotid_L' and 'lt parotid', which are names of parotid_left"):
        read_case("dicom", root, "c", TARGETS, Labelling(labels=LABELS, labelled="present"))


def test_labels_are_read_without_the_image_and_its_grid_is_checked(root):
    files = case_files("dicom", root, "a", TARGETS)
    for path in (root / "a" / "CT").iterdir():  # cut within the pixels, which labels do not need
        path.write_bytes(path.read_bytes()[:-300])
    grids = []
    labels = read_labels(files, TARGETS, Labelling(labels=LABELS, labelled="present"), lambda *pair: grids.append(pair))
    assert labels.mask("parotid_left").any()
    assert grids == [(root / "a", GRID)]
    with pytest.raises(UserError, match="is cut off or damaged"):
        read_case_image(files)


def test_validation_lists_names_and_finds_faults(root):
    data = dataset(root)
    checked = [check_case(data, root, case, TARGETS) for case in ("a", "b")]
    assert [case.faults for case in checked] == [(), ()]
    assert checked[0].labelled == checked[0].present == ("lungs", "parotid_left")
    assert checked[1].labelled == ("liver", "spleen")
    assert checked[1].present == ("spleen",)
    assert checked[0].names.found["lungs"] == ("lung_l", "Lung R")
    assert "has Lung L alone of lungs, which is unknown here" in " ".join(map(str, checked[1].findings))
    middle = read_case("dicom", root, "a", ()).files.image / "CT" / "0003.dcm"
    middle.write_bytes(middle.read_bytes()[:500])
    (fault,) = check_case(data, root, "a", TARGETS).faults
    assert fault.file == middle


def test_a_missing_folder_is_one_fault(root):
    data = dataset(root, cases=("a", "b", "z"))
    (fault,) = check_case(data, root, "z", TARGETS).faults
    assert fault.file == root / "z"
    assert fault.wrong == "is missing"


def test_label_values_have_no_meaning_in_dicom():
    with pytest.raises(ValueError, match="the layout has a mask for each ROI: give names"):
        dataset("/data", labels={"liver": [1]})
