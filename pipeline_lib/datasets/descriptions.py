"""dataset.json, the description that MSD and nnU-Net data sets carry: what of it is used, and what contradicts ours."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ..config.datasets import Dataset
from ..config.layouts import is_image_file, published
from ..config.structures import structure_names
from ..errors import UserError
from ..files import read_json

NAME = "dataset.json"
_DEFAULT_ENDING = ".nii.gz"
_ANATOMY = frozenset(structure_names("totalsegmentator_v1")) | frozenset(structure_names("totalsegmentator_v2"))
"""Names that can only mean the organ; others, as \"cancer\", leave open which ROI they are."""


def file_ending(root: Path) -> str:
    """How the names of a nnU-Net data set's files end; .nii.gz where its description does not say.

    Raises UserError if the description cannot be read or names a format that is not read.
    """
    ending = read_description(root).get("file_ending") or _DEFAULT_ENDING
    if not isinstance(ending, str) or not is_image_file(Path(f"case{ending}")):
        wrong = f"has the `file_ending` {ending!r}"
        raise UserError(str(root / NAME), wrong, "convert the files to .nii.gz, .nii, .mha or .nrrd")
    return ending


def read_description(root: Path) -> Mapping[str, Any]:
    """The description below a data set's root, empty where there is none; raises UserError if it is not an object."""
    path = root / NAME
    try:
        if not path.is_file():
            return {}
        content = read_json(path)
    except OSError as error:
        raise UserError(str(path), f"cannot be read ({error.strerror})", "check its permissions") from error
    except ValueError as error:
        raise UserError(str(path), f"is not JSON ({error})", "fix it as nnU-Net describes it") from error
    if not isinstance(content, Mapping):
        raise UserError(str(path), "is not a JSON object", "fix it as nnU-Net describes it")
    return content


def contradictions(dataset: Dataset, root: Path) -> Iterator[tuple[str, str]]:
    """(what is wrong, remedy) for each point in which a data set's description contradicts our description of it."""
    if published(dataset.layout).description is None:
        return
    try:
        description = read_description(root)
    except UserError as error:
        yield error.wrong, error.remedy
        return
    yield from _channels(description)
    if dataset.labels:
        yield from _labels(dataset, description)


def _channels(description: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    channels = description.get("channel_names") or description.get("modality") or {}
    names = [str(name) for name in (channels.values() if isinstance(channels, Mapping) else [channels])]
    if len(names) > 1:
        yield f"has {len(names)} channels ({', '.join(names)})", "give data sets of one channel, the CT"
    elif names and not re.search(r"\bct\b|computed tomography", names[0].lower().replace("_", " ")):
        yield f"calls its channel {names[0]!r}, which is not CT", "give CT data sets only, or correct the name"


def _labels(dataset: Dataset, description: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    theirs = _values_by_name(description.get("labels"))
    claimed = {value for values in dataset.label_values.values() for value in values}
    known = {value for values in theirs.values() for value in values}
    for roi, values in dataset.label_values.items():
        if missing := sorted(set(values) - known) if known else []:
            yield f"does not have label value {missing[0]}, which `labels` gives to {roi}", "correct `labels`"
    for name, values in theirs.items():
        if name == "ignore":
            if not values <= {*dataset.unknown_labels, *dataset.ignored_labels} or values & claimed:
                yield (
                    f"ignores label value {_listed(values)}: unknown voxels, which the data set does not say",
                    f"write `unknown_labels: [{_listed(values)}]`, or take it for background under `ignored_labels`",
                )
            continue
        ours = dataset.label_values.get(name)
        if ours is not None and not values <= set(ours):
            wrong = f"gives {name} label value {_listed(values)}, but `labels` gives it {_listed(set(ours))}"
            yield wrong, "correct `labels`"
        for value in sorted(values) if ours is None and name in _ANATOMY else ():
            rois = [roi for roi, of_roi in dataset.label_values.items() if value in of_roi]
            if rois and not any(roi in name or name in roi for roi in rois):
                yield (
                    f"calls label value {value} {name}, but `labels` gives it to {', '.join(rois)}",
                    "correct `labels`",
                )


def _values_by_name(labels: Any) -> dict[str, set[int]]:
    """Label values by name, names as ROIs are spelt; MSD maps values to names, nnU-Net v2 names to values or lists."""
    found: dict[str, set[int]] = {}
    for key, value in labels.items() if isinstance(labels, Mapping) else ():
        if str(key).lstrip("-").isdigit():
            name, values = str(value), [key]
        else:
            name, values = str(key), value if isinstance(value, list) else [value]
        if all(str(number).lstrip("-").isdigit() for number in values):
            spelt = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_").replace("tumour", "tumor")
            found.setdefault(spelt, set()).update(int(number) for number in values)
    return found


def _listed(values: set[int]) -> str:
    return ", ".join(str(value) for value in sorted(values))
