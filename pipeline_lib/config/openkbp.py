"""OpenKBP: the part of each patient that is used, the organs that it labels, and the git ids of its published files.

Babier et al., Med Phys 48 (2021) 5549; github.com/ababier/open-kbp. docs/volumes.md says what is left out, and why.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

COMMIT = "ce625e62f3b04203f22bd9d1634f3e8fb0245e46"
"""The commit of the repository whose files the table describes."""
DATA = "provided-data"
"""Folder of the repository that holds the patients."""

CT, VOXEL_SIDES = "ct.csv", "voxel_dimensions.csv"

Range = tuple[int, int]


@dataclass(frozen=True)
class Patient:
    """One patient.

    `folder` lies below the repository. `kept` are the half-open ranges (z, y, x) of the LPS grid that are used, which
    hold whole cross-sections; `labelled` the organs whose contours are right there; `refused` says why others are not
    used. `excluded` says why no part of the patient is used; it is empty for all others. `blobs` maps the name of each
    file that is read to its git blob id.
    """

    folder: str
    kept: tuple[Range, Range, Range]
    labelled: tuple[str, ...]
    refused: str
    excluded: str
    blobs: Mapping[str, str]

    def files(self) -> dict[str, str]:
        """Path in the repository → git blob id, of each file that is read."""
        return {f"{self.folder}/{name}": blob for name, blob in self.blobs.items()}


@cache
def patients() -> Mapping[str, Patient]:
    """Case → patient, for all that were published."""
    blobs: dict[str, dict[str, str]] = {}
    for row in csv.DictReader(io.StringIO(gzip.decompress(_beside("openkbp_blobs.csv.gz")).decode())):
        folder, _, name = row["path"].rpartition("/")
        blobs.setdefault(folder, {})[name] = row["blob"]
    return {
        row["case"]: Patient(
            folder=f"{DATA}/{row['folder']}",
            kept=(_range(row["z"]), _range(row["y"]), _range(row["x"])),
            labelled=tuple(row["labels"].split()),
            refused=row["refused"],
            excluded=row["excluded"],
            blobs=blobs.get(row["folder"], {}),
        )
        for row in csv.DictReader(io.StringIO(_beside("openkbp_patients.csv").decode()))
    }


def patients_digest(table: Mapping[str, Patient], cases: Iterable[str]) -> str:
    """Names what the table says of these cases."""
    return hashlib.sha256("".join(f"{case} {table.get(case)}\n" for case in cases).encode()).hexdigest()[:12]


def _beside(name: str) -> bytes:
    return (Path(__file__).parent / name).read_bytes()


def _range(text: str) -> Range:
    """`31:91` as numbers; nothing as an empty range."""
    first, _, end = text.partition(":")
    return int(first or 0), int(end or 0)
