"""Trained models survive whatever is edited, deleted or copied: they are restored, and nothing is trained twice."""

from __future__ import annotations

import os
import re
import shutil

import pytest

from .conftest import Project, called, copied, inputs_by_rule, job_server, planned_jobs

pytestmark = pytest.mark.timeout(900)

MODELS = ("results/models/baseline-seed0", "results/models/latent_class-seed0", "results/roi_aware_network")

UP_TO_MODELS = ("volumes", "existence", "roi_aware_network", "models")


@pytest.fixture
def project(finished, tmp_path) -> Project:
    """The finished run in a folder of its own."""
    return copied(finished, tmp_path)


def weights(project: Project) -> list[bytes]:
    return [(project.folder / folder / "model.safetensors").read_bytes() for folder in MODELS]


def kept(project: Project) -> set[str]:
    return {str(folder.relative_to(project.folder)) for folder in (project.folder / "models").glob("*/*")}


def up_to_date(project: Project, *targets: str) -> str:
    """Bring `targets` up to date; what the run says."""
    done = project.run_forked("--cores", "2", *targets)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stderr


def trainings(said: str) -> list[str]:
    """The trainings that began."""
    return re.findall(r"^(.+): training starts or resumes", said, re.MULTILINE)


def announced(said: str) -> list[str]:
    """The trainings that may be repeated, as the run says before it starts any job."""
    notes = re.findall(r"^note: (.+) is planned again \(", said.partition("\nSelect jobs to execute")[0], re.MULTILINE)
    return sorted(notes)


def planned_runs(project: Project) -> set[str]:
    """The runs whose rule train is planned."""
    output = project.dry_run().stdout
    jobs = re.findall(r"^rule train:\n(?:    .*\n)*?    wildcards: run=(\S+)", output, re.MULTILINE)
    return set(jobs)


def with_datasets(project: Project, change) -> Project:
    """The project with `change` applied to its list of partially labelled data sets."""
    datasets = [dict(dataset) for dataset in project.content["datasets"]["partially_labelled"]]
    return project.edited("datasets/partially_labelled", change(datasets))


def test_a_data_set_that_only_tests_is_predicted_and_trains_nothing(project):
    before = weights(project)
    new = {"name": "tiny_new", "split": {"test": ["tiny_new_000"]}}

    def added(datasets):
        one_case = {**datasets[2]["source"], "cases": 1}
        return [*datasets, {**datasets[2], **new, "source": one_case}]

    more = with_datasets(project, added)
    assert not {"train", "train_roi_aware"} & set(more.planned())
    said = up_to_date(more, "predictions")
    assert (trainings(said), announced(said)) == ([], [])
    assert weights(project) == before
    for run in ("baseline-seed0", "latent_class-seed0"):
        assert list((project.folder / "results" / "predictions" / run / "tiny_new").glob("*.nii.gz"))


@pytest.mark.parametrize("key", ["licence", "doubted"])
def test_what_is_only_reported_of_a_data_set_trains_nothing(finished, key):
    value = {"licence": "another", "doubted": [{"case": "tiny_liver_001", "reason": "looks odd"}]}[key]
    edited = with_datasets(finished, lambda datasets: [{**datasets[0], key: value}, *datasets[1:]])
    assert set(edited.planned()) == {"write_report"}


@pytest.mark.parametrize("lost", ["lists of cases", "results", "existence scores"])
def test_after_a_loss_models_are_restored(project, lost):
    before, folders = weights(project), kept(project)
    results = project.folder / "results"
    if lost == "lists of cases":
        for dataset in ("tiny_liver", "tiny_total"):
            (results / "volumes" / dataset / "cases.csv").unlink()
    elif lost == "results":
        shutil.rmtree(results)
    else:
        (results / "existence" / "tiny_kits.parquet").unlink()
    assert project.planned()["train"] == 2
    said = up_to_date(project, *UP_TO_MODELS)
    assert trainings(said) == []
    again = {
        "lists of cases": ["train baseline-seed0", "train latent_class-seed0", "train_roi_aware"],
        "results": [],
        "existence scores": ["train baseline-seed0", "train latent_class-seed0"],
    }
    assert announced(said) == again[lost]
    assert weights(project) == before
    assert kept(project) == folders
    assert "train" not in project.planned()


def test_a_folder_copied_with_new_dates_trains_nothing(finished, tmp_path):
    """Nor where Snakemake's own notes are missing too, as in a fresh clone with old results."""
    project = copied(finished, tmp_path, how="-r")
    shutil.rmtree(tmp_path / ".snakemake")
    before, folders = weights(project), kept(project)
    assert trainings(up_to_date(project, *UP_TO_MODELS)) == []
    assert weights(project) == before
    assert kept(project) == folders


def test_another_seed_or_method_trains_that_alone(finished):
    assert planned_runs(finished.edited("seeds", [0, 1])) == {"baseline-seed1", "latent_class-seed1"}
    methods = ["mean_teacher", "baseline", "latent_class"]
    assert planned_runs(finished.edited("compare", methods)) == {"mean_teacher-seed0"}


def test_folds_train_without_their_cases_predict_those_and_average_for_the_test_cases(finished):
    """Three data sets, two methods; what was trained without folds is neither used nor trained again."""
    project = finished.edited("folds", 2)
    done = project.dry_run().stdout
    folds = [f"{method}-seed0-fold{fold}" for method in ("baseline", "latent_class") for fold in (0, 1)]
    assert planned_runs(project) == set(folds)
    assert planned_jobs(done) == {"train": 4, "predict": 3 * (2 + 4), "score": 2 + 4, "write_report": 1}
    predicted = dict(
        re.findall(
            r"^rule predict:\n    input: (.*)\n    output: results/predictions/(\S+)/tiny_kits\n", done, re.MULTILINE
        )
    )
    inputs = {run: re.findall(r"results/models/(\S+?)/model", files) for files, run in predicted.items()}
    assert inputs["baseline-seed0-folds"] == folds[:2]
    assert inputs["baseline-seed0-fold1"] == folds[1:2]


def test_folds_need_no_test_cases(finished):
    """The report is then made of what the folds predict, and nothing averages them."""
    project = with_datasets(finished, lambda sets: [{**each, "split": "all_training"} for each in sets])
    done = project.edited("folds", 2).dry_run()
    planned = planned_jobs(done.stdout)
    assert {rule: planned[rule] for rule in ("train", "predict", "score")} == {"train": 4, "predict": 3 * 4, "score": 4}
    assert "-folds" not in done.stdout
    report = inputs_by_rule(done.stdout)["write_report"]
    for kind in ("scores/{}.csv", "confusion/{}.csv", "models/{}/history.jsonl", "predictions/{}/tiny_kits"):
        for run in ("baseline-seed0-fold0", "latent_class-seed0-fold1"):
            assert f"results/{kind.format(run)}" in report
    assert "resources/truth/tiny_kits" in report


def test_an_ensemble_averages_the_seeds_and_trains_nothing_of_its_own(finished):
    project = finished.edited("seeds", [0, 1]).edited("ensemble", True)
    assert planned_runs(project) == {"baseline-seed1", "latent_class-seed1"}
    assert project.planned() == {"train": 2, "predict": 3 * (2 + 2), "score": 2 + 2, "write_report": 1}


def test_another_version_of_the_stage_trains_again_and_keeps_the_old_models(project, checkout):
    settings = checkout / "pipeline_lib" / "stages" / "train" / "settings.py"
    text, count = re.subn(r"^VERSION = \d+$", "VERSION = 999", settings.read_text(), flags=re.MULTILINE)
    assert count == 1
    settings.write_text(text)
    before, server = kept(project), job_server()
    project.command()
    done = called(
        *(checkout, "results/models/baseline-seed0/model.safetensors", "--cores", "2"),
        *("--directory", str(project.folder), "--configfile", str(project.folder / "config.yaml")),
        **{**server.environment, "PYTHONPATH": os.pathsep.join(map(str, (server.folder, checkout)))},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"train baseline-seed0: training starts or resumes \(differs .* in: version\)", done.stderr)
    assert kept(project) > before
    assert len(kept(project)) == len(before) + 1
