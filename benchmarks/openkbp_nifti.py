"""The data sets of config/openkbp.yaml for patients that lie as NIfTI, as those of docs/evidence.md were read.

    python benchmarks/openkbp_nifti.py FOLDER -o study/datasets
    cp config/openkbp.yaml study/ && snakemake --cores all --configfile study/openkbp.yaml

FOLDER holds imagesTr/CASE.nii.gz, labelsTr/CASE.nii.gz with a value for each organ, and dataset.json, whose `labels`
give the values by the ROIs' names. Writes a file for each data set that config/openkbp.yaml names: of the same name,
which seeds what is drawn from it, with the same cases and labels. Patients of FOLDER that are in none of them become
one more, okbp_unlabelled, whose labels are not read; to train on them, add its name to the config.
"""

from __future__ import annotations

import argparse
import csv
import json
from pathlib import Path
from typing import Any

import yaml

from pipeline_lib.config.openkbp import patients

DATASETS = Path(__file__).parents[1] / "config/datasets"
USED = ("okbp_axis", "okbp_glands", "okbp_neck", "okbp_throat", "okbp_full", "okbp_test")


def as_nifti(published: dict[str, Any], folder: Path, values: dict[str, int], organs: dict[str, str]) -> dict[str, Any]:
    """A data set as it is published, read from `folder`; `values` are the label values of ROIs, `organs` their names.

    Without labels, all structures have labels by the published names, as the fully labelled data set needs them.
    """
    labels = published.get("labels") or {organ: [organ] for organ in organs.values()}
    by_organ = {organ: values[roi] for roi, organ in organs.items()}
    chosen = {name: [by_organ[organ] for organ in of] for name, of in labels.items()}
    return {
        **{key: published[key] for key in ("name", "cases", "split", "licence")},
        "layout": "msd",
        "source": {"kind": "local", "path": str(folder.resolve())},
        "labels": chosen,
        "ignored_labels": sorted(set(values.values()) - {value for of in chosen.values() for value in of}),
    }


def write_labelled(path: Path, cases: list[str], organs: dict[str, str]) -> None:
    """The table of what each case labels, by the project's table of patients rather than by what a file holds."""
    with path.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["case", *organs])
        for case in cases:
            labelled = patients()[case].labelled
            table.writerow([case, *(int(organ in labelled) for organ in organs.values())])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="FOLDER")
    parser.add_argument("-o", "--out", type=Path, required=True)
    options = parser.parse_args()
    values = json.loads((options.folder / "dataset.json").read_text())["labels"]
    rois = yaml.safe_load((DATASETS.parent / "openkbp.yaml").read_text())["rois"]
    organs = {roi["name"]: roi["structures"][0] for roi in rois}
    values = {roi: values[roi] for roi in organs}
    options.out.mkdir(parents=True, exist_ok=True)
    written = []
    for name in USED:
        published = yaml.safe_load((DATASETS / f"{name}.yaml").read_text())
        dataset = as_nifti(published, options.folder, values, organs)
        if "test" in name:
            dataset["labelled"] = f"{name}_labelled.csv"
            write_labelled(options.out / dataset["labelled"], dataset["cases"], organs)
        written.append(dataset)
    used = {case for dataset in written for case in dataset["cases"]}
    images = (path.name.removesuffix(".nii.gz") for path in (options.folder / "imagesTr").glob("*.nii.gz"))
    without = {key: written[0][key] for key in ("layout", "source", "licence")}
    others = sorted(set(images) - used)
    written.append({"name": "okbp_unlabelled", "cases": others, "split": "all_training", **without})
    for dataset in written:
        (options.out / f"{dataset['name']}.yaml").write_text(yaml.safe_dump(dataset, sort_keys=False))
        print(f"{dataset['name']}: {len(dataset['cases'])} cases")


if __name__ == "__main__":
    main()
