"""The stage `acquire`: only a whole data set has a manifest, and what is the user's stays untouched."""

from __future__ import annotations

import hashlib
import io
import json
import signal
import subprocess
import sys
import tarfile
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline_lib.config.datasets import Dataset
from pipeline_lib.config.phantom import Phantom
from pipeline_lib.config.text import TextEncoder
from pipeline_lib.datasets.download import Wanted
from pipeline_lib.errors import UserError
from pipeline_lib.stages.acquire import run as acquire
from pipeline_lib.stages.acquire.settings import Execution as AcquireExecution
from pipeline_lib.stages.acquire.settings import Settings as AcquireSettings
from pipeline_lib.stages.acquire_encoder import run as acquire_encoder
from pipeline_lib.stages.acquire_encoder.settings import Settings as AcquireEncoderSettings
from tests.support.faulty_server import Fault, FaultyServer

CASES = ("spleen_1", "spleen_2")
FILES = {
    f"Task09_Spleen/{kind}/{case}.nii.gz": b"\x1f\x8b" + case.encode() * 20_000
    for kind in ("imagesTr", "labelsTr")
    for case in CASES
}


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyServer]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    running = FaultyServer()
    yield running
    running.close()


def packed(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in {**files, "Task09_Spleen/imagesTr/._spleen_1.nii.gz": b"litter"}.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def settings(source: dict[str, Any], **changes: Any) -> AcquireSettings:
    content = {
        "name": "Task09_Spleen",
        "layout": "msd",
        "root": "Task09_Spleen",
        "labels": {"spleen": [1]},
        "cases": CASES,
        "licence": "CC BY-SA 4.0",
        "source": source,
        **changes,
    }
    return AcquireSettings(dataset=Dataset.model_validate(content), phantom=None, rois=(), seed=None)


def archive_source(server: FaultyServer) -> dict[str, Any]:
    server.files["spleen.tar"] = packed(FILES)
    md5 = hashlib.md5(server.files["spleen.tar"]).hexdigest()
    file = {"url": server.url("spleen.tar"), "path": "spleen.tar", "md5": md5}
    return {"kind": "download", "files": [file]}


def run(chosen: AcquireSettings, raw: Path, truth: Path | None = None, **execution: Any) -> dict[str, Any]:
    manifest = raw / "manifest.json"
    acquire.run(chosen, AcquireExecution(**execution), acquire.Inputs(), acquire.Outputs(manifest, truth))
    return json.loads(manifest.read_text())


def visible(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and ".acquire" not in path.parts and path.name != "manifest.json"
    }


@pytest.mark.parametrize("keep_archives", [True, False])
def test_an_archive_is_fetched_unpacked_and_listed(server, tmp_path, keep_archives):
    manifest = run(settings(archive_source(server)), tmp_path, keep_archives=keep_archives)
    archive = {"spleen.tar": server.files["spleen.tar"]} if keep_archives else {}
    assert visible(tmp_path) == {**FILES, **archive}
    assert manifest["dataset"] == "Task09_Spleen"
    assert not manifest["linked"]
    sizes = {file["path"]: file["size"] for file in manifest["files"]}
    assert sizes == {name: len(content) for name, content in visible(tmp_path).items()}


@pytest.mark.parametrize("keep_archives", [True, False])
def test_a_second_run_needs_no_network(server, tmp_path, keep_archives):
    chosen = settings(archive_source(server))
    first = run(chosen, tmp_path, keep_archives=keep_archives)
    server.requests.clear()
    assert run(chosen, tmp_path, keep_archives=keep_archives) == first
    assert not server.requests


def test_a_file_that_was_lost_is_unpacked_again(server, tmp_path):
    chosen = settings(archive_source(server))
    run(chosen, tmp_path)
    next(tmp_path.rglob("labelsTr/spleen_2.nii.gz")).unlink()
    run(chosen, tmp_path)
    assert visible(tmp_path) == {**FILES, "spleen.tar": server.files["spleen.tar"]}


def test_an_interrupted_extraction_is_redone(server, tmp_path, monkeypatch):
    chosen = settings(archive_source(server))
    replaced = []

    def stop_at_the_second(path: Path, target: Path, move=Path.replace) -> Path:
        if "unpacking" in path.parts:
            replaced.append(path)
            if len(replaced) == 2:
                raise KeyboardInterrupt
        return move(path, target)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Path, "replace", stop_at_the_second)
        run(chosen, tmp_path)
    assert not (tmp_path / "manifest.json").exists()
    run(chosen, tmp_path)
    assert visible(tmp_path) == {**FILES, "spleen.tar": server.files["spleen.tar"]}
    assert len(server.gets("spleen.tar")) == 1


def test_files_of_each_case_are_fetched_but_not_those_of_skipped_cases(server, tmp_path):
    cases = ("case_00000", "case_00001", "case_00002")
    contents = {
        f"{kind}/{case}.nii.gz": b"\x1f\x8b" + kind.encode() for case in cases[:2] for kind in ("image", "label")
    }
    server.files.update(contents)
    source = {
        "kind": "download",
        "per_case": [
            {"url": server.url("image/{case}.nii.gz"), "path": "data/{case}/imaging.nii.gz"},
            {"url": server.url("label/{case}.nii.gz"), "path": "data/{case}/segmentation.nii.gz"},
        ],
    }
    skip = [{"case": "case_00002", "reason": "not published"}]
    run(settings(source, layout="kits19", root=".", cases=cases), tmp_path, skip=skip)
    assert visible(tmp_path) == {
        f"data/{case}/{name}.nii.gz": contents[f"{kind}/{case}.nii.gz"]
        for case in cases[:2]
        for kind, name in (("image", "imaging"), ("label", "segmentation"))
    }


def test_a_killed_download_is_resumed_by_the_next_run(server, tmp_path):
    chosen = settings(archive_source(server))
    server.faults["spleen.tar"] = deque([Fault("stalled", after=200_000)])
    command = [sys.executable, "-m", "pipeline_lib.stages.acquire.run", "--settings", chosen.model_dump_json()]
    command += ["--execution", "{}", "--manifest", str(tmp_path / "manifest.json")]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    part = tmp_path / ".acquire" / "spleen.tar.part"
    deadline = time.monotonic() + 30
    while not (part.exists() and part.stat().st_size == 200_000) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "manifest.json").exists()
    run(chosen, tmp_path)
    assert server.gets("spleen.tar") == [None, "bytes=200000-"]
    assert visible(tmp_path) == {**FILES, "spleen.tar": server.files["spleen.tar"]}


def test_a_folder_of_the_user_is_linked_and_never_changed(tmp_path):
    mine, raw = tmp_path / "mine", tmp_path / "raw"
    for name, content in FILES.items():
        path = mine / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    (mine / "manifest.json").write_text("the user's own")
    before = visible(tmp_path)
    manifest = run(settings({"kind": "local", "path": str(mine)}), raw)
    assert manifest["linked"]
    assert {file["path"]: file["size"] for file in manifest["files"]} == {
        name: len(content) for name, content in FILES.items()
    }
    assert (raw / "Task09_Spleen").is_symlink()
    assert (mine / "manifest.json").read_text() == "the user's own"
    assert {name: content for name, content in visible(tmp_path).items() if name.startswith("mine")} == before


def test_a_download_after_a_link_never_writes_through_it(server, tmp_path):
    mine, raw = tmp_path / "mine", tmp_path / "raw"
    for name in FILES:
        (mine / name).parent.mkdir(parents=True, exist_ok=True)
        (mine / name).write_bytes(b"the user's own")
    run(settings({"kind": "local", "path": str(mine)}), raw)
    run(settings(archive_source(server)), raw)
    assert visible(mine) == dict.fromkeys(FILES, b"the user's own")
    assert visible(raw) == {**FILES, "spleen.tar": server.files["spleen.tar"]}


def test_an_archive_of_the_user_is_unpacked_and_kept(tmp_path):
    archive = tmp_path / "mine.tar"
    archive.write_bytes(packed(FILES))
    manifest = run(settings({"kind": "local", "path": str(archive)}), tmp_path / "raw")
    assert not manifest["linked"]
    assert visible(tmp_path / "raw") == FILES
    assert archive.read_bytes() == packed(FILES)


@pytest.mark.parametrize(
    ("make", "words"),
    [(lambda path: None, "there is no"), (lambda path: path.write_text("x"), "neither a folder nor an archive")],
)
def test_a_local_path_that_is_no_data_set_is_one_line(tmp_path, make, words):
    path = tmp_path / "mine.rar"
    make(path)
    with pytest.raises(UserError, match=words):
        run(settings({"kind": "local", "path": str(path)}), tmp_path / "raw")
    assert not (tmp_path / "raw" / "manifest.json").exists()


@pytest.mark.parametrize("changes", [{"root": "."}, {"cases": (*CASES, "spleen_3")}], ids=["root", "cases"])
def test_a_layout_that_is_not_where_it_should_be_has_no_manifest(server, tmp_path, changes):
    with pytest.raises(UserError, match=r"is missing.*correct `root` or `cases`"):
        run(settings(archive_source(server), **changes), tmp_path)
    assert not (tmp_path / "manifest.json").exists()


def test_a_data_set_in_another_published_layout_is_told_which(tmp_path):
    for name in ("c_1/ct.nii.gz", "c_1/segmentations/spleen.nii.gz"):
        (tmp_path / "mine" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "mine" / name).write_bytes(b"content")
    with pytest.raises(UserError, match=r"its files lie as in the layout totalsegmentator_v1: correct `layout`"):
        run(settings({"kind": "local", "path": str(tmp_path / "mine")}, root=".", cases=("c_1",)), tmp_path / "raw")


def test_a_user_s_data_set_that_lacks_files_is_for_validate_to_list(tmp_path, capsys):
    mine = tmp_path / "mine"
    for name, content in list(FILES.items())[:-1]:
        (mine / name).parent.mkdir(parents=True, exist_ok=True)
        (mine / name).write_bytes(content)
    run(settings({"kind": "local", "path": str(mine)}), tmp_path / "raw")
    assert "1 of 4 files are missing; `snakemake validate` lists them" in capsys.readouterr().err
    with pytest.raises(UserError, match=r"is missing.*correct `root` or `cases`"):
        run(settings({"kind": "local", "path": str(mine)}, root="elsewhere"), tmp_path / "other")


def test_of_a_data_set_without_labels_only_the_cts_are_looked_for(tmp_path, capsys):
    mine = tmp_path / "mine"
    for name in (name for name in FILES if "imagesTr" in name):
        (mine / name).parent.mkdir(parents=True, exist_ok=True)
        (mine / name).write_bytes(FILES[name])
    plain = settings({"kind": "local", "path": str(mine)}, labels={}, labelled=dict.fromkeys(CASES, ()))
    assert plain.dataset.has_no_labels
    run(plain, tmp_path / "raw")
    assert "missing" not in capsys.readouterr().err
    next((mine / "Task09_Spleen" / "imagesTr").iterdir()).unlink()
    run(plain, tmp_path / "raw")
    assert "1 of 2 files are missing" in capsys.readouterr().err


def test_a_dicom_case_is_a_folder(tmp_path):
    (tmp_path / "mine" / "patient_1" / "CT").mkdir(parents=True)
    (tmp_path / "mine" / "patient_1" / "CT" / "1.dcm").write_bytes(b"content")
    source = {"kind": "local", "path": str(tmp_path / "mine")}
    dicom = {"layout": "dicom", "root": ".", "labels": {"spleen": ["Milz"]}}
    manifest = run(settings(source, **dicom, cases=("patient_1",)), tmp_path / "raw")
    assert [entry["path"] for entry in manifest["files"]] == ["patient_1/CT/1.dcm"]
    with pytest.raises(UserError, match=r"patient_2: is missing, and 0 more files"):
        run(settings(source, **dicom, cases=("patient_2",)), tmp_path / "other")


def test_a_path_out_of_the_data_set_is_refused(server, tmp_path):
    source = {"kind": "download", "files": [{"url": server.url("a"), "path": "../../a"}]}
    with pytest.raises(UserError, match="leads out"):
        run(settings(source), tmp_path / "raw")


def phantom_settings() -> AcquireSettings:
    source = {"kind": "phantom", "cases": 1, "region": "abdomen", "spacing_mm": [12, 12, 12]}
    dataset = settings(source, root=".", cases=()).dataset
    return AcquireSettings(dataset=dataset, phantom=Phantom(), rois=("spleen",), seed=0)


def test_a_phantom_is_made_anew_after_an_interruption(tmp_path):
    raw, truth = tmp_path / "raw", tmp_path / "truth"
    for folder in (raw, truth):
        (folder / "imagesTr").mkdir(parents=True)
        (folder / "imagesTr" / "half.nii.gz").write_bytes(b"half")
    manifest = run(phantom_settings(), raw, truth)
    listed = {file["path"] for file in manifest["files"]}
    assert listed == set(visible(raw))
    assert not any("half" in path for path in listed)
    assert list(truth.rglob("*.nii.gz"))
    assert not list(truth.rglob("half.nii.gz"))


def test_a_phantom_never_replaces_downloads(server, tmp_path):
    run(settings(archive_source(server)), tmp_path / "raw")
    with pytest.raises(UserError, match="holds downloaded files"):
        run(phantom_settings(), tmp_path / "raw", tmp_path / "truth")
    assert visible(tmp_path / "raw")


def test_the_text_encoder_is_fetched_into_one_folder(server, tmp_path, monkeypatch):
    names = [file.path.name for file in acquire_encoder.encoder_files(tmp_path, "0" * 64)]
    contents = {name: f"content of {name}".encode() for name in names}
    server.files.update(contents)

    def from_here(folder: Path, weights_sha256: str) -> list[Wanted]:
        return [Wanted(server.url(name), folder / name, folder / f".{name}.part") for name in names]

    monkeypatch.setattr(acquire_encoder, "encoder_files", from_here)
    chosen = AcquireEncoderSettings(name="biomedclip", encoder=TextEncoder(kind="biomedclip"))
    folder = tmp_path / "encoders" / "biomedclip"
    acquire_encoder.run(chosen, acquire_encoder.Inputs(), acquire_encoder.Outputs(folder))
    assert visible(folder) == contents
    assert [path.name for path in folder.parent.iterdir()] == ["biomedclip"]


def test_the_weights_are_held_against_the_published_checksum(tmp_path):
    weights = acquire_encoder.encoder_files(tmp_path, acquire_encoder.WEIGHTS_SHA256)[-1]
    assert weights.size_bytes == 783_705_670
    assert weights.sha256 == "52cc993c5c5ff962bd0c60931874bc001e7e9b41666a385530f4a036294576be"
    assert weights.url.endswith(
        "BiomedCLIP-PubMedBERT_256-vit_base_patch16_224/resolve/main/open_clip_pytorch_model.bin"
    )
