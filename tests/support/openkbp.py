"""Small patients of OpenKBP's kind, written as it publishes them, and a table that knows them."""

from __future__ import annotations

import hashlib
import io
import zipfile
from dataclasses import replace

import numpy as np
import pytest

from pipeline_lib.config.layouts import PUBLISHED
from pipeline_lib.config.openkbp import Patient

SIDE = 128
VOXEL_SIDES_MM = (4.0, 3.5, 2.5)
"""Along the published axes: to posterior, to the left, to inferior."""


def git_blob_id(content: bytes) -> str:
    return hashlib.sha1(b"blob " + str(len(content)).encode() + b"\0" + content).hexdigest()


def flat_index(posterior: int, left: int, inferior: int) -> int:
    return (posterior * SIDE + left) * SIDE + inferior


def ct_csv(values: dict[tuple[int, int, int], int]) -> bytes:
    """The CT that has these stored values, by their place along the published axes."""
    rows = sorted((flat_index(*place), value) for place, value in values.items())
    return "\n".join([",data", *(f"{index},{float(value)}" for index, value in rows)]).encode()


def mask_csv(places: list[tuple[int, int, int]]) -> bytes:
    return "\n".join([",data", *(f"{index}," for index in sorted(flat_index(*place) for place in places))]).encode()


def sides_csv(sides: tuple[float, float, float] = VOXEL_SIDES_MM) -> bytes:
    return "".join(f"{side:.18e}\n" for side in sides).encode()


def patient_files(number: int, organs: tuple[str, ...]) -> dict[str, bytes]:
    """The files of a patient whose tissue is random in a box of 12×10×8 voxels, with a random mask for each organ."""
    generator = np.random.default_rng(number)
    inside = [(p, left, i) for p in range(20, 32) for left in range(40, 50) for i in range(60, 68)]
    values = generator.integers(1, 2000, len(inside)).tolist()
    files = {"ct.csv": ct_csv(dict(zip(inside, values, strict=True))), "voxel_dimensions.csv": sides_csv()}
    for organ in organs:
        files[f"{organ}.csv"] = mask_csv([inside[k] for k in generator.choice(len(inside), 40, replace=False)])
    return files


class Collection:
    """Patients with their files, as they lie in the repository, and their rows of the table."""

    def __init__(self, organs: dict[str, tuple[str, ...]]) -> None:
        self.files: dict[str, bytes] = {"README.md": b"OpenKBP"}
        self.table: dict[str, Patient] = {}
        for number, (case, of_case) in enumerate(organs.items(), start=1):
            folder = f"provided-data/train-pats/pt_{number}"
            files = patient_files(number, of_case)
            self.files |= {f"{folder}/{name}": content for name, content in files.items()}
            self.files[f"{folder}/dose.csv"] = b"not needed"
            self.table[case] = Patient(
                folder=folder,
                kept=((58, 68), (18, 34), (38, 52)),
                labelled=of_case,
                refused="",
                excluded="",
                blobs={name: git_blob_id(content) for name, content in files.items()},
            )

    def zipped(self, top: str = "open-kbp-ce625e6/") -> bytes:
        """The repository as an archive that has it in a folder of its own."""
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in self.files.items():
                archive.writestr(top + name, content)
        return buffer.getvalue()

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Make the layout `openkbp` know these patients and no others."""
        monkeypatch.setitem(PUBLISHED, "openkbp", replace(PUBLISHED["openkbp"], patients=lambda: self.table))

    def change(self, case: str, **changes: object) -> None:
        self.table[case] = replace(self.table[case], **changes)
