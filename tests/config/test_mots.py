"""config/mots.yaml is the paper's experiment, and its data sets are those that were published."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from pipeline_lib.config.datasets import DownloadSource
from pipeline_lib.config.layouts import published
from pipeline_lib.config.loading import load_config, load_dataset
from pipeline_lib.config.rois import existence_structures
from pipeline_lib.config.schema import Config
from pipeline_lib.config.structures import structure_names

BASE = Path(__file__).parents[2]
SPLIT = BASE.parent / "shared" / "data" / "mots_split.csv"
CLASSES = BASE.parent / "shared" / "data" / "totalsegmentator_classes.json"
COUNTS = {  # training and test cases of MOTS
    "Task03_Liver": (104, 27),
    "kits19": (168, 42),
    "Task08_HepaticVessel": (242, 61),
    "Task07_Pancreas": (224, 57),
    "Task10_Colon": (100, 26),
    "Task06_Lung": (50, 13),
    "Task09_Spleen": (32, 9),
}
LABELS = {
    "Task03_Liver": {"liver": {1, 2}, "liver_tumor": {2}},
    "kits19": {"kidney": {1, 2}, "kidney_tumor": {2}},
    "Task08_HepaticVessel": {"hepatic_vessel": {1}, "hepatic_vessel_tumor": {2}},
    "Task07_Pancreas": {"pancreas": {1, 2}, "pancreas_tumor": {2}},
    "Task10_Colon": {"colon_cancer": {1}},
    "Task06_Lung": {"lung_tumor": {1}},
    "Task09_Spleen": {"spleen": {1}},
}


@pytest.fixture(scope="module")
def mots() -> Config:
    return load_config(BASE / "config" / "mots.yaml", BASE)


def test_the_split_has_the_paper_s_counts(mots):
    counts = {
        dataset.name: (len(dataset.split_cases("train")), len(dataset.split_cases("test")))
        for dataset in mots.datasets.partially_labelled
    }
    assert counts == COUNTS
    assert [sum(part) for part in zip(*counts.values(), strict=True)] == [920, 235]


@pytest.mark.shared
@pytest.mark.skipif(not SPLIT.is_file(), reason="the published split is not beside the checkout")
def test_the_split_is_the_published_one(mots):
    with SPLIT.open(encoding="utf-8") as file:
        published = {(row["dataset"], row["case"], row["split"]) for row in csv.DictReader(file)}
    ours = {
        (dataset.name, case, part)
        for dataset in mots.datasets.partially_labelled
        for part in ("train", "test")
        for case in dataset.split_cases(part)
    }
    assert ours == published


def test_an_organ_includes_its_tumour(mots):
    labels = {
        dataset.name: {roi: set(values) for roi, values in dataset.labels.items()}
        for dataset in mots.datasets.partially_labelled
    }
    assert labels == LABELS


def test_the_roi_aware_network_has_the_1204_cases_but_the_corrupt_one(mots):
    full = mots.datasets.fully_labelled
    assert len(full.all_cases) == 1204
    assert set(full.all_cases) - set(full.used_cases) == {"s0864"}
    assert full.split_cases("test") == ()
    assert len(structure_names(mots.roi_aware.structures)) == 104


@pytest.mark.parametrize(("version", "count"), [("v1", 104), ("v2", 117)])
def test_both_class_lists_are_whole(version, count):
    names = structure_names(f"totalsegmentator_{version}")
    assert len(set(names)) == len(names) == count


@pytest.mark.shared
@pytest.mark.skipif(not CLASSES.is_file(), reason="the published class lists are not beside the checkout")
def test_the_class_lists_are_the_published_ones():
    published = json.loads(CLASSES.read_text(encoding="utf-8"))
    for version, key in (("v1", "v1_104"), ("v2", next(key for key in published if key.startswith("v2")))):
        names = [published[key][number] for number in sorted(published[key], key=int)]
        assert structure_names(f"totalsegmentator_{version}") == tuple(names)


def test_version_2_adds_24_cases_to_version_1(mots):
    second = load_dataset("totalsegmentator_v2", BASE)
    assert len(second.used_cases) == 1228
    assert set(mots.datasets.fully_labelled.all_cases) < set(second.all_cases)


def test_every_roi_has_an_existence(mots):
    structures = dict(zip(mots.roi_names, existence_structures(mots.rois), strict=True))
    assert list(structures) == [
        *("liver", "liver_tumor", "kidney", "kidney_tumor", "hepatic_vessel", "hepatic_vessel_tumor"),
        *("pancreas", "pancreas_tumor", "colon_cancer", "lung_tumor", "spleen"),
    ]
    assert structures["liver_tumor"] == structures["hepatic_vessel"] == ("liver",)
    assert structures["kidney_tumor"] == ("kidney_right", "kidney_left")
    assert len(structures["lung_tumor"]) == 5
    known = structure_names("totalsegmentator_v1")
    assert all(set(names) <= set(known) for names in structures.values())


def test_the_paper_s_values_stand_in_the_config(mots):
    method = mots.methods["latent_class"]
    assert (method.decision.positive_above, method.decision.negative_below) == (0.8, 0.1)
    assert method.sharpening_temperature == 0.1
    assert (method.latent_weight, method.consistency_weight, mots.teacher.decay) == (1, 1, 0.999)
    assert mots.patches.size_voxels == (160, 160, 96)
    for training in (mots.segmentation, mots.roi_aware.optimisation):
        assert (training.epochs, training.batch_size, training.learning_rate, training.weight_decay) == (
            *(2000, 12),
            *(1e-4, 1e-5),
        )


def test_the_five_methods_differ_in_what_they_learn_from(mots):
    rows = ("baseline", "mean_teacher", "without_mse", "dodnet", "latent_class")
    learned = {name: (method.kind, method.network, method.encoder) for name, method in mots.methods.items()}
    assert {name: learned[name] for name in rows} == {
        "baseline": ("labels_alone", "swin_unetr", "biomedclip"),
        "mean_teacher": ("mean_teacher", "swin_unetr", "biomedclip"),
        "without_mse": ("latent_class", "swin_unetr", "biomedclip"),
        "dodnet": ("labels_alone", "dodnet", "one_hot"),
        "latent_class": ("latent_class", "swin_unetr", "biomedclip"),
    }
    assert [mots.methods[name].consistency for name in ("without_mse", "latent_class")] == [False, True]


@pytest.mark.parametrize("path", sorted((BASE / "config" / "datasets").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_archive_or_each_file_in_it_has_a_checksum_and_every_case_a_name(path):
    dataset = load_dataset(path.stem, BASE)
    assert dataset.all_cases
    if isinstance(dataset.source, DownloadSource):
        table = published(dataset.layout).patients
        if table is None:
            assert all(file.md5 for file in dataset.source.files)
        else:
            assert all(table()[case].blobs for case in dataset.all_cases)
        assert list(dataset.all_cases) == sorted(dataset.all_cases)
