"""The data sets of config/openkbp.yaml for patients stored as NIfTI; those of docs/evidence.md were read so.

    python benchmarks/openkbp_nifti.py FOLDER -o study/datasets
    cp config/openkbp.yaml study/ && snakemake --cores all --configfile study/openkbp.yaml

FOLDER holds imagesTr/okbp_NNN.nii.gz and labelsTr/okbp_NNN.nii.gz, cut to the part of each patient that the layout
`openkbp` keeps (docs/volumes.md says why), and dataset.json, whose `labels` give each ROI's value by its name. Every
data set keeps its name, which seeds what is drawn from it, its cases and its labels. The remaining patients of FOLDER
form a further data set, okbp_unlabelled, whose labels are not read; to train on them, add its name to the config.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import SimpleITK as sitk
import yaml

from pipeline_lib.config.openkbp import patients
from pipeline_lib.errors import UserError

CONFIG = Path(__file__).parents[1] / "config/openkbp.yaml"


def check_cases(folder: Path, cases: Iterable[str]) -> None:
    """Raises UserError if a case's image or labels are missing, or are not of the part that is used."""
    for case in cases:
        z, y, x = (end - first for first, end in patients()[case].kept)
        for path in (folder / "imagesTr" / f"{case}.nii.gz", folder / "labelsTr" / f"{case}.nii.gz"):
            if not path.is_file():
                raise UserError(str(path), "is missing", "add it: every patient that the config uses is needed")
            reader = sitk.ImageFileReader()
            reader.SetFileName(str(path))
            reader.ReadImageInformation()
            if reader.GetSize() != (x, y, z):
                wrong = f"has {reader.GetSize()} voxels, not the {(x, y, z)} of the part that is used"
                raise UserError(str(path), wrong, "cut it to the ranges in pipeline_lib/config/openkbp_patients.csv")


def read_label_values(folder: Path, rois: Iterable[str]) -> dict[str, int]:
    """Name → value of everything that the label maps hold but background. Raises UserError if a ROI is not there."""
    path = folder / "dataset.json"
    if not path.is_file():
        raise UserError(str(path), "is missing", 'write it: {"labels": {"brainstem": 1, …}}')
    labels = json.loads(path.read_text()).get("labels", {})
    if missing := [roi for roi in rois if not isinstance(labels.get(roi), int)]:
        raise UserError(str(path), f"`labels` give no value for {missing[0]}", 'write {"brainstem": 1, …}')
    return {name: value for name, value in labels.items() if value != 0}


def read_as_nifti(
    published: Mapping[str, Any], folder: Path, label_values: Mapping[str, int], organs: Mapping[str, str]
) -> dict[str, Any]:
    """A data set as it is published, but read from `folder`; `organs` maps a ROI to its published structure.

    A published data set without `labels` labels all structures by their own names, as a fully labelled one does.
    """
    value_of_organ = {organ: label_values[roi] for roi, organ in organs.items()}
    labels = {
        name: [value_of_organ[organ] for organ in structures]
        for name, structures in (published.get("labels") or {organ: [organ] for organ in value_of_organ}).items()
    }
    labelled = {value for values in labels.values() for value in values}
    return {
        **{key: value for key, value in published.items() if key != "labelled"},
        "layout": "msd",
        "source": {"kind": "local", "path": str(folder.resolve())},
        "labels": labels,
        "ignored_labels": sorted(set(label_values.values()) - labelled),
    }


def write_datasets(folder: Path, out: Path) -> None:
    config = yaml.safe_load(CONFIG.read_text())
    organs = {roi["name"]: roi["structures"][0] for roi in config["rois"]}
    label_values = read_label_values(folder, organs)
    fully_labelled = config["datasets"]["fully_labelled"]
    names = (*config["datasets"]["partially_labelled"], fully_labelled)
    all_published = {name: yaml.safe_load((CONFIG.parent / f"datasets/{name}.yaml").read_text()) for name in names}
    used = {case for published in all_published.values() for case in published["cases"]}
    check_cases(folder, sorted(used))
    datasets = {}
    for name, published in all_published.items():
        datasets[name] = read_as_nifti(published, folder, label_values, organs)
        if published.get("labelled") == "present" and name != fully_labelled:
            # By the project's table of patients: a label map does not tell an unlabelled organ from an absent one.
            datasets[name]["labelled"] = {
                case: [roi for roi, organ in organs.items() if organ in patients()[case].labelled]
                for case in published["cases"]
            }
    images = {path.name.removesuffix(".nii.gz") for path in (folder / "imagesTr").glob("*.nii.gz")}
    if remaining := sorted(case for case in images - used if case in patients() and not patients()[case].excluded):
        like = datasets[fully_labelled]
        datasets["okbp_unlabelled"] = {
            "name": "okbp_unlabelled",
            **{key: like[key] for key in ("layout", "source", "licence")},
            "cases": remaining,
            "split": "all_training",
        }
    for name in datasets:
        if (path := out / f"{name}.yaml").exists():
            raise UserError(str(path), "is there already", "name another folder with -o")
    out.mkdir(parents=True, exist_ok=True)
    for name, dataset in datasets.items():
        (out / f"{name}.yaml").write_text(yaml.safe_dump(dataset, sort_keys=False))
        print(f"{name}: {len(dataset['cases'])} cases")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="FOLDER")
    parser.add_argument("-o", "--out", type=Path, required=True)
    options = parser.parse_args()
    try:
        write_datasets(options.folder, options.out)
    except UserError as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
