"""The stage validate lists every fault of every data set before it fails."""

import csv
import shutil
import subprocess
import sys

import numpy as np
import pytest
import SimpleITK as sitk

from pipeline_lib.config.datasets import Dataset
from pipeline_lib.stages.validate.settings import Settings as ValidateSettings


def write(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(sitk.GetImageFromArray(array), str(path))


@pytest.fixture
def world(tmp_path):
    """Settings of two good data sets of three cases each below tmp_path."""
    generator = np.random.default_rng(0)
    datasets = []
    for name, roi in (("livers", "liver"), ("spleens", "spleen")):
        cases = tuple(f"{roi}_{number}" for number in range(3))
        for case in cases:
            write(
                tmp_path / name / "imagesTr" / f"{case}.nii.gz",
                generator.integers(-1000, 900, (5, 6, 7)).astype(np.int16),
            )
            write(tmp_path / name / "labelsTr" / f"{case}.nii.gz", np.ones((5, 6, 7), np.uint8))
        source = {"kind": "local", "path": "raw"}
        datasets.append(
            Dataset(name=name, layout="msd", source=source, labels={roi: (1,)}, cases=cases, licence="none")
        )
    return ValidateSettings(datasets=datasets, targets=(("liver", "spleen"),) * 2)


def validate(world, folder, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    settings = folder / "settings.json"
    settings.write_text(world.model_dump_json())
    command = [sys.executable, "-m", "pipeline_lib.stages.validate.run", "--settings", settings, "--manifests"]
    command += [folder / dataset.name / "manifest.json" for dataset in world.datasets]
    return subprocess.run([*command, "--cases", folder / "cases.csv"], capture_output=True, text=True)


def test_all_faults_of_all_data_sets_are_listed_at_once(world, tmp_path, monkeypatch):
    missing = tmp_path / "livers" / "imagesTr" / "liver_1.nii.gz"
    missing.unlink()
    cut = tmp_path / "spleens" / "labelsTr" / "spleen_0.nii.gz"
    cut.write_bytes(cut.read_bytes()[:-9])
    twice = tmp_path / "spleens" / "imagesTr" / "spleen_2.nii.gz"
    shutil.copy(tmp_path / "livers" / "imagesTr" / "liver_0.nii.gz", twice)
    done = validate(world, tmp_path, monkeypatch)
    lines = done.stderr.splitlines()
    assert done.returncode == 2
    assert [line.split("; ")[0] for line in lines if line.startswith(str(tmp_path))] == [
        f"{missing}: is missing",
        f"{cut}: is cut off: the gzip stream has no end",
        f"{twice}: is in both splits: the same image as livers liver_0, which is for test",
    ]
    assert lines[-1].startswith("error: 6 raw cases: 3 faults, listed above; ")
    assert not (tmp_path / "cases.csv").exists()


def test_good_data_sets_are_listed_with_their_digests(world, tmp_path, monkeypatch):
    done = validate(world, tmp_path, monkeypatch)
    assert done.returncode == 0, done.stderr
    with (tmp_path / "cases.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [(row["dataset"], row["case"], row["split"]) for row in rows] == [
        (name, f"{roi}_{number}", "train" if number else "test")
        for name, roi in (("livers", "liver"), ("spleens", "spleen"))
        for number in range(3)
    ]
    assert len({row["digest"] for row in rows}) == 6


def test_of_a_data_set_without_labels_only_the_cts_are_checked(world, tmp_path, monkeypatch):
    spleens = world.datasets[1].model_copy(update={"labels": {}, "split": "all_training"}).without_labels()
    shutil.rmtree(tmp_path / "spleens" / "labelsTr")
    twice = tmp_path / "spleens" / "imagesTr" / "spleen_2.nii.gz"
    shutil.copy(tmp_path / "livers" / "imagesTr" / "liver_1.nii.gz", twice)
    done = validate(world.model_copy(update={"datasets": (world.datasets[0], spleens)}), tmp_path, monkeypatch)
    assert done.returncode == 0, done.stderr
    notes = [line for line in done.stderr.splitlines() if "note:" in line and "spleens" in line]
    assert notes == [
        f"{twice}: note: is there twice, without labels in spleens: the same image as livers liver_1; list it under "
        "`skip:` of spleens",
        "spleens: note: has no labels: 3 cases for the methods that learn without labels",
    ]
    with (tmp_path / "cases.csv").open(newline="", encoding="utf-8") as file:
        assert {row["labelled"] for row in csv.DictReader(file) if row["dataset"] == "spleens"} == {""}


def test_notes_are_listed_before_faults_and_do_not_fail(world, tmp_path, monkeypatch):
    empty = tmp_path / "livers" / "labelsTr" / "liver_1.nii.gz"
    write(empty, np.zeros((5, 6, 7), np.uint8))
    done = validate(world, tmp_path, monkeypatch)
    assert done.returncode == 0, done.stderr
    (line,) = (line for line in done.stderr.splitlines() if line.startswith(str(empty)))
    assert line.startswith(f"{empty}: note: has no labelled voxel")
    with (tmp_path / "cases.csv").open(newline="", encoding="utf-8") as file:
        notes = {row["case"]: row["notes"] for row in csv.DictReader(file)}
    assert "no labelled voxel" in notes["liver_1"]
    assert notes["liver_0"] == ""
    (tmp_path / "spleens" / "labelsTr" / "spleen_0.nii.gz").unlink()
    lines = validate(world, tmp_path, monkeypatch).stderr.splitlines()
    places = [next(i for i, line in enumerate(lines) if word in line) for word in (": note:", ": is missing", "error:")]
    assert places == sorted(places)
    assert "1 fault," in lines[-1]


def test_faults_of_data_sets_as_a_whole_are_listed(world, tmp_path, monkeypatch):
    livers = world.datasets[0].model_copy(update={"labels": {"liver": (1,), "liver_tumor": (2,)}})
    changes = {
        "datasets": (livers, world.datasets[1]),
        "organs": {"liver_tumor": "liver"},
        "held_out_cases": {"livers": 1},
    }
    lines = validate(world.model_copy(update=changes), tmp_path, monkeypatch).stderr.splitlines()
    for expected in (
        "livers: note: leaves 1 case to evaluate the ROI-aware network, too few to judge it",
        "livers: liver_tumor belongs to liver, but its label value 2 is not among those of liver; write liver: [1, 2]",
        "livers: labels liver_tumor, but no case holds a voxel of it; correct `labels`",
    ):
        assert expected in lines


def test_what_each_case_labels_is_listed_with_the_names_that_matched(world, tmp_path, monkeypatch):
    layout = {"image": "{case}/ct.nii.gz", "labels": "{case}/{structure}.nii.gz"}
    masks = {"liver_0": ["Liver"], "liver_1": ["liver", "SPLEEN", "Bolus"], "liver_2": ["LIVER"]}
    for number, (case, names) in enumerate(masks.items()):
        image = np.random.default_rng(number).integers(-1000, 900, (5, 6, 7)).astype(np.int16)
        write(tmp_path / "masks" / case / "ct.nii.gz", image)
        for name in names:
            write(tmp_path / "masks" / case / f"{name}.nii.gz", np.ones((5, 6, 7), np.uint8))
    own = world.datasets[0].model_copy(update={"name": "masks"})
    content = own.model_dump() | {"layout": layout, "labels": {"liver": ["foie"], "spleen": []}, "labelled": "present"}
    only = {"datasets": (Dataset.model_validate(content),), "targets": (("liver", "spleen"),)}
    done = validate(world.model_copy(update=only), tmp_path, monkeypatch)
    assert done.returncode == 0, done.stderr
    notes = [line.split("note: ")[1] for line in done.stderr.splitlines() if line.startswith("masks: note: ")]
    assert notes == [
        "2 cases label liver: liver_0, liver_2",
        "1 case labels liver, spleen: liver_1",
        "liver is the name LIVER (1 case), Liver (1 case), liver (1 case)",
        "spleen is the name SPLEEN (1 case)",
        "masks that no ROI's name matches: Bolus (1 case)",
    ]
    assert "spleen: note: is labelled in 1 training case, too few to learn it from" in done.stderr
    assert "liver: note:" not in done.stderr
    with (tmp_path / "cases.csv").open(newline="", encoding="utf-8") as file:
        assert [row["labelled"] for row in csv.DictReader(file)] == ["liver", "liver spleen", "liver"]
