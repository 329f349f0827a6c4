"""Cross-validation: which cases a fold holds out, what each training learns from, and what is refused."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline_lib.config.folds import assigned, out_of_fold_cases
from pipeline_lib.config.runs import members
from pipeline_lib.errors import UserError
from pipeline_lib.measurement.plan import steps_of
from pipeline_lib.stages.settings import settings_file
from pipeline_lib.stages.table import STAGES
from tests.config.test_validation import config_of, two_sharing_a_source

train = STAGES["train"].settings_from


@given(
    patients=st.sets(st.text(min_size=1, max_size=4), min_size=2, max_size=30),
    folds=st.integers(2, 6),
    shuffler=st.randoms(use_true_random=False),
)
def test_each_patient_is_in_one_fold_folds_are_even_and_the_order_of_patients_does_not_matter(
    patients, folds, shuffler
):
    ordered = sorted(patients)
    found = assigned("some", tuple(ordered), folds, 0)
    assert set(found) == patients
    sizes = Counter(dict.fromkeys(range(folds), 0))
    sizes.update(found.values())
    assert set(sizes) == set(range(folds))
    assert max(sizes.values()) - min(sizes.values()) <= 1
    shuffler.shuffle(ordered)
    assert assigned("some", tuple(ordered), folds, 0) == found


def test_another_patient_moves_few_of_the_others():
    moved = []
    for dataset in map(str, range(20)):
        fewer, more = (
            assigned(dataset, tuple(f"patient_{number}" for number in range(count)), 5, 0) for count in (50, 51)
        )
        moved.append(sum(more[patient] != fold for patient, fold in fewer.items()))
    assert sum(moved) / len(moved) < 2.5, "dealing them out in turn would move half of them"


@pytest.mark.parametrize("validation", [None, {"fraction": 0.25}])
def test_every_training_case_is_out_of_fold_once_and_never_learned_from_there(validation):
    config = config_of(validation, folds=3, seeds=[0, 1])
    learned = [train(config, run.name) for run in config.trainings]
    assert len(learned) == len(config.compare) * 2 * 3
    for dataset in config.datasets.partially_labelled:
        training = dataset.split_cases("train")
        parts = [out_of_fold_cases(config, dataset.name, fold) for fold in range(3)]
        assert sorted(case for part in parts for case in part) == sorted(training)
        for run, settings in zip(config.trainings, learned, strict=True):
            watched = settings.held_out.get(dataset.name, ())
            assert bool(watched) == bool(validation)
            assert {*settings.cases[dataset.name]} == {*training} - {*parts[run.fold]} - {*watched}
            assert config.predicted_cases(run, dataset) == parts[run.fold]
            assert not {*watched} & {*parts[run.fold]}


def test_a_patient_of_two_data_sets_or_of_several_cases_is_in_one_fold():
    cases = [f"case_{number}" for number in range(20)]
    content = two_sharing_a_source(cases)
    for dataset in content["datasets"]["partially_labelled"]:
        dataset["patients"] = {"P1": cases[1:5], "P2": cases[7:9]}
    config = config_of(folds=4, **content)
    livers, spleens = config.fold_of_cases["livers"], config.fold_of_cases["spleens"]
    assert livers.items() <= spleens.items()
    assert len({spleens[case] for case in cases[1:5]}) == len({spleens[case] for case in cases[7:9]}) == 1
    held_out = train(config_of({"fraction": 0.2}, **content), "baseline-seed0").held_out["spleens"]
    for patient in (cases[1:5], cases[7:9]):
        assert len({*patient} & {*held_out}) in (0, len(patient))


def test_a_run_without_folds_is_as_before_and_averages_have_names_of_their_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    plain, several = config_of(seeds=[0, 1]), config_of(seeds=[0, 1], folds=None, ensemble=True)
    assert plain.runs == plain.trainings == several.trainings
    for run in plain.trainings:
        assert settings_file("train", plain, run=run.name) == settings_file("train", several, run=run.name)
    folds = config_of(seeds=[0, 1], folds=2, ensemble=True, compare=["baseline"])
    of_seed = ["baseline-seed0-fold0", "baseline-seed0-fold1"]
    assert [run.name for run in folds.runs] == ["baseline-seed0-folds", "baseline-seed1-folds", "baseline-ensemble"]
    assert [run.name for run in folds.trainings[:2]] == of_seed
    assert [run.name for run in members(folds, folds.run("baseline-seed0-folds"))] == of_seed
    assert members(folds, folds.run("baseline-ensemble")) == folds.trainings
    for name, config in (("baseline-seed0-fold2", folds), ("baseline-seed0-folds", plain)):
        with pytest.raises(UserError, match=f"config: folds: is .* so there is no {name}"):
            config.run(name)
    with pytest.raises(UserError, match="baseline-ensemble is an average"):
        train(folds, "baseline-ensemble")


def test_without_test_cases_every_case_is_out_of_fold_and_nothing_is_averaged():
    content = two_sharing_a_source([f"case_{number}" for number in range(10)])
    content = _with(content, 0, split="all_training")
    config = config_of(folds=2, seeds=[0, 1], **content)
    assert not config.runs
    assert [run.name for run in config.trainings] == [f"baseline-seed{s}-fold{f}" for s in (0, 1) for f in (0, 1)]
    for dataset in config.datasets.partially_labelled:
        predicted = [case for run in config.trainings[:2] for case in config.predicted_cases(run, dataset)]
        assert sorted(predicted) == sorted(dataset.all_cases)
    for name in ("baseline-seed0-folds", "baseline-seed0"):
        with pytest.raises(UserError, match=f"no data set has a test case, which {name} would predict"):
            config.predicted_cases(config.run(name), config.datasets.partially_labelled[0])
    refused(
        "`ensemble` averages predictions of test cases, and no data", folds=2, seeds=[0, 1], ensemble=True, **content
    )


def test_a_copy_with_other_folds_splits_anew():
    config = config_of(folds=3)
    assert config.fold_of_cases != config.model_copy(update={"folds": 2}).fold_of_cases


def test_the_steps_of_a_fold_are_those_of_the_cases_that_it_learns_from():
    config = config_of(folds=3)
    for run in config.trainings[:3]:
        cases, method = sum(map(len, train(config, run.name).cases.values())), config.methods[run.method]
        steps = steps_of(config, method, run.fold)
        assert steps == -(-config.segmentation.epochs * cases // config.segmentation.batch_size)
        assert steps < steps_of(config, method)


def test_one_folder_spelled_in_two_ways_is_one_source():
    content = two_sharing_a_source([f"case_{number}" for number in range(10)])
    content = _with(content, 1, source={"kind": "local", "path": "./images/"})
    config = config_of(folds=4, **content)
    assert config.fold_of_cases["livers"].items() <= config.fold_of_cases["spleens"].items()


def test_the_labels_of_training_cases_are_kept_where_they_are_scored():
    kept = STAGES["delete_raw"].settings_from
    dataset = config_of().datasets.partially_labelled[0]
    assert kept(config_of(), dataset.name).scored_cases == dataset.split_cases("test")
    assert kept(config_of(folds=2), dataset.name).scored_cases == dataset.used_cases


def refused(message: str, **changes) -> None:
    with pytest.raises(Exception, match=message):
        config_of(**changes)


def test_contradictions_are_refused():
    refused("folds: must be greater than or equal to 2, given 1", folds=1)
    refused(r"`folds: 9` is more than the patients that \w+ has to train, 8: set it to at most 8", folds=9)
    refused("`ensemble` averages a method's seeds, and `seeds` names one", ensemble=True)
    cases = [f"case_{number}" for number in range(10)]
    content = two_sharing_a_source(cases)
    refused("patient P1 has training and test cases", **_with(content, 0, patients={"P1": cases[:2]}))
    refused("`patients` names no case: case_77", **_with(content, 0, patients={"P1": ["case_77"]}))
    refused("`patients` names twice: case_1", **_with(content, 0, patients={"P1": cases[1:3], "P2": cases[1:2]}))
    # Of three cases in three folds one alone labels the liver.
    few = _with(two_sharing_a_source(cases[:4]), 0, labelled={case: [] for case in cases[:3]} | {cases[3]: ["liver"]})
    refused(r"fold \d holds out every case that labels liver: change `folds` or choose another `seed`", folds=3, **few)


def _with(content: dict, place: int, **changes) -> dict:
    datasets = list(content["datasets"]["partially_labelled"])
    datasets[place] = {**datasets[place], **changes}
    return {**content, "datasets": {"partially_labelled": datasets}}


def test_nothing_that_may_have_seen_the_labels_of_a_fold_decides():
    content = two_sharing_a_source([f"case_{number}" for number in range(10)])
    method = content["methods"]["baseline"]
    started = {
        ending: {**content, "methods": {"baseline": {**method, "start_from": f"old/model{ending}"}}, "folds": 2}
        for ending in (".safetensors", ".pt")
    }
    refused(
        "has a `start_from` that names a model that may have learned from the cases that a fold",
        **started[".safetensors"],
    )
    assert config_of(**started[".pt"]).folds == 2
    warm = started[".safetensors"]["methods"]["baseline"]
    aside = config_of(**{**content, "methods": {"baseline": method, "warm": warm}, "folds": 2})
    with pytest.raises(UserError, match="warm has a `start_from` that names a model that may have learned"):
        aside.run("warm-seed0-fold0")
    full = {
        **{"name": "full", "layout": "totalsegmentator_v1", "source": {"kind": "local", "path": "images"}},
        **{"cases": ["case_3", "case_99"], "split": "all_training", "licence": "none"},
    }
    refused(
        "case_3 of livers is in full too, so the ROI-aware network would have seen labels that a fold holds out",
        **{**content, "datasets": {**content["datasets"], "fully_labelled": full}, "folds": 2},
    )
