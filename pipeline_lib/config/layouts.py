"""Where a data set's files lie: the published layouts in one table, and layouts of the user's own.

A layout is two path templates below the data set's root, and what the label files mean by their values: a label map
holds one integer per voxel, which the data set's `labels` explain; with `{structure}` in the template there is one mask
for each structure. In a DICOM layout a case is a folder, whose files say themselves what they are. No other file knows
a layout by its name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from string import Formatter
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import BeforeValidator, Discriminator, Field, Tag, model_validator

from .openkbp import Patient, patients
from .section import Section

IMAGE_ENDINGS = (".nii.gz", ".nii", ".mha", ".nrrd")
"""Formats that are read; upper and lower case are the same."""

_PARTS = ("case", "structure", "ending")


def is_image_file(path: Path) -> bool:
    """Whether the name is that of an image or label file."""
    return path.name.lower().endswith(IMAGE_ENDINGS)


def _parts(key: str, template: str) -> set[str]:
    """What stands in braces in a template; raises ValueError if they do not match or hold more than a name."""
    try:
        parts = [part for _, part, form, conversion in Formatter().parse(template) if part is not None]
        plain = all(not form and not conversion for _, part, form, conversion in Formatter().parse(template) if part)
    except ValueError as error:
        raise ValueError(f"`{key}`: {template!r} is not a template ({error})") from error
    if not plain:
        raise ValueError(f"`{key}`: {template!r} may hold plain names in braces only, as in {{case}}")
    return set(parts)


class Layout(Section):
    """A layout of your own: templates of the paths of each case's files below `root`."""

    image: str = Field(
        description="Path of a case's image; {case} stands for the case's name, {ending} for the `file_ending` of "
        "nnU-Net's dataset.json."
    )
    labels: str | None = Field(
        default=None,
        description="Path of a case's label map or, with {structure}, of one mask for each structure (null: the cases "
        "have no label files).",
    )

    @model_validator(mode="after")
    def _can_be_filled_in(self) -> Self:
        templates = {"image": self.image} | ({} if self.labels is None else {"labels": self.labels})
        for key, template in templates.items():
            parts = _parts(key, template)
            unknown = sorted(parts - set(_PARTS if key == "labels" else ("case", "ending")))
            if unknown:
                raise ValueError(f"`{key}`: {{{unknown[0]}}} has no meaning here; use {{case}}")
            if "case" not in parts:
                raise ValueError(f"`{key}`: {template!r} names the same file for every case; put {{case}} into it")
            path = PurePosixPath(template)
            if path.is_absolute() or ".." in path.parts:
                raise ValueError(f"`{key}`: {template!r} leaves the data set's folder; give a path below `root`")
            if not template.lower().endswith((*IMAGE_ENDINGS, "{ending}")):
                raise ValueError(f"`{key}`: {template!r} must end in one of {', '.join(IMAGE_ENDINGS)}")
        if self.image == self.labels:
            raise ValueError(f"`image` and `labels` are both {self.image!r}")
        return self

    def __str__(self) -> str:
        return self.image if self.labels is None else f"{self.image}, {self.labels}"

    @property
    def has_masks(self) -> bool:
        """Whether each structure has a mask of its own, instead of a label map for all."""
        return "structure" in _parts("labels", self.labels or "")

    @property
    def needs_ending(self) -> bool:
        """Whether nnU-Net's dataset.json says how the files' names end."""
        return "ending" in _parts("image", self.image) | _parts("labels", self.labels or "")


@dataclass(frozen=True)
class PublishedLayout:
    """A layout that the reader knows by name, and how the phantom generator writes it.

    `case_name` names the phantom's cases from the data set's name and a number; `axes` says how their voxel axes lie
    (`mixed`: as published NIfTI files do, differently from case to case), `at_origin` whether positions are dropped;
    `description` is the kind of dataset.json beside the cases. `phantoms` is False where none are written. `patients`
    is the table of a collection that is published in another form; acquiring it converts its cases into these files.
    With `dicom`, the image is the folder of a case, and each structure of the RTSTRUCT and DICOM-SEG in it is a mask.
    """

    files: Layout
    case_name: str = "{name}_{number:03d}"
    axes: Literal["mixed", "slice_row_column", "right_anterior_superior"] = "mixed"
    at_origin: bool = False
    description: Literal["msd", "nnunet"] | None = None
    phantoms: bool = True
    patients: Callable[[], Mapping[str, Patient]] | None = None
    dicom: bool = False


_TOTALSEGMENTATOR = Layout(image="{case}/ct.nii.gz", labels="{case}/segmentations/{structure}.nii.gz")

PUBLISHED = {
    "msd": PublishedLayout(Layout(image="imagesTr/{case}.nii.gz", labels="labelsTr/{case}.nii.gz"), description="msd"),
    # KiTS19 stores its axes as (slice, row, column), and no positions.
    "kits19": PublishedLayout(
        Layout(image="data/{case}/imaging.nii.gz", labels="data/{case}/segmentation.nii.gz"),
        case_name="case_{number:05d}",
        axes="slice_row_column",
        at_origin=True,
    ),
    "totalsegmentator_v1": PublishedLayout(
        _TOTALSEGMENTATOR, case_name="s{number:04d}", axes="right_anterior_superior"
    ),
    # v2 has structures that the phantom generator does not draw.
    "totalsegmentator_v2": PublishedLayout(_TOTALSEGMENTATOR, case_name="s{number:04d}", phantoms=False),
    "nnunet": PublishedLayout(
        Layout(image="imagesTr/{case}_0000{ending}", labels="labelsTr/{case}{ending}"), description="nnunet"
    ),
    "openkbp": PublishedLayout(
        Layout(image="{case}/ct.nii.gz", labels="{case}/masks/{structure}.nii.gz"), phantoms=False, patients=patients
    ),
    # A folder for each patient. It has no templates of files, which a layout of the user's own must have.
    "dicom": PublishedLayout(
        Layout.model_construct(image="{case}", labels="{case}/{structure}"), phantoms=False, dicom=True
    ),
}

LayoutName = Literal["msd", "kits19", "totalsegmentator_v1", "totalsegmentator_v2", "nnunet", "openkbp", "dicom"]


def _known(value: Any) -> Any:
    if isinstance(value, Mapping | Layout) or value in get_args(LayoutName):
        return value
    raise ValueError(
        f"unknown layout {value!r}; choose from {', '.join(PUBLISHED)}, or give your own: "
        'layout: {image: "scans/{case}.nii.gz", labels: "labels/{case}.nii.gz"}'
    )


AnyLayout = Annotated[
    Annotated[LayoutName, Tag("published")] | Annotated[Layout, Tag("own")],
    Discriminator(lambda value: "published" if isinstance(value, str) else "own"),
    BeforeValidator(_known),
]
"""The name of a published layout, or a layout of the user's own."""


def published(layout: LayoutName | Layout) -> PublishedLayout:
    """The table's entry of a layout; one of the user's own is written as MSD's is, without a dataset.json."""
    return PUBLISHED[layout] if isinstance(layout, str) else PublishedLayout(layout)
