"""What is known about a case besides its voxels: case.json."""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ..errors import UserError
from ..files import atomic_write, read_json
from ..geometry import Geometry
from ..nifti import Placement

Voxel = tuple[int, int, int]
"""Indices (z, y, x) into a volume."""


class CaseRecord(BaseModel):
    """A case's targets, grids and the places that patches are drawn from.

    `targets` names the label bits in order; only those in `labelled` were annotated, the others are unknown. `voxels`
    counts the volume's voxels of each labelled target, `unknown` those that say nothing of a labelled target (targets
    without any are left out), `foreground` has up to 1,000 random ones of each that is there,
    `body` is the half-open box [z0 y0 x0], [z1 y1 x1] around the patient. `placement` is the CT's NIfTI header where it
    is out of the ordinary, for predictions to repeat;
    `notes` say what was odd about the CT's grid. `content` is a digest of the image and the labels, by which trainings
    recognise a case, `made_by` names the settings that it was made by (both are empty in records of earlier versions).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    dataset: str
    case: str
    targets: tuple[str, ...]
    labelled: tuple[str, ...]
    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    origin_mm: tuple[float, float, float]
    original: Geometry
    window_hu: tuple[float, float]
    voxels: dict[str, int]
    foreground: dict[str, tuple[Voxel, ...]]
    body: tuple[Voxel, Voxel]
    placement: Placement | None = None
    notes: tuple[str, ...] = ()
    content: str = ""
    made_by: str = ""
    unknown: dict[str, int] = Field(default={})

    @property
    def grid(self) -> Geometry:
        """The volume's grid."""
        return Geometry(size=self.shape[::-1], spacing_mm=self.spacing_mm, origin_mm=self.origin_mm)


def write_record(path: Path, record: CaseRecord) -> None:
    """Write a key per line: thousands of voxels on lines of their own would make case.json huge."""
    optional = ("placement", "notes", "content", "made_by", "unknown")
    content = record.model_dump(mode="json", exclude={key for key in optional if not getattr(record, key)})
    lines = [f"  {json.dumps(key)}: {json.dumps(value)}" for key, value in content.items()]
    with atomic_write(path) as partial:
        partial.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


def read_record(path: Path) -> CaseRecord:
    """Raises UserError if `path` is missing or is not a case record."""
    try:
        return CaseRecord.model_validate(read_json(path))
    except (OSError, ValueError, ValidationError) as error:
        wrong = str(error).splitlines()[0]
        remedy = "delete it and run `snakemake volumes --cores all` with your config"
        raise UserError(str(path), f"is not a case record ({wrong})", remedy) from error
