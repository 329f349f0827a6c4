"""Archives are unpacked whole or not at all, and nothing in them reaches outside their folder."""

from __future__ import annotations

import io
import shutil
import stat
import tarfile
import zipfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline_lib.datasets import archives, transfers
from pipeline_lib.datasets.archives import read_members, unpack
from pipeline_lib.errors import UserError

FILES = {"Task03_Liver/imagesTr/liver_0.nii.gz": b"image" * 1000, "Task03_Liver/labelsTr/liver_0.nii.gz": b"label"}


def make_tar(path: Path, files: dict[str, bytes], extra: list[tarfile.TarInfo] | None = None) -> Path:
    mode = "w:gz" if path.name.endswith("gz") else "w"
    with tarfile.open(path, mode) as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        for info in extra or []:
            archive.addfile(info)
    return path


def make_zip(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def make(path: Path, files: dict[str, bytes]) -> Path:
    return make_zip(path, files) if path.suffix == ".zip" else make_tar(path, files)


def tree(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def refused(archive: Path, tmp_path: Path) -> str:
    """The line with which the archive is refused; nothing of it may stay, inside its folder or outside."""
    before = tree(tmp_path)
    with pytest.raises(UserError) as caught:
        unpack(archive, tmp_path / "raw", tmp_path / "raw" / ".acquire" / "unpacking")
    assert tree(tmp_path) == before
    assert str(archive) in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", ["a.tar", "a.tar.gz", "a.tgz", "a.zip"])
def test_an_archive_is_unpacked_as_it_is(tmp_path, name):
    archive = make(tmp_path / name, FILES)
    sizes = unpack(archive, tmp_path / "raw", tmp_path / "staging")
    assert tree(tmp_path / "raw") == FILES
    assert sizes == {name: len(content) for name, content in FILES.items()}
    assert not (tmp_path / "staging").exists()


@pytest.mark.parametrize("prefix", ["", "Totalsegmentator_dataset/"])
def test_an_archive_may_bring_its_own_folder_or_not(tmp_path, prefix):
    archive = make_zip(tmp_path / "a.zip", {f"{prefix}s0000/ct.nii.gz": b"image", f"{prefix}meta.csv": b"table"})
    sizes = unpack(archive, tmp_path / "raw", tmp_path / "staging", root="Totalsegmentator_dataset")
    assert sizes == {"Totalsegmentator_dataset/s0000/ct.nii.gz": 5, "Totalsegmentator_dataset/meta.csv": 5}
    assert set(tree(tmp_path / "raw")) == set(sizes)


def test_litter_of_macos_and_skipped_cases_are_left_out(tmp_path):
    kept = {**FILES, "./Task03_Liver/dataset.json": b"{}"}
    litter = {
        "._Task03_Liver": b"x",
        "Task03_Liver/imagesTr/._liver_0.nii.gz": b"x",
        "__MACOSX/a": b"x",
        "Task03_Liver/.DS_Store": b"x",
    }
    skipped = {
        "Task03_Liver/imagesTr/liver_7.nii.gz": b"x",
        "Task03_Liver/imagesTr/liver_7_0000.nii.gz": b"x",
        "s0864/segmentations/liver.nii.gz": b"x",
    }
    archive = make_tar(tmp_path / "a.tar", {**litter, **kept, **skipped})
    unpack(archive, tmp_path / "raw", tmp_path / "staging", {"liver_7", "s0864"})
    assert tree(tmp_path / "raw") == {name.removeprefix("./"): content for name, content in kept.items()}


@pytest.mark.parametrize("ending", [".tar", ".tar.gz", ".zip"])
@pytest.mark.parametrize(
    "name", ["/etc/evil", "../evil", "a/../../evil", "a/..", "C:\\evil", "..\\evil", "a\\..\\..\\evil"]
)
def test_a_path_that_leads_out_is_refused_by_name(tmp_path, ending, name):
    line = refused(make(tmp_path / f"a{ending}", {"fine.txt": b"fine", name: b"evil"}), tmp_path)
    assert name in line


@pytest.mark.parametrize(
    ("kind", "word"),
    [
        (tarfile.SYMTYPE, "link"),
        (tarfile.LNKTYPE, "link"),
        (tarfile.CHRTYPE, "device"),
        (tarfile.BLKTYPE, "device"),
        (tarfile.FIFOTYPE, "device"),
    ],
)
def test_links_and_devices_in_a_tar_are_refused_by_name(tmp_path, kind, word):
    info = tarfile.TarInfo("images/odd")
    info.type, info.linkname = kind, "../../outside"
    line = refused(make_tar(tmp_path / "a.tar", FILES, [info]), tmp_path)
    assert "images/odd" in line
    assert word in line


def test_a_link_in_a_zip_is_refused_by_name(tmp_path):
    info = zipfile.ZipInfo("images/odd")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(info, "../../outside")
    assert "images/odd is a link" in refused(tmp_path / "a.zip", tmp_path)


@pytest.mark.parametrize("ending", [".tar.gz", ".zip"])
def test_absurd_sizes_are_refused_by_name(tmp_path, ending, monkeypatch):
    monkeypatch.setattr(archives, "_SLACK_BYTES", 1000)
    archive = make(tmp_path / f"bomb{ending}", {"zeros.nii": bytes(5_000_000)})
    assert "zeros.nii" in refused(archive, tmp_path)


def test_a_size_larger_than_the_disk_is_refused(tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(transfers.shutil, "disk_usage", lambda path: usage._replace(free=1000))
    archive = make_tar(tmp_path / "a.tar", FILES)
    with pytest.raises(UserError, match="GB are free"):
        unpack(archive, tmp_path / "raw", tmp_path / "staging")
    assert not (tmp_path / "raw").exists()


@pytest.mark.parametrize("ending", [".tar", ".tar.gz", ".zip"])
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(share=st.floats(0.02, 0.98))
def test_a_truncated_archive_is_refused(tmp_path_factory, ending, share):
    folder = tmp_path_factory.mktemp("cut")
    archive = make(folder / f"a{ending}", {"a.nii.gz": bytes(range(256)) * 40, "b.nii.gz": bytes(range(256)) * 37})
    whole = archive.read_bytes()
    # A tar ends with blocks of zeros that carry nothing.
    end = len(whole.rstrip(b"\0")) if ending == ".tar" else len(whole)
    archive.write_bytes(whole[: int(share * end)])
    refused(archive, folder)


@pytest.mark.parametrize("ending", [".tar.gz", ".zip"])
def test_a_damaged_member_is_refused(tmp_path, ending):
    content = bytes(range(256)) * 400
    archive = make(tmp_path / f"a{ending}", {"case.nii.gz": content})
    damaged = bytearray(archive.read_bytes())
    damaged[len(damaged) // 2] ^= 0xFF
    archive.write_bytes(damaged)
    assert "damaged" in refused(archive, tmp_path)


def test_a_damaged_member_of_a_skipped_case_does_no_harm(tmp_path):
    archive = make_zip(tmp_path / "a.zip", {"s0864/ct.nii.gz": bytes(range(256)) * 400, "s0001/ct.nii.gz": b"fine"})
    damaged = bytearray(archive.read_bytes())
    damaged[100] ^= 0xFF
    archive.write_bytes(damaged)
    assert "s0864/ct.nii.gz" in refused(archive, tmp_path)
    unpack(archive, tmp_path / "raw", tmp_path / "staging", {"s0864"})
    assert tree(tmp_path / "raw") == {"s0001/ct.nii.gz": b"fine"}


def test_an_encrypted_member_is_refused_by_name(tmp_path):
    archive = make_zip(tmp_path / "a.zip", {"secret.nii.gz": b"content"})
    content = bytearray(archive.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(signature) + offset] |= 1
    archive.write_bytes(content)
    assert "secret.nii.gz is encrypted" in refused(archive, tmp_path)


def test_what_an_interrupted_extraction_left_is_no_part_of_the_next(tmp_path):
    staging = tmp_path / "staging"
    (staging / "Task03_Liver").mkdir(parents=True)
    (staging / "Task03_Liver" / "half.nii.gz").write_bytes(b"half")
    unpack(make_tar(tmp_path / "a.tar", FILES), tmp_path / "raw", staging)
    assert tree(tmp_path / "raw") == FILES


def test_an_archive_without_files_is_refused(tmp_path):
    assert "holds no files" in refused(make_tar(tmp_path / "a.tar", {}), tmp_path)


@pytest.mark.parametrize("name", ["a.tar", "a.tar.gz", "a.zip"])
@pytest.mark.parametrize("top", ["", "repository-1a2b3c/", "./repository-1a2b3c/"])
def test_wanted_members_are_read_wherever_the_archive_has_them(tmp_path, name, top):
    archive = make(tmp_path / name, {f"{top}{path}": content for path, content in FILES.items()} | {"other": b"x"})
    wanted = [*FILES, "absent"]
    assert dict(read_members(archive, wanted)) == FILES
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_member_that_would_fill_the_memory_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "_LARGEST_IN_MEMORY", 4999)
    archive = make_zip(tmp_path / "a.zip", FILES)
    with pytest.raises(UserError, match=r"imagesTr/liver_0\.nii\.gz has 0\.0 GB"):
        dict(read_members(archive, FILES))


def test_a_damaged_member_is_named(tmp_path):
    archive = make_zip(tmp_path / "a.zip", {"ct.csv": bytes(range(256)) * 40})
    content = bytearray(archive.read_bytes())
    content[60] ^= 0xFF
    archive.write_bytes(content)
    with pytest.raises(UserError, match=r"member ct\.csv is damaged"):
        dict(read_members(archive, ["ct.csv"]))
