"""`lacuna predict` from DICOM: which folders are CTs, DICOM outputs, results on the series' grid, what is refused."""

from __future__ import annotations

import shutil
import zipfile
from importlib import util
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from pipeline_lib.commands.main import main
from pipeline_lib.datasets.dicom.case import read_dicom_case
from pipeline_lib.datasets.dicom.series import read_ct_series
from pipeline_lib.geometry import Geometry
from pipeline_lib.prediction.ct import find_cases
from tests.support.dicom_files import Change, write_series
from tests.support.small_cts import GRID, hounsfield, write_ct
from tests.support.tiny_model import ROIS, write_tiny_model

needs_highdicom = pytest.mark.skipif(util.find_spec("highdicom") is None, reason="highdicom is not installed")
OBLIQUE = GRID.model_copy(update={"direction": (-0.96, 0.0, 0.28, 0.0, -1.0, 0.0, 0.28, 0.0, 0.96)})
"""Turned about y, rows and columns running backwards."""


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("model") / "model.safetensors", seed=9)


def predict(*words: object) -> int:
    return main(["predict", *map(str, words), "--device", "cpu", "--precision", "float32"])


def write_patient(folder: Path, grid: Geometry = GRID, seed: int = 0, **more: object) -> Path:
    """A CT series of small_cts' content; files in random order."""
    write_series(folder, grid, hounsfield(grid.shape, seed) + np.int16(1024), **more)
    return folder


def with_value(name: str, value: object) -> Change:
    """What sets an element of each slice."""
    return lambda number, dicom: setattr(dicom, name, value)


def write_exam(folder: Path) -> list[str]:
    """A study of two series in folders of their own; returns their UIDs."""
    study, uids = "1.2.3", []
    for name, seed in (("thin", 1), ("thick", 2)):
        written = write_patient(folder / name, seed=seed, change=with_value("StudyInstanceUID", study))
        uids.append(read_ct_series(written).slices[0].text("SeriesInstanceUID"))
    return uids


def mask(path: Path) -> np.ndarray:
    return sitk.GetArrayFromImage(sitk.ReadImage(str(path))) == 1


@pytest.mark.parametrize("form", ["dicom-seg", "rtstruct"])
@pytest.mark.parametrize("grid", [GRID, OBLIQUE], ids=["upright", "oblique and flipped"])
def test_dicom_outputs_hold_the_masks_of_the_nifti_files(form, grid, model, tmp_path):
    if form == "dicom-seg" and util.find_spec("highdicom") is None:
        pytest.skip("highdicom is not installed")
    patient = write_patient(tmp_path / "patient", grid)
    assert predict(patient, "-o", tmp_path / "out", "-m", model, "--format", "masks", form) == 0
    (file,) = (tmp_path / "out" / "patient").glob("*.dcm")
    assert file.name == {"dicom-seg": "segmentation.dcm", "rtstruct": "rtstruct.dcm"}[form]
    shutil.copy(file, patient)
    drawn = read_dicom_case(patient)
    assert drawn.names == ROIS
    for roi in ROIS:
        image = sitk.ReadImage(str(tmp_path / "out" / "patient" / "masks" / f"{roi}.nii.gz"))
        assert Geometry.from_image(image).difference(grid) == ""
        voxels = sitk.GetArrayFromImage(image) == 1
        assert voxels.any()
        assert np.array_equal(drawn.mask(roi), voxels)


def test_a_series_its_zip_and_its_nifti_give_the_same(model, tmp_path):
    patient = write_patient(tmp_path / "patient")
    archive = Path(shutil.make_archive(str(tmp_path / "zipped"), "zip", patient.parent, patient.name))
    nifti = write_ct(tmp_path / "nifti.nii.gz")
    for ct in (patient, archive, nifti):
        assert predict(ct, "-o", tmp_path / "out", "-m", model, "--format", "masks") == 0
    for roi in ROIS:
        one, *others = (mask(tmp_path / "out" / case / "masks" / f"{roi}.nii.gz")
                        for case in ("patient", "zipped", "nifti"))  # fmt: skip
        assert all(np.array_equal(one, other) for other in others)


def test_of_several_series_one_is_named(model, tmp_path, capsys):
    thin, thick = write_exam(tmp_path / "exam")
    assert predict(tmp_path / "exam", "-o", tmp_path / "out", "-m", model) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert "holds 2 CT volumes" in said
    assert thin in said
    assert thick in said
    assert "name one with --series" in said
    assert predict(tmp_path / "exam", "-o", tmp_path / "out", "-m", model, "--series", "1.2") == 2
    assert "has no CT volume in series 1.2" in capsys.readouterr().err
    assert not list((tmp_path / "out").iterdir())
    formats = ["--format", "masks", "rtstruct"]
    assert predict(tmp_path / "exam", "-o", tmp_path / "out", "-m", model, "--series", thick, *formats) == 0
    assert predict(tmp_path / "exam" / "thick", "-o", tmp_path / "out", "-m", model, "--format", "masks") == 0
    for roi in ROIS:
        one, other = (mask(tmp_path / "out" / case / "masks" / f"{roi}.nii.gz") for case in ("exam", "thick"))
        assert np.array_equal(one, other)


def test_which_folders_are_cts(tmp_path):
    write_exam(tmp_path / "exam")
    assert find_cases(tmp_path / "exam") == {"exam": tmp_path / "exam"}
    for name in ("a", "b"):
        write_patient(tmp_path / "many" / name / "deeper")
    shutil.make_archive(str(tmp_path / "many" / "c"), "zip", tmp_path / "exam" / "thin")
    write_ct(tmp_path / "many" / "d.nii.gz")
    (tmp_path / "many" / "notes").mkdir()
    many = tmp_path / "many"
    assert find_cases(many) == {"a": many / "a", "b": many / "b", "c": many / "c.zip", "d": many / "d.nii.gz"}
    # A folder's name may look like a file's.
    assert find_cases(write_patient(tmp_path / "1.2.840.10008")) == {"1.2.840.10008": tmp_path / "1.2.840.10008"}


def test_in_a_folder_of_patients_the_others_are_segmented(model, tmp_path, capsys):
    cts = tmp_path / "cts"
    write_patient(cts / "a")
    write_patient(cts / "b", change=into_mr)
    write_patient(cts / "c", OBLIQUE)
    write_ct(cts / "d.nii.gz")
    assert predict(cts, "-o", tmp_path / "out", "-m", model, "--format", "rtstruct") == 2
    said = capsys.readouterr().err.splitlines()
    assert "2 of 4 CTs segmented" in said[-3]
    assert said[-2].startswith(f"failed: b: {cts / 'b'}: holds no CT volume, only 14 MR")
    assert said[-1].startswith(f"failed: d: {cts / 'd.nii.gz'}: is not DICOM, and --format rtstruct")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a", "c"]


def into_mr(number: int, dicom) -> None:
    dicom.Modality, dicom.SOPClassUID = "MR", "1.2.840.10008.5.1.4.1.1.4"
    dicom.file_meta.MediaStorageSOPClassUID = dicom.SOPClassUID


def spoil(kind: str, folder: Path) -> Path:
    """A CT at or in `folder` with something wrong."""
    path = folder / "patient"
    if kind == "mr":
        return write_patient(path, change=into_mr)
    if kind == "slice":
        return write_patient(path, GRID.model_copy(update={"size": (30, 26, 1)}))
    if kind == "two patients":
        write_patient(path)
        write_series(path, GRID, patient="P2", names=[f"other{number}.dcm" for number in range(GRID.size[2])])
        return path
    if kind == "missing slice":
        read_ct_series(write_patient(path)).slices[5].path.unlink()
        return path
    if kind == "cut off":
        file = sorted(write_patient(path).iterdir())[3]
        file.write_bytes(file.read_bytes()[:-700])
        return path
    if kind == "cut off in a zip":
        archive = path.with_suffix(".zip")
        with zipfile.ZipFile(archive, "w") as opened:
            for file in spoil("cut off", folder).iterdir():
                opened.write(file, file.name)
        return archive
    if kind == "damaged zip":
        archive = Path(shutil.make_archive(str(path), "zip", write_patient(path)))
        archive.write_bytes(archive.read_bytes()[:-3000])
        return archive
    if kind == "zip of something else":
        with zipfile.ZipFile(path := folder / "letters.zip", "w") as opened:
            opened.writestr("letter.txt", "Dear colleague")
        return path
    if kind == "one file":
        return sorted(write_patient(path).iterdir())[0]
    if kind == "values":
        return write_patient(path, change=with_value("RescaleType", "OD"))
    return write_ct(folder / "patient.nii.gz")


FAULTS = {
    "mr": "holds no CT volume, only 14 MR",
    "slice": "holds no CT volume, only 1 CT; give a folder with a CT series of two slices or more",
    "two patients": "holds files of 2 patients (P1, P2)",
    "missing slice": "lacks 1 slice",
    "cut off": "0003.dcm: is cut off",
    "cut off in a zip": "patient.zip/0003.dcm: is cut off",
    "damaged zip": "the archive is damaged",
    "zip of something else": "letters.zip: holds no DICOM file",
    "one file": "is one DICOM file; give the folder with all files of the series",
    "values": "holds values in OD instead of HU",
    "nifti": "patient.nii.gz: is not DICOM, and --format rtstruct refers to DICOM slices",
}


@pytest.mark.parametrize("kind", FAULTS)
def test_bad_dicom_is_one_line_and_leaves_nothing(kind, model, tmp_path, capsys):
    ct = spoil(kind, tmp_path)
    assert predict(ct, "-o", tmp_path / "out", "-m", model, "--format", "rtstruct") == 2
    said = capsys.readouterr().err.splitlines()
    errors = [line for line in said if line.startswith("error: ")]
    assert len(errors) == 1
    assert errors[0] == said[-1]
    assert FAULTS[kind] in errors[0]
    assert "skip" not in errors[0]
    assert "lacuna-" not in errors[0]
    assert not (tmp_path / "out").exists() or list((tmp_path / "out").iterdir()) == []


def test_a_series_of_what_is_not_dicom_is_one_line(model, tmp_path, capsys):
    ct = write_ct(tmp_path / "ct.nii.gz")
    assert predict(ct, "-o", tmp_path / "out", "-m", model, "--series", "1.2.3") == 2
    assert "is not DICOM, so it has no series; leave out --series" in capsys.readouterr().err


def test_a_missing_package_is_said_before_the_start(model, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("pipeline_lib.prediction.dicom.segmentation_image.find_spec", lambda name: None)
    assert predict(write_patient(tmp_path / "ct"), "-o", tmp_path / "out", "-m", model, "--format", "dicom-seg") == 2
    assert "dicom-seg needs the package highdicom, which is not installed" in capsys.readouterr().err
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("form", ["rtstruct", pytest.param("dicom-seg", marks=needs_highdicom)])
def test_a_disk_that_fills_while_dicom_is_written_is_one_line_and_leaves_nothing(
    form, model, tmp_path, capsys, monkeypatch
):
    def full(*arguments, **named):
        raise OSError(28, "No space left on device")

    patient = write_patient(tmp_path / "ct")
    monkeypatch.setattr("pydicom.dcmwrite", full)
    assert predict(patient, "-o", tmp_path / "out", "-m", model, "--format", "labels", form) == 2
    assert "does not fit on the disk" in capsys.readouterr().err.splitlines()[-1]
    assert list((tmp_path / "out").iterdir()) == []
