"""The CTs that somebody wants segmented: found, read, and refused with one line where something is wrong."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import SimpleITK as sitk

from ..config.layouts import IMAGE_ENDINGS, is_image_file
from ..datasets.hounsfield import unit_fault, unit_note
from ..datasets.images import ReadImage, checked_image, read_image_with_notes
from ..errors import UserError
from ..geometry import Geometry
from ..nifti import Placement

_SKIP = "list the case under `skip:`"
"""What remedies for a data set offer besides; there is no data set here."""


@dataclass(frozen=True)
class Ct:
    """A CT in HU on its right-angled grid. `name` is that of its results; `notes` say what is odd about it.

    `placement` is its NIfTI header's own, where that is out of the ordinary, for results to repeat.
    """

    name: str
    source: str
    image: sitk.Image
    notes: tuple[str, ...] = ()
    placement: Placement | None = None

    @property
    def grid(self) -> Geometry:
        return Geometry.from_image(self.image)


def find_cases(path: Path) -> dict[str, Path]:
    """Name → path of the CT in `path`, or of all in a folder, by name.

    Raises UserError if there is none, or if two have the same name.
    """
    if not path.exists():
        raise UserError(str(path), "is missing", "check the path")
    if not path.is_dir():
        return {_name(path): path}
    # A folder of a DICOM series, or a zip of one, is to become a case here.
    files = sorted(file for file in path.iterdir() if is_image_file(file) and not file.name.startswith("."))
    if not files:
        endings = ", ".join(IMAGE_ENDINGS)
        raise UserError(str(path), f"holds no image ({endings})", "give a CT, or a folder that holds some")
    cases: dict[str, Path] = {}
    for file in files:
        other = cases.setdefault(_name(file), file)
        if other != file:
            raise UserError(str(path), f"holds {other.name} and {file.name}", "give them different names")
    return cases


def read_ct(path: Path, name: str | None = None, allow_other_units: bool = False) -> Ct:
    """The CT in a NIfTI, NRRD or MHA file.

    Raises UserError if it is missing, damaged, not one 3-D image of plain numbers, a single slice or, unless
    `allow_other_units`, not in HU.
    """
    # A folder of a DICOM series is to be read here.
    try:
        read = read_image_with_notes(path)
    except UserError as error:
        remedy = "check the path" if error.wrong == "is missing" else _without_data_set(error.remedy)
        raise UserError(error.where, error.wrong, remedy) from error
    except OSError as error:
        raise UserError(str(path), f"cannot be read ({error.strerror})", "check the path") from error
    return _checked(name or _name(path), str(path), read, allow_other_units)


def ct_from_image(image: sitk.Image, name: str = "image", allow_other_units: bool = False) -> Ct:
    """An image in memory as a CT; raises UserError as `read_ct` does."""
    try:
        read = checked_image(Path(name), image)
    except UserError as error:
        raise UserError(error.where, error.wrong, _without_data_set(error.remedy)) from error
    return _checked(name, name, read, allow_other_units)


def _checked(name: str, source: str, read: ReadImage, allow_other_units: bool) -> Ct:
    size = read.image.GetSize()
    if min(size) == 1:
        sides = "×".join(str(side) for side in size)
        raise UserError(source, f"is a single slice ({sides})", "give the whole volume")
    voxels = sitk.GetArrayViewFromImage(read.image)
    notes = read.notes
    if allow_other_units:
        return Ct(name, source, read.image, notes, read.placement)
    if fault := unit_fault(voxels):
        wrong, remedy = fault
        raise UserError(source, wrong, f"{remedy}; is it an MR? --allow-other-units tries it nevertheless")
    if note := unit_note(voxels):
        notes = (*notes, note)
    return Ct(name, source, read.image, notes, read.placement)


def _name(path: Path) -> str:
    """The file's name without its ending."""
    ending = next((ending for ending in IMAGE_ENDINGS if path.name.lower().endswith(ending)), path.suffix)
    return path.name[: len(path.name) - len(ending)] or path.name


def _without_data_set(remedy: str) -> str:
    for conjunction in (", or ", " or "):
        remedy = remedy.replace(conjunction + _SKIP, "")
    return remedy
