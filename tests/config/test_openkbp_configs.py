"""The configs of the head-and-neck benchmark: who trains, who tests, and what each site labels."""

from itertools import combinations
from pathlib import Path

import pytest

from pipeline_lib.config.loading import load_config
from pipeline_lib.config.openkbp import patients

BASE = Path(__file__).parents[2]
CONFIGS = ("openkbp", "openkbp_gpu", "openkbp_as_is")


@pytest.mark.parametrize("name", CONFIGS)
def test_no_patient_is_in_two_data_sets(name):
    datasets = load_config(BASE / "config" / f"{name}.yaml").datasets
    for one, other in combinations((*datasets.partially_labelled, datasets.fully_labelled), 2):
        assert not set(one.all_cases) & set(other.all_cases), (one.name, other.name)


@pytest.mark.parametrize("name", CONFIGS)
def test_patients_train_or_test_as_openkbp_splits_them(name):
    datasets = load_config(BASE / "config" / f"{name}.yaml").datasets
    for dataset in (*datasets.partially_labelled, datasets.fully_labelled):
        for part in ("train", "test"):
            assert all(
                ("train-pats" in patients()[case].folder) == (part == "train") for case in dataset.split_cases(part)
            )
    assert len(datasets.fully_labelled.split_cases("train")) == 36
    assert sum(len(dataset.split_cases("test")) for dataset in datasets.partially_labelled) == 100


@pytest.mark.parametrize("name", ["openkbp", "openkbp_gpu"])
def test_each_site_has_twenty_patients_that_label_its_organs(name):
    config = load_config(BASE / "config" / f"{name}.yaml")
    sites = [dataset for dataset in config.datasets.partially_labelled if dataset.split_cases("train")]
    assert [len(site.all_cases) for site in sites] == [20] * 4
    assert sorted(roi for site in sites for roi in site.labels) == sorted(roi.name for roi in config.rois)
    for site in sites:
        organs = {name for definition in site.labels.values() for name in definition}
        assert all(organs <= set(patients()[case].labelled) for case in site.all_cases)
