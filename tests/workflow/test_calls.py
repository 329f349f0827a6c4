"""What a user sees of a call: whose code runs, old names of targets, where data sets lie, how a failure ends."""

from __future__ import annotations

import re

import pytest
import yaml

from .conftest import BASE, HERE, Project, called, planned_jobs


@pytest.mark.parametrize("place", ["elsewhere", "in the installed checkout"])
def test_jobs_run_the_code_of_the_checkout_whose_snakefile_is_called(checkout, tmp_path, place):
    results = tmp_path / "results"
    results.mkdir()
    if place == "in the installed checkout":
        (results / "pipeline_lib").symlink_to(BASE / "pipeline_lib")
    done = called(
        *(results, "resources/raw/tiny_spleen/manifest.json", "--snakefile", str(checkout / "Snakefile")),
        *("--cores", "1", "--configfile", str(BASE / "tests" / "configs" / "tiny.yaml")),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert HERE in done.stderr


@pytest.mark.parametrize(
    ("old", "new", "rule"),
    [
        ("acquire", "raw_data", "acquire_phantom"),
        ("text", "embeddings", "embed"),
        ("roi_aware", "roi_aware_network", "train_roi_aware"),
        ("segmentation", "models", "train"),
        ("inference", "predictions", "predict"),
    ],
)
def test_an_old_name_of_a_target_works_and_says_the_new_one(tiny_content, tmp_path, old, new, rule):
    project = Project(tmp_path, tiny_content)
    by_old, by_new = (project.dry_run(target) for target in (old, new))
    assert f"note: target `{old}` is now called `{new}`" in by_old.stderr
    assert "note:" not in by_new.stderr
    plans = [planned_jobs(done.stdout) for done in (by_old, by_new)]
    assert rule in plans[0]
    assert {key: count for key, count in plans[0].items() if key != old} == {
        key: count for key, count in plans[1].items() if key != new
    }


def test_a_data_set_file_beside_the_config_is_found_from_any_working_directory(tiny_content, tmp_path):
    study = tmp_path / "study" / "config"
    (study / "datasets").mkdir(parents=True)
    first, *others = tiny_content["datasets"]["partially_labelled"]
    (study / "datasets" / "tiny_liver.yaml").write_text(yaml.safe_dump(first))
    datasets = {**tiny_content["datasets"], "partially_labelled": ["tiny_liver", *others]}
    (study / "lab.yaml").write_text(yaml.safe_dump({**tiny_content, "datasets": datasets}))
    options = ("--snakefile", str(BASE / "Snakefile"), "--dry-run", "raw_data", "--configfile", "config/lab.yaml")
    for more in ((), ("--directory", str(tmp_path / "out"))):
        done = called(tmp_path / "study", *options, *more, PYTHONPATH=str(BASE))
        assert done.returncode == 0, done.stderr
        assert "resources/raw/tiny_liver/manifest.json" in done.stdout


def test_a_wrong_source_is_tried_once_and_its_error_stands_last(tiny_content, tmp_path):
    source = {"kind": "local", "path": str(tmp_path / "nowhere")}
    project = Project(tmp_path, {**tiny_content, "scores": {"truth": "labelled"}})
    project = project.edited("datasets/partially_labelled/2/source", source)
    project = project.edited("datasets/partially_labelled/2/cases", [f"tiny_spleen_{index:03d}" for index in range(4)])
    done = project.run("--cores", "1", "resources/raw/tiny_spleen/manifest.json")
    assert done.returncode != 0
    assert done.stderr.count("Error in rule acquire_published") == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith("error: ")
    assert "nowhere" in last
    assert last.endswith("[logs/acquire/tiny_spleen.log]")


def test_the_file_that_a_training_starts_from_is_its_input(tiny_content, tmp_path):
    (tmp_path / "old.safetensors").touch()
    project = Project(tmp_path, {**tiny_content, "compare": ["baseline", "latent_class"]})
    project = project.edited("methods/latent_class/start_from", "old.safetensors")
    jobs = re.findall(
        r"^rule train:\n    input: (.*)\n(?:    .*\n)*?    wildcards: run=(\S+)", project.dry_run("models").stdout, re.M
    )
    reads = {run: files.split(", ") for files, run in jobs}
    assert "old.safetensors" in reads["latent_class-seed0"]
    assert "old.safetensors" not in reads["baseline-seed0"]
