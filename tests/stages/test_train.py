"""Stage segmentation: every method trains, whatever happens to it on the way."""

import os
import signal
from dataclasses import replace
from typing import get_args

import pytest
import torch

from pipeline_lib.config.existence import DecisionRule, Existence
from pipeline_lib.config.methods import Method
from pipeline_lib.config.optimisation import Execution, Optimisation
from pipeline_lib.config.stage_settings import ExecutionSettings
from pipeline_lib.errors import UserError
from pipeline_lib.methods.labels_alone.settings import LabelsAlone
from pipeline_lib.methods.latent_class.settings import LatentClass
from pipeline_lib.methods.mean_teacher.settings import MeanTeacher
from pipeline_lib.networks.model_file import load_segmentation_model
from pipeline_lib.stages.train import run as segmentation
from pipeline_lib.training.checkpoints import Checkpoints
from tests.support.tiny_training import in_processes
from tests.support.training_world import (
    CASES,
    EXECUTION,
    LABELLED,
    LATENT_CLASS,
    ROIS,
    read_history,
    segmentation_settings,
    stage_arguments,
    start_stage,
)

METHODS = {
    "baseline": LabelsAlone(kind="labels_alone", network="swin_unetr", encoder="vectors"),
    "mean_teacher": MeanTeacher(kind="mean_teacher", network="swin_unetr", encoder="vectors"),
    "without_mse": LatentClass(kind="latent_class", network="swin_unetr", encoder="vectors", consistency=False),
    "dodnet": LabelsAlone(kind="labels_alone", network="dodnet", encoder="one_hot"),
    "latent_class": LATENT_CLASS,
}
for kind in get_args(get_args(Method)[0]):
    name = get_args(kind.model_fields["kind"].annotation)[0]
    METHODS.setdefault(name, kind(kind=name, network="swin_unetr", encoder="vectors"))
SHORT = Optimisation(epochs=1, batch=2, learning_rate=1e-3)


@pytest.fixture
def here(world, scored_pools, tmp_path, monkeypatch):
    """The world, with a working directory of the test's own."""
    monkeypatch.chdir(tmp_path)
    return world


def paths(here, run, tmp_path):
    inputs, _ = here.segmentation_paths(run)
    if run == "dodnet":
        inputs = replace(inputs, embeddings=here.task_codes)
    folder = tmp_path / "results" / run
    return inputs, segmentation.Outputs(folder / "model.safetensors", folder / "history.jsonl")


def weights(outputs, which="student"):
    return load_segmentation_model(outputs.model, "cpu", which)[0].state_dict()


@pytest.mark.parametrize("name", METHODS)
def test_every_method_trains_and_its_model_can_be_used(name, here, tmp_path):
    settings = segmentation_settings(name, METHODS[name], optimisation=SHORT)
    inputs, outputs = paths(here, name, tmp_path)
    segmentation.run(settings, EXECUTION, inputs, outputs)
    network, description = load_segmentation_model(outputs.model, "cpu")
    assert tuple(description["rois"]) == ROIS
    assert (description["run"], description["seed"]) == (name, 0)
    assert network(torch.zeros(1, 1, *settings.patches.shape)).shape == (1, len(ROIS), *settings.patches.shape)
    student, teacher = weights(outputs), weights(outputs, "teacher")
    same = all(torch.equal(value, teacher[key]) for key, value in student.items())
    assert same != settings.method.needs_teacher
    rows = read_history(outputs.history)
    assert [row["step"] for row in rows] == [1, 2, 3]
    assert all(0 < row["loss"]["supervised"] < 10 for row in rows)
    assert ("positive" in rows[0]) == settings.method.needs_existence
    assert not list((tmp_path / "work" / "segmentation").iterdir())


def test_the_history_counts_what_each_roi_was(here, tmp_path):
    inputs, outputs = paths(here, "latent_class", tmp_path)
    segmentation.run(segmentation_settings(optimisation=SHORT), EXECUTION, inputs, outputs)
    for row in read_history(outputs.history):
        for roi in ROIS:
            parts = [row[group][roi] for group in ("labelled", "positive", "negative", "ambiguous")]
            assert sum(parts) == pytest.approx(1)
        assert row["labelled"]["liver"] + row["labelled"]["spleen"] == pytest.approx(1)
        assert row["seconds_per_step"] > row["seconds_waiting"] >= 0
        assert row["peak_memory_mib"] > 0
        assert row["samples_per_second"] > 0


def test_online_existence_scores_the_weak_view(here, tmp_path):
    settings = segmentation_settings(
        "online",
        LATENT_CLASS.model_copy(update={"decision": DecisionRule(positive_above=0.999, negative_below=0.99)}),
        optimisation=SHORT,
        existence=Existence(mode="online"),
    )
    inputs, outputs = paths(here, "online", tmp_path)
    no_tables = tuple(here.existence(dataset) for dataset in CASES)
    segmentation.run(settings, EXECUTION, replace(inputs, existence=no_tables), outputs)
    unlabelled = read_history(outputs.history)[0]
    assert unlabelled["negative"]["liver"] == pytest.approx(1 - unlabelled["labelled"]["liver"])
    with pytest.raises(UserError, match=r"existence\.mode: is online, which needs the ROI-aware network"):
        segmentation.run(settings, EXECUTION, replace(inputs, roi_aware_model=None), outputs)


def test_another_config_or_other_data_never_goes_on_from_a_checkpoint(here, tmp_path):
    settings = segmentation_settings()
    inputs, _ = paths(here, "latent_class", tmp_path)
    changed = [
        settings.model_copy(update={"seed": 1}),
        settings.model_copy(update={"optimisation": settings.optimisation.model_copy(update={"epochs": 3})}),
        settings.model_copy(update={"method": METHODS["baseline"]}),
        settings.model_copy(update={"cases": {**CASES, "livers": CASES["livers"][:2]}}),
        settings.model_copy(update={"labelled": {**LABELLED, "livers": ("liver",)}}),
    ]
    other = tmp_path / "other.safetensors"
    other.write_bytes(inputs.embeddings.read_bytes() + b" ")
    folders = {segmentation.work_folder(each, inputs) for each in (settings, *changed)}
    folders.add(segmentation.work_folder(settings, replace(inputs, embeddings=other)))
    folders.add(segmentation.work_folder(settings, replace(inputs, existence=inputs.existence[::-1])))
    assert len(folders) == 8
    no_model = replace(inputs, roi_aware_model=None)
    assert segmentation.work_folder(settings, no_model) == segmentation.work_folder(settings, inputs)
    online = settings.model_copy(update={"existence": Existence(mode="online")})
    assert segmentation.work_folder(online, no_model) != segmentation.work_folder(online, inputs)


def test_killed_or_stopped_it_ends_with_the_same_weights(here, tmp_path):
    settings = segmentation_settings(optimisation=Optimisation(epochs=3, batch=2, learning_rate=1e-3))
    how = Execution(device="cpu", precision="float32", data_workers=1, checkpoint_minutes=1e-9)

    def run(folder, strike_at=None):
        """Train in `folder`; the process kills itself where checkpoint number `strike_at` would be written."""
        calls = 0

        def save(self, step, state):
            nonlocal calls
            calls += 1
            if calls == strike_at:
                os.kill(os.getpid(), signal.SIGKILL)
            return original(self, step, state)

        original, Checkpoints.save = Checkpoints.save, save
        folder.mkdir(exist_ok=True)
        os.chdir(folder)
        segmentation.run(settings, ExecutionSettings(execution=how), *paths(here, "latent_class", folder))

    undisturbed, disturbed = tmp_path / "undisturbed", tmp_path / "disturbed"
    assert in_processes(run, undisturbed) == [0]
    assert in_processes(run, disturbed, 3) == [-signal.SIGKILL]
    assert not (disturbed / "results" / "latent_class").exists()

    arguments = stage_arguments(
        "train", settings, ExecutionSettings(execution=how), *paths(here, "latent_class", disturbed)
    )
    torchrun = start_stage(arguments, disturbed, processes=1)
    said = ""
    while "going on after step 2" not in said:
        line = torchrun.stderr.readline()
        assert line, said
        said += line
    torchrun.send_signal(signal.SIGTERM)
    _, rest = torchrun.communicate(timeout=120)
    assert torchrun.returncode != 0
    assert "latent_class: stopped as asked after step" in rest

    assert in_processes(run, disturbed) == [0]
    for which in ("student", "teacher"):
        expected = weights(paths(here, "latent_class", undisturbed)[1], which)
        for name, value in weights(paths(here, "latent_class", disturbed)[1], which).items():
            assert torch.equal(expected[name], value), (which, name)


def test_torchrun_starts_processes_that_share_the_batch(here, tmp_path):
    settings = segmentation_settings(optimisation=SHORT)
    execution = ExecutionSettings(execution=Execution(device="cpu", precision="float32", data_workers=0))
    shared, alone = (paths(here, "latent_class", tmp_path / name) for name in ("shared", "alone"))
    torchrun = start_stage(stage_arguments("train", settings, execution, *shared), tmp_path, processes=2)
    _, said = torchrun.communicate(timeout=240)
    assert torchrun.returncode == 0, said
    segmentation.run(settings, execution, *alone)
    row, *rest = read_history(shared[1].history)
    assert [row["step"] for row in rest] == [2, 3]
    # The first step only: from then on Adam makes steps of mere rounding too, such as that of the keys' biases.
    assert row["loss"] == pytest.approx(read_history(alone[1].history)[0]["loss"], abs=1e-5)
