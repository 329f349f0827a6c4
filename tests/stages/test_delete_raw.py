"""Raw cases that are deleted once their volumes are made: what goes, what stays, and how it comes back."""

from __future__ import annotations

import json
import tarfile

import numpy as np
import pytest
import SimpleITK as sitk

from pipeline_lib.config.datasets import Dataset
from pipeline_lib.config.volumes import Volumes
from pipeline_lib.datasets.manifest import write_manifest
from pipeline_lib.errors import UserError
from pipeline_lib.stages.acquire import run as acquire
from pipeline_lib.stages.acquire.settings import Execution as AcquireExecution
from pipeline_lib.stages.acquire.settings import Settings as AcquireSettings
from pipeline_lib.stages.delete_raw import run as delete_raw
from pipeline_lib.stages.delete_raw.settings import Settings as DeleteRawSettings
from pipeline_lib.stages.resample.case import resample_case
from pipeline_lib.stages.resample.settings import CaseSettings
from pipeline_lib.stages.validate import run as validate
from pipeline_lib.stages.validate.settings import Settings as ValidateSettings

CASES = ("liver_0", "liver_1")
SCORED = ("liver_0",)


class World:
    """A data set of two cases that a user has as `path`, acquired and made into volumes."""

    def __init__(self, folder, path) -> None:
        self.raw, self.volumes = folder / "raw", folder / "volumes"
        self.dataset = Dataset(
            name="livers",
            layout="msd",
            root="Task",
            source={"kind": "local", "path": str(path)},
            labels={"liver": (1,)},
            cases=CASES,
            licence="none",
        )
        self.acquire()
        for case in CASES:
            self.make_volume(case)
        (self.volumes / "cases.csv").touch()

    def acquire(self):
        settings = AcquireSettings(dataset=self.dataset, phantom=None, rois=(), seed=None)
        outputs = acquire.Outputs(self.raw / "manifest.json", None)
        acquire.run(settings, AcquireExecution(), acquire.Inputs(), outputs)

    def make_volume(self, case):
        settings = CaseSettings(
            dataset="livers",
            layout="msd",
            root="Task",
            labels=self.dataset.labels,
            ignored_labels=(),
            case=case,
            targets=("liver",),
            volumes=Volumes(spacing_mm=(1, 1, 1)),
        )
        resample_case(settings, self.raw, self.volumes / case)

    def delete(self):
        settings = DeleteRawSettings(dataset=self.dataset, scored_cases=SCORED)
        inputs = delete_raw.Inputs(self.raw / "manifest.json", self.volumes / "cases.csv")
        delete_raw.run(settings, inputs, delete_raw.Outputs(self.raw / "deleted.json"))
        return json.loads((self.raw / "deleted.json").read_text())


def validated(world, folder):
    """Lines of the list of what was read."""
    settings = ValidateSettings(datasets=(world.dataset,), targets=(("liver",),))
    outputs = validate.Outputs(folder / "validation.csv")
    validate.run(settings, validate.Inputs((world.raw / "manifest.json",)), outputs)
    return outputs.cases.read_text().splitlines()


def files_in(folder):
    return {
        path.relative_to(folder).as_posix(): path.stat().st_size
        for path in folder.rglob("*")
        if path.is_file() and ".acquire" not in path.parts
    }


@pytest.fixture
def published(tmp_path):
    """A folder with the data set in its published layout, an image without label among it."""
    folder = tmp_path / "published"
    generator = np.random.default_rng(0)
    for name in ("imagesTr/liver_0", "imagesTr/liver_1", "labelsTr/liver_0", "labelsTr/liver_1", "imagesTs/liver_9"):
        array = generator.integers(0, 2, (8, 8, 8))
        array = array.astype(np.uint8) if "labels" in name else (1000 * array - 950).astype(np.int16)
        path = folder / "Task" / f"{name}.nii.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        sitk.WriteImage(sitk.GetImageFromArray(array), str(path))
    (folder / "Task" / "dataset.json").write_text("{}")
    return folder


@pytest.fixture
def archive(published, tmp_path):
    path = tmp_path / "Task.tar"
    with tarfile.open(path, "w") as packed:
        packed.add(published / "Task", "Task")
    return path


def test_all_images_go_but_not_the_labels_that_are_scored(archive, tmp_path):
    world = World(tmp_path, archive)
    before = files_in(world.raw)
    told = world.delete()
    left = files_in(world.raw)
    assert set(left) == {"manifest.json", "deleted.json", "Task/dataset.json", "Task/labelsTr/liver_0.nii.gz"}
    gone = set(before) - set(left)
    size = sum(before[name] for name in gone)
    assert told == {"linked": False, "files": len(gone), "bytes": size, "labels_kept": 1}
    assert archive.is_file()
    again = world.delete()
    assert again["files"] == 0
    assert set(files_in(world.raw)) == set(left)


def test_labels_that_were_deleted_before_folds_needed_them_are_missed(archive, tmp_path, monkeypatch):
    world = World(tmp_path, archive)
    world.delete()
    monkeypatch.setattr("tests.stages.test_delete_raw.SCORED", CASES)
    with pytest.raises(UserError, match=r"labelsTr/liver_1\.nii\.gz: was deleted .*--forcerun .*manifest\.json"):
        world.delete()


def test_a_folder_of_the_user_is_never_touched(published, tmp_path):
    before = files_in(published)
    world = World(tmp_path, published)
    assert world.delete() == {"linked": True, "files": 0, "bytes": 0, "labels_kept": 1}
    assert files_in(published) == before
    assert len(validated(world, tmp_path)) == 1 + len(CASES)


def test_nothing_goes_while_a_volume_lacks_a_file(archive, tmp_path):
    world = World(tmp_path, archive)
    before = files_in(world.raw)
    (world.volumes / "liver_1" / "labels.b2nd").unlink()
    with pytest.raises(UserError, match=r"liver_1/labels\.b2nd: is missing"):
        world.delete()
    assert files_in(world.raw) == before


def test_a_volume_that_is_wanted_again_says_how_to_bring_the_case_back_and_that_works(archive, tmp_path):
    world = World(tmp_path, archive)
    whole = files_in(world.raw)
    world.delete()
    with pytest.raises(UserError, match=r"liver_1\.nii\.gz: is missing; .*--forcerun resources/raw/.*keep_raw"):
        world.make_volume("liver_1")
    world.acquire()
    assert files_in(world.raw) == whole  # so deleted.json went too
    world.make_volume("liver_1")


def test_validation_reads_what_is_there_and_says_what_is_not(archive, tmp_path, capsys):
    world = World(tmp_path, archive)
    world.delete()
    assert len(validated(world, tmp_path)) == 1
    assert "livers: its raw cases were deleted" in capsys.readouterr().err


def test_the_masks_that_scores_need_stay(tmp_path):
    layout = {"image": "{case}/ct.nii.gz", "labels": "{case}/{structure}.nii.gz"}
    dataset = Dataset(
        name="lungs",
        layout=layout,
        source={"kind": "local", "path": "somewhere"},
        labels={"lungs": [["Left"], ["Right"]], "heart": []},
        labelled="present",
        cases=CASES,
        licence="none",
    )
    labels = DeleteRawSettings(dataset=dataset, scored_cases=SCORED)
    raw, names = tmp_path / "raw", ("ct", "left", "RIGHT", "other")
    for case in CASES:
        (raw / case).mkdir(parents=True)
        for name in names:
            (raw / case / f"{name}.nii.gz").write_bytes(b"x")
        volume = tmp_path / "volumes" / case
        volume.mkdir(parents=True)
        for name in ("image.b2nd", "labels.b2nd", "case.json"):
            (volume / name).touch()
    write_manifest(raw / "manifest.json", "lungs", {}, linked=False)
    (tmp_path / "volumes" / "cases.csv").touch()
    inputs = delete_raw.Inputs(raw / "manifest.json", tmp_path / "volumes" / "cases.csv")
    delete_raw.run(labels, inputs, delete_raw.Outputs(raw / "deleted.json"))
    assert {path.name for path in (raw / "liver_0").iterdir()} == {"left.nii.gz", "RIGHT.nii.gz"}
    assert not list((raw / "liver_1").iterdir())
