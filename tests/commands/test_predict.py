"""`lacuna predict`: what lies in OUT, and what becomes of everything that can be wrong with a CT."""

from __future__ import annotations

import csv
import json
import shutil
from collections import namedtuple
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk

import lacuna
from pipeline_lib.commands.main import main
from pipeline_lib.geometry import Geometry
from pipeline_lib.label_bits import read_roi_bits, roi_mask, roi_names
from pipeline_lib.nifti import read_placement
from pipeline_lib.nifti_writer import write_placement
from tests.support.small_cts import GRID, hounsfield, write_ct
from tests.support.tiny_model import ROIS, write_tiny_model


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("model") / "model.safetensors", seed=9)


def predict(*words: object) -> int:
    return main(["predict", *map(str, words), "--device", "cpu", "--precision", "float32"])


@pytest.fixture(scope="module")
def results(model, tmp_path_factory) -> Path:
    """Everything that can be written, of one CT whose header says unusually where it lies."""
    folder = tmp_path_factory.mktemp("results")
    ct = write_ct(folder / "ct.nii.gz")
    write_placement(ct, read_placement(ct).model_copy(update={"qform_code": 2, "sform_code": 4}))
    words = ["--format", "labels", "masks", "bits", "--statistics", "--preview", "--probabilities", "--fast"]
    assert predict(ct, "-o", folder / "out", "-m", model, *words) == 0
    return folder / "out" / "ct"


def test_all_that_is_asked_for_is_there(results):
    names = {str(path.relative_to(results)) for path in results.rglob("*") if path.is_file()}
    assert names == {
        "labels.nii.gz", "bits.nii.gz", "rois.json", "statistics.json", "statistics.csv", "preview.png", "result.json",
        *(f"{folder}/{roi}.nii.gz" for folder in ("masks", "probabilities") for roi in ROIS),
    }  # fmt: skip
    assert [path.name for path in results.parent.iterdir()] == ["ct"]


def test_masks_bits_and_probabilities_agree(results):
    bits, grid = read_roi_bits(results / "bits.nii.gz")
    assert roi_names(results / "bits.nii.gz") == ROIS
    assert grid.difference(GRID) == ""
    for index, roi in enumerate(ROIS):
        mask = sitk.ReadImage(str(results / "masks" / f"{roi}.nii.gz"))
        assert Geometry.from_image(mask).difference(GRID) == ""
        assert np.array_equal(sitk.GetArrayFromImage(mask) == 1, roi_mask(bits, index))
        # By another library, whose axes are x, y, z.
        probability = nibabel.load(results / "probabilities" / f"{roi}.nii.gz").get_fdata().transpose()
        assert 0 <= probability.min() < probability.max() <= 1
        assert np.array_equal(probability >= 127.5 / 255, roi_mask(bits, index))


def test_every_file_repeats_the_cts_own_header(results):
    wanted = read_placement(results.parents[1] / "ct.nii.gz")
    for path in results.rglob("*.nii.gz"):
        assert read_placement(path) == wanted


def test_the_label_map_is_what_result_json_says(results):
    result = json.loads((results / "result.json").read_text())
    labels = sitk.GetArrayFromImage(sitk.ReadImage(str(results / "labels.nii.gz")))
    bits, _ = read_roi_bits(results / "bits.nii.gz")
    assert result["labels"] == {"liver": 1, "liver_tumor": 2, "spleen": 3}
    tumour = roi_mask(bits, 1)
    assert np.array_equal(labels == 2, tumour)
    assert np.array_equal(labels > 0, bits > 0)
    assert not ((labels == 1) & ~roi_mask(bits, 0)).any()
    assert result["voxels_claimed_twice"] == (roi_mask(bits, 0) & roi_mask(bits, 2) & ~tumour).sum() > 0
    assert result["fast"] is True
    assert result["overlap"] == 0
    assert result["models"][0]["file"].endswith("model.safetensors")


def test_statistics_are_of_the_masks(results):
    bits, _ = read_roi_bits(results / "bits.nii.gz")
    hu = hounsfield(GRID.shape)
    rows = json.loads((results / "statistics.json").read_text())
    for index, roi in enumerate(ROIS):
        mask = roi_mask(bits, index)
        assert rows[roi]["volume_ml"] == pytest.approx(mask.sum() * 54 / 1000, abs=0.001)
        assert rows[roi]["mean_hu"] == pytest.approx(hu[mask].mean(), abs=0.05)
        assert rows[roi]["std_hu"] == pytest.approx(hu[mask].std(), abs=0.05)
    with (results / "statistics.csv").open(newline="") as file:
        assert [row["roi"] for row in csv.DictReader(file)] == list(ROIS)


def test_the_preview_is_a_picture_in_colour(results):
    picture = sitk.GetArrayFromImage(sitk.ReadImage(str(results / "preview.png")))
    height, width = picture.shape[:2]
    assert width > height > 400
    coloured = np.ptp(picture[..., :3].astype(int), axis=-1) > 40
    assert coloured.mean() > 0.01


def test_a_calibrated_model_says_which_dice_to_expect_and_what_to_look_at(results, tmp_path, capsys):
    """Two ROIs with curves of their own; the spleen's mask stands out, by a threshold that nothing reaches."""
    prediction = {"overlap": 0.0}
    curves = {
        roi: {"level": level, "slope": slope, "look_below": below, "masks": 30}
        for roi, level, slope, below in (("liver", 0.4, 0.9, 0), ("liver_tumor", -1, 0.0, 0), ("spleen", 0.1, 0.5, 1))
    }
    calibration = {"cases": "held-out", "rois": curves}
    path = write_tiny_model(tmp_path / "m.safetensors", seed=9, prediction=prediction, calibration=calibration)
    ct = write_ct(tmp_path / "ct.nii.gz")
    assert predict(ct, "-o", tmp_path / "out", "-m", path, "--statistics", "--preview") == 0
    rows = json.loads((tmp_path / "out" / "ct" / "statistics.json").read_text())
    for roi, curve in curves.items():
        certain = rows[roi]["certainty"]
        assert 0 < certain < 1
        logit = curve["level"] + curve["slope"] * np.log(certain / (1 - certain))
        assert rows[roi]["expected_dice"] == pytest.approx(1 / (1 + np.exp(-logit)), abs=2e-3)
        assert rows[roi]["look_at"] is (roi == "spleen")
    assert (
        f"ct: look at spleen (expected Dice {100 * rows['spleen']['expected_dice']:.0f} %)" in capsys.readouterr().err
    )
    result = json.loads((tmp_path / "out" / "ct" / "result.json").read_text())
    assert result["calibrated_on"] == "held-out"
    # The same network without a calibration, on the same windows, is as certain and expects no Dice.
    raw = json.loads((results / "statistics.json").read_text())
    assert {roi: row["certainty"] for roi, row in raw.items()} == {roi: row["certainty"] for roi, row in rows.items()}
    assert {row["expected_dice"] for row in raw.values()} == {row["look_at"] for row in raw.values()} == {None}
    # Other windows, or several models, are not what was calibrated.
    for paths, options, why in (([path], {"overlap": 0.5}, "own way of predicting"), ([path, path], {}, "alone")):
        model = lacuna.load(*paths, device="cpu", **options)
        assert model.calibration is None
        assert any("no expected Dice" in note and why in note for note in model.notes)


def spoil(kind: str, path: Path) -> Path:
    """A file at `path` with something wrong."""
    grid = GRID
    image = hounsfield(GRID.shape)
    if kind == "mr":
        path = write_ct(path)
        sitk.WriteImage(grid.image((image.clip(-200, 500) + 200).astype(np.uint16)), str(path))
    elif kind == "slice":
        sitk.WriteImage(GRID.model_copy(update={"size": (30, 26, 1)}).image(image[:1]), str(path))
    elif kind == "colours":
        sitk.WriteImage(sitk.Compose([grid.image(image)] * 3), str(path))
    elif kind == "cut off":
        write_ct(path)
        path.write_bytes(path.read_bytes()[:-2000])
    elif kind == "text":
        path.write_text("Dear colleague")
    elif kind == "nothing":
        path.write_bytes(b"")
    return path


FAULTS = {
    ("mr", "ct.nii.gz"): "is it an MR?",
    ("slice", "ct.nii.gz"): "is a single slice (30×26×1)",
    ("colours", "ct.nrrd"): "plain number",
    ("colours", "ct.nii.gz"): "3",
    ("cut off", "ct.nii.gz"): "is cut off",
    ("cut off", "ct.mha"): "is cut off",
    ("text", "ct.nii.gz"): "ct.nii.gz",
    ("nothing", "ct.nrrd"): "is empty",
    ("missing", "ct.nii.gz"): "is missing; check the path",
}


@pytest.mark.parametrize(("kind", "name"), FAULTS)
def test_a_bad_ct_is_one_line_and_leaves_nothing(kind, name, model, tmp_path, capsys):
    code = predict(spoil(kind, tmp_path / name), "-o", tmp_path / "out", "-m", model)
    assert code == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("note:")]
    assert len(errors) == 1
    assert errors[0].startswith("error: ")
    assert FAULTS[kind, name] in errors[0]
    assert "skip:" not in errors[0]
    assert not (tmp_path / "out").exists() or list((tmp_path / "out").iterdir()) == []


def test_the_other_cts_of_a_folder_are_segmented(model, tmp_path, capsys):
    cts = tmp_path / "cts"
    write_ct(cts / "a.nii.gz", seed=1)
    spoil("cut off", cts / "b.nii.gz")
    write_ct(cts / "c.mha", seed=2)
    (cts / "notes.txt").write_text("not a CT")
    out = tmp_path / "out"
    assert predict(cts, "-o", out, "-m", model, "--statistics") == 2
    said = capsys.readouterr().err.splitlines()
    assert "2 of 3 CTs segmented" in said[-2]
    assert said[-1].startswith(f"failed: b: {cts / 'b.nii.gz'}: is cut off")
    assert sorted(path.name for path in out.iterdir()) == ["a", "c", "statistics.csv"]
    with (out / "statistics.csv").open(newline="") as file:
        rows = [(row["case"], row["roi"]) for row in csv.DictReader(file)]
    assert rows == [(case, roi) for case in ("a", "c") for roi in ROIS]
    # Once the file is whole, only that case is left to do.
    write_ct(cts / "b.nii.gz")
    before = (out / "a" / "labels.nii.gz").stat().st_mtime_ns
    assert predict(cts, "-o", out, "-m", model, "--statistics", "--existing", "skip") == 0
    assert "2 of 3 CTs are already done" in capsys.readouterr().err
    assert (out / "a" / "labels.nii.gz").stat().st_mtime_ns == before
    assert (out / "b" / "labels.nii.gz").is_file()


def test_results_are_replaced_only_when_asked_and_others_files_never(model, tmp_path, capsys):
    ct, out = write_ct(tmp_path / "ct.nii.gz"), tmp_path / "out"
    assert predict(ct, "-o", out, "-m", model) == 0
    first = (out / "ct" / "labels.nii.gz").stat().st_ino
    capsys.readouterr()
    assert predict(ct, "-o", out, "-m", model) == 2
    assert "is there already; add --existing skip or --existing overwrite" in capsys.readouterr().err
    assert (out / "ct" / "labels.nii.gz").stat().st_ino == first
    assert predict(ct, "-o", out, "-m", model, "--existing", "overwrite", "--format", "masks") == 0
    assert not (out / "ct" / "labels.nii.gz").exists()
    shutil.rmtree(out)
    precious = out / "ct" / "thesis.txt"
    precious.parent.mkdir(parents=True)
    precious.write_text("years of work")
    assert predict(ct, "-o", out, "-m", model, "--existing", "overwrite") == 2
    assert precious.read_text() == "years of work"


@pytest.mark.parametrize("below", [False, True])
def test_an_output_that_cannot_be_written_is_one_line_at_once(below, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    out = tmp_path / "file" / "out" if below else tmp_path / "file"
    # Said before the model, which is missing too, is looked at.
    assert predict(write_ct(tmp_path / "ct.nii.gz"), "-o", out, "-m", tmp_path / "none.safetensors") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "cannot be written" in line
    assert "name another folder with -o" in line


def test_too_little_disk_is_said_before_the_start(model, tmp_path, capsys, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr("pipeline_lib.prediction.batch.shutil.disk_usage", lambda path: usage(1, 1, 10))
    assert predict(write_ct(tmp_path / "ct.nii.gz"), "-o", tmp_path / "out", "-m", model) == 2
    assert "GB free, and the results of ct need at least" in capsys.readouterr().err
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (MemoryError(), "does not fit into memory"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), "does not fit into memory"),
        (OSError(28, "No space left on device"), "does not fit on the disk"),
    ],
)
def test_what_runs_out_halfway_is_one_line_and_leaves_nothing(error, said, model, tmp_path, capsys, monkeypatch):
    def failing(*arguments, **named):
        raise error

    monkeypatch.setattr("pipeline_lib.prediction.output.write_json", failing)
    assert predict(write_ct(tmp_path / "ct.nii.gz"), "-o", tmp_path / "out", "-m", model) == 2
    assert said in capsys.readouterr().err.splitlines()[-1]
    assert list((tmp_path / "out").iterdir()) == []


def test_a_folder_without_cts_and_two_of_one_name_are_one_line(model, tmp_path, capsys):
    (tmp_path / "cts").mkdir()
    assert predict(tmp_path / "cts", "-o", tmp_path / "out", "-m", model) == 2
    assert "holds no image (.nii.gz, .nii, .mha, .nrrd)" in capsys.readouterr().err
    write_ct(tmp_path / "cts" / "a.nii.gz")
    write_ct(tmp_path / "cts" / "a.mha")
    assert predict(tmp_path / "cts", "-o", tmp_path / "out", "-m", model) == 2
    assert "holds a.mha and a.nii.gz; give them different names" in capsys.readouterr().err


def test_other_units_are_tried_only_when_asked(model, tmp_path):
    image = spoil("mr", tmp_path / "mr.nii.gz")
    assert predict(image, "-o", tmp_path / "out", "-m", model, "--allow-other-units") == 0
    assert (tmp_path / "out" / "mr" / "labels.nii.gz").is_file()
