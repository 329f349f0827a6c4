"""The graph: what runs, what reruns after which edit, what survives, and what no stage may see."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import yaml

from .conftest import BASE, Project, called, copied, inputs_by_rule, planned_jobs
from .forked import forked_snakemake

_PATIENCE_SECONDS = 400
"""For a training to begin; on a machine that is busy with others it takes minutes."""

# The first test waits for the whole tiny run, which takes minutes where other work has the cores.
pytestmark = pytest.mark.timeout(900)

AFTER_TRAINING = {"predict", "score", "write_report"}
AFTER_EXISTENCE = {"train", *AFTER_TRAINING}
AFTER_VOLUMES = {"train_roi_aware", "score_existence", *AFTER_EXISTENCE}


def test_cts_without_labels_are_read_by_the_trainings_that_learn_from_them_and_predicted_by_none(
    tiny_content, tmp_path
):
    plain = {**tiny_content["datasets"]["partially_labelled"][0], "name": "tiny_plain", "split": "all_training"}
    del plain["labels"]
    content = {**tiny_content, "compare": ["baseline", "latent_class"]}
    partial = [*tiny_content["datasets"]["partially_labelled"], plain]
    content["datasets"] = {**tiny_content["datasets"], "partially_labelled": partial}
    planned = Project(tmp_path, content).dry_run().stdout
    trained = dict(
        re.findall(r"^rule train:\n    input: (.*)\n    output: results/models/(\w+)-seed0", planned, re.MULTILINE)
    )
    reading = {method: "existence/tiny_plain.parquet" in files for files, method in trained.items()}
    assert reading == {"baseline": False, "latent_class": True}
    assert {files.count("cases.csv") for files in trained} == {3, 4}
    assert "results/predictions/latent_class-seed0/tiny_plain" not in planned
    jobs = planned_jobs(planned)
    assert (jobs["score_existence"], jobs["predict"]) == (4, 6)


def test_every_artifact_is_there(finished):
    results = finished.folder / "results"
    for path in (
        "volumes/tiny_liver/tiny_liver_000/image.b2nd",
        "volumes/tiny_liver/cases.csv",
        "embeddings/wordllama.safetensors",
        "roi_aware_network/model.safetensors",
        "roi_aware_network/metrics.json",
        "roi_aware_network/history.jsonl",
        "existence/tiny_liver.parquet",
        "models/latent_class-seed0/model.safetensors",
        "models/latent_class-seed0/history.jsonl",
        "scores/latent_class-seed0.csv",
        "report/index.html",
        "report/table.csv",
    ):
        assert (results / path).is_file(), path
    assert list((results / "predictions" / "latent_class-seed0" / "tiny_liver").glob("*.nii.gz"))
    assert not list((finished.folder / "work").rglob("*.pt")), "checkpoints go once the model is in place"


def test_scores_have_a_row_for_every_roi_and_test_case(finished):
    scores = pd.read_csv(finished.folder / "results" / "scores" / "latent_class-seed0.csv")
    assert list(scores.columns[:5]) == ["run", "dataset", "case", "roi", "dice"]
    rois = [roi["name"] for roi in finished.content["rois"]]
    for _, rows in scores.groupby(["dataset", "case"]):
        assert sorted(rows["roi"]) == sorted(rois)


def test_a_second_run_has_nothing_to_do(finished):
    assert finished.planned() == {}


def test_a_reformatted_config_reruns_nothing(finished):
    content = finished.content
    backwards = {key: content[key] for key in reversed(content)}
    assert yaml.safe_dump(backwards, sort_keys=False) != yaml.safe_dump(content, sort_keys=False)
    assert Project(finished.folder, backwards).planned() == {}


@pytest.mark.parametrize(
    ("path", "value", "rerun"),
    [
        ("phantom/noise_hu", 25, {"acquire_phantom", "resample", "list_cases", *AFTER_VOLUMES}),
        ("volumes/spacing_mm", [8, 8, 9], {"resample", "list_cases", *AFTER_VOLUMES}),
        ("text/prompt", "A CT of a {}", {"embed", *AFTER_EXISTENCE}),
        ("patches/pool_size", 4, AFTER_VOLUMES),
        ("augmentation/weak/zoom_probability", 0.1, AFTER_VOLUMES),
        ("augmentation/strong/blur_probability", 0.3, AFTER_EXISTENCE),
        ("roi_aware/optimisation/epochs", 3, AFTER_VOLUMES),
        ("roi_aware/execution/checkpoint_minutes", 3.0, set()),
        ("existence/mode", "online", {"score_existence", *AFTER_EXISTENCE}),
        ("networks/swin_unetr/window_size", 5, AFTER_EXISTENCE),
        ("teacher/decay", 0.9, AFTER_EXISTENCE),
        ("networks/dodnet/width", 16, set()),
        ("rois/0/text", "the liver", {"embed", *AFTER_EXISTENCE}),
        ("compare", ["latent_class"], {"write_report"}),
        ("segmentation/learning_rate", 2e-3, AFTER_EXISTENCE),
        ("execution/checkpoint_minutes", 3.0, set()),
        ("methods/latent_class/decision", {"positive_above": 0.7}, AFTER_EXISTENCE),
        ("methods/dodnet/encoder", "one_hot", set()),
        ("inference/overlap", 0.3, AFTER_TRAINING),
        ("inference", {"overlap": 0.25, "window_batch_size": 1, "device": "cpu", "precision": "float32"}, set()),
        ("roi_aware/execution/device", "cpu", set()),
        ("execution/device", "cpu", set()),
        ("scores/surface_tolerance_mm", 3.0, {"score", "write_report"}),
        ("seed", 1, {"acquire_phantom", "resample", "list_cases", *AFTER_VOLUMES}),
    ],
)
def test_an_edit_reruns_its_stages_and_no_other(finished, path, value, rerun):
    assert set(finished.edited(path, value).planned()) == rerun


@pytest.mark.parametrize(
    ("path", "value"), [("methods/latent_class/sharpening_temperature", 0.2), ("teacher/decay", 0.9)]
)
def test_an_edit_that_concerns_one_method_leaves_the_others(finished, path, value):
    planned = finished.edited(path, value).planned()
    assert planned["train"] == 1
    assert planned["predict"] == 3


def test_adding_a_method_that_is_not_compared_reruns_nothing(finished):
    methods = {
        **finished.content["methods"],
        "other": {"kind": "labels_alone", "network": "dodnet", "encoder": "one_hot"},
    }
    assert finished.edited("methods", methods).planned() == {}


def test_adding_a_data_set_makes_its_files_and_trains_the_runs_that_learn_from_it(finished):
    more = {**finished.content["datasets"]["partially_labelled"][2], "name": "tiny_more"}
    planned = finished.edited(
        "datasets/partially_labelled", [*finished.content["datasets"]["partially_labelled"], more]
    )
    jobs = planned.planned()
    assert (jobs["acquire_phantom"], jobs["resample"], jobs["list_cases"], jobs["score_existence"]) == (1, 1, 1, 1)
    assert not {"train_roi_aware", "embed"} & set(jobs)
    assert jobs["predict"] == 2 * 4


def test_adding_a_seed_trains_that_seed_only(finished):
    planned = finished.edited("seeds", [0, 1]).planned()
    assert planned == {"train": 2, "predict": 6, "score": 2, "write_report": 1}


def test_adding_a_method_trains_only_that_method(finished):
    planned = finished.edited("compare", ["baseline", "latent_class", "mean_teacher"]).planned()
    assert planned == {"train": 1, "predict": 3, "score": 1, "write_report": 1}


def test_another_split_remakes_no_volume(finished):
    planned = finished.edited("datasets/partially_labelled/2/split", "all_training").planned()
    assert "resample" not in planned
    assert planned["score_existence"] == 1


@pytest.mark.parametrize(
    ("lost", "rule"),
    [
        ("results/embeddings/wordllama.safetensors", "embed"),
        ("results/existence/tiny_kits.parquet", "score_existence"),
        ("results/scores/baseline-seed0.csv", "score"),
    ],
)
def test_a_lost_output_is_remade(finished, lost, rule):
    path = finished.folder / lost
    aside = path.with_suffix(".aside")
    path.rename(aside)
    try:
        assert finished.planned()[rule] == 1
    finally:
        aside.rename(path)


def test_a_lost_volume_is_made_again_though_what_was_made_of_it_is_there(finished, tmp_path):
    project = copied(finished, tmp_path, "-al")
    (tmp_path / "results" / "volumes" / "tiny_kits" / "case_00001" / "labels.b2nd").unlink()
    for target in ("volumes", "all"):
        planned = project.planned(target)
        assert (planned["resample"], planned["list_cases"]) == (1, 1)
    assert "resample" not in project.planned("embeddings")
    lists = {path.name for path in (tmp_path / "results" / "volumes" / "tiny_kits").glob("*.*")}
    assert lists == {"batch_0000.txt", "cases.csv"}, "planning deletes nothing"


@pytest.fixture(scope="module")
def all_inputs(finished) -> dict[str, str]:
    keeping = finished.edited("pseudo_labels", {"snapshots": [0.5, 1]})
    return inputs_by_rule(keeping.dry_run("--forceall", "all", "existence_check", "pseudo_labels").stdout)


def test_only_scores_report_and_checks_may_see_the_full_truth(all_inputs):
    assert {"train", "train_roi_aware", "score_existence", "predict"} <= set(all_inputs)
    seeing = {rule for rule, files in all_inputs.items() if "resources/truth" in files}
    assert seeing == {"score", "write_report", "check_existence", "check_pseudo_labels"}


def test_an_edit_of_code_retrains_nothing(all_inputs):
    """Stages from which trainings follow have versions; only what comes after the trainings has code for its input."""
    assert {"list_cases", "resample", "train"} <= set(all_inputs)
    of_code = {rule for rule, files in all_inputs.items() if "/pipeline_lib/" in files}
    assert of_code == {"score", "write_report", "check_existence", "check_pseudo_labels"}


def test_no_training_reads_what_the_check_of_pseudo_labels_made(all_inputs):
    reading = {rule for rule, files in all_inputs.items() if "results/pseudo_labels/" in files}
    assert reading == {"pseudo_labels"}, "and the report, once it is made"
    assert "results/models/latent_class-seed0/teachers" in all_inputs["check_pseudo_labels"]
    assert "models/baseline" not in all_inputs["check_pseudo_labels"], "it has no teacher"


def test_setting_the_key_of_snapshots_trains_nothing_again_until_they_are_asked_for(finished):
    """The command of `train` is the same with the key and without, so that removing it reruns nothing either."""
    keeping = finished.edited("pseudo_labels", {"snapshots": [0.5, 1]})
    assert keeping.planned() == {}
    assert keeping.planned("pseudo_labels") == {"train": 1, "check_pseudo_labels": 1, "pseudo_labels": 1}
    refused = forked_snakemake(finished.arguments("--dry-run", "pseudo_labels"), BASE)
    assert refused.returncode != 0
    lines = refused.stderr.strip().splitlines()
    assert lines[-1].startswith("error: pseudo_labels.snapshots: is empty, so no training keeps its teacher; set it")


def test_what_the_check_of_existence_made_goes_into_the_report_alone(finished, tmp_path):
    assert set(finished.planned("existence_check")) == {"check_existence", "existence_check"}
    project = copied(finished, tmp_path)
    done = project.run_forked("--cores", "2", "existence_check")
    assert done.returncode == 0, done.stdout + done.stderr
    decisions = pd.read_csv(tmp_path / "results" / "existence_check" / "decisions.csv")
    assert set(decisions["patches_of"]) == {"pool", "training crops"}
    inputs = inputs_by_rule(project.dry_run("--forceall", "all", "existence_check").stdout)
    assert {rule for rule, files in inputs.items() if "results/existence_check/" in files} == {
        "write_report",
        "existence_check",
    }
    assert project.planned() == {"write_report": 1}
    assert set(project.edited("methods/latent_class/decision", {"positive_above": 0.7}).planned()) == {
        "check_existence",
        *AFTER_EXISTENCE,
    }


def test_the_snakefile_loads_without_torch(finished):
    command = finished.command("--dry-run")
    done = subprocess.run(
        [sys.executable, "-X", "importtime", *command], cwd=BASE, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    imported = {line.rsplit("|", 1)[1].strip().split(".")[0] for line in done.stderr.splitlines() if "|" in line}
    assert "pipeline_lib" in imported
    assert not imported & {"torch", "monai", "SimpleITK", "open_clip"}


@pytest.mark.parametrize(
    ("path", "rules"),
    [
        (None, set()),
        ("execution/device", {"train"}),
        ("roi_aware/execution/device", {"train_roi_aware", "score_existence", "check_existence"}),
        ("inference/device", {"predict"}),
    ],
)
def test_every_rule_leaves_the_gpus_alone_where_its_device_is_the_cpu(finished, path, rules):
    project = finished if path is None else finished.edited(path, "cpu")
    done = project.dry_run("--forceall", "all", "existence_check", gpus=2)
    jobs = re.findall(r"^(?:local)?rule (\w+):\n(.*?)^\n?(?=\[|$)", done.stdout, re.MULTILINE | re.DOTALL)
    using_gpus = {rule for rule, lines in jobs if re.search(r"\bgpu=[1-9]", lines)}
    every = {"train", "train_roi_aware", "score_existence", "check_existence", "predict"}
    assert using_gpus == every - rules


def test_the_default_profile_gives_way_to_the_one_named(finished, tmp_path):
    (tmp_path / "config.yaml").write_text("set-resources: {train: {gpu: 3}}\nresources: {gpu: 4}\n")
    arguments = ("--forcerun", "train", "--printshellcmds", "--workflow-profile", str(tmp_path))
    output = finished.dry_run(*arguments).stdout
    assert re.search(r"gpu=3\b", output)


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        ("segmentation/epoch", 3, ["segmentation.epoch", "epochs"]),
        (
            "methods/latent_class/decision",
            {"negative_below": 0.9},
            ["methods.latent_class", "negative_below", "positive_above"],
        ),
        ("patches/size_voxels", [64, 64, 40], ["patches", "size_voxels", "divide by 32"]),
        ("datasets/partially_labelled/0/labels", {"heart": [1]}, ["tiny_liver", "heart", "liver"]),
    ],
)
def test_a_wrong_config_ends_in_one_line_before_any_job(tiny_content, tmp_path, path, value, expected):
    done = forked_snakemake(Project(tmp_path, tiny_content).edited(path, value).arguments("--cores", "1"), BASE)
    assert done.returncode != 0
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    assert len(lines) == 1, done.stderr
    for part in expected:
        assert part in lines[0]
    assert not (tmp_path / "results").exists()


def test_too_little_disk_is_said_before_any_job(tiny_content, tmp_path):
    huge = Project(tmp_path, tiny_content).edited("volumes/spacing_mm", [0.001, 0.001, 0.001])
    done = forked_snakemake(huge.arguments("--cores", "1"), BASE)
    assert done.returncode != 0
    assert re.search(r"error: .*need about [\d.]+ GB more and [\d.]+ GB are free", done.stderr)
    assert not (tmp_path / "resources").exists()


def test_snakemakes_own_report_is_made_and_holds_the_figures(finished, tmp_path):
    page = tmp_path / "report.html"
    done = forked_snakemake(finished.arguments("--report", str(page)), BASE)
    assert done.returncode == 0, done.stdout + done.stderr
    text = page.read_text()
    assert "Its caption stands below it" in text
    assert all(figure in text for figure in ("dice", "losses", "slices_liver"))
    assert "latent_class" in text


def test_a_killed_run_resumes_from_its_checkpoint(finished, tmp_path):
    """Kill snakemake and its training with SIGKILL; the next call resumes from the training's checkpoint."""
    project = copied(finished, tmp_path).edited("compare", ["baseline"])
    project = project.edited("segmentation/epochs", 4).edited("execution/checkpoint_minutes", 0.0001)
    running = subprocess.Popen(
        project.command("--cores", "1", "models"),
        cwd=BASE,
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_for(lambda: list((tmp_path / "work").rglob("*.pt")), running)
    finally:
        os.killpg(running.pid, signal.SIGKILL)
        running.wait()
    kill_trainings(tmp_path)
    assert not (tmp_path / "results" / "models" / "baseline-seed0" / "model.safetensors").exists()
    assert forked_snakemake(project.arguments("--unlock"), BASE).returncode == 0
    done = project.run_forked("--cores", "2", "--rerun-incomplete", "models")
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "results" / "models" / "baseline-seed0" / "model.safetensors").is_file()
    assert "resuming after step" in (tmp_path / "logs" / "train" / "baseline-seed0.log").read_text()


def wait_for(condition, running: subprocess.Popen) -> None:
    until = time.monotonic() + _PATIENCE_SECONDS
    while not condition():
        assert running.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < until, f"nothing appeared within {_PATIENCE_SECONDS} s"
        time.sleep(0.02)


def kill_trainings(folder: Path) -> None:
    """Torchrun starts its workers in sessions of their own, which a killed group leaves behind."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            here = (process / "cwd").resolve() == folder.resolve()
            if here and b"pipeline_lib.stages" in (process / "cmdline").read_bytes():
                os.kill(int(process.name), signal.SIGKILL)
        except OSError:
            continue


def test_a_new_key_with_its_default_retrains_nothing(finished, checkout):
    """Only what has code for its input runs again, because another checkout's files are other files."""
    key = '    nesterov: bool = Field(default=False, description="New.")\n'
    for name in (
        "optimisation",
        "method_settings",
        "network_settings",
        "augmentation",
        "datasets",
        "volumes",
        "text",
        "existence",
        "roi_aware",
    ):
        section = checkout / "pipeline_lib" / "config" / f"{name}.py"
        text, count = re.subn(
            r"(class \w+\(Section\):\n    \"\"\".*?\"\"\"\n)", rf"\1\n{key}", section.read_text(), flags=re.DOTALL
        )
        assert count, name
        section.write_text(text)
    finished.command()
    done = called(
        *(checkout, "--dry-run", "--directory", str(finished.folder)),
        *("--configfile", str(finished.folder / "config.yaml")),
        PYTHONPATH=str(checkout),
    )
    assert done.returncode == 0, done.stderr
    assert set(planned_jobs(done.stdout)) == {"score", "write_report"}
    asked = [sys.executable, "-m", "pipeline_lib.stages.settings", "train", "--run", "baseline-seed0"]
    printed = subprocess.run(
        [*asked, "--configfile", str(finished.folder / "config.yaml")],
        cwd=checkout,
        env={**os.environ, "PYTHONPATH": str(checkout)},
        capture_output=True,
        text=True,
    )
    assert "nesterov" in printed.stdout, "the key is there"
