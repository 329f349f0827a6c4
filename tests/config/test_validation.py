"""Which training cases are held out to watch the training."""

from pathlib import Path

import pytest
import yaml

from pipeline_lib.config.loading import load_config
from pipeline_lib.config.validation import held_out_cases
from pipeline_lib.stages.settings import settings_file
from pipeline_lib.stages.table import STAGES
from tests.support.phantom_config import with_all_labels

BASE = Path(__file__).parents[2]
train = STAGES["train"].settings_from


def config_of(validation=None, **changes):
    content = with_all_labels() | changes
    if validation is not None:
        content["validation"] = validation
    return load_config(content, BASE)


def two_sharing_a_source(cases):
    """Two data sets of the same files: the one labels livers, the other spleens."""
    shared = {"layout": "msd", "source": {"kind": "local", "path": "images"}, "licence": "none", "cases": cases}
    pair = [
        {**shared, "name": "livers", "labels": {"liver": [1]}, "split": {"test": cases[:1]}},
        {**shared, "name": "spleens", "labels": {"spleen": [1]}, "split": "all_training"},
    ]
    rois = [{"name": roi, "text": roi, "structures": [roi]} for roi in ("liver", "spleen")]
    methods = {"baseline": {"kind": "labels_alone", "network": "swin_unetr", "encoder": "wordllama"}}
    return {
        "rois": rois,
        "datasets": {"partially_labelled": pair},
        "methods": methods,
        "scores": {},
        "compare": ["baseline"],
    }


def test_a_share_of_each_data_set_is_held_out_and_never_learned_from_nor_tested():
    config = config_of({"fraction": 0.25})
    held_out = held_out_cases(config)
    settings = train(config, config.runs[0].name)
    assert settings.held_out == held_out
    for dataset in config.datasets.partially_labelled:
        training, kept = set(dataset.split_cases("train")), set(held_out[dataset.name])
        assert len(kept) == round(0.25 * len(training))
        assert kept < training
        assert set(settings.cases[dataset.name]) == training - kept


def test_the_same_cases_are_held_out_for_every_method_and_another_seed_draws_others():
    config = config_of({"fraction": 0.25}, seeds=[0, 1])
    assert len({repr(train(config, run.name).held_out) for run in config.runs}) == 1
    assert held_out_cases(config_of({"fraction": 0.25}, seed=1)) != held_out_cases(config)


def test_without_the_key_or_with_none_held_out_every_settings_file_stays_the_same(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    without, zero = config_of(), config_of({"fraction": 0, "every_epochs": 7})
    for run in without.runs:
        path = settings_file("train", without, run=run.name)
        assert path == settings_file("train", zero, run=run.name)
        assert "validation" not in Path(path).read_text()
        assert "held_out" not in Path(path).read_text()
    assert settings_file("write_report", without) == settings_file("write_report", zero)


def test_a_patient_of_two_data_sets_is_held_out_of_both():
    cases = [f"case_{number}" for number in range(20)]
    held_out = held_out_cases(config_of({"fraction": 0.2}, **two_sharing_a_source(cases)))
    assert set(held_out["livers"]) == set(held_out["spleens"]) - {cases[0]}
    assert len(held_out["livers"]) >= 4


def test_fewer_labelled_cases_are_chosen_from_those_that_are_not_held_out():
    content = yaml.safe_load((BASE / "config" / "config.yaml").read_text())
    content["validation"] = {"fraction": 0.25}
    content["methods"]["baseline"]["labelled_cases"] = {"phantom_spleen": 6}
    config = load_config(content, BASE)
    settings = train(config, "baseline-seed0")
    assert len(set(settings.cases["phantom_spleen"])) == 6
    assert not set(settings.cases["phantom_spleen"]) & set(settings.held_out["phantom_spleen"])
    content["methods"]["baseline"]["labelled_cases"] = {"phantom_spleen": 8}
    with pytest.raises(Exception, match=r"wants 8 of phantom_spleen, which has 6 to train besides those"):
        load_config(content, BASE)


def test_the_best_networks_cannot_be_kept_without_cases_to_choose_by():
    with pytest.raises(Exception, match=r"`keep: best` needs cases to choose by: set `fraction` above 0"):
        config_of({"keep": "best"})
