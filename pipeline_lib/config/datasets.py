"""One data set: where it comes from, its published layout, which ROIs it labels, how it is split."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, HttpUrl, model_validator

from .section import Count, Millimetres, Name, Section

ARCHIVE_ENDINGS = (".tar", ".tar.gz", ".tgz", ".zip")

Layout = Literal["msd", "kits19", "totalsegmentator_v1", "totalsegmentator_v2", "nnunet"]


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
    path: str = Field(description="Where it goes, relative to the data set's raw folder.")
    md5: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")] | None = Field(
        default=None, description="MD5 that the publisher states (null: none is published)."
    )
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = Field(
        default=None, description="SHA-256 of the file, where it is known."
    )
    size_bytes: Count | None = Field(default=None, description="Size in bytes, where it is known.")
    about_gb: Annotated[float, Field(gt=0)] | None = Field(
        default=None, description="Size in GB for the check of the disk, where `size_bytes` is not known."
    )


class DownloadSource(Section):
    """Published files, fetched by the acquire stage; archives (.tar, .tar.gz, .zip) are unpacked."""

    kind: Literal["download"] = "download"
    files: tuple[RemoteFile, ...] = Field(default=(), description="Files of the data set as a whole.")
    per_case: tuple[RemoteFile, ...] = Field(
        default=(), description="Files of each case; {case} in url and path stands for the case's name."
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


class SkippedCase(Section):
    """A case left out on purpose."""

    case: str = Field(description="Name of the case.")
    reason: str = Field(min_length=3, description="Why it is left out; the report prints it.")


class Dataset(Section):
    """One data set and the ROIs that it labels; what it does not label is unknown, never background."""

    name: Name = Field(description="Name of the data set; equals the name of its file.")
    layout: Layout = Field(description="Published folder layout that the reader expects.")
    source: PhantomSource | DownloadSource | LocalSource = Field(
        discriminator="kind", description="Where the cases come from."
    )
    root: str = Field(
        default=".",
        description="Folder inside the raw folder that holds the layout (archives often add one).",
    )
    labels: dict[Name, tuple[int, ...]] = Field(
        default={},
        description="ROI → label values that make it (an organ lists its tumour's value too).",
    )
    ignored_labels: tuple[int, ...] = Field(default=(), description="Label values that are known and belong to no ROI.")
    cases: tuple[str, ...] | str = Field(
        default=(), description="Names of all cases, or a text file of them beside this file, one a line."
    )
    split: Literal["every_fifth", "all_training"] | dict[str, Literal["train", "test"]] = Field(
        default="every_fifth",
        description="Which cases are for testing: every fifth by sorted name from the first (MOTS), none, or a list.",
    )
    skip: tuple[SkippedCase, ...] = Field(default=(), description="Cases left out, each with its reason.")
    doubted: tuple[SkippedCase, ...] = Field(
        default=(), description="Cases that are kept though their labels are doubted, each with its reason."
    )
    licence: str = Field(description="Licence under which the data set is published.")

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> Self:
        per_structure = self.layout.startswith("totalsegmentator")
        if per_structure and self.labels:
            raise ValueError(f"data set {self.name}: layout {self.layout} names its masks, so `labels` must be empty")
        if not per_structure and not self.labels:
            raise ValueError(f"data set {self.name}: `labels` must say which label values make which ROI")
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
        return self

    @property
    def all_cases(self) -> tuple[str, ...]:
        """Names of all cases in the layout's own manner, those to skip included."""
        if isinstance(self.source, PhantomSource):
            return tuple(_phantom_case(self, number) for number in range(self.source.cases))
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


def _phantom_case(dataset: Dataset, number: int) -> str:
    if dataset.layout == "kits19":
        return f"case_{number:05d}"
    if dataset.layout.startswith("totalsegmentator"):
        return f"s{number:04d}"
    return f"{dataset.name.removeprefix('phantom_')}_{number:03d}"
