"""Wrong configs end in one line that names the key, the allowed values and the remedy, before any job starts."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import yaml

from pipeline_lib.config import section
from pipeline_lib.config.datasets import Dataset
from pipeline_lib.config.existence import Existence
from pipeline_lib.config.loading import load_config
from pipeline_lib.config.methods import decision_rule, read_method
from pipeline_lib.config.rois import existence_structures
from pipeline_lib.errors import UserError
from pipeline_lib.stages.train.settings import settings_from
from tests.support.phantom_config import with_all_labels

BASE = Path(__file__).parents[2]


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
    assert len(config.rois) == 7
    assert len(config.datasets.partially_labelled) == 4
    assert set(config.methods) >= {"baseline", "mean_teacher", "without_mse", "dodnet", "latent_class"}


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
        ("networks/swin_unetr/size", 3, ["networks.swin_unetr.size", "feature_size", "num_heads"]),
        ("networks/unet", {"kind": "unet"}, ["networks.unet", "'swin_unetr', 'dodnet'"]),
        ("methods/latent_class/phi", 0.8, ["methods.latent_class.phi", "decision", "sharpening_temperature"]),
        ("methods/latent_class/decision", {"phi": 0.8}, ["methods.latent_class.decision.phi", "positive_above"]),
        ("methods/latent_class/kind", "latent", ["methods.latent_class", "'labels_alone', 'mean_teacher'"]),
        ("roi_aware/optimisation/epochs", 0, ["roi_aware.optimisation.epochs", "given 0"]),
        ("methods/latent_class/decision", {"negative_below": 0.9}, ["methods.latent_class.decision", "φ_l", "φ_h"]),
        ("methods/latent_class/decision", {"positive_above": 0.1}, ["methods.latent_class.decision", "φ_l", "φ_h"]),
        ("methods/latent_class/exclusive_organs", True, None),
        ("methods/baseline/exclusive_organs", True, ["methods.baseline.exclusive_organs", "not a known key"]),
        ("methods/without_mse/consistency_weight", 2, ["methods.without_mse", "no effect with `consistency: false`"]),
        (
            "methods/baseline/supervised",
            {"dice": None, "cross_entropy": False},
            ["baseline.supervised", "needs a term"],
        ),
        ("methods/baseline/network", "unet", ["method baseline", "no network 'unet'", "swin_unetr, dodnet"]),
        ("methods/latent_class/encoder", "clip", ["latent_class", "'clip'", "wordllama"]),
        ("methods/dodnet/encoder", "wordllama", ["dodnet", "one_hot"]),
        ("methods/baseline/encoder", "one_hot", ["baseline", "another kind than one_hot"]),
        ("methods/mean_teacher/rampup_fraction", 0.6, None),
        ("methods/baseline/rampup_fraction", 0.6, ["methods.baseline.rampup_fraction", "not a known key"]),
        ("methods/baseline/labelled_cases", {"phantom_heart": 3}, ["baseline", "phantom_heart", "phantom_liver"]),
        ("methods/baseline/labelled_cases", {"phantom_spleen": 9}, ["baseline", "9 of phantom_spleen", "8 to train"]),
        ("patches/size_voxels", [64, 64, 40], ["patches", "size_voxels", "divide by 32", "64, 64, 40", "baseline"]),
        ("patches/size_voxels", [32, 32, 32], ["patches", "larger than 32"]),
        ("volumes/window_hu", [300, -300], ["volumes", "low < high"]),
        ("volumes/spacing_mm", [1, 1, 0], ["volumes.spacing_mm.2", "greater than 0"]),
        ("compare", ["baseline", "unet"], ["compare", "unet", "latent_class"]),
        ("datasets/partially_labelled", ["phantom_heart"], ["phantom_heart", "phantom_liver"]),
        ("datasets/fully_labelled", None, ["needs existence", "datasets.fully_labelled", "compare"]),
        ("rois/0/structures", ["livver"], ["ROI liver", "livver", "roi_aware.structures", "is it liver"]),
        ("rois/0/structures", [], ["ROI liver needs either `structures` or `organ` (is it liver"]),
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


def without_fully_labelled(content: dict, compare: list[str]) -> dict:
    """A config without a fully labelled data set, whose ROIs do not say what they are."""
    content["datasets"]["fully_labelled"] = None
    content["rois"] = [{"name": roi["name"], "text": roi["text"]} for roi in content["rois"]]
    return {**content, "compare": compare}


def test_without_a_fully_labelled_set_rois_need_no_structures(content):
    config = load_config(without_fully_labelled(content, ["baseline", "mean_teacher"]), BASE)
    assert [run.name for run in config.runs] == ["baseline-seed0", "mean_teacher-seed0"]
    assert set(existence_structures(config.rois)) == {()}


def test_a_method_without_what_it_needs_is_refused_only_if_it_is_compared_or_asked_for(content):
    changed = without_fully_labelled(content, ["baseline"])
    config = load_config(changed, BASE)
    with pytest.raises(UserError, match=r"latent_class needs existence scores; name the data set"):
        config.run("latent_class-seed0")
    assert "method latent_class needs existence" in refusal({**changed, "compare": ["baseline", "latent_class"]})
    exclusive = {**changed["methods"]["mean_teacher"], "exclusive_organs": True}
    changed["methods"] |= {"exclusive": exclusive}
    assert load_config(changed, BASE).run("mean_teacher-seed0").method == "mean_teacher"
    assert "exclusive must know which organ liver, " in refusal({**changed, "compare": ["exclusive"]})


def test_a_patch_need_only_suit_the_networks_that_methods_use(content):
    """DoDNet halves every side four times, SwinUNETR five times."""
    content["patches"]["size_voxels"] = [48, 48, 16]
    assert "divide by 32" in refusal(content)
    content["methods"], content["compare"] = {"dodnet": content["methods"]["dodnet"]}, []
    assert load_config(content, BASE).patches.shape == (16, 48, 48)


def test_two_sizes_of_a_network_stand_side_by_side(content):
    content["networks"]["wider"] = {"kind": "swin_unetr", "feature_size": 24}
    content["methods"]["wider"] = {**content["methods"]["baseline"], "network": "wider"}
    config = load_config(content, BASE)
    assert settings_from(config, "wider-seed0").network.feature_size == 24
    assert settings_from(config, "baseline-seed0").network.feature_size == 12


def test_a_trainings_settings_hold_the_keys_of_its_own_kind_alone(content):
    """So that a key more of one method or network retrains no other."""
    config = load_config(content, BASE)
    for name, method in config.methods.items():
        found = settings_from(config, f"{name}-seed0").model_dump(mode="json")
        assert set(found["method"]) == set(type(method).model_fields)
        assert set(found["network"]) == set(type(config.networks[method.network]).model_fields)
    baseline, latent_class = (settings_from(config, f"{name}-seed0").method for name in ("baseline", "latent_class"))
    own = set(type(latent_class).model_fields) - set(type(baseline).model_fields)
    assert {"decision", "sharpening_temperature", "latent_weight", "warmup_fraction"} <= own


def test_a_method_decides_about_existence_if_and_only_if_it_needs_the_scores(content):
    for method in load_config(content, BASE).methods.values():
        assert (decision_rule(method) is not None) == method.needs_existence


def test_the_method_in_a_model_file_of_another_version_is_refused_in_one_line():
    with pytest.raises(UserError, match=r"a method of kind None, which this version does not know") as caught:
        read_method({"latent": "cross_entropy", "encoder": "wordllama"})
    assert "\n" not in str(caught.value)


def test_dice_over_the_batch_is_refused_where_it_would_depend_on_accumulation(content):
    content["methods"]["baseline"]["supervised"] = {"dice": "batch"}
    load_config(content, BASE)
    content["execution"]["accumulation"] = 2
    assert "`execution.gradient_accumulation_steps`" in refusal(content)


def test_mixing_is_refused_where_it_would_depend_on_accumulation_or_has_no_second_sample(content):
    content["methods"]["mixing"] = {"kind": "ltuda_cda", "network": "swin_unetr", "encoder": "wordllama"}
    content["segmentation"]["batch_size"] = 4
    content["execution"]["gradient_accumulation_steps"] = 2
    content["compare"] = ["baseline"]
    load_config(content, BASE)
    content["compare"] = ["baseline", "mixing"]
    message = refusal(content)
    assert "method mixing: it mixes samples that are computed together" in message
    assert "`execution.gradient_accumulation_steps`: set that to 1" in message
    content["execution"]["gradient_accumulation_steps"] = 1
    content["segmentation"]["batch_size"] = 1
    assert "method mixing mixes samples of a batch: set `segmentation.batch_size` to at least 2" in refusal(content)


@pytest.mark.parametrize(
    ("network", "wrong"),
    [
        ({"kind": "conemos"}, "own has no features that all ROIs share"),
        ({"kind": "uniseg_unet"}, "own has no features that all ROIs share"),
        ({"kind": "swin_unetr", "per_data_set": "prompt"}, "own has no features that all ROIs share"),
        ({"kind": "hermes", "per_data_set": "network"}, "own has no features that all ROIs share"),
        (
            {"kind": "swin_unetr", "per_data_set": "head"},
            "only labels_alone trains the parts of data sets that own has",
        ),
    ],
)
def test_prototypes_are_refused_on_a_network_without_features_that_all_rois_share(content, network, wrong):
    content["networks"]["own"] = network
    content["methods"]["prototypes"] = {"kind": "ltuda", "network": "own", "encoder": "wordllama"}
    message = refusal(content)
    assert wrong in message
    assert "\n" not in message


@pytest.mark.parametrize("network", [{"kind": "swin_unetr", "per_data_set": "head"}, {"kind": "uniseg_unet"}])
def test_parts_of_data_sets_are_refused_where_the_method_does_not_tell_the_data_set(content, network):
    content["networks"]["parts"] = network
    content["methods"]["baseline"]["network"] = "parts"
    load_config(content, BASE)
    content["methods"]["mean_teacher"]["network"] = "parts"
    message = refusal(content)
    assert "method mean_teacher: only labels_alone trains the parts of data sets that parts has" in message
    assert "\n" not in message


@pytest.mark.parametrize("network", [{"kind": "dodnet"}, {"kind": "conemos", "per_data_set": "network"}])
def test_a_network_that_cannot_be_asked_for_one_roi_is_refused(content, network):
    content["networks"] |= {"one": {"kind": "conemos"}, "other": network}
    content["methods"]["conemos"] = {"kind": "conemos", "network": "one", "encoder": "wordllama"}
    load_config(content, BASE)
    content["methods"]["conemos"]["network"] = "other"
    content["methods"]["conemos"]["encoder"] = "one_hot" if network["kind"] == "dodnet" else "wordllama"
    assert "method conemos asks for one ROI of each sample" in refusal(content)


@pytest.mark.parametrize(("old", "new"), [("heads", "num_heads"), ("window", "window_size"), ("version_2", "use_v2")])
def test_old_spellings_are_read_with_a_notice(content, capsys, old, new):
    section._notice.cache_clear()
    network = content["networks"]["swin_unetr"]
    value = network.pop(new, {"num_heads": [1, 2, 4, 8], "use_v2": True}.get(new))
    network[old] = value
    found = getattr(load_config(content, BASE).networks["swin_unetr"], new)
    assert found == (tuple(value) if isinstance(value, list) else value)
    said = capsys.readouterr().err
    assert f"`{old}` is now called `{new}`" in said
    assert said.count("\n") == 1
    network[new] = value
    assert f"`{old}` is the old name of `{new}`" in refusal(content)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("existence/calibration", "platt"),
        ("existence/average_flips", False),
        ("roi_aware/imbalance", "none"),
        ("methods/latent_class/negative_target", "zero"),
        ("methods/latent_class/wanted_precision", 0.95),
    ],
)
def test_a_removed_option_is_named_as_such(content, path, value):
    *place, key = path.split("/")
    message = refusal(with_change(content, path, value))
    assert f"config: {'.'.join(place)}: the option `{key}` has been removed, because" in message


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ({"encoder": "w"}, "{kind: labels_alone, network: swin_unetr, encoder: w}"),
        ({"network": "dodnet", "encoder": "w"}, "{kind: labels_alone, network: dodnet, encoder: w}"),
        (
            {"encoder": "w", "consistency": "all", "rampup_fraction": 0.2},
            "{kind: mean_teacher, network: swin_unetr, encoder: w, rampup_fraction: 0.2}",
        ),
        (
            {"encoder": "w", "latent": "cross_entropy"},
            "{kind: latent_class, network: swin_unetr, encoder: w, consistency: false}",
        ),
        (
            {"encoder": "w", "latent": "cross_entropy", "consistency": "ambiguous", "positive_above": 0.9},
            "{kind: latent_class, network: swin_unetr, encoder: w, decision: {positive_above: 0.9}}",
        ),
        (
            {"encoder": "w", "supervised": "dice"},
            "{kind: labels_alone, network: swin_unetr, encoder: w, supervised: {cross_entropy: false}}",
        ),
    ],
)
def test_a_method_without_a_kind_is_refused_with_its_new_form(content, old, new):
    content["methods"]["mine"] = old
    message = refusal(content)
    assert message.startswith(f"config: methods: method mine has no `kind`; write {{mine: {new}}}")
    content["methods"]["mine"] = yaml.safe_load(new) | {"encoder": "one_hot" if "dodnet" in new else "wordllama"}
    load_config(content, BASE)


def test_networks_as_a_section_are_refused_with_their_new_form(content):
    content["networks"] = {"swin_unetr": {"feature_size": 24}}
    assert "{swin_unetr: {kind: swin_unetr, feature_size: 24}}" in refusal(content)


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
    assert "no data set has a test case, so nothing could be scored: set `folds`" in refusal(content)


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


def test_the_order_in_which_cases_are_listed_does_not_matter():
    """As text: b1, b10, b11, b2, b3, b4, b9."""
    dataset = Dataset.model_validate(lab_dataset(cases=["b9", "b3", "b10", "b4", "b1", "b2", "b11"]))
    assert dataset.split_cases("test") == ("b1", "b4")
    assert dataset.split_cases("train") == ("b10", "b11", "b2", "b3", "b9")


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
        (
            {"labels": {}},
            "has no labels, so its test cases (case_00 …) could not be scored: write `split: all_training`",
        ),
        ({"split": {"case_00": "train"}}, "split and cases disagree"),
        ({"skip": [{"case": "case_99", "reason": "broken"}]}, "names no case: case_99"),
        ({"layout": "totalsegmentator_v1"}, "the layout has a mask for each ROI: give names"),
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


def test_a_method_that_is_not_compared_may_name_data_sets_that_are_not_there(content):
    """Whoever makes the demo's config their own takes data sets out first."""
    content["datasets"]["partially_labelled"].remove("phantom_spleen")
    content["rois"] = [roi for roi in content["rois"] if roi["name"] != "spleen"]
    said = refusal(content)
    assert "method baseline_2 cannot learn: its `labelled_cases` names phantom_spleen" in said
    assert said.endswith("or name the methods without it in `compare`; see config/README.md for the key")
    content["compare"] = ["baseline", "latent_class"]
    content["methods"]["latent_class_2"]["labelled_cases"] = {"phantom_liver": 99}
    for setup in ({}, {"folds": 2}, {"validation": {"fraction": 0.2}}):
        config, fold = load_config(content | setup, BASE), "-fold0" * ("folds" in setup)
        with pytest.raises(UserError, match="lacuna_2 cannot learn: its `labelled_cases` names phantom_spleen"):
            config.run(f"lacuna_2-seed0{fold}")
        with pytest.raises(UserError, match="latent_class_2 cannot learn: its `labelled_cases` wants 99 of"):
            config.run(f"latent_class_2-seed0{fold}")


def test_a_further_seed_renames_no_run():
    content = with_all_labels()
    one = load_config(content, BASE).runs
    assert [run.name for run in one] == ["baseline-seed0", "latent_class-seed0"]
    content["seeds"] = [0, 4]
    config = load_config(content, BASE)
    assert set(one) < set(config.runs)
    assert config.run("latent_class-seed4") in config.runs


def grown(start_from: str | None) -> dict:
    """One data set of spleens, all ROIs of the default config, and one method."""
    content = with_all_labels()
    datasets = content["datasets"]["partially_labelled"]
    (spleens,) = [name for name in datasets if "spleen" in name]
    changed = with_change(content, "datasets/partially_labelled", [spleens])
    changed["compare"] = ["latent_class"]
    changed["methods"]["latent_class"]["start_from"] = start_from
    return changed


def test_rois_that_no_data_set_labels_need_a_model_that_knows_them():
    config = load_config(grown("old/model.safetensors"), BASE)
    assert len(config.unlabelled_rois) == 6
    assert settings_from(config, "latent_class-seed0").method.start_from == "old/model.safetensors"
    assert len(load_config({**grown("old/model.safetensors"), "validation": {"fraction": 0.2}}, BASE).rois) == 7
    assert "no data set with training cases labels liver, liver_tumor" in refusal(grown(None))
    with pytest.raises(UserError, match=r"mean_teacher cannot learn liver, .*; name a model that knows it in `start_"):
        config.run("mean_teacher-seed0")


def test_existence_may_come_from_the_model_that_a_method_starts_from(content):
    alone = with_change(grown("old.safetensors"), "datasets/fully_labelled", None)
    assert "or set `existence.mode` to start_model" in refusal(alone)
    by_model = with_change(alone, "existence", {"mode": "start_model"})
    assert load_config(by_model, BASE).existence.mode == "start_model"
    without = with_change(content, "existence", {"mode": "start_model"})
    assert "method latent_class needs existence scores, which `existence.mode` takes from a model" in refusal(
        with_change(without, "compare", ["latent_class"])
    )


def test_lacuna_can_do_without_existence_scores():
    without = with_change(with_all_labels(), "datasets/fully_labelled", None) | {"compare": ["lacuna"]}
    assert "datasets.fully_labelled`, or set `decision: null`, or name" in refusal(without)
    by_model = without | {"existence": {"mode": "start_model"}}
    assert "takes from a model: name it in `start_from`, or set `decision: null`" in refusal(by_model)
    without = with_change(without, "methods/lacuna/decision", None)
    for setup in ({}, {"folds": 2}, {"validation": {"fraction": 0.2}}, {"existence": {"mode": "online"}}):
        config = load_config(without | setup, BASE)
        assert settings_from(config, config.trainings[0].name).existence == Existence()
    nameless = [{"name": roi["name"], "text": roi["text"]} for roi in without["rois"]]
    assert "method lacuna must know which organ liver" in refusal(without | {"rois": nameless})


@pytest.mark.parametrize("path", ["results/models/a-seed0/model.safetensors", "./results/model.safetensors"])
def test_a_model_that_this_config_would_make_again_is_no_start(content, path):
    message = refusal(with_change(content, "methods/latent_class/start_from", path))
    assert "would be made again by this config: name the kept copy" in message
