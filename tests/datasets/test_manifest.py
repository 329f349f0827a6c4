"""The manifest lists what is there, and is written whole."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipeline_lib.datasets import manifest
from pipeline_lib.datasets.manifest import write_manifest


def listed(path: Path) -> dict[str, int]:
    return {file["path"]: file["size"] for file in json.loads(path.read_text())["files"]}


def test_it_lists_visible_files_with_their_sizes(tmp_path):
    for name, size in {"imagesTr/b.nii.gz": 7, "imagesTr/a.nii.gz": 5, "top.json": 0}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(bytes(size))
    for hidden in (".acquire/part", "imagesTr/._a.nii.gz"):
        (tmp_path / hidden).parent.mkdir(exist_ok=True)
        (tmp_path / hidden).write_bytes(b"x")
    path = tmp_path / "manifest.json"
    write_manifest(path, "spleen", {"kind": "local"}, linked=True)
    assert listed(path) == {"imagesTr/a.nii.gz": 5, "imagesTr/b.nii.gz": 7, "top.json": 0}
    assert list(listed(path)) == sorted(listed(path))
    content = json.loads(path.read_text())
    assert (content["dataset"], content["source"], content["linked"]) == ("spleen", {"kind": "local"}, True)
    write_manifest(path, "spleen", {"kind": "local"}, linked=True)
    assert "manifest.json" not in listed(path)


def test_it_follows_links_but_in_no_circle(tmp_path):
    mine, raw = tmp_path / "mine", tmp_path / "raw"
    (mine / "imagesTr").mkdir(parents=True)
    raw.mkdir()
    (mine / "imagesTr" / "a.nii.gz").write_bytes(b"four")
    (mine / "imagesTr" / "again").symlink_to(mine, target_is_directory=True)
    (mine / "imagesTr" / "gone").symlink_to(mine / "nowhere")
    (raw / "data").symlink_to(mine, target_is_directory=True)
    write_manifest(raw / "manifest.json", "spleen", {}, linked=True)
    assert listed(raw / "manifest.json") == {"data/imagesTr/a.nii.gz": 4}


def test_it_is_not_there_if_writing_fails(tmp_path, monkeypatch):
    def fail(path: Path, content: object) -> None:
        raise OSError("no space")

    monkeypatch.setattr(manifest, "write_json", fail)
    with pytest.raises(OSError, match="no space"):
        write_manifest(tmp_path / "manifest.json", "spleen", {}, linked=False)
    assert not (tmp_path / "manifest.json").exists()
