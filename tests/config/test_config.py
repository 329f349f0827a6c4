"""Wrong configs end in one line that names the key, the allowed values and the remedy, before any job starts."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import yaml

from pipeline_lib.config.datasets import Dataset
from pipeline_lib.config.loading import load_config
from pipeline_lib.errors import UserError

BASE = Path(__file__).parents[2]
PRECISE = {"encoder": "wordllama", "latent": "cross_entropy", "wanted_precision": 0.95}


@pytest.fixture
def content() -> dict:
    return yaml.safe_load((BASE / "config" / "config.yaml").read_text())


def refusal(content: dict) -> str:
    with pytest.raises(UserError) as caught:
        load_config(content, BASE)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_the_default_config_loads(content):
    config = load_config(content, BASE)
    assert len(config.rois) == 11
    assert len(config.datasets.partially_labelled) == 7
    assert set(config.methods) == {"baseline", "mean_teacher", "without_mse", "dodnet", "latent_class"}


def with_change(content: dict, path: str, value) -> dict:
    changed = copy.deepcopy(content)
    *parents, last = path.split("/")
    place = changed
    for parent in parents:
        place = place.setdefault(parent, {}) if isinstance(place, dict) else place[int(parent)]
    place[last] = value
    return changed


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        ("epoch", 3, ["epoch", "not a known key", "segmentation"]),
        ("segmentation/epoch", 3, ["segmentation.epoch", "not a known key", "epochs", "learning_rate"]),
        ("networks/swin_unetr/size", 3, ["networks.swin_unetr.size", "feature_size"]),
        ("methods/latent_class/phi", 0.8, ["methods.latent_class.phi", "positive_above"]),
        ("roi_aware/optimisation/epochs", 0, ["roi_aware.optimisation.epochs", "given 0"]),
        ("methods/latent_class/negative_below", 0.9, ["methods.latent_class", "φ_l", "φ_h"]),
        ("methods/latent_class/positive_above", 0.1, ["methods.latent_class", "φ_l", "φ_h"]),
        ("methods/latent_class/positive_above", None, ["methods.latent_class", "only with `wanted_precision`"]),
        ("methods/latent_class/wanted_precision", 0.95, None),
        ("methods/latent_class/wanted_precision", 0.7, ["methods.latent_class", "must be one of: 0.8, 0.9, 0.95"]),
        ("methods/latent_class/exclusive_organs", True, None),
        ("methods/baseline/exclusive_organs", True, ["methods.baseline", "`exclusive_organs` has no effect"]),
        ("methods/baseline/wanted_precision", 0.95, ["methods.baseline", "no effect"]),
        ("methods/latent_class", {**PRECISE, "positive_above": 0.9}, ["latent_class", "leave out `positive_above`"]),
        ("methods/latent_class/encoder", "clip", ["latent_class", "'clip'", "wordllama"]),
        ("methods/dodnet/encoder", "wordllama", ["dodnet", "one_hot"]),
        ("methods/mean_teacher/latent", "cross_entropy", ["mean_teacher", "consistency: all"]),
        ("methods/baseline/rampup_fraction", 0.6, None),
        ("methods/baseline/labelled_cases", {"phantom_heart": 3}, ["baseline", "phantom_heart", "phantom_liver"]),
        ("methods/baseline/labelled_cases", {"phantom_spleen": 9}, ["baseline", "9 of phantom_spleen", "8 to train"]),
        ("patches/size_voxels", [64, 64, 40], ["patches", "size_voxels", "divide by 32", "64, 64, 40"]),
        ("patches/size_voxels", [32, 32, 32], ["patches", "larger than 32"]),
        ("volumes/window_hu", [300, -300], ["volumes", "low < high"]),
        ("volumes/spacing_mm", [1, 1, 0], ["volumes.spacing_mm.2", "greater than 0"]),
        ("compare", ["baseline", "unet"], ["compare", "unet", "latent_class"]),
        ("datasets/partially_labelled", ["phantom_heart"], ["phantom_heart", "phantom_liver"]),
        ("datasets/fully_labelled", None, ["needs existence", "datasets.fully_labelled"]),
        ("rois/0/structures", ["livver"], ["ROI liver", "livver", "roi_aware.structures"]),
        ("rois/1/organ", "heart", ["liver_tumor", "heart", "liver"]),
        ("rois/1/structures", ["liver"], ["liver_tumor", "`structures` or `organ`"]),
        ("rois/1/name", "liver", ["ROI named twice", "liver"]),
        ("text/prompt", "A CT", ["text", "{}"]),
        ("text/encoders/vectors", {"kind": "file"}, ["text.encoders.vectors", "needs `model`"]),
        ("augmentation/weak", {"zoom_range": [1.4, 0.7]}, ["augmentation.weak", "zoom_range"]),
        ("segmentation/warmup_epochs", 9999, ["segmentation", "warmup_epochs"]),
        ("scores/convention", "best", ["scores.convention", "nnunet", "'best'"]),
        ("inference/post_processing", {"heart": "largest_part"}, ["inference.post_processing", "heart", "liver"]),
        ("inference/post_processing", {"liver": "smooth"}, ["inference.post_processing.liver", "'largest_part'"]),
        ("execution/device", "tpu", ["execution.device", "'cuda'", "'tpu'"]),
    ],
)
def test_refusals(content, path, value, expected):
    changed = with_change(content, path, value)
    if expected is None:
        load_config(changed, BASE)
        return
    message = refusal(changed)
    for part in expected:
        assert part in message


def test_a_dataset_with_a_roi_of_no_list_is_refused(content):
    content["rois"] = [roi for roi in content["rois"] if roi["name"] != "spleen"]
    message = refusal(content)
    assert "phantom_spleen" in message
    assert "spleen" in message
    assert "liver" in message


def test_a_roi_that_no_dataset_labels_is_refused(content):
    content["datasets"]["partially_labelled"].remove("phantom_spleen")
    assert "no data set with training cases labels spleen" in refusal(content)


def test_a_roi_whose_only_data_set_has_no_training_case_is_refused(content):
    spleen = yaml.safe_load((BASE / "config" / "datasets" / "phantom_spleen.yaml").read_text())
    spleen["source"]["cases"] = 1
    content["datasets"]["partially_labelled"][-1] = spleen
    assert "no data set with training cases labels spleen" in refusal(content)


def test_a_config_without_test_cases_is_refused(content):
    names = content["datasets"]["partially_labelled"]
    sets = [yaml.safe_load((BASE / "config" / "datasets" / f"{name}.yaml").read_text()) for name in names]
    content["datasets"]["partially_labelled"] = [{**one, "split": "all_training"} for one in sets]
    assert "no data set has a test case" in refusal(content)


def test_a_list_of_cases_is_refused_where_no_file_can_be_found(content):
    content["datasets"]["partially_labelled"].append(lab_dataset(cases="names.txt"))
    assert "only a data set in a file of its own" in refusal(content)


def test_a_broken_file_is_named(tmp_path):
    broken = tmp_path / "broken.yaml"
    broken.write_text("rois: [")
    with pytest.raises(UserError, match=r"broken\.yaml.*not valid YAML"):
        load_config(broken, BASE)
    with pytest.raises(UserError, match=r"absent\.yaml.*cannot be read"):
        load_config(tmp_path / "absent.yaml", BASE)


def lab_dataset(**changes) -> dict:
    return {
        "name": "lab",
        "layout": "nnunet",
        "source": {"kind": "local", "path": "/data/lab"},
        "labels": {"liver": [1]},
        "cases": [f"case_{number:02d}" for number in range(11)],
        "licence": "internal",
        **changes,
    }


def test_every_fifth_sorted_case_from_the_first_is_for_testing():
    names = [f"lung_{number}" for number in (1, 10, 2, 33, 4, 5)]
    dataset = Dataset.model_validate(lab_dataset(cases=names))
    assert dataset.split_cases("test") == ("lung_1", "lung_5")
    assert dataset.split_cases("train") == ("lung_10", "lung_2", "lung_33", "lung_4")


def test_skipped_cases_are_in_no_part_and_move_no_other_case():
    whole = Dataset.model_validate(lab_dataset())
    skipping = Dataset.model_validate(lab_dataset(skip=[{"case": "case_03", "reason": "torn scan"}]))
    assert set(whole.used_cases) - set(skipping.used_cases) == {"case_03"}
    assert skipping.split_cases("test") == whole.split_cases("test")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"cases": ["a", "a"]}, "case listed twice: a"),
        ({"cases": []}, "must list the cases"),
        ({"labels": {}}, "label values"),
        ({"split": {"case_00": "train"}}, "split and cases disagree"),
        ({"skip": [{"case": "case_99", "reason": "broken"}]}, "names no case: case_99"),
        ({"layout": "totalsegmentator_v1"}, "must be empty"),
    ],
)
def test_contradictions_of_a_dataset(changes, expected, tmp_path):
    path = tmp_path / "lab.yaml"
    path.write_text(yaml.safe_dump(lab_dataset(**changes)))
    content = yaml.safe_load((BASE / "config" / "config.yaml").read_text())
    content["datasets"]["partially_labelled"].append(str(path))
    assert expected in refusal(content)


def test_case_names_may_lie_in_a_text_file(tmp_path, content):
    (tmp_path / "names.txt").write_text("one\ntwo\nthree\n")
    path = tmp_path / "lab.yaml"
    path.write_text(yaml.safe_dump(lab_dataset(cases="names.txt")))
    content["datasets"]["partially_labelled"].append(str(path))
    content["scores"] = {}
    assert load_config(content, BASE).dataset("lab").used_cases == ("one", "three", "two")


@pytest.mark.parametrize(("key", "twice"), [("compare", ["baseline", "baseline"]), ("seeds", [1, 2, 1])])
def test_nothing_is_compared_with_itself(content, key, twice):
    content[key] = twice
    assert f"`{key}` names something twice" in refusal(content)


def test_a_further_seed_renames_no_run(content):
    one = load_config(content, BASE).runs
    assert [run.name for run in one] == ["baseline-seed0", "latent_class-seed0"]
    content["seeds"] = [0, 4]
    config = load_config(content, BASE)
    assert set(one) < set(config.runs)
    assert config.run("latent_class-seed4") in config.runs
