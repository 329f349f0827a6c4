"""Acquiring OpenKBP: one archive for all data sets, every file the published one, only what a data set needs."""

from __future__ import annotations

import io
import json
import tarfile
import threading
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk

from pipeline_lib.config.datasets import Dataset
from pipeline_lib.datasets.openkbp import read_patient
from pipeline_lib.datasets.shared_archive import SharedArchive
from pipeline_lib.datasets.validation import check_case
from pipeline_lib.errors import UserError
from pipeline_lib.stages.acquire import run as acquire
from pipeline_lib.stages.acquire.settings import Execution, Settings
from tests.support.faulty_server import Fault, FaultyServer
from tests.support.openkbp import Collection

ORGANS = {
    "okbp_001": ("Brainstem", "SpinalCord"),
    "okbp_002": ("Larynx",),
    "okbp_003": ("Brainstem", "LeftParotid", "RightParotid"),
    "okbp_004": ("Brainstem",),
}
NAME = "open-kbp.zip"


@pytest.fixture
def collection(monkeypatch) -> Collection:
    made = Collection(ORGANS)
    made.install(monkeypatch)
    return made


@pytest.fixture
def server(monkeypatch, collection) -> Iterator[FaultyServer]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    running = FaultyServer()
    running.files[NAME] = collection.zipped()
    yield running
    running.close()


def dataset_of(name: str, source: dict[str, Any], cases: tuple[str, ...]) -> Dataset:
    return Dataset(name=name, layout="openkbp", source=source, cases=cases, licence="MIT")


def acquired(raw: Path, source: dict[str, Any], cases: tuple[str, ...], **execution: Any) -> dict[str, Any]:
    """Acquire a data set into `raw`, whose folder has its name, and return its manifest."""
    dataset = dataset_of(raw.name, source, cases)
    settings = Settings(dataset=dataset, phantom=None, rois=(), seed=None)
    outputs = acquire.Outputs(raw / "manifest.json", None)
    acquire.run(settings, Execution(**execution), acquire.Inputs(), outputs)
    return json.loads(outputs.manifest.read_text())


def acquired_of_several(folder: Path, dataset: Dataset, datasets: list[Dataset]) -> None:
    """Acquire one of the data sets that read an archive which is not to be kept."""
    sharing = tuple(other for other in datasets if other.name != dataset.name)
    source = dataset.source.model_dump(mode="json")
    acquired(folder / dataset.name, source, dataset.used_cases, keep_archives=False, sharing=sharing)


def raising(error: type[BaseException]) -> Callable[..., None]:
    def raise_it(*_: object) -> None:
        raise error

    return raise_it


def download(server: FaultyServer) -> dict[str, Any]:
    return {"kind": "download", "files": [{"url": server.url(NAME), "path": NAME}]}


def shared_archives(folder: Path) -> list[Path]:
    return sorted((folder / ".archives").rglob(NAME))


def voxels(path: Path) -> np.ndarray:
    return sitk.GetArrayFromImage(sitk.ReadImage(str(path)))


def check_case_is_right(collection: Collection, raw: Path, case: str) -> None:
    patient = collection.table[case]
    files = {name: collection.files[f"{patient.folder}/{name}"] for name in patient.blobs}
    expected = read_patient(patient, files)
    image = sitk.ReadImage(str(raw / case / "ct.nii.gz"))
    assert np.array_equal(sitk.GetArrayFromImage(image), expected.hu)
    assert image.GetSpacing() == pytest.approx(expected.grid.spacing_mm)
    assert image.GetOrigin() == pytest.approx(expected.grid.origin_mm)
    masks = {path.name: voxels(path) for path in (raw / case / "masks").iterdir()}
    assert masks.keys() == {f"{organ}.nii.gz" for organ in patient.labelled}
    for organ, mask in expected.masks.items():
        assert np.array_equal(masks[f"{organ}.nii.gz"], mask)


def test_a_data_set_s_patients_are_read_from_the_archive_and_no_others(server, collection, tmp_path):
    manifest = acquired(tmp_path / "set", download(server), ("okbp_001", "okbp_003"))
    for case in ("okbp_001", "okbp_003"):
        check_case_is_right(collection, tmp_path / "set", case)
    assert {file["path"].split("/")[0] for file in manifest["files"]} == {"okbp_001", "okbp_003"}
    assert not manifest["linked"]


def test_validate_finds_no_fault_in_them(server, tmp_path):
    acquired(tmp_path / "set", download(server), ("okbp_001",))
    dataset = dataset_of("set", download(server), ("okbp_001",))
    checked = check_case(dataset, tmp_path / "set", "okbp_001", ("Brainstem", "SpinalCord"))
    assert checked.faults == ()
    assert checked.present == ("Brainstem", "SpinalCord")


def test_the_archive_is_downloaded_once_for_all_data_sets(server, collection, tmp_path):
    for number, case in enumerate(ORGANS):
        acquired(tmp_path / f"set_{number}", download(server), (case,))
        check_case_is_right(collection, tmp_path / f"set_{number}", case)
    assert len(server.gets(NAME)) == 1
    assert len(shared_archives(tmp_path)) == 1


def test_data_sets_that_are_acquired_at_the_same_time_wait_for_one_download(server, collection, tmp_path):
    cases = dict(enumerate(ORGANS))
    jobs = [
        threading.Thread(target=acquired, args=(tmp_path / f"set_{number}", download(server), (case,)))
        for number, case in cases.items()
    ]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join()
    for number, case in cases.items():
        check_case_is_right(collection, tmp_path / f"set_{number}", case)
    assert len(server.gets(NAME)) == 1


def test_an_archive_that_is_not_kept_stays_until_the_last_data_set_has_read_it(server, tmp_path):
    datasets = [
        dataset_of(name, download(server), (case,)) for name, case in zip(("a", "b", "c"), ORGANS, strict=False)
    ]
    for dataset in datasets:
        acquired_of_several(tmp_path, dataset, datasets)
        assert len(shared_archives(tmp_path)) == (dataset.name != "c")
    assert len(server.gets(NAME)) == 1
    acquired_of_several(tmp_path, datasets[0], datasets)
    assert len(server.gets(NAME)) == 1, "what is there needs no archive"


def test_an_archive_stays_for_a_data_set_whose_rows_of_the_table_have_changed(server, collection, tmp_path):
    first, second = (dataset_of(name, download(server), (case,)) for name, case in zip("ab", ORGANS, strict=False))
    acquired_of_several(tmp_path, first, [first, second])
    collection.change("okbp_001", kept=((60, 66), (18, 34), (38, 52)))
    acquired_of_several(tmp_path, second, [first, second])
    assert len(shared_archives(tmp_path)) == 1
    acquired_of_several(tmp_path, first, [first, second])
    assert not shared_archives(tmp_path)
    assert len(server.gets(NAME)) == 1


def test_an_archive_stays_for_a_data_set_that_has_got_more_cases(server, tmp_path):
    first, second = (dataset_of(name, download(server), (case,)) for name, case in zip("ab", ORGANS, strict=False))
    acquired_of_several(tmp_path, first, [first, second])
    more = dataset_of("a", download(server), ("okbp_001", "okbp_003"))
    acquired_of_several(tmp_path, second, [more, second])
    assert len(shared_archives(tmp_path)) == 1


def test_a_data_set_whose_raw_cases_were_deleted_has_read_the_archive_all_the_same(server, tmp_path):
    first, second = (dataset_of(name, download(server), (case,)) for name, case in zip("ab", ORGANS, strict=False))
    acquired_of_several(tmp_path, first, [first, second])
    (tmp_path / "a" / "okbp_001" / "ct.nii.gz").unlink()
    acquired_of_several(tmp_path, second, [first, second])
    assert not shared_archives(tmp_path)


def test_a_run_that_was_killed_before_it_deleted_the_archive_deletes_it_the_next_time(server, tmp_path, monkeypatch):
    only = dataset_of("a", download(server), ("okbp_001",))
    with monkeypatch.context() as killed:
        killed.setattr(SharedArchive, "delete", raising(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            acquired_of_several(tmp_path, only, [only])
    assert len(shared_archives(tmp_path)) == 1
    acquired_of_several(tmp_path, only, [only])
    assert not shared_archives(tmp_path)
    assert len(server.gets(NAME)) == 1


def test_an_interrupted_download_is_resumed(server, collection, tmp_path):
    server.faults[NAME] = deque([Fault("truncated", after=5000)])
    acquired(tmp_path / "set", download(server), ("okbp_002",))
    check_case_is_right(collection, tmp_path / "set", "okbp_002")
    assert server.gets(NAME) == [None, "bytes=5000-"]


def test_a_new_case_is_read_without_touching_the_others(server, collection, tmp_path):
    raw = tmp_path / "set"
    acquired(raw, download(server), ("okbp_001",))
    before = (raw / "okbp_001" / "ct.nii.gz").stat().st_mtime_ns
    acquired(raw, download(server), ("okbp_001", "okbp_002"))
    check_case_is_right(collection, raw, "okbp_002")
    assert (raw / "okbp_001" / "ct.nii.gz").stat().st_mtime_ns == before
    assert len(server.gets(NAME)) == 1


def test_a_file_that_was_lost_is_made_again(server, collection, tmp_path):
    raw = tmp_path / "set"
    acquired(raw, download(server), ("okbp_001",))
    (raw / "okbp_001" / "masks" / "Brainstem.nii.gz").unlink()
    acquired(raw, download(server), ("okbp_001",))
    check_case_is_right(collection, raw, "okbp_001")


def test_a_contour_that_the_table_refuses_later_goes_with_its_reason(server, collection, tmp_path, capsys):
    raw = tmp_path / "set"
    acquired(raw, download(server), ("okbp_001", "okbp_002"))
    blobs = {name: blob for name, blob in collection.table["okbp_001"].blobs.items() if name != "SpinalCord.csv"}
    collection.change("okbp_001", labelled=("Brainstem",), refused="SpinalCord: down to the skin", blobs=blobs)
    acquired(raw, download(server), ("okbp_001", "okbp_002"))
    assert [path.name for path in (raw / "okbp_001" / "masks").iterdir()] == ["Brainstem.nii.gz"]
    assert "okbp_001: note: contours that are not used: SpinalCord: down to the skin" in capsys.readouterr().err


def test_other_kept_slices_of_the_table_make_a_case_anew(server, collection, tmp_path):
    raw = tmp_path / "set"
    acquired(raw, download(server), ("okbp_001",))
    collection.change("okbp_001", kept=((60, 66), (18, 34), (38, 52)))
    acquired(raw, download(server), ("okbp_001",))
    assert voxels(raw / "okbp_001" / "ct.nii.gz").shape == (6, 16, 14)


@pytest.mark.parametrize("name", ["ct.csv", "voxel_dimensions.csv", "SpinalCord.csv"])
def test_a_file_that_is_not_the_published_one_is_refused_by_name(server, collection, tmp_path, name):
    path = f"provided-data/train-pats/pt_1/{name}"
    collection.files[path] += b"\n"
    server.files[NAME] = collection.zipped()
    wrong = rf"{path}: is not the published file: its git blob id is [0-9a-f]{{40}}.*; remove .*{NAME} and run again"
    with pytest.raises(UserError, match=wrong):
        acquired(tmp_path / "set", download(server), ("okbp_001",))
    assert not (tmp_path / "set" / "manifest.json").exists()
    acquired(tmp_path / "other", download(server), ("okbp_002",))


def test_a_file_that_the_archive_lacks_is_named(server, collection, tmp_path):
    del collection.files["provided-data/train-pats/pt_2/Larynx.csv"]
    server.files[NAME] = collection.zipped()
    with pytest.raises(UserError, match=r"does not hold provided-data/train-pats/pt_2/Larynx\.csv.*okbp_002.*ce625e6"):
        acquired(tmp_path / "set", download(server), ("okbp_001", "okbp_002"))


def write_folder(collection: Collection, folder: Path) -> Path:
    for name, content in collection.files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def write_tar(collection: Collection, folder: Path) -> Path:
    folder.mkdir()
    with tarfile.open(folder / "open-kbp.tar.gz", "w:gz") as archive:
        for name, content in collection.files.items():
            info = tarfile.TarInfo(f"open-kbp/{name}")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return folder / "open-kbp.tar.gz"


def write_zip(collection: Collection, folder: Path) -> Path:
    folder.mkdir()
    (folder / NAME).write_bytes(collection.zipped(top=""))
    return folder / NAME


@pytest.mark.parametrize("write", [write_folder, write_tar, write_zip])
def test_a_user_s_own_copy_does_as_well_and_stays_as_it_is(collection, tmp_path, write):
    mine = write(collection, tmp_path / "mine")
    before = {path: path.read_bytes() for path in (tmp_path / "mine").rglob("*") if path.is_file()}
    manifest = acquired(tmp_path / "set", {"kind": "local", "path": str(mine)}, ("okbp_001", "okbp_003"))
    for case in ("okbp_001", "okbp_003"):
        check_case_is_right(collection, tmp_path / "set", case)
    assert not manifest["linked"], "what is converted is not the user's"
    assert {path: path.read_bytes() for path in (tmp_path / "mine").rglob("*") if path.is_file()} == before


def test_a_user_s_file_that_was_changed_is_refused_and_nothing_of_the_user_s_is_to_be_removed(collection, tmp_path):
    mine = write_folder(collection, tmp_path / "mine")
    changed = mine / "provided-data" / "train-pats" / "pt_2" / "ct.csv"
    changed.write_bytes(changed.read_bytes().replace(b"\n", b"\r\n"))
    with pytest.raises(UserError, match=r"pt_2/ct\.csv: is not the published file.*; give the repository"):
        acquired(tmp_path / "set", {"kind": "local", "path": str(mine)}, ("okbp_002",))


def test_a_folder_that_is_not_the_repository_is_refused(collection, tmp_path):
    (tmp_path / "mine").mkdir()
    with pytest.raises(UserError, match=r"mine: does not hold provided-data.*give the repository ababier/open-kbp"):
        acquired(tmp_path / "set", {"kind": "local", "path": str(tmp_path / "mine")}, ("okbp_001",))
