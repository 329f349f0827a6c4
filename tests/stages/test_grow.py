"""Stage train from a model: a ROI is added with cases that label it alone; the old data is gone."""

import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from pipeline_lib.config.existence import DecisionRule, Existence
from pipeline_lib.config.optimisation import Optimisation
from pipeline_lib.data.training_cases import score_column, sign_scores
from pipeline_lib.errors import UserError
from pipeline_lib.methods.labels_alone.settings import LabelsAlone
from pipeline_lib.methods.target_adaptive.settings import TargetAdaptive
from pipeline_lib.networks.model_file import load_segmentation_model
from pipeline_lib.prediction.windows import probabilities_of
from pipeline_lib.stages.score_existence import run as existence
from pipeline_lib.stages.train import run as segmentation
from pipeline_lib.stages.train.start import labelled_by_start
from pipeline_lib.text.embeddings import write_embeddings
from pipeline_lib.training.distributed import init_distributed
from tests.support.synthetic import write_dataset
from tests.support.training_world import (
    CASES,
    EXECUTION,
    LATENT_CLASS,
    existence_settings,
    read_history,
    segmentation_settings,
)

OLD, GROWN = ("liver",), ("spleen", "liver")
VECTORS = {"liver": np.arange(16.0), "spleen": np.arange(16.0) ** 2 % 7}
STRUCTURES = {"liver": ("liver",), "spleen": ("spleen",)}
SHORT = Optimisation(epochs=1, batch_size=2, learning_rate=1e-3)
SURE = DecisionRule(positive_above=1e-6, negative_below=0.0)


@dataclass(frozen=True)
class Place:
    """One data set with the ROIs that its config has, and all that a training of it reads."""

    folder: Path
    dataset: str
    rois: tuple[str, ...]
    labelled: tuple[str, ...]

    def inputs(self, scores=()):
        """Volumes, embeddings and the pools; `scores` are those of each ROI in every patch (none: unknown)."""
        cases = self.folder / "volumes" / self.dataset / "cases.csv"
        write_dataset(cases.parent, self.dataset, CASES[self.dataset], self.rois, self.labelled)
        embeddings, pools = self.folder / "embeddings.safetensors", self.folder / "pools.parquet"
        vectors = np.stack([VECTORS[roi] for roi in self.rois]).astype(np.float32)
        write_embeddings(embeddings, vectors, self.rois, self.rois, "{}", "")
        structures = tuple(STRUCTURES[roi] for roi in self.rois)
        settings = existence_settings(self.dataset).model_copy(update={"rois": self.rois, "structures": structures})
        existence.run(settings, EXECUTION, existence.Inputs(cases, None), existence.Outputs(pools))
        if scores:
            table = pd.read_parquet(pools)
            table[[score_column(roi) for roi in self.rois]] = np.float32(scores)
            sign_scores(table, self.rois, "the test")
            table.to_parquet(pools, index=False)
        return segmentation.Inputs((cases,), (pools,), embeddings, None)

    def settings(self, method, **changes):
        return segmentation_settings("grown", method, optimisation=SHORT).model_copy(
            update={
                "rois": self.rois,
                "structures": tuple(STRUCTURES[roi] for roi in self.rois),
                "labelled": {self.dataset: self.labelled},
                "cases": {self.dataset: CASES[self.dataset]},
                **changes,
            }
        )


def outputs_in(folder):
    return segmentation.Outputs(folder / "model.safetensors", folder / "history.jsonl")


@pytest.fixture(scope="module")
def old_model(tmp_path_factory):
    """A model of the liver alone, trained on cases that are not there any more."""
    folder = tmp_path_factory.mktemp("old")
    place, outputs = Place(folder, "livers", OLD, OLD), outputs_in(folder / "results")
    method = LabelsAlone(kind="labels_alone", network="swin_unetr", encoder="vectors")
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.chdir(folder)
        segmentation.run(place.settings(method), EXECUTION, place.inputs(), outputs)
    shutil.rmtree(folder / "volumes")
    return outputs.model


@pytest.fixture
def place(tmp_path, monkeypatch):
    """New cases, which label the spleen alone."""
    monkeypatch.chdir(tmp_path)
    return Place(tmp_path, "spleens", GROWN, ("spleen",))


def growing(old_model, **changes):
    return LATENT_CLASS.model_copy(update={"start_from": str(old_model), **changes})


@pytest.mark.parametrize("mode", ["cached", "start_model"])
def test_the_old_model_is_the_first_teacher_and_its_roi_a_latent_class(mode, old_model, place, capsys):
    """Who scores existence: the ROI-aware network's pools, or the old model itself."""
    inputs = place.inputs(scores=(0.5, 0.95) if mode == "cached" else ())
    method = growing(old_model, **({} if mode == "cached" else {"decision": SURE}))
    settings = place.settings(method.model_copy(update={"keep_start": False}), existence=Existence(mode=mode))
    old, _ = load_segmentation_model(old_model, "cpu")
    patch = torch.rand(1, 1, *settings.patches.shape, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with init_distributed(EXECUTION) as distributed, torch.no_grad():
        task = segmentation.segmentation_task(settings, EXECUTION, inputs, settings.labelled, distributed)
        for network in (task.teacher.network, task.student.eval()):
            torch.testing.assert_close(network(patch)[:, 1], old(patch)[:, 0])
        if mode == "start_model":
            scores = task.scorer(patch)[0]
            assert scores[0].isnan()
            assert scores[1] == pytest.approx(torch.sigmoid(old(patch)).max().item())
    said = capsys.readouterr().err
    assert f"train grown: starts from {old_model}, which knows 1 of 2 ROIs; new: spleen\n" in said
    outputs = outputs_in(place.folder / "results")
    segmentation.run(settings, EXECUTION, inputs, outputs)
    for row in read_history(outputs.history):
        assert row["labelled"] == {"spleen": 1, "liver": 0}
        assert row["positive"] == {"spleen": 0, "liver": 1}
        assert row["loss"]["latent"] > 0
    _, description = load_segmentation_model(outputs.model, "cpu")
    assert tuple(description["rois"]) == GROWN
    assert str(old_model) not in str(description)
    assert len(description["started_from"]) == 32
    assert probabilities_of(description)(torch.zeros(1, 2, 1, 1, 1)).flatten().tolist() == [0.5, 0.5]


def test_the_old_model_labels_the_rois_that_it_knows(old_model, place):
    """Unless a case labels them itself, and whatever unlabelled bits hold."""
    settings, inputs = place.settings(growing(old_model)), place.inputs()
    old, _ = load_segmentation_model(old_model, "cpu")
    with init_distributed(EXECUTION) as distributed, torch.no_grad():
        cases = segmentation.training_cases(settings, inputs)
        plain = segmentation.training_data(settings, cases, distributed)
        kept = labelled_by_start(plain, settings, distributed)
        decided = place.settings(growing(old_model, keep_start=False))
        assert labelled_by_start(plain, decided, distributed) is plain
        for sample in range(4):
            own = plain.view_maker.batch([plain.reader.read(sample)])
            batch = kept.view_maker.batch([plain.reader.read(sample)])
            spleen, liver = (GROWN.index(roi) for roi in ("spleen", "liver"))
            assert own.labelled[0].tolist() == [True, False] and batch.labelled[0].tolist() == [True, True]
            torch.testing.assert_close(batch.labels[:, spleen], own.labels[:, spleen])
            excluded = own.labels[:, spleen]
            torch.testing.assert_close(batch.labels[:, liver], (old(own.weak)[:, 0] >= 0) & ~excluded)
        labelled = replace(own, labelled=torch.tensor([[True, True]]))
        torch.testing.assert_close(kept.view_maker.start.added_to(labelled).labels, labelled.labels)
    outputs = outputs_in(place.folder / "results")
    segmentation.run(settings, EXECUTION, inputs, outputs)
    assert all(row["labelled"] == {"spleen": 1, "liver": 1} for row in read_history(outputs.history))


def test_a_start_model_scores_by_the_probabilities_of_the_method_that_trained_it(place):
    """Liver and spleen exclude each other in its softmax."""
    rivals = TargetAdaptive(kind="target_adaptive", network="swin_unetr", encoder="vectors")
    inputs, outputs = place.inputs(), outputs_in(place.folder / "old")
    with init_distributed(EXECUTION) as distributed, torch.no_grad():
        old = place.settings(rivals)
        task = segmentation.segmentation_task(old, EXECUTION, inputs, old.labelled, distributed)
        segmentation.save(old, task, old.labelled, outputs)
        settings = place.settings(growing(outputs.model), existence=Existence(mode="start_model"))
        scorer = segmentation.segmentation_task(settings, EXECUTION, inputs, settings.labelled, distributed).scorer
        patch = torch.rand(1, 1, *settings.patches.shape, generator=torch.Generator().manual_seed(0)) * 2 - 1
        z = load_segmentation_model(outputs.model, "cpu")[0](patch)
        scores = scorer(patch)
    torch.testing.assert_close(scores, (z.exp() / (1 + z.exp().sum(1, keepdim=True))).amax((2, 3, 4)))


def test_a_trained_teacher_moves_slowly_from_the_first_update(old_model, place):
    """A young teacher's second update already leaves it a third of its first weights."""
    settings, inputs = place.settings(growing(old_model)), place.inputs()
    with init_distributed(EXECUTION) as distributed, torch.no_grad():
        task = segmentation.segmentation_task(settings, EXECUTION, inputs, settings.labelled, distributed)
        first = next(task.teacher.network.parameters()).clone()
        next(task.student.parameters()).add_(1.0)
        task.after_update()
        moved = next(task.teacher.network.parameters()) - first
    torch.testing.assert_close(moved, torch.full_like(moved, 1 - settings.teacher.decay), rtol=1e-2, atol=0)


def identity_of(settings, inputs):
    cases = segmentation.training_cases(settings, inputs)
    return segmentation.training_identity(settings, cases, inputs)


def test_the_start_model_is_known_by_its_content(old_model, place):
    inputs, plain = place.inputs(), place.settings(LATENT_CLASS)
    here = identity_of(place.settings(growing(old_model)), inputs)
    elsewhere = place.folder / "copy.safetensors"
    shutil.copy(old_model, elsewhere)
    assert identity_of(place.settings(growing(elsewhere)), inputs).fingerprint == here.fingerprint
    elsewhere.write_bytes(elsewhere.read_bytes() + b"\0")
    other = identity_of(place.settings(growing(elsewhere)), inputs)
    assert here.differences(other.parts) == ["start_from"]
    assert here.differences(identity_of(plain, inputs).parts) == ["labels of the start model", "start_from"]
    elsewhere.unlink()
    with pytest.raises(UserError, match=r"start_from: there is no file .*copy\.safetensors; correct the path"):
        identity_of(place.settings(growing(elsewhere)), inputs)


def test_a_roi_that_nobody_knows_is_refused(old_model, place):
    place = replace(place, rois=("spleen", "liver"), labelled=("liver",), dataset="livers")
    settings = place.settings(growing(old_model))
    with (
        init_distributed(EXECUTION) as distributed,
        pytest.raises(UserError, match="spleen: no training case labels it, nor does"),
    ):
        segmentation.segmentation_task(settings, EXECUTION, place.inputs(), settings.labelled, distributed)


def test_weights_without_rois_score_no_existence(place):
    """Self-supervised ones, or none: `start_model` needs a model."""
    settings = place.settings(LATENT_CLASS, existence=Existence(mode="start_model"))
    with (
        init_distributed(EXECUTION) as distributed,
        pytest.raises(UserError, match=r"existence\.mode: is start_model, which needs a segmentation model"),
    ):
        segmentation.segmentation_task(settings, EXECUTION, place.inputs(), settings.labelled, distributed)
