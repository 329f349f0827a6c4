"""Tiny volumes with a bright ball per target, written with the real volume store, and settings to match."""

from pathlib import Path

import numpy as np

from pipeline_lib.config.volumes import Patches
from pipeline_lib.geometry import Geometry
from pipeline_lib.label_bits import pack
from pipeline_lib.volumes.record import CaseRecord
from pipeline_lib.volumes.store import write_volume

WINDOW = (-325.0, 325.0)
SPACING = (6.0, 6.0, 6.0)
PATCHES = Patches(size_voxels=(64, 32, 32), pool_size=4)


def case_masks(shape, count, random):
    """One ball per target, bool K D H W; about one target in four is absent."""
    grid = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1)
    masks = np.zeros((count, *shape), bool)
    for mask in masks:
        centre, present = random.uniform(8, np.array(shape) - 8), random.random() < 0.75
        mask[:] = present & (((grid - centre) ** 2).sum(-1) < 36)
    return masks


def write_case(folder: Path, dataset: str, case: str, targets, labelled, shape=(32, 40, 70), seed=0) -> CaseRecord:
    """A volume in `folder`/`case`; the record's foreground lists are those of the labelled targets."""
    random = np.random.default_rng([seed, *case.encode()])
    masks = case_masks(shape, len(targets), random)
    image = random.normal(-100, 20, shape)
    for number, mask in enumerate(masks):
        image[mask] += 60 * (number + 1)
    return write_masks(folder, dataset, case, targets, labelled, image, masks)


def write_masks(folder: Path, dataset: str, case: str, targets, labelled, image, masks, unknown=None) -> CaseRecord:
    """A volume of `image` (HU) in `folder`/`case` that labels those of `masks` (bool K D H W) that are `labelled`.

    At the voxels `unknown` (bool K D H W) they are not known.
    """
    known = masks & np.isin(targets, labelled)[:, None, None, None]
    voxels = {name: np.argwhere(mask) for name, mask in zip(targets, known, strict=True) if name in labelled}
    z, y, x = shape = image.shape
    record = CaseRecord(
        dataset=dataset,
        case=case,
        targets=targets,
        labelled=labelled,
        shape=shape,
        spacing_mm=SPACING,
        origin_mm=(0, 0, 0),
        original=Geometry(size=(x, y, z), spacing_mm=SPACING, origin_mm=(0, 0, 0)),
        window_hu=WINDOW,
        voxels={name: len(found) for name, found in voxels.items()},
        foreground={name: tuple(map(tuple, found[::7].tolist())) for name, found in voxels.items()},
        body=((0, 0, 0), shape),
    )
    planes = [*pack(known), *(() if unknown is None else pack(unknown))]
    write_volume(folder / case, image.clip(*WINDOW).astype(np.int16), planes, record)
    return record


def write_dataset(folder: Path, dataset: str, cases, targets, labelled) -> Path:
    """Volumes of `cases` in `folder`, and the list of cases beside them."""
    records = [write_case(folder, dataset, case, targets, labelled) for case in cases]
    lines = ["dataset,case", *(f"{dataset},{record.case}" for record in records)]
    (folder / "cases.csv").write_text("\n".join(lines) + "\n")
    return folder / "cases.csv"
