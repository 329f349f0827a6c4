"""Atomic writes, names for contents, and damaged files."""

import errno
import os
import shutil
import stat
from collections import namedtuple

import pytest
import torch
from safetensors.torch import save_file

from pipeline_lib.errors import UserError
from pipeline_lib.files import atomic_folder, atomic_write, fingerprint, is_disk_full, read_json_lines

Usage = namedtuple("Usage", "total used free")


@pytest.fixture
def umask():
    """Sets the umask for the test."""
    before = os.umask(0o022)
    yield os.umask
    os.umask(before)


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o002, 0o664), (0o077, 0o600)])
def test_files_get_the_mode_of_the_umask_whoever_writes_them(tmp_path, umask, mask, mode):
    umask(mask)
    path = tmp_path / "model.safetensors"
    with atomic_write(path) as partial:
        save_file({"weight": torch.zeros(3)}, partial)
        partial.chmod(0o600)  # as some writers do on purpose
    assert stat.S_IMODE(path.stat().st_mode) == mode


def test_a_block_that_fails_leaves_the_file_as_it_was_and_nothing_beside_it(tmp_path):
    path = tmp_path / "file.txt"
    path.write_text("before")
    with pytest.raises(ZeroDivisionError), atomic_write(path) as partial:
        partial.write_text("half")
        raise ZeroDivisionError
    with pytest.raises(ZeroDivisionError), atomic_folder(tmp_path / "folder") as partial:
        (partial / "half").write_text("half")
        raise ZeroDivisionError
    assert [entry.name for entry in tmp_path.iterdir()] == ["file.txt"]
    assert path.read_text() == "before"


@pytest.mark.parametrize("free", [0, 10**9])
def test_what_a_library_raises_on_a_full_disk_becomes_the_systems_error(tmp_path, monkeypatch, free):
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: Usage(10**9, 10**9 - free, free))
    for writer, name in ((atomic_write, "file.b2nd"), (atomic_folder, "folder")):
        with pytest.raises(OSError if free == 0 else RuntimeError) as raised, writer(tmp_path / name):
            raise RuntimeError("Error while copying the array")
        assert is_disk_full(raised.value) == (free == 0)
        assert getattr(raised.value, "filename", None) == (str(tmp_path / name) if free == 0 else None)
    if free == 0:
        with pytest.raises(OSError, match="No space left"), atomic_write(tmp_path / "half.nii") as partial:
            partial.write_text("what a library wrote without a complaint")
    with pytest.raises(OSError, match=r"out\.json") as raised, atomic_write(tmp_path / "out.json"):
        raise OSError(errno.EDQUOT, "Disk quota exceeded")
    assert is_disk_full(raised.value)
    # safetensors has an error of its own, which says it in words.
    with pytest.raises(OSError, match=r"quota") as raised, atomic_write(tmp_path / "model"):
        raise RuntimeError("Error while serializing: I/O error: Disk quota exceeded (os error 122)")
    assert is_disk_full(raised.value)
    with pytest.raises(UserError, match="our own"), atomic_write(tmp_path / "out.json"):
        raise UserError("a", "our own", "c")
    assert list(tmp_path.iterdir()) == []


def test_a_fingerprint_names_contents_in_order(tmp_path):
    one, two, same = (tmp_path / name for name in ("one", "two", "same"))
    for path, text in ((one, "1"), (two, "2"), (same, "1")):
        path.write_text(text)
    first = fingerprint("settings", one, two)
    assert first == fingerprint("settings", same, two)
    assert first == fingerprint(b"settings", same, two)
    others = {
        fingerprint("settings", two, one),
        fingerprint("settings", one),
        fingerprint("setting", "s", one, two),
        fingerprint("others", one, two),
    }
    one.write_text("changed")
    others.add(fingerprint("settings", one, two))
    assert len(others | {first}) == 6


def test_damaged_lines_are_named_by_file_and_number(tmp_path):
    path = tmp_path / "history.jsonl"
    path.write_bytes(b'{"step": 1}\n{"step": 2}\n')
    assert read_json_lines(path) == [{"step": 1}, {"step": 2}]
    for damage in (b"\0" * 200, b'{"step": 3', b"3", b"\xff\xfe"):
        path.write_bytes(b'{"step": 1}\n' + damage + b'\n{"step": 4}\n')
        with pytest.raises(UserError, match=r"history\.jsonl: is damaged in line 2, .*; delete it and run"):
            read_json_lines(path)
    with pytest.raises(UserError, match=r"nowhere: cannot be read \(No such file"):
        read_json_lines(tmp_path / "nowhere")


def test_a_growing_file_is_read_without_its_half_written_line(tmp_path):
    path = tmp_path / "history.jsonl"
    path.write_bytes(b'{"step": 1}\n{"ste')
    assert read_json_lines(path, growing=True) == [{"step": 1}]
    with pytest.raises(UserError, match="line 2"):
        read_json_lines(path)
