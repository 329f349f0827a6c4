"""What a user sees of a call: whose code runs, old names of targets, where data sets lie, how a failure ends."""

from __future__ import annotations

import re

import pytest
import yaml

from .conftest import BASE, HERE, Project, called, inputs_by_rule


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


RENAMED = {
    "acquire": ("raw_data", "resources/raw/tiny_kits/manifest.json"),
    "text": ("embeddings", "results/embeddings/wordllama.safetensors"),
    "roi_aware": ("roi_aware_network", "results/roi_aware_network/model.safetensors"),
    "segmentation": ("models", "results/models/baseline-seed0/model.safetensors"),
    "inference": ("predictions", "results/predictions/baseline-seed0/tiny_kits"),
}
"""Old name of a target → its new one, and a file that it makes."""


def test_the_old_name_of_a_target_works_and_says_the_new_one(tiny_content, tmp_path):
    project = Project(tmp_path, tiny_content)
    news = [new for new, _ in RENAMED.values()]
    assert "note:" not in project.dry_run(*news).stderr
    both = project.dry_run(*RENAMED, *news)
    inputs = inputs_by_rule(both.stdout)
    for old, (new, file) in RENAMED.items():
        assert f"note: target `{old}` is now called `{new}`" in both.stderr
        assert file in inputs[old].split(", ")
        assert inputs[old] == inputs[new]


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


def test_a_wrong_source_is_tried_once_and_its_error_stands_at_the_end(tiny_content, tmp_path):
    source = {"kind": "local", "path": str(tmp_path / "nowhere")}
    project = Project(tmp_path, {**tiny_content, "scores": {"truth": "labelled"}})
    project = project.edited("datasets/partially_labelled/2/source", source)
    project = project.edited("datasets/partially_labelled/2/cases", [f"tiny_spleen_{index:03d}" for index in range(4)])
    called_for = ("--cores", "1", "resources/raw/tiny_spleen/manifest.json")
    quiet, loud = (project.run(*called_for, *more) for more in ((), ("--verbose",)))
    assert quiet.returncode != 0
    assert loud.returncode != 0
    error = r"error: .*nowhere.* \[logs/acquire/tiny_spleen.log\]"
    lines = quiet.stderr.splitlines()
    assert len(lines) <= 7, quiet.stderr
    assert [line.split()[:2] for line in lines if line.startswith("failed")] == [["failed", "acquire_published"]]
    assert re.fullmatch(error, lines[-2])
    assert lines[-1].startswith("stopped after")
    assert loud.stderr.count("Error in rule acquire_published") == 1
    assert re.fullmatch(error, loud.stderr.splitlines()[-1])


def test_a_run_is_a_few_lines_and_a_plain_flag_brings_back_snakemakes_own(tiny_content, tmp_path):
    wanted = ("--cores", "1", "resources/raw/tiny_spleen/manifest.json")
    lines = Project(tmp_path, tiny_content).run(*wanted).stderr.splitlines()
    assert re.search(r": 1 job on 1 core, (no|\d+) GPU", lines[0])
    assert sum(line.startswith("done") for line in lines) == 1
    assert lines[-1].startswith("finished 1 job in ")
    assert len(lines) <= 8
    assert not any("Select jobs to execute" in line for line in lines)
    loud = Project(tmp_path, tiny_content).run(*wanted, "--forceall", "--printshellcmds").stderr
    assert "rule acquire_phantom:" in loud
    assert "acquire  case 4/4  100 %" in loud


def test_the_table_ends_a_run_that_has_nothing_left_to_do(finished):
    shown = finished.run("--cores", "1").stderr
    assert shown.startswith("Nothing to be done")
    assert "Dice in %" in shown
    assert shown.splitlines()[-1] == "report: results/report/index.html"
    assert "Dice" not in finished.run("--cores", "1", "volumes").stderr


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
