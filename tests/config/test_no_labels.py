"""CTs that nobody labelled: what a config may say of them, and which trainings learn from them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import yaml

from pipeline_lib.config.datasets import Dataset
from pipeline_lib.config.loading import load_config
from pipeline_lib.config.training_setup import training_setup
from pipeline_lib.data.crops import CropPlan
from pipeline_lib.errors import UserError
from pipeline_lib.measurement.plan import steps_of
from pipeline_lib.randomness import random_generator
from pipeline_lib.stages.acquire.settings import settings_from as acquire
from pipeline_lib.stages.check_existence.settings import settings_from as check_existence
from pipeline_lib.stages.embed.settings import settings_from as embed
from pipeline_lib.stages.resample.settings import settings_from as resample
from pipeline_lib.stages.score.settings import settings_from as score
from pipeline_lib.stages.train.settings import execution_from, settings_from
from tests.data.test_crops import labelling
from tests.support.phantom_config import with_all_labels

BASE = Path(__file__).parents[2]
CASES = [f"ct_{number}" for number in range(30)]
PLAIN = {
    "name": "plain",
    "layout": {"image": "scans/{case}.nii.gz"},
    "source": {"kind": "local", "path": "/data/plain"},
    "cases": CASES,
    "split": "all_training",
    "licence": "internal",
}


@pytest.fixture
def content() -> dict:
    """The demo's config, whose scores need no phantom."""
    return with_all_labels() | {"scores": {"truth": "labelled"}}


def with_plain(content: dict, **changes) -> dict:
    """The demo's config with a data set of CTs alone, `changes` of which None removes a key."""
    plain = {key: value for key, value in (PLAIN | changes).items() if value is not None}
    partial = [*content["datasets"]["partially_labelled"], plain]
    return {**content, "datasets": {**content["datasets"], "partially_labelled": partial}}


def refusal(content: dict) -> str:
    with pytest.raises(UserError) as caught:
        load_config(content, BASE)
    assert "\n" not in str(caught.value)
    return str(caught.value)


OWN_MASKS = {"image": "{case}/ct.mha", "labels": "{case}/{structure}.mha"}
LAYOUTS = ["msd", "nnunet", "kits19", "totalsegmentator_v1", "dicom", PLAIN["layout"], OWN_MASKS]


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
@pytest.mark.parametrize("labels", [None, {}], ids=["left out", "empty"])
def test_a_data_set_without_labels_labels_nothing_in_any_layout(content, layout, labels):
    # Nothing of it is scored, so the full truth of the others can be the truth.
    config = load_config(with_plain(content, layout=layout, labels=labels) | {"scores": {"truth": "full"}}, BASE)
    dataset = config.dataset("plain")
    assert dataset.has_no_labels
    assert dataset.unlabelled_cases == set(CASES)
    assert all(dataset.labelling(case).labels_nothing for case in CASES)
    # Stages read it from a settings file.
    assert Dataset.model_validate_json(dataset.model_dump_json()) == dataset
    assert acquire(config, "plain").dataset.has_no_labels
    batch = resample(config, "plain", "0002")
    assert batch.of_case("ct_29").labelling.labels_nothing
    assert check_existence(config).labelled["plain"] == ()
    assert "plain" not in [each.name for each in score(config, "latent_class-seed0").datasets]
    assert embed(config, "one_hot").tasks == embed(load_config(content, BASE), "one_hot").tasks


def test_a_file_may_describe_such_a_data_set(content, tmp_path):
    (tmp_path / "plain.yaml").write_text(yaml.safe_dump(PLAIN))
    content["datasets"]["partially_labelled"].append(str(tmp_path / "plain.yaml"))
    (tmp_path / "plain.yaml").with_name("cts.txt").write_text("\n".join(CASES))
    from_file = load_config(content, BASE)
    assert from_file.dataset("plain").has_no_labels
    (tmp_path / "plain.yaml").write_text(yaml.safe_dump({**PLAIN, "cases": "cts.txt"}))
    assert load_config(content, BASE) == from_file
    (tmp_path / "plain.yaml").write_text(yaml.safe_dump({**PLAIN, "labelled": "table.csv"}))
    (tmp_path / "table.csv").write_text("case\n" + "\n".join(CASES))
    assert "names a table, which needs `labels` and `cases`; give both, or leave `labelled` out" in refusal(content)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"split": None},
            "plain has no labels, so its test cases (ct_0 …) could not be scored: write `split: all_trai",
        ),
        ({"split": {"test": ["ct_3"]}}, "plain has no labels, so its test cases (ct_3 …) could not be scored"),
        ({"labelled": "present", "layout": OWN_MASKS}, "`labels` is empty, so `labelled` has no meaning: leave it out"),
        ({"ignored_labels": [3]}, "`labels` is empty, so `ignored_labels` has no meaning"),
        ({"unknown_labels": [255]}, "`labels` is empty, so `unknown_labels` has no meaning"),
        ({"labels": {"liver": [1]}}, "`labels` defines ROIs, and `layout` has no path of `labels`: add it"),
        (
            {"labelled": dict.fromkeys(CASES, ("liver",))},
            "`labelled` names liver, which `labels` does not define: define it, or take it out",
        ),
    ],
)
def test_what_contradicts_no_labels_is_refused(content, changes, said):
    assert said in refusal(with_plain(content, **changes))


def test_the_fully_labelled_data_set_must_have_labels(content):
    full = {**PLAIN, "name": "full", "layout": "msd"}
    said = refusal({**content, "datasets": {**content["datasets"], "fully_labelled": full}})
    assert "full labels nothing, and the fully labelled data set must label its structures" in said
    # There each structure goes by its own name, as it always did.
    total = load_config(content, BASE).datasets.fully_labelled
    assert not total.labels
    assert total.labelling(total.all_cases[0]).labelled == "all"
    assert not total.has_no_labels


@pytest.mark.parametrize(
    ("method", "changes", "said"),
    [
        ("latent_class", {"labelled_cases": {"plain": 3}}, "not a partially labelled data set with labels"),
        (
            "baseline",
            {"unlabelled_share": 0.2},
            "`unlabelled_share` has no effect: labels_alone learns from labels alone",
        ),
        ("latent_class", {"unlabelled_share": 1.5}, "less than or equal to 1"),
        ("latent_class", {"unlabelled_share": 0}, "unlabelled_share: must be greater than 0"),
        ("baseline", {"unlabelled_share": 0.5}, None),
        ("baseline", {"unlabelled_share": 0.2, "start_from": "models/liver.safetensors"}, None),
        ("latent_class", {"unlabelled_share": 0.2}, None),
    ],
)
def test_a_share_of_cases_without_labels_needs_a_method_that_learns_from_them(content, method, changes, said):
    content["methods"][method] |= changes
    changed = with_plain(content)
    if said is None:
        assert load_config(changed, BASE)
    else:
        assert said in refusal(changed)


def test_blank_labels_are_refused_with_a_way_out(content):
    content = with_plain(content)
    content["datasets"]["partially_labelled"][-1]["labels"] = None
    said = refusal(content)
    assert "labels: must be a section of keys, given None; fill it in, or leave the key out if it is optional" in said


def test_without_any_label_to_learn_from_only_a_start_model_can_teach_a_method_without_a_teacher(content):
    tested = {"name": "livers", "layout": "msd", "labels": {"liver": [1]}, "split": {"test": CASES[:3]}}
    content["datasets"]["partially_labelled"] = [{**PLAIN, **tested, "cases": CASES[:3]}]
    for method in content["methods"].values():
        method["start_from"] = "models/ssl.pt"
    content["compare"] = ["baseline"]
    said = refusal(with_plain(content))
    assert "method baseline learns from labels alone, and no training case has any: add a data set with labels" in said
    content["methods"]["baseline"]["start_from"] = "models/liver.safetensors"
    assert len(settings_from(load_config(with_plain(content), BASE), "baseline-seed0").cases["plain"]) == 27


@pytest.mark.parametrize(
    "setup", [{}, {"validation": {"fraction": 0.3}}, {"folds": 3}], ids=["plain", "held out", "fold"]
)
def test_a_method_that_learns_from_labels_alone_trains_as_if_the_data_set_were_not_there(content, setup):
    """Equal settings are one training: the same fingerprint, the same model."""
    config, without = load_config(with_plain(content) | setup, BASE), load_config(content | setup, BASE)
    run = "baseline-seed0" + "-fold1" * ("folds" in setup)
    assert settings_from(config, run) == settings_from(without, run)
    assert (execution_from(config, run).left_out, execution_from(without, run).left_out) == (30, 0)
    taught = run.replace("baseline", "latent_class")
    mine, theirs = settings_from(config, taught), settings_from(without, taught)
    assert mine.cases == {**theirs.cases, "plain": tuple(sorted(CASES))}
    assert mine.labelled == {**theirs.labelled, "plain": ()}
    assert mine.held_out == theirs.held_out
    assert execution_from(config, taught).left_out == 0
    # Nothing is predicted that could not be scored.
    for training in config.trainings:
        if training.fold is not None:
            assert config.predicted_cases(training, config.dataset("plain")) == ()


def test_the_start_model_labels_cases_without_labels_for_any_method(content):
    content["methods"]["baseline"]["start_from"] = "models/liver.safetensors"
    config = load_config(with_plain(content), BASE)
    assert len(settings_from(config, "baseline-seed0").cases["plain"]) == 30
    content["methods"]["baseline"]["keep_start"] = False
    assert "plain" not in settings_from(load_config(with_plain(content), BASE), "baseline-seed0").cases


def test_a_network_with_a_part_for_each_data_set_cannot_have_one_of_a_data_set_without_labels(content):
    content["networks"] = {"swin_unetr": {"kind": "swin_unetr", "per_data_set": "outputs"}}
    content["methods"] = {"baseline": content["methods"]["baseline"]}
    content["compare"] = ["baseline"]
    assert load_config(with_plain(content), BASE), "it leaves the data set out"
    content["methods"]["baseline"]["start_from"] = "models/liver.safetensors"
    assert load_config(content, BASE)
    said = refusal(with_plain(content))
    assert "method baseline trains a part of swin_unetr for each data set, and plain labels nothing to train it" in said
    assert "leave it out with `keep_start: false`, name a network without `per_data_set`" in said
    content["methods"]["baseline"]["keep_start"] = False
    assert load_config(with_plain(content), BASE)


def test_a_patient_whom_a_fold_or_validation_holds_out_is_held_out_with_cts_without_labels_too(content):
    labelled = {**PLAIN, "name": "livers", "layout": "msd", "labels": {"liver": [1]}, "cases": CASES[:12]}
    content["datasets"]["partially_labelled"].append(labelled)
    config = load_config(with_plain(content) | {"folds": 3, "validation": {"fraction": 0.25}}, BASE)
    for fold in range(3):
        settings = settings_from(config, f"latent_class-seed0-fold{fold}")
        out = set(config.predicted_cases(config.run(settings.run), config.dataset("livers")))
        held = set(settings.held_out["livers"])
        assert len(out) == 4
        assert held
        assert set(settings.cases["plain"]) == set(CASES) - out - held


@pytest.mark.parametrize("setup", [{}, {"folds": 2}], ids=["plain", "fold"])
def test_a_patient_whom_another_data_set_tests_trains_with_cts_without_labels_neither(content, setup):
    split = {"split": {"test": CASES[:3]}, "patients": {"anna": [CASES[0]]}}
    labelled = {**PLAIN, **split, "name": "livers", "layout": "msd", "labels": {"liver": [1]}, "cases": CASES[:12]}
    content["datasets"]["partially_labelled"].append(labelled)
    # A case of the same patient may have another name there.
    config = load_config(with_plain(content, patients={"anna": ["ct_20"]}) | setup, BASE)
    for run in config.trainings:
        if run.method == "latent_class":
            cases = set(settings_from(config, run.name).cases["plain"])
            assert not cases & {"ct_1", "ct_2", "ct_20"}
            assert {"ct_0", *CASES[12:20], *CASES[21:]} <= cases
            assert (set(CASES[3:12]) <= cases) == (not setup)
    elsewhere = with_plain(content, source={"kind": "local", "path": "/data/another"}) | setup
    run = f"latent_class-seed0{'-fold0' * bool(setup)}"
    assert set(settings_from(load_config(elsewhere, BASE), run).cases["plain"]) == set(CASES)


def table_of(content: dict, **rows) -> dict:
    """The demo with a data set of which a table labels the liver in some cases."""
    changes = {"name": "livers", "layout": "msd", "labels": {"liver": [1]}, "cases": list(rows)}
    return with_plain(
        content, **changes, labelled={case: ["liver"] * is_labelled for case, is_labelled in rows.items()}
    )


def test_cases_that_a_table_leaves_empty_are_left_out_too(content):
    config = load_config(table_of(content, a=True, b=False, c=True, d=False), BASE)
    assert settings_from(config, "baseline-seed0").cases["livers"] == ("a", "c")
    assert execution_from(config, "baseline-seed0").left_out == 2
    assert settings_from(config, "latent_class-seed0").cases["livers"] == ("a", "b", "c", "d")


@pytest.mark.parametrize("method", ["baseline", "latent_class"])
def test_fewer_labelled_cases_are_drawn_from_those_with_labels_and_leave_the_others_as_they_are(content, method):
    """Both methods draw the same two of ten, and neither training is longer or shorter for it."""
    rows = {f"l{number:02}": number < 10 for number in range(20)}
    all_cases = settings_from(load_config(table_of(content, **rows), BASE), f"{method}-seed0").cases["livers"]
    content["methods"][method]["labelled_cases"] = {"livers": 2}
    few = load_config(table_of(content, **rows), BASE)
    drawn = settings_from(few, f"{method}-seed0").cases["livers"]
    without = [case for case, is_labelled in rows.items() if not is_labelled]
    assert [case for case in drawn if not rows[case]] == without * (method == "latent_class")
    order = random_generator("labelled cases", 0, "livers").permutation(10)[:2]
    assert Counter(case for case in drawn if rows[case]) == {f"l{number:02}": 5 for number in order}
    assert len(drawn) == len(all_cases)


@pytest.mark.parametrize("method", ["baseline", "latent_class"])
def test_more_labelled_cases_than_have_labels_are_refused(content, method):
    content["methods"][method]["labelled_cases"] = {"livers": 3}
    table = table_of(content, a=True, b=False, c=True, d=False)
    assert "`labelled_cases` wants 3 of livers, which has 2 to train" in refusal(table)
    held = table_of(content, a=True, b=False, c=True, d=True) | {"validation": {"fraction": 0.3}}
    said = refusal(held)
    assert "`labelled_cases` wants 3 of livers, which has 2 to train besides those" in said


@pytest.mark.parametrize(
    ("changes", "expected"),
    [({}, {"livers": 3}), ({"validation": {"fraction": 0.3}}, {"livers": 2}), ({"folds": 3}, {})],
    ids=["all", "held out", "in folds"],
)
def test_a_report_counts_the_labelled_cases_that_are_learned_from(content, changes, expected):
    config = load_config(table_of(content, a=True, b=False, c=True, d=True) | changes, BASE)
    labelled = training_setup(config).labelled
    assert {name: labelled[name] for name in labelled if name == "livers"} == expected


def test_a_plan_counts_the_steps_of_a_training_as_its_crops_do(content):
    config = load_config(with_plain(content), BASE)
    for name in ("baseline", "latent_class"):
        method, settings = config.methods[name], settings_from(config, f"{name}-seed0")
        sets = {dataset: [range(dataset != "plain")] * len(cases) for dataset, cases in settings.cases.items()}
        cases = tuple(case for dataset, labelled in sets.items() for case in labelling(dataset, *labelled))
        plan = CropPlan.from_cases(cases, settings.optimisation, 0, unlabelled_share=method.unlabelled_share)
        assert steps_of(config, method) == plan.steps
