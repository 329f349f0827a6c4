"""The CTs that somebody wants segmented: found, read, and refused with one line where something is wrong."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import SimpleITK as sitk

from ..config.layouts import IMAGE_ENDINGS, is_image_file
from ..datasets.archives import unpack
from ..datasets.hounsfield import unit_fault, unit_note
from ..datasets.images import ReadImage, checked_image, read_image_with_notes
from ..errors import UserError
from ..geometry import Geometry
from ..nifti import Placement

if TYPE_CHECKING:
    from ..datasets.dicom.series import CtSeries

_ZIP = ".zip"
_SKIP = "list the case under `skip:`"
"""What remedies for a data set also offer; there is no data set here."""


@dataclass(frozen=True)
class Ct:
    """A CT in HU on its right-angled grid. `name` is that of its results; `notes` say what is odd about it.

    `placement` is its NIfTI header's own, where that is out of the ordinary, for results to repeat. `series` has the
    headers of its slices, if it is DICOM, in the order of the image's third axis.
    """

    name: str
    source: str
    image: sitk.Image
    notes: tuple[str, ...] = ()
    placement: Placement | None = None
    series: CtSeries | None = None

    @property
    def grid(self) -> Geometry:
        return Geometry.from_image(self.image)


def find_cases(path: Path) -> dict[str, Path]:
    """Name → path of the CT in `path`, or of all in a folder, by name.

    A folder with DICOM files of its own is one CT, and so is one whose folders of DICOM files are of a single study.
    Otherwise each image, zip and folder of DICOM files in it is one.

    Raises UserError if there is none, or if two have the same name.
    """
    if not path.exists():
        raise UserError(str(path), "is missing", "check the path")
    if not path.is_dir():
        return {_name(path): path}
    visible = sorted(entry for entry in path.iterdir() if not entry.name.startswith("."))
    files = [entry for entry in visible if is_image_file(entry) or _is_zip(entry)]
    folders = _dicom_folders(path, visible)
    if path in folders:
        if files:
            wrong = f"holds DICOM files and {files[0].name}"
            raise UserError(str(path), wrong, "give one of them, or put them into different folders")
        return {_name(path): path}
    if not files and not folders:
        endings = ", ".join(IMAGE_ENDINGS)
        raise UserError(str(path), f"holds no image ({endings}) and no DICOM file", "give a CT, or a folder with some")
    cases: dict[str, Path] = {}
    for case in sorted((*files, *folders)):
        other = cases.setdefault(_name(case), case)
        if other != case:
            raise UserError(str(path), f"holds {other.name} and {case.name}", "give them different names")
    return cases


def read_ct(path: Path, name: str | None = None, allow_other_units: bool = False, series_uid: str | None = None) -> Ct:
    """The CT in a NIfTI, NRRD or MHA file, or in a folder or zip of DICOM files: the only volume, or `series_uid`'s.

    Raises UserError if it is missing, damaged, not one 3-D image of plain numbers, a single slice or, unless
    `allow_other_units`, not in HU; of DICOM files also for what `read_ct_series` refuses.
    """
    name = name or _name(path)
    try:
        if path.is_dir():
            return _read_series(path, name, path, allow_other_units, series_uid)
        if _is_zip(path):
            return _read_zip(path, name, allow_other_units, series_uid)
        if path.is_file() and _is_dicom(path):
            raise UserError(str(path), "is one DICOM file", "give the folder with all files of the series")
        if series_uid is not None:
            raise UserError(str(path), "is not DICOM, so it has no series", "leave out --series")
        read = read_image_with_notes(path)
    except UserError as error:
        remedy = "check the path" if error.wrong == "is missing" else _without_data_set(error.remedy)
        raise UserError(error.where, error.wrong, remedy) from error
    except OSError as error:
        wrong = f"cannot be read ({error.strerror or error})"
        raise UserError(str(error.filename or path), wrong, "check the path") from error
    return _checked(name, str(path), read, allow_other_units)


def ct_from_image(image: sitk.Image, name: str = "image", allow_other_units: bool = False) -> Ct:
    """An image in memory as a CT; raises UserError as `read_ct` does."""
    try:
        read = checked_image(Path(name), image)
    except UserError as error:
        raise UserError(error.where, error.wrong, _without_data_set(error.remedy)) from error
    return _checked(name, name, read, allow_other_units)


def _dicom_folders(path: Path, visible: list[Path]) -> list[Path]:
    """`path` itself, if it is one CT, or those of its folders that hold DICOM files."""
    from ..datasets.dicom.files import first_dicom_file, study_of

    if first_dicom_file(path, below=False) is not None:
        return [path]
    found = {folder: file for folder in visible if folder.is_dir() and (file := first_dicom_file(folder))}
    if len(found) == len(visible) > 0 and len({study_of(file) for file in found.values()}) == 1:
        return [path]
    return list(found)


def _is_zip(path: Path) -> bool:
    return path.name.lower().endswith(_ZIP) and path.is_file()


def _is_dicom(path: Path) -> bool:
    from ..datasets.dicom.files import is_dicom

    return not is_image_file(path) and is_dicom(path)


def _read_zip(path: Path, name: str, allow_other_units: bool, series_uid: str | None) -> Ct:
    """The CT series in a zip, which is unpacked for as long as it is read."""
    with tempfile.TemporaryDirectory(prefix="lacuna-") as parent:
        folder = Path(parent) / "files"
        try:
            unpack(path, folder, Path(parent) / "staging")
            return _read_series(folder, name, path, allow_other_units, series_uid)
        except UserError as error:
            parts = (part.replace(str(folder), str(path)) for part in (error.where, error.wrong, error.remedy))
            raise UserError(*parts) from error


def _read_series(folder: Path, name: str, source: Path, allow_other_units: bool, series_uid: str | None) -> Ct:
    from ..datasets.dicom.series import read_ct_series

    series = read_ct_series(folder, series_uid)
    read = ReadImage(series.image, series.notes)
    return replace(_checked(name, str(source), read, allow_other_units), series=series)


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
        raise UserError(source, wrong, f"{remedy}; is it an MR? --allow-other-units tries it anyway")
    if note := unit_note(voxels):
        notes = (*notes, note)
    return Ct(name, source, read.image, notes, read.placement)


def _name(path: Path) -> str:
    """The file's name without its ending, or the folder's."""
    if path.is_dir():
        return path.resolve().name or "ct"
    endings = (*IMAGE_ENDINGS, _ZIP)
    ending = next((ending for ending in endings if path.name.lower().endswith(ending)), path.suffix)
    return path.name[: len(path.name) - len(ending)] or path.name


def _without_data_set(remedy: str) -> str:
    """What remedies for a data set say, for a single CT."""
    remedy = remedy.replace("name the series", "name one with --series").replace("name one of these", "name one")
    remedy = remedy.removesuffix("; if it stays so, name its case in `skip`")
    for conjunction in (", or ", " or "):
        remedy = remedy.replace(conjunction + _SKIP, "")
    return remedy
