"""What the label files of a data set mean: the values or names of each ROI, and what is unknown in which case."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag

from .label_names import bare, owners
from .section import Name, Section

Values = tuple[int, ...]
Names = tuple[str, ...]
Parts = tuple[Names, ...]


def _kind(definition: Any) -> str:
    """Which form a definition has. A tag with a blank is left out of messages (problems)."""
    first = definition[0] if isinstance(definition, list | tuple) and definition else None
    if isinstance(first, str):
        return "by name"
    return "by parts" if isinstance(first, list | tuple) else "by value"


Definition = Annotated[
    Annotated[Values, Tag("by value")] | Annotated[Names, Tag("by name")] | Annotated[Parts, Tag("by parts")],
    Discriminator(_kind),
]
"""What makes a ROI: label values, or names of its mask or contour, or parts with names each."""

Labels = Mapping[str, Values | Names | Parts]


def _by_value(unknown: Any) -> Any:
    """A list of values stands for values that are unknown for every ROI."""
    return dict.fromkeys(unknown, "all") if isinstance(unknown, list | tuple) else unknown


UnknownLabels = Annotated[dict[int, Literal["all"] | tuple[Name, ...]], BeforeValidator(_by_value)]
"""Label value → the ROIs for which its voxels are unknown."""

LabelledRule = Literal["all", "present"]


class Labelling(Section):
    """What the label files of one case mean; the keys are those of a data set.

    `labelled` are the ROIs that the case labels, or the rule by which its files say that.
    """

    labels: dict[Name, Definition] = Field(default={})
    ignored_labels: Values = ()
    unknown_labels: UnknownLabels = Field(default={})
    labelled: LabelledRule | tuple[Name, ...] = "all"

    @property
    def known_values(self) -> set[int]:
        """All label values that mean something."""
        claimed = {value for values in label_values(self.labels).values() for value in values}
        return {*claimed, *self.ignored_labels, *self.unknown_labels}

    @property
    def labels_nothing(self) -> bool:
        """Whether the case has no labels at all, so that no file of labels is looked for."""
        return not self.labels and self.labelled == ()

    def labels_roi(self, roi: str) -> bool:
        """Whether a case with a file of all its labels labels `roi`."""
        return roi in self.labels and (isinstance(self.labelled, str) or roi in self.labelled)

    def unknown_values(self, roi: str) -> Values:
        """The label values whose voxels are unknown for `roi`."""
        return tuple(value for value, rois in self.unknown_labels.items() if rois == "all" or roi in rois)


def label_values(labels: Labels) -> dict[str, Values]:
    """ROI → label values, of the ROIs that are defined by values."""
    return {
        roi: tuple(value for value in definition if isinstance(value, int))
        for roi, definition in labels.items()
        if _kind(definition) == "by value"
    }


def label_names(labels: Labels) -> dict[str, Parts]:
    """ROI → parts → names. A ROI of one part also goes by its own name."""
    found: dict[str, Parts] = {}
    for roi, definition in labels.items():
        parts = tuple(part for part in definition if isinstance(part, tuple))
        if not parts:
            names = tuple(str(name) for name in definition)
            parts = (names if bare(roi) in map(bare, names) else (*names, roi),)
        found[roi] = parts
    return found


def check_labelling(whole: Labelling, by_case: Mapping[str, Names], has_masks: bool) -> None:
    """ValueError if the labels of a data set do not fit its layout, or contradict themselves.

    `by_case` has what a table says of each case.
    """
    _check_definitions(whole.labels, has_masks)
    _check_unknown(whole, has_masks)
    if whole.labelled == "present" and not has_masks:
        raise ValueError(
            "`labelled: present` goes by the masks that a case has, and a label map has all ROIs in one file: "
            "name a table"
        )
    strange = sorted({roi for rois in by_case.values() for roi in rois} - set(whole.labels))
    if strange:
        raise ValueError(f"`labelled` names {strange[0]}, which `labels` does not define: define it, or take it out")


def _check_definitions(labels: Labels, has_masks: bool) -> None:
    for roi, definition in labels.items():
        kind = _kind(definition)
        if has_masks and kind == "by value" and definition:
            raise ValueError(f"`labels` gives {roi} values, but the layout has a mask for each ROI: give names")
        if not has_masks and kind != "by value":
            raise ValueError(f"`labels` gives {roi} names, but the layout has label maps: give values")
        if not has_masks and not definition:
            raise ValueError(f"`labels` gives {roi} no value")
    if has_masks:
        owners(label_names(labels))


def _check_unknown(whole: Labelling, has_masks: bool) -> None:
    if has_masks and whole.unknown_labels:
        raise ValueError("`unknown_labels` are values of label maps, but the layout has masks")
    for value, rois in whole.unknown_labels.items():
        if value in whole.ignored_labels:
            raise ValueError(f"{value} is among both `unknown_labels` and `ignored_labels`")
        strange = [roi for roi in rois if roi not in whole.labels] if rois != "all" else []
        if strange:
            raise ValueError(f"`unknown_labels` names {strange[0]}, which `labels` does not define")
    for roi, values in label_values(whole.labels).items():
        if both := sorted(set(values) & set(whole.unknown_values(roi))):
            raise ValueError(f"`labels` gives {roi} {both[0]}, which `unknown_labels` leaves open for it")
