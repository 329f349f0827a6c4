"""One data set: where it comes from, how its files lie, which ROIs it labels, how it is split."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import Field, HttpUrl, model_validator

from .labelling import Definition, LabelledRule, Labelling, UnknownLabels, check_labelling, label_values
from .layouts import AnyLayout, published
from .patients import check_patients
from .section import Count, Millimetres, Name, Section
from .split import CaseName, Split, split_by_case, with_lists_of_names

ARCHIVE_ENDINGS = (".tar", ".tar.gz", ".tgz", ".zip")


class PhantomSource(Section):
    """Cases made by the phantom generator and written in the data set's layout."""

    kind: Literal["phantom"] = "phantom"
    cases: Count = Field(description="Number of cases, training and test together.")
    region: Literal["abdomen", "upper_abdomen", "chest", "trunk"] = Field(
        default="abdomen", description="Part of the torso in the field of view; it varies from case to case."
    )
    spacing_mm: tuple[Millimetres, Millimetres, Millimetres] = Field(
        description="Typical voxel spacing (x, y, z) in mm; it varies from case to case."
    )
    phase: Literal["native", "arterial", "portal_venous", "mixed"] = Field(
        default="portal_venous", description="Contrast phase, which sets vessel and organ HU."
    )
    tumour: Name | None = Field(
        default=None, description="ROI that nearly every case holds (a tumour data set holds its tumour)."
    )


class RemoteFile(Section):
    """One file to download."""

    url: HttpUrl = Field(description="Address of the file.")
    path: str = Field(description="Destination, relative to the data set's raw folder.")
    md5: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")] | None = Field(
        default=None, description="MD5 that the publisher states (null: none)."
    )
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = Field(
        default=None, description="SHA-256 of the file, if known."
    )
    size_bytes: Count | None = Field(default=None, description="Size in bytes, if known.")
    about_gb: Annotated[float, Field(gt=0)] | None = Field(
        default=None, description="Size in GB for the check of free disk space, if `size_bytes` is not known."
    )


def archive_identity(file: RemoteFile) -> tuple[str, str, str]:
    """What makes an archive the same for all that read it: address and stated checksums, not size or destination."""
    return str(file.url), file.md5 or "", file.sha256 or ""


class DownloadSource(Section):
    """Published files, fetched by the stage acquire; archives (.tar, .tar.gz, .zip) are unpacked."""

    kind: Literal["download"] = "download"
    files: tuple[RemoteFile, ...] = Field(default=(), description="Files of the data set as a whole.")
    per_case: tuple[RemoteFile, ...] = Field(
        default=(), description="Files of each case; {case} in `url` and `path` stands for the case's name."
    )

    @model_validator(mode="after")
    def _something_to_fetch(self) -> Self:
        if not self.files and not self.per_case:
            raise ValueError("a download source needs `files` or `per_case`")
        return self


class LocalSource(Section):
    """A folder or an archive that the user already has; a folder is linked, never copied or changed."""

    kind: Literal["local"] = "local"
    path: str = Field(
        description="Folder or archive with the data set in its published layout; a relative path counts from "
        "the working directory."
    )


def _with_list_of_values(schema: dict[str, Any]) -> None:
    """For editors: `unknown_labels` may be a list of values too."""
    mapping = {key: schema.pop(key) for key in ("type", "additionalProperties") if key in schema}
    schema["anyOf"] = [mapping, {"type": "array", "items": {"type": "integer"}}]


class SkippedCase(Section):
    """A case left out on purpose."""

    case: CaseName = Field(description="Name of the case.")
    reason: str = Field(min_length=3, description="Why it is left out; the report prints it.")


class Dataset(Section):
    """One data set and the ROIs that it labels; what it does not label is unknown, never background."""

    name: Name = Field(description="Name of the data set; equals the name of its file.")
    layout: AnyLayout = Field(
        description="Name of the published folder layout that the cases lie in, or one of your own: "
        '`{image: "scans/{case}.nrrd", labels: "seg/{case}.nrrd"}`, with `{structure}` in `labels` for one mask each.'
    )
    source: PhantomSource | DownloadSource | LocalSource = Field(
        discriminator="kind", description="Where the cases come from."
    )
    root: str = Field(
        default=".",
        description="Folder inside the raw folder that holds the layout (archives often add one).",
    )
    labels: dict[Name, Definition] = Field(
        default={},
        description="ROI → label values that make it (an organ lists its tumour's value too), or, where each ROI has a "
        "mask or contour of its own, the names that it goes by besides its own: `parotid_left: [Parotid_L, "
        '"Lt Parotid"]`; upper and lower case, blanks, underscores and hyphens do not matter. A ROI of several parts '
        "has a list of names for each, and is labelled where all of them are: `parotid: [[Parotid_L], [Parotid_R]]`. "
        "`{}`, or left out: nobody labelled these CTs. No label file is looked for, whatever the layout, and all cases "
        "train the methods that learn without labels: write `split: all_training`. (In the fully labelled data set, "
        "whose layout has masks, it means that each structure goes by its own name.)",
    )
    ignored_labels: tuple[int, ...] = Field(default=(), description="Label values that are known and belong to no ROI.")
    unknown_labels: UnknownLabels = Field(
        default={},
        description="Label values of voxels of which nothing is known: a list, `[255]`, for all ROIs, or for each "
        "value the ROIs that it leaves open, `{255: all, 254: [liver_tumor]}`. Losses and scores leave them out.",
        json_schema_extra=_with_list_of_values,
    )
    labelled: LabelledRule | dict[CaseName, tuple[Name, ...]] | str = Field(
        default="all",
        description="Which ROIs of `labels` a case labels; the others are unknown in it. `all`: every one, and a file "
        "that is missing is a fault. `present`: those whose mask or contour it has, an empty one included. Or a CSV "
        "file beside this one, with a column `case` and one for each ROI: 1 where the case labels it, 0 or nothing "
        "where it does not.",
    )
    cases: tuple[CaseName, ...] | str = Field(
        default=(),
        description="Names of all cases (nnunet: without `_0000`), or a text file of them beside this file, one per "
        "line; blank lines and lines that begin with # do not count.",
    )
    split: Split = Field(
        default="every_fifth",
        description="Which cases are for testing: every fifth by sorted name from the first (MOTS), none "
        "(`all_training`), or `{train: [names], test: [names]}`; one of the two lists may be left out.",
        json_schema_extra=with_lists_of_names,
    )
    patients: dict[str, tuple[CaseName, ...]] = Field(
        default={},
        description="Patients who have several cases, `{P01: [case_1, case_7]}`; every other case is a patient of its "
        "own. A fold of `folds` and `validation` hold out whole patients, and none may be in both parts of the split.",
    )
    skip: tuple[SkippedCase, ...] = Field(default=(), description="Cases left out, each with its reason.")
    doubted: tuple[SkippedCase, ...] = Field(
        default=(), description="Cases that are kept though their labels are doubted, each with its reason."
    )
    licence: str = Field(description="Licence under which the data set is published.")

    @model_validator(mode="before")
    @classmethod
    def _split_by_case(cls, content: Any) -> Any:
        """`split` by case, also where it lists the cases of each part."""
        if not isinstance(content, Mapping) or "split" not in content:
            return content
        return {**content, "split": split_by_case(content["split"], content.get("cases"))}

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> Self:
        self._check_labels()
        if isinstance(self.source, PhantomSource):
            if self.cases:
                raise ValueError(f"data set {self.name}: a phantom source counts its cases, so `cases` must be empty")
        elif isinstance(self.cases, str):
            raise ValueError(f"data set {self.name}: only a data set in a file of its own may name a list of cases")
        elif not self.cases:
            raise ValueError(
                f"data set {self.name}: `cases` must list the cases, so that the graph is known beforehand"
            )
        if isinstance(self.cases, tuple) and len(set(self.cases)) != len(self.cases):
            twice = sorted({case for case in self.cases if self.cases.count(case) > 1})
            raise ValueError(f"data set {self.name}: case listed twice: {', '.join(twice)}")
        unknown = {entry.case for entry in (*self.skip, *self.doubted)} - set(self.all_cases)
        if isinstance(self.cases, tuple) and unknown:
            raise ValueError(f"data set {self.name}: skip or doubted names no case: {', '.join(sorted(unknown))}")
        if isinstance(self.split, dict) and isinstance(self.cases, tuple) and set(self.split) != set(self.all_cases):
            odd = sorted(set(self.split) ^ set(self.all_cases))
            raise ValueError(f"data set {self.name}: split and cases disagree about {', '.join(odd[:5])}")
        check_patients(self)
        return self

    def _check_labels(self) -> None:
        by_case = {} if isinstance(self.labelled, str) else self.labelled
        if isinstance(self.labelled, str) and self.labelled not in get_args(LabelledRule):
            raise ValueError(f"data set {self.name}: only a data set in a file of its own may name a table of labels")
        if absent := sorted(set(self.all_cases) - set(by_case)) if by_case else []:
            raise ValueError(
                f"data set {self.name}: `labelled` does not say what case {absent[0]} labels: add it, [] for nothing"
            )
        whole = self._labelling("present" if self.labelled == "present" else "all")
        if self.labels and published(self.layout).files.labels is None:
            raise ValueError(
                f"data set {self.name}: `labels` defines ROIs, and `layout` has no path of `labels`: add it"
            )
        try:
            check_labelling(whole, by_case, published(self.layout).files.has_masks)
        except ValueError as error:
            raise ValueError(f"data set {self.name}: {error}") from error

    def labelling(self, case: str) -> Labelling:
        """What the label files of `case` mean, and which ROIs it labels."""
        if isinstance(self.labelled, str):
            return self._labelling("present" if self.labelled == "present" else "all")
        rois = self.labelled[case]
        # A case that labels everything has the same settings with a table as without.
        return self._labelling("all" if rois and set(rois) == set(self.labels) else rois)

    @property
    def has_no_labels(self) -> bool:
        """Whether it is a folder of CTs that nobody labelled."""
        return not self.labels and not isinstance(self.labelled, str)

    @property
    def unlabelled_cases(self) -> frozenset[str]:
        """The cases that label no ROI. With `labelled: present` none is known beforehand."""
        by_case = {} if isinstance(self.labelled, str) else self.labelled
        return frozenset(case for case, rois in by_case.items() if not rois)

    def without_labels(self) -> Self:
        """This data set, of which `labels` is empty, with every case labelling nothing.

        Raises ValueError if it says something of labels all the same.
        """
        says = {
            "labelled": self.labelled != "all" and not self.has_no_labels,
            "ignored_labels": bool(self.ignored_labels),
            "unknown_labels": bool(self.unknown_labels),
        }
        if contradicting := [key for key, is_said in says.items() if is_said]:
            raise ValueError(
                f"data set {self.name}: `labels` is empty, so `{contradicting[0]}` has no meaning: leave it out, or "
                "define `labels`"
            )
        return self.model_copy(update={"labelled": dict.fromkeys(self.all_cases, ())})

    @property
    def rois_to_learn(self) -> set[str]:
        """The ROIs that some training case labels; by which masks there are, it may be any."""
        training = self.split_cases("train")
        if isinstance(self.labelled, str):
            return set(self.labels) if training else set()
        return {roi for case in training for roi in self.labelled[case]}

    @property
    def label_values(self) -> dict[str, tuple[int, ...]]:
        """ROI → label values; empty where each ROI has a mask of its own."""
        return {} if published(self.layout).files.has_masks else label_values(self.labels)

    def _labelling(self, labelled: LabelledRule | tuple[str, ...]) -> Labelling:
        return Labelling(
            labels=self.labels,
            ignored_labels=self.ignored_labels,
            unknown_labels=self.unknown_labels,
            labelled=labelled,
        )

    @property
    def all_cases(self) -> tuple[str, ...]:
        """Names of all cases in the layout's own manner, those to skip included."""
        if isinstance(self.source, PhantomSource):
            form, name = published(self.layout).case_name, self.name.removeprefix("phantom_")
            return tuple(form.format(name=name, number=number) for number in range(self.source.cases))
        return self.cases if isinstance(self.cases, tuple) else ()

    def split_cases(self, part: Literal["train", "test"]) -> tuple[str, ...]:
        """Names of the training or test cases, sorted as text, without those to skip.

        The rule `every_fifth` is that of MOTS: of the sorted names every fifth, from the first, is for testing.
        """
        ordered = sorted(self.all_cases)
        if isinstance(self.split, dict):
            chosen = [case for case in ordered if self.split[case] == part]
        elif self.split == "all_training":
            chosen = ordered if part == "train" else []
        else:
            chosen = [case for place, case in enumerate(ordered) if (place % 5 == 0) == (part == "test")]
        skipped = {entry.case for entry in self.skip}
        return tuple(case for case in chosen if case not in skipped)

    @property
    def used_cases(self) -> tuple[str, ...]:
        """Training and test cases, sorted as text."""
        return tuple(sorted(self.split_cases("train") + self.split_cases("test")))
