"""A phantom data set: every case made, written in its published layout, its whole truth beside it."""

from __future__ import annotations

from pathlib import Path

from ...config.datasets import Dataset, PhantomSource
from ...config.phantom import Phantom
from ...config.section import Section
from ...config.structures import structure_names
from ...errors import UserError
from ...progress import Progress
from ...randomness import random_generator
from .case import ORGAN_ROIS, PhantomCase, make_case
from .tumours import TUMOUR_ROIS, VESSEL_ROI
from .writers import Writer, check_layout


class PhantomDataset(Section):
    """A data set with a phantom source, the look of its cases, the ROIs of its complete truth, and the seed."""

    dataset: Dataset
    phantom: Phantom
    rois: tuple[str, ...]
    seed: int


def generate_dataset(settings: PhantomDataset, raw_folder: Path, truth_folder: Path) -> None:
    """Make every case of a phantom data set.

    Parameters
    ----------
    raw_folder: gets the data set in its published layout, below the data set's `root`.
    truth_folder: gets `CASE.nii.gz`, bit k of which is ROI k of `settings.rois`, on the grid of the case's image.

    Raises
    ------
    UserError: for a layout that phantoms are not written in, or a ROI that they do not have.
    """
    dataset = settings.dataset
    check_layout(dataset)
    _check_rois(settings)
    writer = Writer(dataset, raw_folder / dataset.root, truth_folder, settings.rois)
    progress = Progress("acquire", len(dataset.all_cases), "case")
    for name in dataset.all_cases:
        axes = random_generator("phantom", "orientation", *_key(settings, name))
        writer.write_case(name, generate_case(settings, name), axes)
        progress.advance(note=name)
    writer.write_description()


def generate_case(settings: PhantomDataset, name: str) -> PhantomCase:
    """Make one case; it depends on (seed, data set, case) and the settings, not on what was made before."""
    dataset, phantom = settings.dataset, settings.phantom
    if not isinstance(dataset.source, PhantomSource):
        raise TypeError(f"data set {dataset.name} is not a phantom")
    labelled = frozenset(part for roi in dataset.labels for part in ORGAN_ROIS.get(roi, ()))
    return make_case(dataset.source, phantom, _key(settings, name), labelled)


def _key(settings: PhantomDataset, name: str) -> tuple[str | int, ...]:
    return settings.seed, settings.dataset.name, name


def _check_rois(settings: PhantomDataset) -> None:
    dataset = settings.dataset
    known = {*ORGAN_ROIS, *TUMOUR_ROIS, VESSEL_ROI, *structure_names("totalsegmentator_v1")}
    for where, rois in (("rois", settings.rois), (f"data set {dataset.name}: labels", tuple(dataset.labels))):
        for roi in rois:
            if roi not in known:
                choice = ", ".join((*ORGAN_ROIS, VESSEL_ROI, *TUMOUR_ROIS))
                raise UserError(
                    where, f"phantoms do not have a ROI {roi}", f"use {choice} or a structure of TotalSegmentator v1"
                )
    if isinstance(dataset.source, PhantomSource) and dataset.source.tumour not in (None, *TUMOUR_ROIS):
        raise UserError(
            f"data set {dataset.name}: source.tumour",
            f"is {dataset.source.tumour}, which is not a tumour",
            f"choose one of {', '.join(TUMOUR_ROIS)}",
        )
